"""Find the join key of a label file and the data, and the example that each label row refers to.

A column of the same name on both sides is a key; so are paths, under any name. Row numbers are a key only where the
column is called `row`: other numbers match by chance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tacit.core import naming
from tacit.core.errors import UserError
from tacit.data.matching import Match, has_ending, match, match_names
from tacit.data.named import as_text, distinct, refuse_rounded
from tacit.data.opened import ID_LIKE, PATH_NAMES
from tacit.data.source import ROWS, Source, each

FILE_NAMES = (*PATH_NAMES, "image_id", "id", "name")
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")  # of a file, approximately
ROW = "row"  # the column of row numbers, from 0

_LOOKED_AT = 1000  # ids inspected to tell whether they are paths
_PROPOSED = ("file", "why", "score")  # columns that earlier versions of `tacit next-labels` wrote


class Key(NamedTuple):
    """A label file's key column, and where its values are looked up."""

    name: str
    column: str | None = None  # of the data; None for their ids
    rows: bool = False  # ids and keys are row numbers


def key_of(
    table: pa.Table, path: Path, source: Source, label: str | None, others: Sequence[str], keys: Sequence[str]
) -> tuple[Key, str]:
    """The key of a label file and its label column, which may have any name in a file of two columns.

    `others` are columns with another role, `keys` usual names of key columns in order of preference. UserError where
    there is no key, or none that the data have.
    """
    keys = (*source.aliases, *keys)
    names = [name for name in table.column_names if name != label]
    if label is None:
        known = [name for name in names if flat(name) in {flat(key) for key in (source.key, *keys, ROW)}]
        if len(names) != 2 or len(known) != 1:
            raise _unclear(path, table)
        label = next(name for name in names if name != known[0])
        names = known
    key = _shared(names, [name for name in names if name not in others], source, keys)
    if key is not None:
        return key, label
    usual = _usual(names, keys) or (names[0] if len(names) == 1 else None)
    if _is_of_rows(table, names, source):
        return Key(_usual(names, [ROW]) or "file", rows=True), label
    if usual is None:
        raise _unclear(path, table)
    if source.key == ROWS or (not source.by_path and _are_numbers(as_text(table[usual])) and _are_numbers(source.ids)):
        raise UserError(_unshared(path, usual, source))
    return Key(usual), label


def _shared(names: Sequence[str], free: Sequence[str], source: Source, keys: Sequence[str]) -> Key | None:
    """The key that both sides share by name: usual names first, then id-like names, then columns of distinct values."""
    data = {} if source.columns is None else {flat(name): name for name in reversed(source.columns.column_names)}
    same = {flat(name) for name in (*source.aliases, *(PATH_NAMES if source.by_path else ()))}
    for known in (source.key, *keys):
        name = _usual(names, [known])
        if name is None:
            continue
        if flat(name) == flat(source.key) or (flat(name) in same and flat(name) not in data):
            return Key(name)
        if flat(name) in data:
            return Key(name, data[flat(name)])
    both = [name for name in free if flat(name) in data]
    for name in both:
        if ID_LIKE.search(name):
            return Key(name, data[flat(name)])
    assert source.columns is not None or not both
    for name in both:
        if _names_each(source.columns, data[flat(name)]):
            return Key(name, data[flat(name)])
    return None


def _names_each(columns: pa.Table | None, name: str) -> bool:
    assert columns is not None
    held = columns.schema.field(name).type
    return not pa.types.is_nested(held) and not pa.types.is_binary(held) and distinct(as_text(columns[name]))


