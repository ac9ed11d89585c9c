"""Read JSON lines, and convert rows to tables. Files may be larger than memory; lines may be broken, huge or hostile.

Rows may differ in their columns, and a column may mix numbers and words.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from tacit.core.errors import UserError
from tacit.data.encodings import UTF8, CannotRead, Encoding, decoded, wide_encoding
from tacit.data.places import Place
from tacit.data.source import Unreadable
from tacit.data.text import opened_file

LONGEST = 64 << 20  # bytes of a line
DEEPEST = 64  # nested brackets; arrow recurses into each, and 100,000 of them would crash the process

_UTF8 = Encoding(UTF8)


class Row(NamedTuple):
    """One parsed line."""

    line: int  # its number in the file, from 1 on
    cells: dict[str, Any] | Unreadable
    encoding: Encoding = _UTF8


def json_rows(path: Place) -> Iterator[Row]:
    """Parse each line that is not blank. UserError where the file is damaged."""
    for number, line in enumerate(_lines(path), 1):
        if isinstance(line, Unreadable):
            yield Row(number, line)
        elif line.strip():
            yield _row(number, line)


def _lines(path: Place) -> Iterator[bytes | str | Unreadable]:
    """The lines of a file, decoded where it is UTF-16 or UTF-32."""
    try:
        with opened_file(path) as file:
            wide = wide_encoding(file.read(4096))
        with opened_file(path) as file:
            if wide is not None:
                with io.TextIOWrapper(file, wide, newline="\n") as text:
                    yield from text
                return
            while line := file.readline(LONGEST):
                if len(line) == LONGEST and not line.endswith(b"\n"):
                    while (line := file.readline(1 << 20)) and not line.endswith(b"\n"):
                        pass
                    yield Unreadable(f"the line is longer than {LONGEST >> 20} MB")
                else:
                    yield line
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged and cannot be read to its end: {error}") from None


def _row(number: int, line: bytes | str) -> Row:
    encoding = _UTF8
    try:
        text = (line if isinstance(line, str) else line.decode()).removeprefix("\ufeff")
    except UnicodeDecodeError:
        assert isinstance(line, bytes)
        try:
            text, encoding = decoded(line)
        except CannotRead as error:
            return Row(number, Unreadable(str(error)[:200]))
    try:
        if text.count("[") + text.count("{") > DEEPEST and _depth(text) > DEEPEST:
            return Row(number, Unreadable(f"more than {DEEPEST} brackets inside each other"))
        cells = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Row(number, Unreadable(f"not JSON: {error}"[:200]))
    return Row(number, cells if isinstance(cells, dict) else Unreadable("no JSON object"), encoding)


def _depth(text: str) -> int:
    """The deepest nesting of brackets, ignoring those inside strings."""
    depth = most = 0
    inside = escaped = False
    for sign in text:
        if inside:
            inside = escaped or sign != '"'
            escaped = sign == "\\" and not escaped
        elif sign == '"':
            inside = True
        elif sign in "[{":
            depth += 1
            most = max(most, depth)
            if most > DEEPEST:
                return most
        elif sign in "]}":
            depth -= 1
    return most


def read_json_lines(path: Place) -> pa.Table:
    """Read a file of JSON lines as a table. UserError for a line that is no JSON object."""
    rows: list[dict[str, Any]] = []
    for number, cells, _ in json_rows(path):
        if isinstance(cells, Unreadable):
            raise UserError(f"{path}, line {number:,}: {cells.reason}; write one JSON object per line")
        rows.append(cells)
    return table_of(rows)


def table_of(rows: list[dict[str, Any]], without: Collection[str] = ()) -> pa.Table:
    """Convert rows to columns. Beside lists, a single value is a list of one; other mixed types become JSON text."""
    names = list(dict.fromkeys(name for row in rows for name in row if name not in without))
    return pa.table({name: _array([row.get(name) for row in rows]) for name in names})


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(_all_lists(values))
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return pa.array([None if value is None else _as_text(value) for value in values], pa.string())


def _all_lists(values: list[Any]) -> list[Any]:
    """The values, each in a list of its own where others are lists."""
    if not any(isinstance(value, list) for value in values):
        return values
    return [value if value is None or isinstance(value, list) else [value] for value in values]


def _as_text(value: Any) -> str:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else json.dumps(value, default=str)


def concatenated(parts: Sequence[pa.Table], sizes: Sequence[int] | None = None) -> pa.Table:
    """Concatenate tables of these sizes: missing columns become null, and columns of differing types text."""
    sizes = [len(part) for part in parts] if sizes is None else sizes
    names = list(dict.fromkeys(name for part in parts for name in part.column_names))
    columns = {}
    for name in names:
        chunks = [
            part[name] if name in part.column_names else pa.chunked_array([pa.nulls(size)])
            for part, size in zip(parts, sizes, strict=True)
        ]
        try:
            tables = [pa.table({name: chunk}) for chunk in chunks]
            columns[name] = pa.concat_tables(tables, promote_options="permissive")[name]
        except pa.ArrowException:
            columns[name] = _array([value for chunk in chunks for value in chunk.to_pylist()])
    return pa.table(columns)
