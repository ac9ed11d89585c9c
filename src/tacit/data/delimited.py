"""Delimited text tables (comma, semicolon, tab or bar): read completely, or refused with the number of the bad line.

The encoding, the delimiter and the meaning of quotation marks are detected from the whole file. Marks are syntax where
the whole file is well-formed with them (RFC 4180: a quoted cell begins and ends with one, a mark inside is doubled).
Else they are part of the text, as in GLUE and Common Voice, provided that every line has as many cells as the first.
Any other file is refused. Values stay text.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tacit.core.errors import UserError
from tacit.data.encodings import UTF8, CannotRead, Encoding, encoding_of
from tacit.data.places import Place
from tacit.data.signs import suffix_of
from tacit.data.text import opened_file

_DELIMITERS = ",;\t|"
_SNIFFED = 50  # lines
_MOST_SNIFFED = 1 << 24  # characters of them
_ROWS = 1 << 14  # converted to arrow at a time
_BLOCK = 16 << 20  # bytes that arrow parses at a time

_LONGEST = 2**31 - 1  # characters of a cell; the csv module's own limit of 131,072 is shorter than a court's decision
csv.field_size_limit(max(_LONGEST, csv.field_size_limit()))

_LOOKED_AT = 1000  # rows by which to tell whether the first line is a row too
_SENTENCE = 4  # words
_SHOWN = 40  # characters of a name that a remark shows
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_ESCAPED = re.compile(r'(?<!\\)((?:\\\\)*)\\"')


class Quoting(NamedTuple):
    """How quotation marks are read."""

    remark: str = ""  # for the user, where marks are not read the usual way
    marks: bool = True  # whether they are syntax
    spaced: bool = False  # whether blanks may precede them
    escaped: bool = False  # whether a mark inside a cell is escaped by a backslash, not doubled

    def records(self, lines: Iterable[str], delimiter: str) -> Any:
        """A reader of the csv module, which counts lines."""
        if self.escaped:
            lines = (_ESCAPED.sub(r'\1""', line) for line in lines)
        if not self.marks:
            return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
        return csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=self.spaced)


STANDARD = Quoting()
NONE = Quoting(marks=False)
_TEXT = Quoting("quotation marks are read as parts of the texts; by them lines would run into each other", marks=False)
_OTHERS = (
    Quoting("blanks before quotation marks are left out", spaced=True),
    Quoting('\\" inside a cell is taken for a quotation mark', escaped=True),
)


@dataclass(frozen=True)
class Delimited:
    """A delimited text table: its dialect, and its rows as a stream."""

    where: str
    opened: Callable[[], IO[bytes]]
    encoding: Encoding
    delimiter: str
    quoting: Quoting
    names: list[str]
    header: int  # lines up to the end of the header
    remarks: tuple[str, ...] = ()

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows of these columns, as strings. UserError for a row whose length differs from the header's."""
        done = 0
        if not self.quoting.marks:
            try:
                for batch in self._at_once(columns):
                    yield batch
                    done += len(batch)
                return
            except pa.ArrowInvalid:
                pass  # the code below names the malformed line
        places = [self.names.index(column) for column in columns]
        rows = islice(self.rows(), done, None)
        while block := list(islice(rows, _ROWS)):
            cells = [pa.array([row[place] for row in block], pa.string()) for place in places]
            yield pa.RecordBatch.from_arrays(cells, list(columns))

    def rows(self) -> Iterator[list[str]]:
        """The cells of each row after the header. UserError where there are too few or too many."""
        width = len(self.names)
        records = self.quoting.records(_lines(self.opened, self.encoding), self.delimiter)
        try:
            next(row for row in records if _is_row(row))
            for row in records:
                if len(row) == width:
                    yield row
                elif _is_row(row, width):
                    raise UserError(_other_length(self.where, records.line_num, len(row), width))
        except csv.Error as error:
            raise UserError(f"{self.where}, line {records.line_num:,}: {error}") from None

    def _at_once(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """`batches` by arrow: much faster, and only for files in which quotation marks are text."""
        with self.opened() as file:
            plain = self.encoding.name == UTF8 and not self.encoding.replaced
            yield from pa.csv.open_csv(
                file if plain else io.BufferedReader(_AsUtf8(file, self.encoding), 1 << 20),
                read_options=pa.csv.ReadOptions(
                    column_names=self.names, skip_rows=self.header, block_size=_BLOCK, use_threads=False
                ),
                parse_options=pa.csv.ParseOptions(delimiter=self.delimiter, quote_char=False),
                convert_options=pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(self.names, pa.string()),
                    include_columns=list(columns),
                    strings_can_be_null=False,
                ),
            )


