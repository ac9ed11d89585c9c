"""Read files of embeddings, as `tacit embed` and other programs write them, check them, and join them by id.

A Parquet file has a column `embedding` of lists, an .npz file an array `embedding` [N D]; `id` names the examples.
Only the columns that are needed are read. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tacit.core.archives import arrays_in
from tacit.core.errors import UserError
from tacit.data.class_names import own_class_names
from tacit.data.joining import differ_by_zeros
from tacit.data.named import Missing, as_column, as_numpy, as_text, refuse_rounded, table_as_text
from tacit.data.opened import reading
from tacit.data.source import ROWS, Source
from tacit.data.unpacking import read_columns

SUFFIXES = frozenset([".parquet", ".pq", ".npz"])
EMBEDDING, ID = "embedding", "id"
_NAMING = (ID, "group")  # columns whose values are names, whatever their type
NUMBERED = b"tacit.numbered"  # in a Parquet file's metadata: its ids are row numbers

_SHOWN = 3  # ids shown in a message

Matrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Vectors:
    """The N embeddings of one file, with their columns."""

    name: str
    values: Matrix  # [N D], finite
    ids: pa.Array | None  # string [N], distinct
    columns: Mapping[str, pa.Array]  # string [N], null where missing
    names: tuple[str, ...]  # of all columns in the file
    numbered: bool = False  # whether the ids are row numbers of the embedded data

    def __len__(self) -> int:
        return len(self.values)

    @property
    def content(self) -> NDArray[np.void]:
        """A 16-byte hash of each embedding, [N]."""
        rows = np.ascontiguousarray(self.values)
        return np.array([hashlib.blake2b(row.data, digest_size=16).digest() for row in rows], "V16")

    def take(self, rows: pa.Array) -> Vectors:
        if rows.equals(pa.array(range(len(self)), rows.type)):  # avoids a copy, which may be large
            return self
        ids = None if self.ids is None else self.ids.take(rows)
        columns = {name: column.take(rows) for name, column in self.columns.items()}
        return replace(self, values=self.values[rows.to_numpy()], ids=ids, columns=columns)

    def source(self, endings: frozenset[str] = frozenset()) -> Source:
        """The embeddings as a `Source`, for labelling; ids may be names of files with these endings."""
        assert self.ids is not None
        return Source(
            name=self.name,
            ids=self.ids,
            fingerprint="",
            items=lambda: iter(self.values),
            sample=lambda k: list(self.values[:k]),
            kind="example",
            root=".",
            key=ROWS if self.numbered else ID,
            by_path=False,
            endings=endings,
            columns=pa.table(dict(self.columns)) if self.columns else None,
        )


def are_vectors(source: Any) -> bool:
    """Whether `source` is a file with an ending of embeddings, or a mapping of arrays."""
    return isinstance(source, Mapping) or Path(str(source)).suffix.lower() in SUFFIXES


def read_vectors(
    source: str | os.PathLike[str] | Mapping[str, Any],
    columns: Sequence[str] = (),
    *,
    lists: str | None = None,
    keys: Sequence[str] = (),
) -> Vectors:
    """Read the embeddings, the ids, and those of `columns` that exist; the column `lists` may hold lists of labels.

    Also reads those of `keys`, possible join keys, that hold one value per row. UserError for whatever the user can
    fix.
    """
    if isinstance(source, Mapping):
        wanted = [*columns, *(name for name in keys if np.ndim(source.get(name, 0)) == 1)]
        found, names = {name: source[name] for name in (EMBEDDING, ID, *wanted) if name in source}, tuple(source)
        return _checked("the embeddings", found, names, lists)
    path = Path(source)
    if not path.is_file():
        raise UserError(f"{path}: no such file of embeddings")
    if path.suffix.lower() == ".npz":
        found, names = _arrays(path, (EMBEDDING, ID, *columns, *keys))
    else:
        with reading(path):
            file = pq.ParquetFile(path)
            schema = file.schema_arrow
            names = tuple(schema.names)
            flat = [name for name in keys if name in names and not pa.types.is_nested(schema.field(name).type)]
            wanted = list(dict.fromkeys(name for name in (EMBEDDING, ID, *columns, *flat) if name in names))
            table = own_class_names(read_columns(file, path, wanted))
        found = {name: table[name] for name in wanted}
        return replace(_checked(path.name, found, names, lists), numbered=NUMBERED in (schema.metadata or {}))
    return _checked(path.name, found, names, lists)


def join_vectors(files: Sequence[Vectors]) -> tuple[list[Vectors], list[str]]:
    """Join files by id, so that all hold the same examples in the same order; and lines that report the join.

    Where no file has ids, rows are joined by position. UserError where only some files have ids, where no id is shared,
    or where the files contradict each other about an example.
    """
    if len(files) == 1:
        return list(files), []
    named = [file.ids for file in files if file.ids is not None]
    if len(named) < len(files):
        lines = _in_order(files, named)
        _refuse_contradictions(files)
        return list(files), lines
    ids = named[0]
    for file, others in zip(files[1:], named[1:], strict=True):
        shared = ids.filter(pc.is_in(ids, value_set=others))
        if not len(shared):
            zeros = differ_by_zeros(others.to_pylist(), ids)
            hint = f"; {zeros[0]!r} and {zeros[1]!r} differ in zeros at the front" if zeros else ""
            raise UserError(
                f"no id of {file.name} (such as {others[0].as_py()!r}) is one of {files[0].name} (such as "
                f"{ids[0].as_py()!r}): give embeddings of the same examples under the same ids{hint}"
            )
        ids = shared
    lines = [f"{len(ids):,} embeddings are in all {len(files)} files by id{_such_as(ids)}"]
    for file, own in zip(files, named, strict=True):
        alone = own.filter(pc.invert(pc.is_in(own, value_set=ids)))
        if len(alone):
            lines.append(
                f"{len(alone):,} of the {len(file):,} embeddings of {file.name} have no partner and were dropped"
                f"{_such_as(alone)}"
            )
    joined = [file.take(pc.index_in(ids, value_set=file.ids)) for file in files]
    _refuse_contradictions(joined)
    return joined, lines


def _such_as(ids: pa.Array) -> str:
    return f" ({', '.join(ids[:_SHOWN].to_pylist())}{', ...' if len(ids) > _SHOWN else ''})"


def _refuse_contradictions(files: Sequence[Vectors]) -> None:
    """UserError where two files have different values for one example, which cannot be the same then."""
    first = files[0]
    for file in files[1:]:
        for column in first.columns.keys() & file.columns.keys():
            one, other = (Missing().out_of(of.columns[column], column) for of in (first, file))
            differ = [row for row in _unlike(one, other) if not _nearly(one[row].as_py(), other[row].as_py())]
            if differ:
                row = differ[0]
                values = f"{one[row].as_py()!r} and {other[row].as_py()!r}"
                where = f"row {row}" if first.ids is None else f"id {first.ids[row].as_py()!r}"
                remedy = f"give both the column {ID!r}" if first.ids is None else f"correct their {ID!r}"
                raise UserError(
                    f"{first.name} and {file.name} differ in {column!r} at {len(differ):,} of {len(one):,} rows "
                    f"(first: {where}, {values}), so that these are not the same "
                    f"examples: {remedy}, or leave {column!r} out of one"
                )


def _unlike(one: pa.Array, other: pa.Array) -> list[int]:
    unlike = pc.fill_null(pc.not_equal(one, other), False)
    return [int(row) for row in np.flatnonzero(unlike.to_numpy(zero_copy_only=False))]


def _nearly(one: str, other: str) -> bool:
    """Whether two texts are the same number up to rounding."""
    try:
        return math.isclose(float(one), float(other), rel_tol=1e-5)
    except ValueError:
        return False


def _in_order(files: Sequence[Vectors], named: Sequence[pa.Array]) -> list[str]:
    nameless = next(file.name for file in files if file.ids is None)
    if named:
        having = next(file.name for file in files if file.ids is not None)
        raise UserError(f"{nameless} has no ids to join it with {having} by: add {ID!r} to it")
    if len({len(file) for file in files}) > 1:
        lengths = ", ".join(f"{file.name}: {len(file):,}" for file in files)
        raise UserError(
            f"{nameless} has no ids, and the files hold different numbers of embeddings ({lengths}): "
            f"add {ID!r} to each, or give the same examples in the same order"
        )
    return [f"joined by position, {len(files[0]):,} rows each: no file has ids"]


def _arrays(path: Path, wanted: Sequence[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    found = {}
    try:
        with arrays_in(path) as file:
            names = tuple(file.files)
            for name in wanted:
                if name in names:
                    found[name] = file[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "pickle" in str(error) and zipfile.is_zipfile(path):
            message = f"{path}: the array {name!r} holds objects of mixed types: write it as text or as numbers"
        else:
            message = f"{path} cannot be read as arrays: {' '.join(str(error).split())[:200]}"
        raise UserError(message) from None
    return found, names


def _checked(name: str, found: Mapping[str, Any], names: tuple[str, ...], lists: str | None) -> Vectors:
    if EMBEDDING not in found:
        raise UserError(f"{name} holds no {EMBEDDING!r} (it has: {', '.join(names) or 'nothing'}): name the vectors so")
    values = _matrix(found[EMBEDDING], name)
    n, dim = values.shape
    if n < 2 or not dim:
        raise UserError(f"{name} holds {n} embeddings of {dim} numbers; at least two of one number are needed")
    columns = {key: _text(value, key, name, lists=key == lists) for key, value in found.items() if key != EMBEDDING}
    for key, column in columns.items():
        if len(column) != n:
            raise UserError(f"{name} holds {n:,} embeddings but {len(column):,} values of {key!r}: give one for each")
    ids = columns.pop(ID, None)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        where = f"row {bad[0]}" if ids is None else f"id {ids[int(bad[0])].as_py()!r}"
        raise UserError(
            f"{len(bad):,} of the {n:,} embeddings of {name} hold NaN, infinite or missing numbers (first: {where}): "
            "leave these rows out, or embed them again"
        )
    if ids is not None:
        _check_ids(ids, name)
    return Vectors(name, values, ids, columns, names)


def _check_ids(ids: pa.Array, name: str) -> None:
    if ids.null_count:
        raise UserError(f"{ids.null_count:,} of the {len(ids):,} ids of {name} are missing: name every row, or none")
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(pc.struct_field(counts, "counts"), 1))
    if len(twice):
        raise UserError(
            f"{len(twice):,} ids of {name} occur more than once (first: {twice[0]['values'].as_py()!r}): give each row "
            "an id of its own; what belongs together goes into a column 'group'"
        )


def _text(values: Any, key: str, name: str, *, lists: bool) -> pa.Array:
    """Convert a column or array of labels, groups or ids to text."""
    try:
        if not isinstance(values, pa.ChunkedArray | pa.Array):
            if lists and isinstance(values, list | tuple):
                return as_text(pa.array(values), lists=True)
            shape = list(np.shape(values)) if hasattr(values, "shape") else [len(values)]
            if len(shape) == 2:
                array = np.asarray(as_numpy(values))
                if lists and shape[1] != 1:
                    return table_as_text(array)
                values = array[:, 0] if shape[1] == 1 else array
            values = as_column(values)
        if key in _NAMING:
            refuse_rounded(values, "it")
        return as_text(values, lists=lists)
    except UserError as error:
        raise UserError(f"{key!r} of {name}: {error}") from None
    except (pa.ArrowException, TypeError, ValueError):
        raise UserError(f"{key!r} of {name} holds values of mixed types: write it as text or as numbers") from None


def _matrix(values: Any, name: str) -> Matrix:
    """Embeddings [N D] from an array or a column of lists; NaN where a number is missing."""
    if not isinstance(values, pa.ChunkedArray):
        array = np.asarray(as_numpy(values))
        if array.ndim != 2 or array.dtype.kind not in "fiub":
            raise UserError(f"{EMBEDDING!r} of {name} is {array.dtype} {list(array.shape)}: numbers [N D] are expected")
        return _single(array)
    kind = values.type.storage_type if isinstance(values.type, pa.BaseExtensionType) else values.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise UserError(f"{EMBEDDING!r} of {name} is {kind}: a list of numbers for each row is expected")
    chunks = [c.storage if isinstance(c, pa.ExtensionArray) else c for c in values.chunks if len(c)]
    widths = [pc.unique(pc.drop_null(pc.list_value_length(chunk))).to_pylist() for chunk in chunks]
    dims = sorted({width for found in widths for width in found})
    if len(dims) > 1:
        raise UserError(f"the embeddings of {name} have from {dims[0]} to {dims[-1]} numbers: all need the same")
    dim = dims[0] if dims else 0
    matrix = np.full((len(values), dim), np.nan, np.float32)
    start = 0
    for chunk in chunks:
        there = np.flatnonzero(pc.is_valid(chunk).to_numpy(zero_copy_only=False))
        numbers = chunk.drop_null().flatten().to_numpy(zero_copy_only=False)
        matrix[start + there] = _single(numbers.reshape(len(there), dim))
        start += len(chunk)
    return matrix


def _single(array: NDArray[Any]) -> Matrix:
    with np.errstate(over="ignore"):  # values beyond float32 are reported as infinite
        return array.astype(np.float32, copy=False)
