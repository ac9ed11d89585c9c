"""Tables written as text: encoding and delimiter are found out, and every value stays the text it was.

What we write ourselves is opened in spreadsheets, where a cell that begins like a formula is run as one. Such a cell
gets an apostrophe in front, the spreadsheets' own mark of a text, and loses it again where it is read as a label file.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tacit.data.places import Place, size_of
from tacit.errors import UserError

_DELIMITERS = ",;\t"
_SNIFFED = 50  # rows

_FORMULA = r"[=+\-@\t\r\n＝＋－＠]"  # what one begins with, the wide forms of Japanese keyboards too
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"

_UNPACKED = 250  # bytes from one of a .gz file at most: texts that people have give 3 to 100, a bomb a thousand
_UNPACKED_ALWAYS = 256 << 20  # bytes that are no bomb, however small the file


def read_csv(path: Place) -> pa.Table:
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


def write_csv(table: pa.Table, path: Path) -> None:
    """A CSV file of which a spreadsheet runs no cell."""
    columns = [of if pa.types.is_primitive(of.type) else disarmed(of.cast(pa.string())) for of in table.columns]
    names = disarmed(pa.array(table.column_names, pa.string())).to_pylist()
    pa.csv.write_csv(pa.table(columns, names), path)


def disarmed(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """With an apostrophe before what a spreadsheet would take for a formula; a plain number such as -1 is none."""
    risky = pc.match_substring_regex(texts, f"^'*{_FORMULA}")
    risky = pc.and_(risky, pc.invert(pc.match_substring_regex(texts, _NUMBER)))
    return pc.if_else(risky, pc.binary_join_element_wise("'", texts, ""), texts)


def rearmed(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """What `disarmed` was given."""
    return pc.replace_substring_regex(texts, f"^'('*{_FORMULA})", r"\1")


def opened_file(path: Place) -> IO[bytes]:
    """The bytes of a file, of one that ends in .gz those it was made from."""
    compressed = path.name.lower().endswith(".gz")
    return io.BufferedReader(_Unpacked(path), 1 << 20) if compressed else path.open("rb")


class _Unpacked(io.RawIOBase):
    """The bytes that a .gz file was made from. OSError once they are more than a file of that size can mean."""

    def __init__(self, path: Place) -> None:
        self._packed = path.open("rb")
        self._file = gzip.GzipFile(fileobj=self._packed)
        self._left = max(_UNPACKED_ALWAYS, _UNPACKED * size_of(path))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = self._file.readinto(buffer)
        self._left -= n
        if self._left < 0:
            raise OSError(f"unpacks to more than {_UNPACKED} times its size, as a bomb does")
        return n

    def close(self) -> None:
        self._file.close()
        self._packed.close()
        super().close()


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
