"""JSON lines as texts, read line by line: the file may be larger than memory, a line may be broken or far too long."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from tacit.data.documents import Document, Unreadable
from tacit.data.opened import Opened, opened_table, stamps_of
from tacit.data.places import Place
from tacit.data.rows import concatenated, table_of
from tacit.data.source import Source, spread
from tacit.data.text import opened_file
from tacit.data.texts import join_cells, text_source
from tacit.errors import UserError

LONGEST = 64 << 20  # bytes of a line
_BLOCK = 4096  # rows made into arrow at a time
_HEAD = 1000  # rows that tell which columns there are

_OLD = "cp1252"  # what a line is in that is not UTF-8

Row = dict[str, Any] | Unreadable


class Old(dict[str, Any]):
    """A row in another encoding than UTF-8. Its text goes on in that encoding, so that it is counted as converted."""


def line_source(paths: Sequence[Place], name: str, choose: Callable[[Opened], Sequence[str]]) -> Source | None:
    """One text per line of `paths`, of the columns that `choose` finds in the first lines; None where it finds none."""
    first = [row for row in islice(_rows(paths), _HEAD) if isinstance(row, dict)]
    if not first:
        raise UserError(f'{name} holds no JSON objects, one per line, such as {{"text": "..."}}')
    columns = choose(opened_table(table_of(first)))
    if not columns:
        return None
    parts: list[pa.Table] = []
    block: list[dict[str, Any]] = []
    count = 0
    for row in _rows(paths):
        block.append(row if isinstance(row, dict) else {})
        if len(block) == _BLOCK:
            parts.append(table_of(block, columns))
            count, block = count + len(block), []
    parts.append(table_of(block, columns))
    sizes = [_BLOCK] * (len(parts) - 1) + [len(block)]
    count += len(block)

    def items() -> Iterator[Document]:
        return (_text(row, columns) for row in _rows(paths))

    def sample(k: int) -> list[Document]:
        chosen = set(spread(count, k))
        return [text for row, text in enumerate(items()) if row in chosen]

    stamps = [*stamps_of(paths), "\0".join(columns).encode()]
    return text_source(name, concatenated(parts, sizes), count, items, sample, stamps)


def _rows(paths: Sequence[Place]) -> Iterator[Row]:
    """What each line says that is not blank."""
    for path in paths:
        for line in _lines(path):
            if line is None:
                yield Unreadable(f"the line is longer than {LONGEST >> 20} MB")
            elif line.strip():
                yield _row(line)


def _lines(path: Place) -> Iterator[bytes | None]:
    """The lines of a file; None in place of one that is too long."""
    try:
        with opened_file(path) as file:
            while line := file.readline(LONGEST):
                if len(line) == LONGEST and not line.endswith(b"\n"):
                    while (line := file.readline(1 << 20)) and not line.endswith(b"\n"):
                        pass
                    yield None
                else:
                    yield line
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged and cannot be read to its end: {error}") from None


def _row(line: bytes) -> Row:
    old = False
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        text, old = line.decode(_OLD, "replace"), True
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Unreadable(f"not JSON: {error}"[:200])
    if not isinstance(row, dict):
        return Unreadable("no JSON object")
    return Old(row) if old else row


def _text(row: Row, columns: Sequence[str]) -> Document:
    if isinstance(row, Unreadable):
        return row
    cells = [row.get(column) for column in columns]
    wrong = next((c for c, cell in zip(columns, cells, strict=True) if not _is_text(cell)), None)
    if wrong is not None:
        return Unreadable(f"{wrong} is no text")
    text = join_cells(cells)
    try:
        return text.encode(_OLD) if isinstance(row, Old) else text
    except UnicodeEncodeError:
        return text


def _is_text(cell: Any) -> bool:
    return isinstance(cell, str | None) or (isinstance(cell, list) and all(isinstance(word, str) for word in cell))
