"""Tables of events as they lie, streamed: Parquet, CSV, JSON lines or arrow in memory, many rows at a time."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from tacit.data.documents import CannotRead, encoding_of
from tacit.data.kinds import suffix_of
from tacit.data.opened import LINES, PARQUET, parquet, reading, stamps_of
from tacit.data.places import Place
from tacit.data.text import encodings_of, opened_file, sniff_delimiter
from tacit.errors import UserError

_ROWS = 1 << 17  # read at a time
_BLOCK = 16 << 20  # bytes of text, likewise
_HEAD = 1 << 16  # bytes of a CSV file that tell its columns


@dataclass(frozen=True)
class Events:
    """Rows of a table that may be larger than memory: its columns, and a stream of some of them."""

    schema: pa.Schema
    stream: Callable[[Sequence[str]], Iterator[pa.RecordBatch]]
    stamps: list[bytes]  # what tells that the files have changed; none for a table in memory


def open_events(paths: Sequence[Place]) -> Events:
    """The rows of these tables, one table after the other. UserError where they differ in their columns."""
    parts = [_open(path) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        if part.schema.names != parts[0].schema.names:
            raise UserError(f"{path.name} has other columns than {paths[0].name}; name one table or tables of one form")

    def stream(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for path, part in zip(paths, parts, strict=True):
            with reading(path):
                yield from part.stream(columns)

    return Events(parts[0].schema, stream, stamps_of(paths))


def in_memory(table: pa.Table) -> Events:
    return Events(table.schema, lambda columns: iter(table.select(list(columns)).to_batches(_ROWS)), [])


def _open(path: Place) -> Events:
    suffix = suffix_of(path.name)
    with reading(path):
        if suffix in PARQUET:
            file = parquet(path)
            return Events(file.schema_arrow, lambda columns: file.iter_batches(_ROWS, columns=list(columns)), [])
        if suffix in LINES:
            return _lines(path)
        return _csv(path)


def _csv(path: Place) -> Events:
    with opened_file(path) as file:
        head = _decoded(file.read(_HEAD))
    delimiter = sniff_delimiter(head.rpartition("\n")[0] or head)
    names = [name.strip() for name in next(csv.reader(io.StringIO(head), delimiter=delimiter), [])]
    schema = pa.schema([(name, pa.string()) for name in names])

    def stream(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            encoding = encoding_of(path)
        except CannotRead as error:
            raise UserError(f"{path} cannot be read as text: {error}") from None
        with opened_file(path) as file:
            yield from pa.csv.open_csv(
                file,
                read_options=pa.csv.ReadOptions(
                    column_names=names,
                    skip_rows=1,
                    block_size=_BLOCK,
                    encoding="utf8" if encoding == "utf-8-sig" else encoding,
                    use_threads=False,
                ),
                parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=pa.csv.ConvertOptions(
                    column_types=schema, include_columns=list(columns), strings_can_be_null=False
                ),
            )

    return Events(schema, stream, [])


def _decoded(head: bytes) -> str:
    """The beginning of a text, which may end amid a character."""
    for encoding in encodings_of(head):
        try:
            return codecs.getincrementaldecoder(encoding)().decode(head)
        except UnicodeDecodeError:
            continue
    return ""


def _lines(path: Place) -> Events:
    options = pyarrow.json.ReadOptions(block_size=_BLOCK, use_threads=False)
    with opened_file(path) as file:
        schema = pyarrow.json.open_json(file, read_options=options).schema

    def stream(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            with opened_file(path) as file:
                for batch in pyarrow.json.open_json(file, read_options=options):
                    yield batch.select(list(columns))
        except pa.ArrowInvalid as error:
            if "changed from" in str(error):
                raise UserError(f"{path} mixes numbers and words in one column: write all of them in quotes") from None
            raise

    return Events(schema, stream, [])
