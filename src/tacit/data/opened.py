"""Open tables: Parquet, CSV, JSON lines, or arrow in memory; columns are streamed row group by row group."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tacit.core.errors import UserError
from tacit.data.class_names import own_class_names
from tacit.data.delimited import read_csv
from tacit.data.named import as_text, distinct, holds_rounded
from tacit.data.places import Place, reaching, stamp_of
from tacit.data.plain import plain_schema
from tacit.data.rows import concatenated, read_json_lines
from tacit.data.signs import suffix_of
from tacit.data.source import ROWS, spread
from tacit.data.unpacking import batches, read_columns

PARQUET = frozenset([".parquet", ".pq"])
LINES = frozenset([".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"])
TABLE_SUFFIXES = PARQUET | LINES | frozenset([".csv", ".tsv", ".csv.gz", ".tsv.gz"])
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
    "audio_path",
    "audio_file",
    "audio",
)
_ID_NAMES = (*PATH_NAMES, "id", "name", "key", "image_id")
ID_LIKE = re.compile(r"(?i:(^|[_\W])(id|uid|uuid|guid|key)$)|[a-z]I[dD]$|(?i:^(doc|uu|gu|u|row|record|sample|text)id$)")
_ROWS = 256  # at most, read at a time
_BYTES = 16 << 20  # of a column, approximately


@dataclass(frozen=True)
class OpenTable:
    """An open table on disk or in memory: its schema, columns on request, and single columns as a stream."""

    schema: pa.Schema
    rows: int
    read: Callable[[list[str]], pa.Table]
    stream: Callable[[str], Iterator[pa.Array]]
    sample: Callable[[str, int], Iterator[pa.Array]]
    inner_paths: Callable[[str], pa.ChunkedArray]  # paths in a column of {bytes, path}, without reading the bytes
    stamps: list[bytes]  # these change when the files do; empty for a table in memory
    remarks: tuple[str, ...] = ()  # for the user, on how it was read


def read_table(path: Place, remarks: list[str] | None = None) -> pa.Table:
    """Read a whole Parquet, CSV or JSON-lines file; adds remarks for the user to `remarks`. UserError for others."""
    suffix = suffix_of(path.name)
    with reading(path):
        if suffix in PARQUET:
            return own_class_names(read_columns(parquet(path), path))
        return read_json_lines(path) if suffix in LINES else read_csv(path, remarks)


def parquet(place: Place) -> pq.ParquetFile:
    return pq.ParquetFile(place if isinstance(place, Path) else place.open())


def stamps_of(places: Sequence[Place]) -> list[bytes]:
    """Stamps that change when one of these files does."""
    return [*map(stamp_of, places)]


def open_tables(paths: Sequence[Place]) -> OpenTable:
    """Open these files as one table; only Parquet stays on disk, other formats are read into memory."""
    stamps = stamps_of(paths)
    if suffix_of(paths[0].name) not in PARQUET:
        remarks: list[str] = []
        tables = [read_table(path, remarks) for path in paths]
        if suffix_of(paths[0].name) not in LINES:
            _refuse_other_columns(paths, [table.column_names for table in tables])
        return replace(opened_table(concatenated(tables)), stamps=stamps, remarks=tuple(remarks))
    files = []
    for path in paths:
        with reading(path):
            files.append(parquet(path))
    schema = plain_schema(files[0].schema_arrow)
    _refuse_other_columns(paths, [file.schema_arrow.names for file in files])

    def stream(column: str) -> Iterator[pa.Array]:
        for path, file in zip(paths, files, strict=True):
            with reading(path):
                for batch in batches(file, path, _at_a_time(file, column), columns=[column]):
                    yield _of_type(batch.column(0), schema.field(column).type)

    def sample(column: str, k: int) -> Iterator[pa.Array]:
        groups = [(number, group) for number, file in enumerate(files) for group in range(file.num_row_groups)]
        chosen = [groups[i] for i in spread(len(groups), 8)]
        for number, group in chosen:
            file, first = files[number], 0
            wanted = np.array(spread(file.metadata.row_group(group).num_rows, -(-k // len(chosen))), np.int64)
            with reading(paths[number]):
                at_a_time = _at_a_time(file, column)
                for batch in batches(file, paths[number], at_a_time, row_groups=[group], columns=[column]):
                    here = wanted[(wanted >= first) & (wanted < first + len(batch))] - first
                    first += len(batch)
                    if len(here):
                        yield _of_type(batch.column(0).take(pa.array(here)), schema.field(column).type)

    def read(columns: list[str]) -> pa.Table:
        parts = []
        for path, file in zip(paths, files, strict=True):
            with reading(path):
                parts.append(own_class_names(read_columns(file, path, columns)))
        return concatenated(parts)

    def inner_paths(column: str) -> pa.ChunkedArray:
        return pc.struct_field(read([f"{column}.path"])[column], "path")

    rows = sum(file.metadata.num_rows for file in files)
    return OpenTable(schema, rows, read, stream, sample, inner_paths, stamps)


def _refuse_other_columns(paths: Sequence[Place], columns: Sequence[list[str]]) -> None:
    for path, own in zip(paths, columns, strict=True):
        refuse_twice(own, path.name)
        if sorted(own) != sorted(columns[0]):
            raise UserError(f"{path.name} has other columns than {paths[0].name}; name one table or tables of one form")


def refuse_twice(columns: Sequence[str], where: str) -> None:
    """UserError where two columns have the same name."""
    twice = next((name for name, count in Counter(columns).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"{where} has two columns named {twice!r}; rename one")


def _of_type(values: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    return values if values.type == kind else values.cast(kind)


def _at_a_time(file: pq.ParquetFile, column: str) -> int:
    """Rows of a column to read together: fewer of long recordings than of thumbnails."""
    size = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        parts = map(group.column, range(group.num_columns))
        size += sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] == column)
    return max(1, min(_ROWS, _BYTES * int(file.metadata.num_rows) // max(1, size)))


def opened_table(table: pa.Table) -> OpenTable:
    table = own_class_names(table)
    return OpenTable(
        table.schema,
        table.num_rows,
        read=table.select,
        stream=lambda column: (batch.column(0) for batch in table.select([column]).to_batches(_ROWS)),
        sample=lambda column, k: iter(table[column].take(pa.array(spread(table.num_rows, k), pa.int64())).chunks),
        inner_paths=lambda column: pc.struct_field(table[column], "path"),
        stamps=[],
    )


@contextmanager
def reading(path: Place) -> Iterator[None]:
    """Turn arrow's errors about a damaged file into a UserError of one line with the file's name."""
    try:
        with nullcontext() if isinstance(path, Path) else reaching(str(path), (pa.ArrowException,)):
            yield
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read as a table: {' '.join(str(error).split())[:200]}") from None


def is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_words(kind: pa.DataType) -> bool:
    """Whether each cell is a list of words."""
    return bool((pa.types.is_list(kind) or pa.types.is_large_list(kind)) and is_text(kind.value_type))


def row_ids(others: pa.Table, rows: int) -> tuple[pa.Array, str]:
    """A column of distinct ids and its name: one of a usual name, or an id-like name; else row numbers."""
    named = [name for name in _ID_NAMES if name in others.column_names]
    for name in (*named, *(name for name in others.column_names if ID_LIKE.search(name) and name not in named)):
        kind = others.schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
            ids = as_text(others[name])
            if distinct(ids) and not holds_rounded(others[name]):
                return ids, name
    return pa.array(np.arange(rows).astype(str), pa.string()), ROWS


def strings(values: pa.ChunkedArray) -> pa.Array:
    texts = values.cast(pa.string()).combine_chunks()
    return texts if isinstance(texts, pa.Array) else pa.concat_arrays(texts.chunks)
