"""Text files: decompressed on reading, and CSV files that are safe to open in a spreadsheet.

Spreadsheets run cells that begin like a formula. In the files we write, such a cell is prefixed with an apostrophe, the
spreadsheets' own mark of text, which is removed again when the file is read as a label file.
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

_FORMULA = r"[=+\-@\t\r\n＝＋－＠]"  # first characters of a formula, with the full-width forms of Japanese keyboards
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"

_UNPACKED = 250  # bytes per byte of a .gz file, at most: real texts give 3 to 100, a bomb a thousand
_UNPACKED_ALWAYS = 256 << 20  # bytes always allowed, however small the file


def write_csv(table: pa.Table, path: Path) -> None:
    """Write a CSV file of which a spreadsheet runs no cell."""
    columns = [of if pa.types.is_primitive(of.type) else disarmed(of.cast(pa.string())) for of in table.columns]
    names = disarmed(pa.array(table.column_names, pa.string())).to_pylist()
    pa.csv.write_csv(pa.table(columns, names), path)


def disarmed(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Prefix an apostrophe to whatever a spreadsheet would take for a formula, except numbers such as -1."""
    risky = pc.match_substring_regex(texts, f"^'*{_FORMULA}")
    risky = pc.and_(risky, pc.invert(pc.match_substring_regex(texts, _NUMBER)))
    return pc.if_else(risky, pc.binary_join_element_wise("'", texts, ""), texts)


def rearmed(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Undo `disarmed`."""
    return pc.replace_substring_regex(texts, f"^'('*{_FORMULA})", r"\1")


def opened_file(path: Place) -> IO[bytes]:
    """Open a file for reading bytes, decompressed where its name ends in .gz."""
    compressed = path.name.lower().endswith(".gz")
    return io.BufferedReader(_Unpacked(path), 1 << 20) if compressed else path.open("rb")


class _Unpacked(io.RawIOBase):
    """The decompressed bytes of a .gz file. OSError once they exceed the allowed ratio."""

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
