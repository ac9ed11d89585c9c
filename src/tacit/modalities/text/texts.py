"""Sources of texts: columns of a table, a list of files, or one file of many texts."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tacit.core.errors import UserError
from tacit.data.encodings import CannotRead, Encoding
from tacit.data.opened import PATH_NAMES, OpenTable, is_text, is_words, row_ids, stamps_of, strings
from tacit.data.source import Source, digest, each, spread
from tacit.data.text import opened_file
from tacit.modalities.text.documents import Document, encoding_of_file
from tacit.modalities.text.options import SIGNS

PARTED = "\n\n"  # between the columns of one text
_LONG = 20  # characters: the mean of a column of texts, where names and codes are shorter
_LONGEST = 16 << 20  # characters of a text in a file of many; a longer one is split
_BETWEEN = 20  # lines between two blank ones at most, on average, if blank lines separate the texts of a file


class TextColumns(NamedTuple):
    columns: tuple[str, ...] = ()
    usual: bool = False  # recognised by its name, not by its length alone


def text_columns(
    table: OpenTable, name: str, wanted: Sequence[str], reserved: frozenset[str] = frozenset(), *, must: bool
) -> TextColumns:
    """Choose the columns that make up a text: those `wanted`, one with a usual name, or the only one of long strings.

    A column `reserved` for labels and the like is no text unless it is wanted.

    Raises UserError where a wanted column is missing or holds no text, and where none is found though one `must` be.
    """
    schema = table.schema
    columns = ", ".join(schema.names)
    for column in wanted:
        if column not in schema.names:
            raise UserError(f"--text-column {column}: {name} has no such column (it has: {columns})")
        held = schema.field(column).type
        if not (is_text(held) or is_words(held)):
            raise UserError(f"--text-column {column}: this column of {name} holds {held}, no text")
    if wanted:
        return TextColumns(tuple(wanted), usual=True)
    texts = [field.name for field in schema if is_text(field.type) and field.name not in reserved]
    lower = {column.lower(): column for column in reversed(texts)}
    usual = next((lower[usual] for usual in SIGNS.texts if usual in lower), None)
    if usual is not None:
        return TextColumns((usual,), usual=True)
    long = [column for column in texts if _mean_length(next(table.stream(column))) > _LONG]
    if len(long) == 1:
        return TextColumns((long[0],))
    if must:
        what = f"has several columns of text ({', '.join(long)})" if long else f"has no column of text (of {columns})"
        raise UserError(f"{name} {what}: name the one to read with --text-column")
    return TextColumns()


def table_texts(table: OpenTable, columns: Sequence[str], name: str) -> Source:
    """One text per row of a table, its columns joined by a blank line."""

    def joined(cells: Callable[[str], Iterator[pa.Array]]) -> Iterator[Document]:
        return map(join_cells, zip(*(chain.from_iterable(map(each, cells(c))) for c in columns), strict=True))

    def items() -> Iterator[Document]:
        return joined(table.stream)

    others = table.read([column for column in table.schema.names if column not in columns])
    cells = (text.encode("utf-8", "surrogatepass") for text in items() if isinstance(text, str))
    source = text_source(
        name,
        others,
        table.rows,
        items,
        lambda k: list(joined(lambda column: table.sample(column, k))),
        chain(["\0".join(columns).encode()], table.stamps or cells),
    )
    return replace(source, remarks=table.remarks)


def text_source(
    name: str,
    others: pa.Table,
    rows: int,
    items: Callable[[], Iterator[Document]],
    sample: Callable[[int], list[Document]],
    stamps: Iterable[bytes],
) -> Source:
    ids, key = row_ids(others, rows)
    return Source(
        name=name,
        kind="text",
        ids=ids,
        key=key,
        by_path=key in PATH_NAMES,
        fingerprint=digest(chain([b"text 2"], stamps)),  # the version of this function
        items=items,
        sample=sample,
        columns=others if others.num_columns else None,
    )


def join_cells(cells: Sequence[str | list[str | None] | None]) -> str:
    """Join the cells of a row to one text; a list of words is joined by blanks."""
    texts = [" ".join(word or "" for word in cell) if isinstance(cell, list) else cell for cell in cells]
    return (texts[0] or "") if len(texts) == 1 else PARTED.join(text for text in texts if text and text.strip())


def files_source(paths: Sequence[Path], name: str) -> Source:
    """One text per file named."""
    ids = pa.array([path.as_posix() for path in paths], pa.string())
    return Source(
        name=name,
        kind="text",
        ids=ids,
        fingerprint=digest(chain([b"text"], stamps_of(list(paths)))),
        items=lambda: iter(paths),
        sample=lambda k: [paths[row] for row in spread(len(paths), k)],
        root=Path.cwd().as_posix(),
    )


def file_texts(path: Path) -> Source:
    """The texts of one file: one per line, or separated by blank lines where few lines lie between these.

    Blank lines before the first text and after the last are ignored.
    """
    try:
        encoding = encoding_of_file(path)
    except CannotRead as error:
        raise UserError(f"{path} cannot be read as text: {error}") from None
    rows = parts = longer = 0
    blank = True
    for line in _lines(path, encoding):
        longer += len(line) >= _LONGEST
        parts += blank and bool(line.strip())
        blank = not line.strip()
        rows += not blank
    by_blank = parts > 1 and rows <= _BETWEEN * parts
    lines, count = rows, parts
    if by_blank:
        rows = sum(1 for _ in _texts(path, encoding, by_blank=True))

    def sample(k: int) -> list[Document]:
        chosen = set(spread(rows, k))
        return [text for row, text in enumerate(_texts(path, encoding, by_blank)) if row in chosen]

    source = text_source(
        path.name,
        pa.table({}),
        rows,
        lambda: _texts(path, encoding, by_blank),
        sample,
        stamps_of([path]),
    )
    remarks = list(encoding.remarks(path.name))
    if by_blank and lines > count:
        remarks.append(f"{path.name}: blank lines part its {lines:,} lines into {count:,} texts")
    elif parts > 1 and not by_blank:
        remarks.append(f"{path.name}: each of its {lines:,} lines is a text; the few blank lines part nothing")
    if longer:
        remarks.append(f"{path.name} has lines of more than {_LONGEST >> 20} million signs, which were parted")
    return replace(source, remarks=tuple(remarks))


def _texts(path: Path, encoding: Encoding, by_blank: bool) -> Iterator[str]:
    lines: list[str] = []
    length = 0
    for line in _lines(path, encoding):
        blank = not line.strip()
        if not blank:
            lines.append(line)
            length += len(line)
        if lines and (blank or not by_blank or length > _LONGEST):
            yield "".join(lines).strip("\r\n")
            lines, length = [], 0
    if lines:
        yield "".join(lines).strip("\r\n")


def _lines(path: Path, encoding: Encoding) -> Iterator[str]:
    with opened_file(path) as file:
        text = io.TextIOWrapper(file, encoding.name, encoding.errors, newline="")
        yield from iter(lambda: text.readline(_LONGEST), "")


def _mean_length(values: pa.Array) -> float:
    lengths = pc.utf8_length(strings(pa.chunked_array([values])))
    return float(pc.mean(lengths).as_py() or 0.0)
