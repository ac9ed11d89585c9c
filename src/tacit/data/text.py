"""Files of text: unpacked where they are read, and tables that a spreadsheet can open without running anything.

What we write ourselves is opened in spreadsheets, where a cell that begins like a formula is run as one. Such a cell
gets an apostrophe in front, the spreadsheets' own mark of a text, and loses it again where it is read as a label file.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tacit.data.places import Place, size_of

_FORMULA = r"[=+\-@\t\r\n＝＋－＠]"  # what one begins with, the wide forms of Japanese keyboards too
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"

_UNPACKED = 250  # bytes from one of a .gz file at most: texts that people have give 3 to 100, a bomb a thousand
_UNPACKED_ALWAYS = 256 << 20  # bytes that are no bomb, however small the file


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
