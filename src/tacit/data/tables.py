"""A table with a column of images: encoded bytes, Hugging Face's {bytes, path}, or paths to files.

Parquet files are read row group by row group, so that a table larger than memory is no obstacle.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from tacit.data.decode import Item
from tacit.data.kinds import KINDS, choose_kind, kind_of_suffix
from tacit.data.source import Source, digest, each, spread
from tacit.data.text import read_csv
from tacit.errors import UserError

TABLE_SUFFIXES = frozenset([".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".ndjson"])
PATH_NAMES = (
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "path",
    "source_file",
    "image_path",
    "image",
    "img",
)
_IMAGE_NAMES = ("image", "img", "picture", "photo", "pixels", "bytes")
_ID_NAMES = (*PATH_NAMES, "id", "name", "key", "image_id")
_ROWS = 256  # images read at a time


@dataclass(frozen=True)
class _Opened:
    """A table on disk or in memory: its schema, its columns in memory, and one column streamed."""

    schema: pa.Schema
    rows: int
    read: Callable[[list[str]], pa.Table]
    stream: Callable[[str], Iterator[pa.Array]]
    sample: Callable[[str, int], Iterator[pa.Array]]
    inner_paths: Callable[[str], pa.ChunkedArray]  # of a column of {bytes, path}, without reading the bytes
    stamps: list[bytes]  # what tells that the files have changed; none for a table in memory


def table_source(
    data: Path | list[Path] | pa.Table,
    name: str,
    kind: str | None = None,
    image_column: str | None = None,
    path_column: str | None = None,
) -> Source:
    """Examples from a table's image or path column; relative paths start from the table's own folder.

    Every other column is kept. Ids are the paths, or else a column of ids without repetition, or else row numbers.
    """
    root = Path.cwd() if isinstance(data, pa.Table) else (data[0] if isinstance(data, list) else data).resolve().parent
    table = _in_memory(data) if isinstance(data, pa.Table) else _open(data if isinstance(data, list) else [data])
    if not table.rows:
        raise UserError(f"{name} has no rows")
    column = _image_column(table, name, kind, image_column, path_column)
    others = table.read([c for c in table.schema.names if c != column or _is_text(table.schema.field(c).type)])
    is_path = _is_text(table.schema.field(column).type)
    if is_path:
        ids = pc.replace_substring(pc.fill_null(_strings(others[column]), ""), "\\", "/")
        kind = choose_kind(_kinds_of_paths(ids), kind, f"column {column!r} of {name}")
        stamps = chain(table.stamps, _stamps_of_paths(ids, root))
    else:
        kind = "image"
        ids = _ids(table, column, others)
        stamps = chain(table.stamps or _cells(table.stream(column)))
    return Source(
        name=name,
        kind=kind,
        ids=ids,
        fingerprint=digest(chain([str(root).encode(), column.encode()], stamps)),
        items=lambda: _items(table.stream(column), root),
        sample=lambda k: list(_items(table.sample(column, k), root)),
        root=root.as_posix() if is_path else "",
        columns=others,
    )


def label_files(labels: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None) -> list[Path]:
    """What `--labels` named: no, one or several files, or `folders` alone."""
    if labels is None:
        return []
    return [Path(labels)] if isinstance(labels, str | os.PathLike) else [Path(file) for file in labels]


def read_table(path: Path) -> pa.Table:
    """A whole Parquet, CSV or JSON-lines file. UserError for anything else."""
    suffix = path.suffix.lower()
    with reading(path):
        if suffix in {".parquet", ".pq"}:
            return pq.ParquetFile(path).read()
        if suffix in {".jsonl", ".ndjson"}:
            return pyarrow.json.read_json(path)
        return read_csv(path)


def _open(paths: list[Path]) -> _Opened:
    stamps = []
    for path in paths:
        status = path.stat()
        stamps.append(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}".encode())
    if paths[0].suffix.lower() not in {".parquet", ".pq"}:
        table = _in_memory(pa.concat_tables([read_table(path) for path in paths], promote_options="permissive"))
        return replace(table, stamps=stamps)
    files = []
    for path in paths:
        with reading(path):
            files.append(pq.ParquetFile(path))
    schema = files[0].schema_arrow
    for path, file in zip(paths, files, strict=True):
        if file.schema_arrow.names != schema.names:
            raise UserError(f"{path.name} has other columns than {paths[0].name}; name one table or tables of one form")

    def stream(column: str) -> Iterator[pa.Array]:
        for path, file in zip(paths, files, strict=True):
            with reading(path):
                for batch in file.iter_batches(_ROWS, columns=[column]):
                    yield batch.column(0)

    def sample(column: str, k: int) -> Iterator[pa.Array]:
        groups = [(number, group) for number, file in enumerate(files) for group in range(file.num_row_groups)]
        chosen = [groups[i] for i in spread(len(groups), 8)]
        for number, group in chosen:
            with reading(paths[number]):
                cells = files[number].read_row_group(group, columns=[column]).column(0)
            yield from cells.take(pa.array(spread(len(cells), -(-k // len(chosen))), pa.int64())).chunks

    def read(columns: list[str]) -> pa.Table:
        parts = []
        for path, file in zip(paths, files, strict=True):
            with reading(path):
                parts.append(file.read(columns))
        return pa.concat_tables(parts, promote_options="permissive")

    def inner_paths(column: str) -> pa.ChunkedArray:
        return pc.struct_field(read([f"{column}.path"])[column], "path")

    rows = sum(file.metadata.num_rows for file in files)
    return _Opened(schema, rows, read, stream, sample, inner_paths, stamps)


def _in_memory(table: pa.Table) -> _Opened:
    return _Opened(
        table.schema,
        table.num_rows,
        read=table.select,
        stream=lambda column: (batch.column(0) for batch in table.select([column]).to_batches(_ROWS)),
        sample=lambda column, k: iter(table[column].take(pa.array(spread(table.num_rows, k), pa.int64())).chunks),
        inner_paths=lambda column: pc.struct_field(table[column], "path"),
        stamps=[],
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What a damaged file makes arrow say, as one line with the file's name."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as a table: {' '.join(str(error).split())[:200]}") from None


def _image_column(
    table: _Opened, name: str, kind: str | None, image_column: str | None, path_column: str | None
) -> str:
    """The column that holds the images or their paths. UserError where none does, or several could."""
    schema = table.schema
    columns = ", ".join(schema.names)
    for asked in (image_column, path_column):
        if asked is not None and asked not in schema.names:
            raise UserError(f"{name} has no column {asked!r}; it has {columns}")
    for asked, fits, what in ((image_column, _is_bytes, "encoded images"), (path_column, _is_text, "paths")):
        if asked is not None:
            if not fits(schema.field(asked).type):
                raise UserError(f"column {asked!r} of {name} holds {schema.field(asked).type}, not {what}")
            return asked
    encoded = [field.name for field in schema if _is_bytes(field.type)]
    named = {other.column: name for name, other in KINDS.items() if other.column in encoded}
    choose_kind(Counter(named.values()), kind, name)
    usual = [c for c in encoded if c.lower() in _IMAGE_NAMES]
    candidates = usual[:1] or [c for c in encoded if c not in named]
    if len(candidates) > 1:
        raise UserError(f"{name} has several binary columns ({', '.join(candidates)}): choose with --image-column")
    paths = [c for c in PATH_NAMES if c in schema.names and _is_text(schema.field(c).type)]
    if not (candidates or paths):
        raise UserError(f"{name} has no column of images: name one with --image-column or --path-column (of {columns})")
    return (candidates or paths)[0]


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    """Encoded images: plain binary, or Hugging Face's struct of bytes and path."""
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" and _is_bytes(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _kinds_of_paths(ids: pa.Array) -> Counter[str]:
    some = (ids[row].as_py() for row in spread(len(ids), 1000))
    kinds = (kind_of_suffix(PurePosixPath(path or "").suffix.lower()) for path in some)
    return Counter(kind for kind in kinds if kind)