def open_delimited(path: Place, *, at_once: bool = False) -> Delimited:
    """Open a CSV file and detect its dialect; `at_once` holds its bytes in memory. UserError where it cannot be read.

    Comma, semicolon, tab or bar; UTF-8, UTF-16 or cp1252. The first line names the columns.
    """
    if at_once:
        with opened_file(path) as file:
            data = file.read()
        return _understood(str(path), lambda: io.BytesIO(data), suffix_of(path.name))
    return _understood(str(path), lambda: opened_file(path), suffix_of(path.name))


def read_csv(path: Place, remarks: list[str] | None = None) -> pa.Table:
    """Read a CSV file as columns of strings; adds remarks for the user to `remarks`. UserError for other files."""
    found = open_delimited(path, at_once=True)
    schema = pa.schema([(name, pa.string()) for name in found.names])
    table = pa.Table.from_batches(found.batches(found.names), schema)
    if remarks is not None:
        again = table.filter(pc.equal(table[found.names[0]], found.names[0])).to_pylist()
        many = sum(all(cell.strip() == column for column, cell in row.items()) for row in again)
        remark = f"{path.name}: {many:,} rows repeat the line that names the columns, as where files were joined"
        remarks += [*found.remarks, *([remark + "; take them out"] if many else [])]
    return table


def sniff_delimiter(lines: Sequence[str], order: str = _DELIMITERS) -> str:
    """The delimiter that splits all of the first lines into the same number of columns; of several the one giving most.

    A bar counts only where no other delimiter fits: it may also separate the labels of a cell.
    """

    def fits(delimiter: str) -> tuple[int, bool, int]:
        quoted = _widths(lines, delimiter)
        plain = [line.count(delimiter) + 1 for line in lines if line.strip()]
        constant = [len(set(widths)) == 1 and widths[0] > 1 for widths in (plain, quoted)]
        return 2 if constant[1] else int(constant[0]), delimiter != "|", max(quoted[:1], default=0)

    return max(order, key=fits)


def _widths(lines: Sequence[str], delimiter: str) -> list[int]:
    """Cells of each record, without a last one that is incomplete."""
    widths: list[int] = []
    try:
        for row in csv.reader(lines, delimiter=delimiter, strict=True):
            widths += [len(row)] if row else []
    except csv.Error:
        pass
    return widths


def _understood(where: str, opened: Callable[[], IO[bytes]], suffix: str) -> Delimited:
    try:
        encoding = encoding_of(opened)
    except CannotRead as error:
        raise UserError(f"{where} cannot be read as text: {error}; save it as UTF-8") from None

    def lines() -> Iterator[str]:
        return _lines(opened, encoding)

    head = _head(lines())
    order = "\t,;|" if suffix.startswith(".tsv") else _DELIMITERS
    delimiter = sniff_delimiter(head, order)
    quoting, doubt = _quoting(lines, delimiter, where) if _holds_marks(opened) else (NONE, "")
    records = quoting.records(lines(), delimiter)
    names = [name.strip() for name in next((row for row in records if _is_row(row)), [])]
    if not any(names):
        raise UserError(f"{where} is empty; its first line has to name the columns")
    if names[0].startswith("sep="):
        raise UserError(f"{where} begins with Excel's line {names[0]!r}; its first line has to name the columns")
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise UserError(f"{where} has two columns named {twice!r}; rename one, or put a line of names above the rows")
    header = records.line_num
    name = where.replace("\\", "/").rpartition("/")[2]
    notes = [f"{name}: {quoting.remark}"] if quoting.remark else []
    notes += [f"{name}: {doubt}"] if doubt else []
    notes += [f"{name}: {odd}"] if (odd := _of_header(names, _some(records, len(names)))) else []
    remarks = (*encoding.remarks(name), *notes)
    return Delimited(where, opened, encoding, delimiter, quoting, names, header, remarks)


def _some(records: Iterator[list[str]], width: int) -> list[list[str]]:
    """The first rows that can be read."""
    found: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        found.extend(row for row in islice(records, _LOOKED_AT) if len(row) == width)
    return found


