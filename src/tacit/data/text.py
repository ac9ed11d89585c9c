"""Tables written as text: encoding and delimiter are found out, and every value stays the text it was."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
from itertools import islice
from pathlib import Path
from typing import IO, cast

import pyarrow as pa
import pyarrow.csv

from tacit.errors import UserError

_DELIMITERS = ",;\t"
_SNIFFED = 50  # rows


def read_csv(path: Path) -> pa.Table:
    """Columns of strings from a CSV file (comma, semicolon or tab; UTF-8, UTF-16 or cp1252).

    UserError for an unusable first line; arrow's own error for rows of another length than it.
    """
    with opened_file(path) as file:
        text = decode_text(file.read(), str(path))
    delimiter = sniff_delimiter(text)
    names = [name.strip() for name in next(csv.reader(io.StringIO(text), delimiter=delimiter), [])]
    if not any(names):
        raise UserError(f"{path} is empty; its first line has to name the columns")
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise UserError(f"{path} has two columns named {twice!r}; rename one")
    return pa.csv.read_csv(
        io.BytesIO(text.encode()),
        read_options=pa.csv.ReadOptions(column_names=names, skip_rows=1, use_threads=False),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )


def opened_file(path: Path) -> IO[bytes]:
    """The bytes of a file, of one that ends in .gz those it was made from."""
    compressed = path.name.lower().endswith(".gz")
    return cast(IO[bytes], gzip.open(path) if compressed else path.open("rb"))


def encodings_of(data: bytes) -> list[str]:
    """The encodings that a text which begins so may have, to be tried in order."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ["utf-16"]
    if data[1:200:2].count(0) > len(data[1:200:2]) // 2:
        return ["utf-16-le"]
    if data[0:200:2].count(0) > len(data[0:200:2]) // 2:
        return ["utf-16-be"]
    return ["utf-8-sig", "cp1252"]


def decode_text(data: bytes, where: str) -> str:
    """Text from UTF-8, UTF-16 (with or without its mark) or, where neither fits, cp1252."""
    for encoding in encodings_of(data):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UserError(f"{where} is in none of UTF-8, UTF-16 and cp1252; save it as UTF-8")


def sniff_delimiter(text: str) -> str:
    """The delimiter that cuts the first rows into the same number of columns, the largest number if several do."""

    def columns(delimiter: str) -> tuple[bool, int]:
        rows = islice(csv.reader(io.StringIO(text), delimiter=delimiter), _SNIFFED)
        widths = [len(row) for row in rows if row]
        return (len(set(widths)) == 1 and widths[0] > 1, max(widths[:1], default=0))

    return max(_DELIMITERS, key=columns)