def _stamps_of_paths(ids: pa.Array, root: Path) -> Iterator[bytes]:
    for path in each(ids):
        try:
            status = (root / path).stat()
            yield f"{path} {status.st_size} {status.st_mtime_ns}".encode()
        except (OSError, ValueError):
            yield f"{path} absent".encode()


def _ids(table: _Opened, column: str, others: pa.Table) -> pa.Array:
    candidates = [others[c] for c in _ID_NAMES if c in others.column_names]
    if pa.types.is_struct(table.schema.field(column).type) and "path" in table.schema.field(column).type.names:
        candidates.insert(0, table.inner_paths(column))
    for values in candidates:
        if _is_text(values.type) or pa.types.is_integer(values.type):
            ids = _strings(values)
            if ids.null_count == 0 and len(pc.unique(ids)) == len(ids):
                return ids
    return pa.array(np.arange(table.rows).astype(str), pa.string())


def _strings(values: pa.ChunkedArray) -> pa.Array:
    strings = values.cast(pa.string()).combine_chunks()
    return strings if isinstance(strings, pa.Array) else pa.concat_arrays(strings.chunks)


def _cells(chunks: Iterator[pa.Array]) -> Iterator[bytes]:
    for value in chain.from_iterable(map(each, chunks)):
        cell = value.get("bytes") or str(value.get("path")).encode() if isinstance(value, dict) else value
        yield cell or b""


def _items(chunks: Iterator[pa.Array], root: Path) -> Iterator[Item]:
    return (_item(value, root) for value in chain.from_iterable(map(each, chunks)))


def _item(value: Any, root: Path) -> Item:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        return root / value.replace("\\", "/")
    return bytes(value or b"")