def looked_up(key: Key, named: pa.ChunkedArray, source: Source) -> Match:
    """Match each key to an example. UserError for row numbers that count from 1."""
    texts, endings = [text or "" for text in named.to_pylist()], source.endings
    if key.rows:
        rows = list(each(source.ids)) if source.key == ROWS else [*map(str, range(len(source)))]
        _refuse_counting_from_one(texts, int(rows[-1]) + 1)
        return match_names(texts, rows)
    if key.column is None:
        if source.by_path or _are_paths(texts, endings) or _lie_in_folders(source.ids, endings):
            return match(texts, each(source.ids), source.root, endings)
        return match_names(texts, each(source.ids))
    assert source.columns is not None
    refuse_rounded(source.columns[key.column], f"column {key.column!r} of {source.name}")
    ids = as_text(source.columns[key.column])
    by_path = flat(key.column) in {flat(name) for name in PATH_NAMES} or _are_paths(texts, endings)
    return (
        match(texts, (name or "" for name in each(ids)), endings=endings) if by_path else match_names(texts, each(ids))
    )


def differ_by_zeros(names: Iterable[str], ids: pa.Array) -> tuple[str, str] | None:
    """A name and an id that differ in leading zeros only."""
    bare: dict[str, str] = {}
    for stem in map(_stem, each(ids)):
        if stem.lstrip("+-").isdigit():
            bare.setdefault(naming.without_zeros(stem), stem)
    pairs = ((stem, bare.get(naming.without_zeros(stem), stem)) for stem in map(_stem, names))
    return next(((stem, other) for stem, other in pairs if stem != other), None)


def differ_by_capitals(names: Iterable[str], ids: pa.Array) -> tuple[str, str] | None:
    """A name and an id that differ in capitals only."""
    lower = {(name or "").casefold(): name for name in each(ids)}
    pairs = ((name, lower.get(name.casefold(), name)) for name in names)
    return next(((name, other) for name, other in pairs if name != other), None)


def _stem(name: str | None) -> str:
    name = (name or "").replace("\\", "/").rpartition("/")[2]
    return _ENDING.sub("", name)


def flat(name: str) -> str:
    """Normalise a column name for comparison: `Doc ID` and `doc_id` become docid."""
    return re.sub(r"[\s_.-]+", "", name).lower()


def _usual(names: Sequence[str], known: Sequence[str]) -> str | None:
    there = {flat(name): name for name in reversed(names)}
    return next((there[flat(name)] for name in known if flat(name) in there), None)


def _is_of_rows(table: pa.Table, names: Sequence[str], source: Source) -> bool:
    """Whether the keys are row numbers, and the data have rows."""
    if source.several:
        return False
    if source.key == ROWS and set(_PROPOSED) <= set(table.column_names):
        return True
    return _usual(names, [ROW]) is not None and (source.key == ROWS or source.columns is not None)


def _are_paths(texts: Iterable[str], endings: frozenset[str]) -> bool:
    """Whether any of these has the ending of a file."""
    return any(has_ending(text, endings) for text in texts)


def _lie_in_folders(ids: pa.Array, endings: frozenset[str]) -> bool:
    """Whether some of the first ids are paths or file names."""
    first = ids[:_LOOKED_AT].to_pylist()
    return any("/" in name for name in first) or _are_paths(first, endings)


def _are_numbers(text: pa.Array) -> bool:
    """Whether all of these are whole numbers, which would match by chance."""
    return pc.all(pc.match_substring_regex(text, r"^[+-]?[0-9]+$")).as_py() is not False


def _refuse_counting_from_one(texts: Sequence[str], n: int) -> None:
    if str(n) in texts and "0" not in texts:
        raise UserError(f"the column {ROW!r} counts from 1 to {n}: rows are numbered from 0, the first one is 0")


def _unshared(path: Path, name: str, source: Source) -> str:
    columns = [] if source.columns is None else source.columns.column_names
    have = f" (they have {', '.join(columns)})" if columns else ""
    remedy = f"or number the rows from 0 in a column {ROW!r}" if source.key == ROWS else f"such as {source.key!r}"
    return f"{path} names examples by {name!r}, which {source.name} lacks{have}: give both such a column, {remedy}"


def _unclear(path: Path, table: pa.Table) -> UserError:
    names = ", ".join(table.column_names)
    return UserError(f"{path}: cannot tell which columns are file and label among {names}; name them so")