def _of_header(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A remark where the header looks like an ordinary row; empty where it does not.

    It does if one of its cells occurs in its column again, is a number in a column of numbers, or a sentence in one of
    sentences.
    """
    counted = [name for name in names if name.isdigit()]
    counts = [*map(int, counted)]
    if counts and counts in ([*range(len(counts))], [*range(1, len(counts) + 1)]) and len(counts) > 1:
        return ""  # columns without names, counted
    for place, name in enumerate(names):
        cells = [cell for row in rows if (cell := row[place].strip()) and row != [*names]]
        several = len(set(cells)) < len(cells)
        number = bool(cells) and all(map(_NUMBER.match, (name, *cells)))
        words = sorted(len(cell.split()) for cell in cells)
        sentences = bool(words) and len(name.split()) >= _SENTENCE <= words[len(words) // 2] and name[-1:] != "?"
        if name and ((several and name in cells) or number or sentences):
            shown = name if len(name) <= _SHOWN else name[:_SHOWN] + "..."
            return (
                f"the first line was taken for the names of the columns, and {shown!r} looks like a value; if it is "
                "one, put a line of names above it"
            )
    return ""


def _holds_marks(opened: Callable[[], IO[bytes]]) -> bool:
    with opened() as file:
        return any(b'"' in block for block in iter(lambda: file.read(_BLOCK), b""))


def _quoting(lines: Callable[[], Iterator[str]], delimiter: str, where: str) -> tuple[Quoting, str]:
    """How to read the quotation marks of a whole file, and any doubt about it. UserError where no reading fits."""
    rows = (line for line in lines() if line.strip())
    first = next(rows, "")
    level = all(line.count(delimiter) == first.count(delimiter) for line in rows)
    usual = _checked(STANDARD, lines(), delimiter)
    if not usual.wrong:
        if not level or not usual.broken:
            return STANDARD, ""
        if delimiter not in first:
            return STANDARD, f"{usual.broken:,} texts have several lines, as their quotation marks say"
        if delimiter == "\t" and '"' not in first:
            return _TEXT, ""
        raise UserError(
            f"{where}, line {usual.line:,}: the quotation mark may begin a cell of several lines or be part of a text; "
            'write a mark inside a text twice (""), within marks around the text, or save the table as Parquet'
        )
    for other in _OTHERS:
        tried = _checked(other, lines(), delimiter)
        if not tried.wrong and not (level and tried.broken) and (other.escaped or not level):
            return other, ""
    if level and '"' not in first:
        return _TEXT, ""
    raise UserError(f"{where}, {usual.wrong}" if usual.wrong.startswith("line") else usual.wrong)


class _Checked(NamedTuple):
    """The result of reading a whole file by one quoting rule."""

    wrong: str = ""  # the first error, with its line
    broken: int = 0  # records that span several lines
    line: int = 0  # of the first of these


def _checked(quoting: Quoting, lines: Iterable[str], delimiter: str) -> _Checked:
    records = quoting.records(lines, delimiter)
    width, before, broken, line = 0, 0, 0, 0
    try:
        for row in records:
            if _is_row(row, width):
                width = width or len(row)
                if len(row) != width:
                    return _Checked(_other_length("", records.line_num, len(row), width))
            if records.line_num - before > 1:
                broken, line = broken + 1, line or before + 1
            before = records.line_num
    except csv.Error:
        return _Checked(
            f"line {before + 1:,}: a quotation mark begins a cell that does not end with one; write a mark inside a "
            'text twice (""), within marks around the text'
        )
    return _Checked("", broken, line)


def _other_length(where: str, line: int, cells: int, width: int) -> str:
    counts = f"{cells} cell{'s' * (cells != 1)} where the first line names {width} column{'s' * (width != 1)}"
    return (
        f"{where}{', ' if where else ''}line {line:,}: {counts}; put quotation marks around a text that holds the "
        "delimiter"
    )


def _is_row(row: list[str], width: int = 0) -> bool:
    """Whether a parsed line is a row, not one that is empty or blank."""
    return bool(row) and (len(row) > 1 or width == 1 or bool(row[0].strip()))


def _head(lines: Iterator[str]) -> list[str]:
    found: list[str] = []
    size = 0
    for line in lines:
        found.append(line)
        size += len(line)
        if len(found) >= _SNIFFED or size > _MOST_SNIFFED:
            break
    return found


def _lines(opened: Callable[[], IO[bytes]], encoding: Encoding) -> Iterator[str]:
    """The lines of a text with their line ends unchanged."""
    with opened() as file, io.TextIOWrapper(file, encoding.name, encoding.errors, newline="") as text:
        yield from text


class _AsUtf8(io.RawIOBase):
    """The bytes of a text in UTF-8."""

    def __init__(self, file: IO[bytes], encoding: Encoding) -> None:
        self._text = io.TextIOWrapper(file, encoding.name, encoding.errors, newline="")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._text.read(max(1, len(buffer) // 4)).encode()
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._text.close()
        super().close()
