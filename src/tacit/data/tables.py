"""A table with columns of text, or of images: encoded bytes, Hugging Face's {bytes, path}, or paths to files.

Parquet files are read row group by row group, so that a table larger than memory is no obstacle.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tacit.data.decode import Item
from tacit.data.kinds import KINDS, choose_kind, kind_of_suffix, suffix_of
from tacit.data.lines import line_source
from tacit.data.opened import LINES, PATH_NAMES, Opened, is_text, open_tables, opened_table, row_ids, strings
from tacit.data.source import Source, digest, each, spread
from tacit.data.texts import table_texts, text_columns
from tacit.errors import UserError

_IMAGE_NAMES = ("image", "img", "picture", "photo", "pixels", "bytes")


def table_source(
    data: Path | list[Path] | pa.Table,
    name: str,
    kind: str | None = None,
    image_column: str | None = None,
    path_column: str | None = None,
    text_column: Sequence[str] = (),
    stamps: Sequence[bytes] = (),
) -> Source:
    """Examples from a table's columns of text, or from its image or path column.

    Every other column is kept. Relative paths start from the table's own folder. Ids are the paths, or else a column of
    ids without repetition, or else row numbers. `stamps` tell whether a table in memory has changed; without them, its
    cells do.
    """
    paths = [] if isinstance(data, pa.Table) else data if isinstance(data, list) else [data]
    root = paths[0].resolve().parent if paths else Path.cwd()
    asked = (image_column or path_column) is not None
    if paths and not asked and suffix_of(paths[0].name) in LINES:
        texts = line_source(paths, name, lambda head: _texts(head, name, kind, text_column))
        if texts is not None:
            return texts
    table = replace(opened_table(data), stamps=list(stamps)) if isinstance(data, pa.Table) else open_tables(paths)
    if not table.rows:
        raise UserError(f"{name} has no rows")
    columns = () if asked and not text_column else _texts(table, name, kind, text_column)
    if columns:
        return table_texts(table, columns, name)
    return _image_source(table, name, root, kind, image_column, path_column)


def _texts(table: Opened, name: str, kind: str | None, asked: Sequence[str]) -> tuple[str, ...]:
    """The columns that make up each text; none where the table is one of images or of paths to files."""
    schema = table.schema
    if kind not in (None, "text"):
        return ()
    if not asked:
        paths = [c for c in PATH_NAMES if c in schema.names and is_text(schema.field(c).type)]
        some = {c: strings(pa.chunked_array([next(table.stream(c))])) for c in paths}
        of_files = any(_kinds_of_paths(values) for values in some.values())
        if kind is None and (of_files or any(_is_bytes(field.type) for field in schema)):
            return ()
        found = text_columns(table, name, (), must=kind == "text" and not of_files)
        certain = kind == "text" or not paths
        return found.columns if found.usual or (certain and not of_files) else ()
    return text_columns(table, name, asked, must=True).columns


def _image_source(
    table: Opened, name: str, root: Path, kind: str | None, image_column: str | None, path_column: str | None
) -> Source:
    column = _image_column(table, name, kind, image_column, path_column)
    others = table.read([c for c in table.schema.names if c != column or is_text(table.schema.field(c).type)])
    is_path = is_text(table.schema.field(column).type)
    if is_path:
        ids = pc.replace_substring(pc.fill_null(strings(others[column]), ""), "\\", "/")
        kind = choose_kind(_kinds_of_paths(ids), kind, f"column {column!r} of {name}")
        stamps = chain(table.stamps, _stamps_of_paths(ids, root))
    else:
        kind = "image"
        kept = table.schema.field(column).type
        inner = [table.inner_paths(column)] if pa.types.is_struct(kept) and "path" in kept.names else []
        ids = row_ids(others, table.rows, *inner)
        stamps = chain(table.stamps or _cells(table.stream(column)))
    return Source(
        name=name,
        kind=kind,
        ids=ids,
        fingerprint=digest(chain([str(root).encode(), column.encode()], stamps)),
        items=lambda: _items(table.stream(column), root),
        sample=lambda k: list(_items(table.sample(column, k), root)),
        root=root.as_posix() if is_path else "",
        columns=others,
    )


def label_files(labels: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None) -> list[Path]:
    """What `--labels` named: no, one or several files, or `folders` alone."""
    if labels is None:
        return []
    return [Path(labels)] if isinstance(labels, str | os.PathLike) else [Path(file) for file in labels]


def _image_column(table: Opened, name: str, kind: str | None, image_column: str | None, path_column: str | None) -> str:
    """The column that holds the images or their paths. UserError where none does, or several could."""
    schema = table.schema
    columns = ", ".join(schema.names)
    for asked in (image_column, path_column):
        if asked is not None and asked not in schema.names:
            raise UserError(f"{name} has no column {asked!r}; it has {columns}")
    for asked, fits, what in ((image_column, _is_bytes, "encoded images"), (path_column, is_text, "paths")):
        if asked is not None:
            if not fits(schema.field(asked).type):
                raise UserError(f"column {asked!r} of {name} holds {schema.field(asked).type}, not {what}")
            return asked
    encoded = [field.name for field in schema if _is_bytes(field.type)]
    named = {other.column: name for name, other in KINDS.items() if other.column in encoded}
    choose_kind(Counter(named.values()), kind, name)
    usual = [c for c in encoded if c.lower() in _IMAGE_NAMES]
    candidates = usual[:1] or [c for c in encoded if c not in named]
    if len(candidates) > 1:
        raise UserError(f"{name} has several binary columns ({', '.join(candidates)}): choose with --image-column")
    paths = [c for c in PATH_NAMES if c in schema.names and is_text(schema.field(c).type)]
    if not (candidates or paths):
        raise UserError(
            f"{name} has no column of images: name one with --image-column or --path-column, or texts with "
            f"--text-column (of {columns})"
        )
    return (candidates or paths)[0]


def _is_bytes(kind: pa.DataType) -> bool:
    """Encoded images: plain binary, or Hugging Face's struct of bytes and path."""
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" and _is_bytes(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _kinds_of_paths(ids: pa.Array) -> Counter[str]:
    some = (ids[row].as_py() for row in spread(len(ids), 1000))
    kinds = (kind_of_suffix(suffix_of(PurePosixPath(path or "").name)) for path in some)
    return Counter(kind for kind in kinds if kind)


def _stamps_of_paths(ids: pa.Array, root: Path) -> Iterator[bytes]:
    for path in each(ids):
        try:
            status = (root / path).stat()
            yield f"{path} {status.st_size} {status.st_mtime_ns}".encode()
        except (OSError, ValueError):
            yield f"{path} absent".encode()


def _cells(chunks: Iterator[pa.Array]) -> Iterator[bytes]:
    for value in chain.from_iterable(map(each, chunks)):
        cell = value.get("bytes") or str(value.get("path")).encode() if isinstance(value, dict) else value
        yield cell or b""


def _items(chunks: Iterator[pa.Array], root: Path) -> Iterator[Item]:
    return (_item(value, root) for value in chain.from_iterable(map(each, chunks)))


def _item(value: Any, root: Path) -> Item:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        return root / value.replace("\\", "/")
    return bytes(value or b"")
