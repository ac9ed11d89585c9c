"""The `Source`, the first form of data of any modality: ids, a fingerprint, and a way to read the examples in order."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.core.errors import UserError

TRAIN, TEST, VALIDATION = 0, 1, 2
PATH, ROWS = "path", "\0row"  # keys of ids that come from no column: paths, or row numbers


class Unreadable(NamedTuple):
    """Stands for an example that cannot be read."""

    reason: str


@dataclass(frozen=True)
class Source:
    """N examples as found, not decoded yet.

    Per-example values are arrow or numpy arrays: a list of a million paths would take 200 MB.
    """

    name: str
    ids: pa.Array  # string [N]
    fingerprint: str  # changes when the data do; computed from sizes and times where there are files
    items: Callable[[], Iterator[Any]]  # all N in order: `Item`s, `Document`s of texts, or `Part`s of events
    sample: Callable[[int], list[Any]]  # about so many of them, evenly spread
    kind: str = "image"
    root: str = ""  # the base folder of ids that are paths
    key: str = PATH  # the column of the ids, or `PATH` or `ROWS`
    by_path: bool = True  # whether the ids are paths
    aliases: tuple[str, ...] = ()  # other usual names of the key
    several: bool = False  # whether two sources were joined, so that there are no common row numbers
    columns: pa.Table | None = None  # columns of the input other than the content, [N] rows
    label: pa.Array | None = None  # string [N], null where none: labels inside the data
    split: NDArray[np.int8] | None = None  # [N]
    whole: pa.Array | None = None  # string [N], the whole that each example is a part of, such as a recording
    skipped: tuple[tuple[str, str], ...] = ()  # (name, reason) of files that were not listed
    unread: Mapping[str, int] = field(default_factory=dict)  # counts of unread files, by ending
    remarks: tuple[str, ...] = ()  # for the user
    endings: frozenset[str] = frozenset()  # endings that identify names of files in a column
    about: Any = None  # facts of the modality that are known before decoding
    read: Mapping[str, Any] = field(default_factory=dict)  # the columns that were read, as settings of `open_dataset`

    def __len__(self) -> int:
        return len(self.ids)

    def left_aside(self) -> tuple[Iterator[str], int]:
        """Files that were not tried, with the reason, and their number."""
        named = (f"{name}: {reason}" for name, reason in self.skipped)
        counted = (
            f"{count:,} file{'s' * (count != 1)} of {ending or 'no ending'}: not read as {self.kind}"
            for ending, count in self.unread.items()
            if count
        )
        return chain(named, counted), len(self.skipped) + sum(self.unread.values())


def join(train: Source, test: Source) -> Source:
    """Join two sources, the second held out as the test split. Ids become full paths."""
    if train.split is not None and (train.split == TEST).any():
        raise UserError(
            f"--test {test.name}: {train.name} has a test split already; leave --test out, or name its training part"
        )
    if train.kind != test.kind:
        raise UserError(f"--test {test.name} holds {test.kind} data, but {train.name} {train.kind} data; give one kind")
    columns = None
    if train.columns is not None and test.columns is not None:
        columns = _stacked(train.columns, test.columns)
    above = [train.root or train.name, test.root or test.name]
    if above[0] == above[1]:
        above[1] += " (test)"
    whole = None
    if train.whole is not None or test.whole is not None:
        whole = pa.concat_arrays([s.ids if s.whole is None else s.whole for s in (train, test)])
    label = None
    if train.label is not None or test.label is not None:
        parts = [pa.nulls(len(s), pa.string()) if s.label is None else s.label for s in (train, test)]
        label = pa.concat_arrays(parts)
    return Source(
        name=train.name,
        # The two may have short ids in common.
        ids=pa.concat_arrays(
            [pc.binary_join_element_wise(of, s.ids, "/") for of, s in zip(above, (train, test), strict=True)],
        ),
        fingerprint=digest([train.fingerprint.encode(), test.fingerprint.encode()]),
        items=lambda: chain(train.items(), test.items()),
        sample=train.sample,
        kind=train.kind,
        key=train.key if train.key == test.key else ROWS if ROWS in (train.key, test.key) else PATH,
        several=True,
        columns=columns,
        label=label,
        whole=whole,
        split=np.repeat(np.array([TRAIN, TEST], np.int8), [len(train), len(test)]),
        skipped=train.skipped + test.skipped,
        unread=dict(Counter(train.unread) + Counter(test.unread)),
        remarks=train.remarks + test.remarks,
        endings=train.endings,
        about=train.about,
        read=train.read,
    )


def _stacked(one: pa.Table, other: pa.Table) -> pa.Table:
    """Concatenate two tables; columns that mix numbers and words become text."""
    try:
        return pa.concat_tables([one, other], promote_options="permissive")
    except pa.ArrowException:
        tables = [one, other]
        for name in set(one.column_names) & set(other.column_names):
            if one.schema.field(name).type != other.schema.field(name).type:
                place = [table.column_names.index(name) for table in tables]
                tables = [
                    table.set_column(at, name, table[name].cast(pa.string()))
                    for table, at in zip(tables, place, strict=True)
                ]
        return pa.concat_tables(tables, promote_options="permissive")


def digest(parts: Iterable[bytes | memoryview]) -> str:
    """Hash these parts in order, as 32 hexadecimal digits."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def each(values: pa.Array) -> Iterator[Any]:
    """Iterate over the values as Python objects, a few thousand at a time."""
    for start in range(0, len(values), 4096):
        yield from values.slice(start, 4096).to_pylist()


def spread(n: int, k: int) -> list[int]:
    """At most `k` of the numbers below `n`, evenly spaced."""
    return sorted({int(i) for i in np.linspace(0, n - 1, min(n, k))})
