"""Stream tables: Parquet, CSV, JSON lines or arrow in memory, many rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from tacit.core.errors import UserError
from tacit.data.delimited import open_delimited
from tacit.data.opened import LINES, PARQUET, is_text, parquet, reading, refuse_twice, stamps_of
from tacit.data.places import Place
from tacit.data.plain import plain_schema
from tacit.data.rows import json_rows, table_of
from tacit.data.signs import suffix_of
from tacit.data.unpacking import batches

_ROWS = 1 << 17  # read at a time
_HEAD = 10_000  # lines of JSON by which the columns are known


@dataclass(frozen=True)
class Streamed:
    """A table that may be larger than memory: its columns, and a stream of some of them."""

    schema: pa.Schema
    stream: Callable[[Sequence[str]], Iterator[pa.RecordBatch]]
    stamps: list[bytes]  # these change when the files do; empty for a table in memory
    remarks: tuple[str, ...] = ()  # for the user, on how it is read


def open_streamed(paths: Sequence[Place]) -> Streamed:
    """Open these tables as one stream of rows. UserError where their columns differ."""
    parts = [_open(path) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        refuse_twice(part.schema.names, path.name)
        if part.schema.names != parts[0].schema.names:
            raise UserError(f"{path.name} has other columns than {paths[0].name}; name one table or tables of one form")

    def stream(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for path, part in zip(paths, parts, strict=True):
            with reading(path):
                yield from part.stream(columns)

    remarks = tuple(remark for part in parts for remark in part.remarks)
    return Streamed(parts[0].schema, stream, stamps_of(paths), remarks)


def in_memory(table: pa.Table) -> Streamed:
    return Streamed(table.schema, lambda columns: iter(table.select(list(columns)).to_batches(_ROWS)), [])


def _open(path: Place) -> Streamed:
    suffix = suffix_of(path.name)
    with reading(path):
        if suffix in PARQUET:
            file = parquet(path)
            return Streamed(
                plain_schema(file.schema_arrow), lambda columns: batches(file, path, _ROWS, columns=list(columns)), []
            )
        if suffix in LINES:
            return _lines(path)
        return _csv(path)


def _csv(path: Place) -> Streamed:
    found = open_delimited(path)
    return Streamed(pa.schema([(name, pa.string()) for name in found.names]), found.batches, [], found.remarks)


def _lines(path: Place) -> Streamed:
    """Stream JSON lines; a line that is no JSON object becomes a row of nulls."""
    head = [cells for _, cells, _ in islice(json_rows(path), _HEAD) if isinstance(cells, dict)]
    if not head:
        raise UserError(f'{path.name} holds no JSON objects, one per line, such as {{"user": 1, "item": 2}}')
    schema = table_of(head).schema

    def stream(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        rows = (
            {c: cells.get(c) for c in columns} if isinstance(cells, dict) else {} for _, cells, _ in json_rows(path)
        )
        while block := list(islice(rows, _ROWS)):
            cells = [_cells([row.get(c) for row in block], schema.field(c).type, path, c) for c in columns]
            yield pa.RecordBatch.from_arrays(cells, list(columns))

    return Streamed(schema, stream, [])


def _cells(values: list[Any], kind: pa.DataType, path: Place, column: str) -> pa.Array:
    """Convert the cells of a column. UserError where they are words and earlier ones numbers, or the reverse."""
    if is_text(kind) and {int} == {*map(type, values)} - {type(None)}:  # some are too large for arrow
        values = [None if value is None else str(value) for value in values]
    try:
        cells = pa.array(values)
        nothing = pa.types.is_null(cells.type) or pa.types.is_null(kind)
        if nothing or is_text(cells.type) == is_text(kind):
            return cells
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        pass
    raise UserError(f"{path} mixes numbers and words in column {column!r}: write all of them in quotes")
