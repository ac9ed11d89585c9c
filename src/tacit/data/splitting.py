"""Groups and test splits: by a split column, by one held-out value of a column, or by time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.core.columns import Codes, by_name, codes_of, first_of
from tacit.core.errors import UserError, nearest
from tacit.core.naming import alike, two_ways
from tacit.data.source import TEST, TRAIN, VALIDATION
from tacit.data.times import units_of

SPLITS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("test", "testing"), TEST),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
}
LATEST = 0.3  # of the labelled examples, held out by time

_LISTED = 10  # values listed in an error, at most
_TIMES = (pa.int64(), pa.float64(), *(pa.timestamp(unit, zone) for zone in (None, "UTC") for unit in ("ns", "us")))

SplitCodes = NDArray[np.int8]


def group_codes(text: pa.Array, ids: pa.Array) -> Codes:
    """A number per group that depends on its name only, so that a seal recognises it when rows were added or moved.

    An example without a group is its own group, named by its id.
    """
    named = pc.coalesce(pc.binary_join_element_wise("group", text, "/"), pc.binary_join_element_wise("id", ids, "/"))
    encoded = named.dictionary_encode()
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in encoded.dictionary.to_pylist())
    numbers = np.frombuffer(b"".join(digests), np.int64) >> 1
    return np.asarray(numbers[encoded.indices.to_numpy()], np.int64)


def refuse_two_ways(text: pa.Array, what: str) -> None:
    """UserError where two names may be two spellings of one value, such as one patient."""
    found = two_ways(pc.unique(text).drop_null().to_pylist())
    if found is not None:
        zeros = "" if found[0] == "true" or found[0] == "false" else "differ in zeros at the front alone and "
        raise UserError(f"the {what} {found[0]!r} and {found[1]!r} {zeros}may be one: write each of them in one way")


def look_alike(names: Iterable[str], what: str) -> tuple[str, ...]:
    """A remark where two names look alike but count as two."""
    found = alike(names)
    if found is None:
        return ()
    return (
        f"the {what} {found[0]!r} and {found[1]!r} look alike and are two; where one is meant, write it in one way",
    )


def split_codes(text: pa.Array) -> SplitCodes:
    """Codes of a column of train, val, test; train where empty. UserError for other words, or without a test split."""
    encoded = text.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    strange = sorted(name for name in names if name.lower() not in SPLITS)
    if strange:
        raise UserError(f"the split column holds {strange[0]!r}; it may hold {', '.join(SPLITS)}")
    lookup = np.array([*(SPLITS[name.lower()] for name in names), TRAIN], np.int8)  # the last is for code -1
    codes = lookup[codes_of(encoded)]
    if not (codes == TEST).any():
        raise UserError("the split column marks no example as test")
    return codes


def hold_out(text: pa.Array, value: str, column: str, labelled: NDArray[np.bool_]) -> SplitCodes:
    """Hold out the examples of this value as the test split. UserError where one side has no labelled example."""
    values = sorted(pc.unique(text).drop_null().to_pylist(), key=by_name)
    if value not in values:
        more = ", ..." if len(values) > _LISTED else ""
        raise UserError(
            f"--holdout {column}={value}: no example has it{nearest(value, values)}; "
            f"{column!r} holds {', '.join(values[:_LISTED]) or 'nothing'}{more}"
        )
    test = pc.fill_null(pc.equal(text, value), False).to_numpy(zero_copy_only=False)
    if labelled.any():
        for side, left in (("test on", test), ("train on", ~test)):
            if not (labelled & left).any():
                raise UserError(
                    f"--holdout {column}={value} leaves no labelled example to {side}: choose another value"
                )
    return np.where(test, TEST, TRAIN).astype(np.int8)


def hold_out_latest(
    text: pa.Array, column: str, labelled: NDArray[np.bool_], group: Codes | None
) -> tuple[SplitCodes, str]:
    """Hold out about the latest 30 % of the labelled examples, and all others as late; and the time of the first.

    Examples of one time stay together, and so do those of a group, which has the time of its latest example. An example
    without a time is not tested, unless its group is. UserError where times cannot be read, or do not differ.
    """
    moments = _moments(text, column)
    there = pc.is_valid(moments).to_numpy(zero_copy_only=False)
    own = np.full(len(text), -1, np.int64)  # the rank of each time, -1 where none
    own[there] = np.unique(moments.drop_null().to_numpy(zero_copy_only=False), return_inverse=True)[1]
    rank = own
    if group is not None:
        member = np.unique(group, return_inverse=True)[1]
        last = np.full(int(member.max()) + 1, -1, np.int64)
        np.maximum.at(last, member, own)
        rank = last[member]
    counts = np.bincount(rank[labelled & (rank >= 0)])
    later = counts[::-1].cumsum()[::-1]  # labelled examples of each time or after it
    cuts = np.flatnonzero((counts > 0) & (later < counts.sum()))
    if not len(cuts):
        raise UserError(
            f"--time-column {column}: the labelled examples have no two different times (a group has the time of its "
            "latest): name another column"
        )
    cut = cuts[np.abs(later[cuts] - LATEST * counts.sum()).argmin()]
    return np.where(rank >= cut, TEST, TRAIN).astype(np.int8), str(text[int(np.flatnonzero(own == cut)[0])].as_py())


def _moments(text: pa.Array, column: str) -> pa.Array:
    """Parse texts as numbers or timestamps, null where empty."""
    moments = _cast(text)
    if moments is None:
        bad = next(
            (value for value in pc.unique(text).to_pylist() if _cast(pa.array([value], pa.string())) is None), None
        )
        raise UserError(
            f"--time-column {column}: {bad!r} is neither a number nor a date such as 2024-05-31 or 2024-05-31T12:00:00"
            if bad is not None
            else f"--time-column {column} mixes numbers, dates, or times with and without a zone: write all in one way"
        )
    if pa.types.is_timestamp(moments.type):
        return moments
    if units := units_of(moments):
        counts = " and ".join(f"{name} ({count:,})" for name, count in units.items())
        raise UserError(f"--time-column {column} holds {counts}: write all in one unit")
    return pc.if_else(pc.is_finite(moments), moments, None)


def _cast(text: pa.Array) -> pa.Array | None:
    for kind in _TIMES:
        try:
            return text.cast(kind)
        except pa.ArrowInvalid:
            continue
    return None


def refuse_spanning(text: pa.Array, split: SplitCodes, noun: str = "group") -> None:
    """UserError where a group lies on both sides of the test split."""
    values = pa.table({"group": text, "test": pa.array(split == TEST)}).filter(pc.is_valid(text))
    sides = values.group_by("group").aggregate([("test", "min"), ("test", "max")])
    spanning = sides.filter(pc.not_equal(sides["test_min"], sides["test_max"]))["group"].sort().to_pylist()
    if spanning:
        raise UserError(
            f"{noun} {first_of(spanning)} has examples on both sides of the test split; "
            f"correct the split, or leave it out and let {noun}s be held out whole"
        )


def refuse_torn(pair: pa.Array, group: Codes) -> None:
    """UserError where the two of a pair are in different groups."""
    encoded = pair.dictionary_encode()
    codes = codes_of(encoded)
    known = codes >= 0
    order = np.lexsort((group[known], codes[known]))
    pairs, groups = codes[known][order], group[known][order]
    torn = np.unique(pairs[1:][(pairs[1:] == pairs[:-1]) & (groups[1:] != groups[:-1])])
    if len(torn):
        names = sorted(encoded.dictionary[int(code)].as_py() for code in torn)
        raise UserError(
            f"pair {first_of(names)} lies in several groups of the group column, which a split may part: correct the "
            "groups, or leave them out and let pairs be held out whole"
        )
