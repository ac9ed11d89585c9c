"""What the labels of N examples say, by target: from texts to classes, numbers, several labels each, or pairs.

`training` [N] tells the examples outside the test split. They alone decide which classes and labels there are: test
labels must not shape anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.core.naming import plain, two_ways
from tacit.data.asked import NUMERIC, TEXTS, Asked
from tacit.data.named import LISTED, Missing
from tacit.data.notes import Few, Notes, few
from tacit.data.splitting import Codes, by_name, codes_of, first_of

BINS = 5  # of numbers, balanced by draws and folds as classes are
FEWEST_NUMBERS = 4
MOST_LABELS = 1000  # of which an example can have several: each gets a probe of its own

_CONTINUOUS = 20  # more distinct fractional numbers than this are no classes

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """What is to be predicted of N examples."""

    label: Codes  # [N] class numbers, or strata of targets without classes; -1 where unlabelled
    classes: tuple[str, ...] = ()  # names of the classes, or of the labels of which an example can have several
    truth: NDArray[np.float64] | None = None  # [N] numbers, or [N L] 0 and 1; NaN where unlabelled


def read_answers(text: pa.Array, asked: Asked, training: Mask, notes: Notes) -> Answers:
    """Labels as the target takes them. UserError where they do not suit it."""
    target = asked.target
    if target == TEXTS:
        return _numbered(text)
    if target == "multilabel":
        return several(text, asked.separator, training, notes)
    if pc.any(pc.match_substring(text, LISTED)).as_py():
        raise UserError(f"--target {target} takes one label per example, not a table: say --target multilabel")
    if target == "regression":
        return numbers(text, training, target, "to train on")
    if target == "similarity":
        return numbers(text, np.ones(len(text), bool), target, "in pairs")
    if target == "pairs":
        return _like(text, "pairs", "a label names a pair, and two examples share it")
    if target == "retrieval":
        return _like(_without_single(text, notes), "classes", "two examples of a class make one to be found")
    return classes(text, training, notes)


def describe(target: str, known: Any, *, private: bool = False) -> str:
    """`1,200 labelled in 10 classes`, from anything with the fields of `Answers`; `private` names no label."""
    n, names = int((known.label >= 0).sum()), len(known.classes)
    if not n:
        return "no labels"
    if private and target in NUMERIC:  # the least and the largest are those of somebody
        return f"{n // 2:,} pairs scored" if target == "similarity" else f"{n:,} labelled with numbers"
    if target == "similarity":
        return f"{n // 2:,} pairs scored from {np.nanmin(known.truth):,.6g} to {np.nanmax(known.truth):,.6g}"
    if target == "regression":
        return f"{n:,} labelled with numbers from {np.nanmin(known.truth):,.6g} to {np.nanmax(known.truth):,.6g}"
    if target == "multilabel":
        return f"{n:,} labelled with {names:,} labels, {np.nansum(known.truth) / n:.1f} each on average"
    if target == "pairs":
        return f"{n:,} labelled in {names:,} pairs"
    if (spans := getattr(known, "spans", None)) is not None:
        return f"{len(spans.row):,} stretches of {n:,} recordings labelled in {names:,} classes"
    return f"{n:,} {'tokens ' if target == 'tokens' else ''}labelled in {names:,} classes"


def names_of(target: str, known: Any, rows: Iterable[int]) -> list[str]:
    """The label of each of these rows in words, empty where it has none."""

    def name(row: int) -> str:
        if known.label[row] < 0:
            return ""
        if target in NUMERIC:
            return f"{known.truth[row]:.6g}"
        if target == "multilabel":
            return ", ".join(known.classes[i] for i in np.flatnonzero(known.truth[row])) or "none"
        return str(known.classes[known.label[row]])

    return [name(int(row)) for row in rows]


# ---------------------------------------------------------------- classes


def classes(text: pa.Array, training: Mask, notes: Notes) -> Answers:
    """A class needs two examples to train on, and there must be two classes."""
    encoded = text.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    codes = codes_of(encoded)
    _refuse_numbers(names, int((codes >= 0).sum()))
    counts = np.bincount(codes[training & (codes >= 0)], minlength=len(names))
    kept = sorted((name for name, count in zip(names, counts, strict=True) if count > 1), key=by_name)
    single = _named(names, counts == 1)
    notes.dropped_classes, notes.untrained_classes = single, _named(names, counts == 0)
    if len(kept) < 2:
        only = f"only {kept[0]!r}" if kept else "none"
        dropped = f" ({single.count} with a single example were left out)" if single else ""
        raise UserError(
            f"labels need at least two classes of two examples each to train on; there is {only}{dropped}: "
            "check the labels, or leave them out"
        )
    number = {name: i for i, name in enumerate(kept)}
    label = np.array([*(number.get(name, -1) for name in names), -1], np.int64)[codes]  # the last serves code -1
    notes.dropped_rows = int(((codes >= 0) & (label < 0)).sum())
    return Answers(label, tuple(kept))


def minus_one(names: Sequence[str]) -> tuple[str, ...]:
    """A remark where -1 is a class among whole numbers from 0, which elsewhere means that there is none."""
    others = [name for name in names if name != "-1"]
    if len(others) == len(names) or not all(name.isdigit() for name in others):
        return ()
    return ("-1 was taken for a class like the others; if it means that there is none, say --ignore-label -1",)


def _refuse_numbers(names: Sequence[str], labelled: int) -> None:
    """UserError where the labels are measurements, or one number is written in two ways."""
    if (found := two_ways(names)) is not None and found[0] in ("true", "false"):
        raise UserError(f"the labels {found[0]!r} and {found[1]!r} may be one: write every class in one way")
    numbers: dict[Decimal, str] = {}  # which are exact, as floats are not from 16 digits on
    for name in names:
        try:
            number = Decimal(name)
        except InvalidOperation:
            continue
        if number.is_snan():
            continue
        if number in numbers:
            raise UserError(
                f"the labels {numbers[number]!r} and {name!r} are one number written in two ways, as columns of mixed "
                "types have it: write every class in one way"
            )
        numbers[number] = name
    if len(numbers) < len(names) or not names:
        return
    fractional = sum(not number.is_nan() and number != number.to_integral_value() for number in numbers)
    if fractional > _CONTINUOUS:
        told = f"{fractional} distinct fractional numbers such as {names[0]}"
    elif len(names) > _CONTINUOUS and labelled < 2 * len(names):
        told = f"{len(names)} distinct numbers such as {names[0]} on {labelled} examples"
    else:
        return
    raise UserError(
        f"the labels look like measurements, not classes: {told}; to predict the numbers say --target regression, or, "
        "where classes are meant, put the numbers into bins or give each example the name of a class"
    )


# ---------------------------------------------------------------- likes and pairs


def _like(text: pa.Array, what: str, rule: str) -> Answers:
    found = _numbered(text)
    if len(found.classes) < 2:
        only = f"only {found.classes[0]!r}" if found.classes else "none"
        raise UserError(f"labels need at least two {what}, and there is {only}: {rule}")
    return found


def _numbered(text: pa.Array) -> Answers:
    encoded = text.dictionary_encode()
    names = sorted(encoded.dictionary.to_pylist(), key=by_name)
    number = {name: i for i, name in enumerate(names)}
    found = [*(number[name] for name in encoded.dictionary.to_pylist()), -1]
    return Answers(np.array(found, np.int64)[codes_of(encoded)], tuple(names))


def _without_single(text: pa.Array, notes: Notes) -> pa.Array:
    """Null where a class has one example in all."""
    encoded = text.dictionary_encode()
    codes = codes_of(encoded)
    counts = np.bincount(codes[codes >= 0], minlength=len(encoded.dictionary))
    notes.dropped_classes = _named(encoded.dictionary.to_pylist(), counts == 1)
    notes.dropped_rows = notes.dropped_classes.count
    return pc.if_else(pa.array(np.append(counts, 0)[codes] > 1), text, None)


def partnered(text: pa.Array, side: pa.Array | None, notes: Notes) -> pa.Array:
    """The names of pairs, null where an example has no partner: on the other side, if there are sides."""
    encoded = text.dictionary_encode()
    codes = codes_of(encoded)
    known = codes >= 0
    on = np.zeros(len(codes), np.int64) if side is None else codes_of(side.dictionary_encode())
    members = np.zeros((len(encoded.dictionary), int(on.max(initial=0)) + 1), np.int64)
    np.add.at(members, (codes[known], on[known]), 1)
    whole = members.sum(axis=1) > 1 if side is None else (members > 0).sum(axis=1) > 1
    kept = np.append(whole, False)[codes]
    notes.unpaired = int((known & ~kept).sum())
    return pc.if_else(pa.array(kept), text, None)


def refuse_torn(pair: pa.Array, group: Codes) -> None:
    """UserError where the group column parts a pair."""
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


def scored_pairs(text: pa.Array, pair: pa.Array | None, notes: Notes) -> tuple[pa.Array, pa.Array]:
    """The scores, and the names of the pairs that both have one, null elsewhere."""
    if pair is None:
        raise UserError(
            "--target similarity needs to know what a score compares: name the two columns of a row (--text-column ONE "
            "--text-column OTHER) or, where each row is one example, the column of their pairs (--group-column)"
        )
    if text.null_count == len(text):
        raise UserError(
            "--target similarity needs the scores of some pairs, and there are none: name their column with "
            "--label-column"
        )
    named = partnered(pc.if_else(text.is_valid(), pair, None), None, notes)
    counts = pc.value_counts(named.drop_null())
    many = sorted(of["values"] for of in counts.to_pylist() if of["counts"] > 2)
    if many:
        raise UserError(
            f"pair {first_of(many)} has more than two examples, of which a score says nothing: name each two apart"
        )
    return pc.if_else(named.is_valid(), text, None), named


def refuse_two_scores(truth: Any, pair: pa.Array) -> None:
    """UserError where the two of a pair have different scores."""
    encoded = pair.dictionary_encode()
    codes = codes_of(encoded)
    known = codes >= 0
    low, high = np.full(len(encoded.dictionary), np.inf), np.full(len(encoded.dictionary), -np.inf)
    np.minimum.at(low, codes[known], truth[known])
    np.maximum.at(high, codes[known], truth[known])
    if (low < high).any():
        names = sorted(encoded.dictionary[int(code)].as_py() for code in np.flatnonzero(low < high))
        raise UserError(f"the two examples of pair {first_of(names)} have different scores: give both the same")


# ---------------------------------------------------------------- numbers


def numbers(text: pa.Array, training: Mask, target: str, which: str) -> Answers:
    """Strata are up to five parts of equal size, ordered by number; `which` says what `training` are."""
    encoded = text.dictionary_encode()
    values = np.array([*(_number(cell, target) for cell in encoded.dictionary.to_pylist()), np.nan])
    truth = values[codes_of(encoded)]  # the last serves code -1
    known = np.isfinite(truth)
    have = np.sort(truth[known & training])
    if len(have) < FEWEST_NUMBERS:
        raise UserError(
            f"--target {target} needs {FEWEST_NUMBERS} labelled examples {which}; there are {len(have)}: label more"
        )
    if have[0] == have[-1]:
        raise UserError(
            f"all {len(have):,} labels {which} are the number {have[0]:g}: there is nothing to predict; check the "
            "column"
        )
    middle = (np.searchsorted(have, truth[known]) + np.searchsorted(have, truth[known], side="right")) / 2
    label = np.full(len(truth), -1, np.int64)
    label[known] = np.unique(np.minimum(BINS * middle // len(have), BINS - 1), return_inverse=True)[1]
    return Answers(label, truth=np.where(known, truth, np.nan))


def _number(text: str, target: str) -> float:
    """NaN where it says so. UserError for what is no finite number."""
    try:
        number = float(text)
    except ValueError:
        number = np.inf
    if np.isinf(number):
        raise UserError(
            f"--target {target}: the label {text!r} is no finite number; correct it, leave it empty, or name it with "
            "--ignore-label"
        )
    return number


# ---------------------------------------------------------------- several labels


def several(text: pa.Array, separator: str | None, training: Mask, notes: Notes) -> Answers:
    """A label needs two examples to train on, and one that lacks it; strata are the rarest label of each example."""
    encoded = text.dictionary_encode()
    codes = codes_of(encoded)
    cells = _cells(encoded.dictionary.to_pylist(), separator, notes.missing)
    names = sorted(set().union(*cells), key=by_name)
    trained = codes[training & (codes >= 0)]
    uses = np.bincount(trained, minlength=len(cells))  # of each cell
    counts = dict.fromkeys(names, 0)
    for cell, times in zip(cells, uses.tolist(), strict=True):
        for name in cell:
            counts[name] += times
    number = np.array([counts[name] for name in names], np.int64)
    few_or_all = (number == 1) | ((number > 0) & (number == len(trained)))
    notes.dropped_labels, notes.untrained_classes = _named(names, few_or_all), _named(names, number == 0)
    kept = [name for name, out in zip(names, few_or_all | (number == 0), strict=True) if not out]
    if not kept:
        raise UserError(
            "labels need at least one that two examples to train on have and another lacks; there is none: check the "
            "labels, or leave them out"
        )
    if len(kept) > MOST_LABELS:
        raise UserError(
            f"{len(kept):,} labels are too many for a probe each, {MOST_LABELS:,} at most: leave the rare ones out, or "
            "check the separator"
        )
    place = {name: i for i, name in enumerate(kept)}
    table = np.zeros((len(cells) + 1, len(kept)))
    table[-1] = np.nan  # serves code -1
    stratum = np.full(len(cells) + 1, len(kept), np.int64)
    stratum[-1] = -1
    for row, cell in enumerate(cells):
        here = [place[name] for name in cell if name in place]
        table[row, here] = 1
        stratum[row] = min(here, key=lambda i: (counts[kept[i]], i), default=len(kept))
    return Answers(stratum[codes], tuple(kept), table[codes])


def _cells(texts: Sequence[str], separator: str | None, missing: Missing) -> list[set[str]]:
    """The labels that each cell names, without words that say that there is none."""
    listed = any(LISTED in text for text in texts)
    if separator is None and not listed and texts:
        raise UserError(
            "--target multilabel: say how the labels of a cell are parted, such as --multilabel '|', or give a column "
            "of lists"
        )
    if separator is not None and not listed and texts and not any(separator in text for text in texts):
        raise UserError(
            f"--multilabel {separator!r}: no label holds it (first: {texts[0]!r}); name the sign that parts the labels "
            "of a cell"
        )
    parts = (text.split(LISTED if LISTED in text else separator) for text in texts)
    found = ({plain(name) for name in part} for part in parts)
    return [{name for name in part if not missing.means(name)} for part in found]


def _named(names: Sequence[str], which: Mask) -> Few:
    found = sorted(name for name, here in zip(names, which, strict=True) if here)
    return few(found, len(found))
