"""JSON lines as texts, read line by line: the file may be larger than memory, a line may be broken or far too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from tacit.core.errors import UserError
from tacit.data.opened import OpenTable, opened_table, stamps_of
from tacit.data.places import Place
from tacit.data.rows import Row, concatenated, json_rows, table_of
from tacit.data.source import Source, Unreadable, spread
from tacit.modalities.text.documents import Converted, Document
from tacit.modalities.text.texts import join_cells, text_source

_BLOCK = 4096  # rows converted to arrow at a time
_HEAD = 1000  # rows that determine the columns


def line_source(paths: Sequence[Place], name: str, choose: Callable[[OpenTable], Sequence[str]]) -> Source | None:
    """One text per line of `paths`, of the columns that `choose` finds in the first lines; None where it finds none."""
    head = list(islice(_rows(paths), _HEAD))
    first = [row.cells for row in head if isinstance(row.cells, dict)]
    if not first:
        why = "".join(f" (line {line:,}: {cells.reason})" for line, cells, _ in head[:1])  # type: ignore[union-attr]
        raise UserError(f'{name} holds no JSON objects, one per line, such as {{"text": "..."}}{why}')
    columns = choose(opened_table(table_of(first)))
    if not columns:
        return None
    parts: list[pa.Table] = []
    block: list[dict[str, Any]] = []
    count = 0
    for row in _rows(paths):
        block.append(row.cells if isinstance(row.cells, dict) else {})
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
    return chain.from_iterable(map(json_rows, paths))


def _text(row: Row, columns: Sequence[str]) -> Document:
    if isinstance(row.cells, Unreadable):
        return row.cells
    cells = [row.cells.get(column) for column in columns]
    wrong = next((c for c, cell in zip(columns, cells, strict=True) if not _is_text(cell)), None)
    return Unreadable(f"{wrong} is no text") if wrong is not None else Converted(join_cells(cells), row.encoding)


def _is_text(cell: Any) -> bool:
    return isinstance(cell, str | None) or (isinstance(cell, list) and all(isinstance(word, str) for word in cell))
