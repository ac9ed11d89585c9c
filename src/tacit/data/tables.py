"""Tables with a column of examples: encoded bytes, Hugging Face's {bytes, path}, or paths to files.

Parquet files are read row group by row group, so that tables may be larger than memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tacit.core.errors import UserError
from tacit.data.decode import Item
from tacit.data.inside import Find, home
from tacit.data.named import distinct
from tacit.data.opened import PATH_NAMES, OpenTable, is_text, open_tables, opened_table, refuse_twice, row_ids, strings
from tacit.data.places import Place, state_of
from tacit.data.signs import AllSigns, choose, of_suffix, suffix_of
from tacit.data.source import PATH, Source, Unreadable, digest, each, spread
from tacit.data.streamed import Streamed, in_memory, open_streamed


@dataclass(frozen=True)
class Table:
    """A table given as data, on disk or in memory; each view of it is opened on first use.

    Paths in it must stay inside its own folder, or `root`; those of a table in memory without `root` start from the
    working folder and are unrestricted. A table in memory has changed where its `stamps` have, or
    without stamps its cells.
    """

    name: str
    data: Sequence[Place] | pa.Table
    signs: AllSigns
    stamps: Sequence[bytes] = ()
    root: Path | None = None

    @property
    def places(self) -> Sequence[Place]:
        """Its files; empty for one in memory."""
        return [] if isinstance(self.data, pa.Table) else self.data

    @cached_property
    def streamed(self) -> Streamed:
        """All of its columns, streamed by rows."""
        return in_memory(self.data) if isinstance(self.data, pa.Table) else open_streamed(self.data)

    @cached_property
    def opened(self) -> OpenTable:
        """Its columns, each to be read or streamed. UserError where it has no rows."""
        whole = isinstance(self.data, pa.Table)
        table = replace(opened_table(self.data), stamps=list(self.stamps)) if whole else open_tables(self.places)
        if not table.rows:
            raise UserError(f"{self.name} has no rows")
        return table

    def names(self) -> list[str] | None:
        """The names of its columns; None where it cannot be read, which is reported when it is."""
        try:
            names: list[str] = self.streamed.schema.names
        except UserError:
            return None
        return names

    def leads_to_files(self, schema: pa.Schema, first: Callable[[str], pa.Array | None]) -> bool:
        """Whether a column with a usual name holds paths to files, judging by its first rows."""
        cells = (first(column) for column in path_columns(schema))
        return any(_of_files(strings(pa.chunked_array([some])), self.signs) for some in cells if some is not None)


def path_columns(schema: pa.Schema) -> list[str]:
    """Text columns with usual names for paths."""
    return [column for column in PATH_NAMES if column in schema.names and is_text(schema.field(column).type)]


def encoded_source(listing: Table, kind: str | None, encoded: str | None, path: str | None) -> Source:
    """Examples from a table's column of encoded examples or of paths, by its usual name where none is named.

    All other columns are kept. Ids are the paths, or else a column of distinct ids, or else row numbers.
    """
    if isinstance(listing.data, pa.Table):
        refuse_twice(listing.data.column_names, listing.name)
    return _encoded_source(listing, *home(listing.places, listing.root), kind, encoded, path)


def _encoded_source(
    listing: Table, root: str, find: Find, wanted: str | None, encoded: str | None, path: str | None
) -> Source:
    name, table, signs = listing.name, listing.opened, listing.signs
    column, kind = _encoded_column(table, name, signs, wanted, encoded, path)
    others = table.read([c for c in table.schema.names if c != column or is_text(table.schema.field(c).type)])
    is_path = is_text(table.schema.field(column).type)
    key = column
    if is_path:
        ids = pc.replace_substring(pc.fill_null(strings(others[column]), ""), "\\", "/")
        kind = choose(signs, _of_files(ids, signs), wanted, f"column {column!r} of {name}")
        stamps = chain(table.stamps, _stamps_of_paths(ids, find))
    else:
        kept = table.schema.field(column).type
        inner = pa.types.is_struct(kept) and "path" in kept.names and strings(table.inner_paths(column))
        ids, key = (inner, PATH) if inner and distinct(inner) else row_ids(others, table.rows)
        stamps = chain(table.stamps or _cells(table.stream(column)))
    return Source(
        name=name,
        kind=kind,
        ids=ids,
        key=key,
        by_path=is_path or key in (PATH, *PATH_NAMES),
        fingerprint=digest(chain([root.encode(), column.encode()], stamps)),
        items=lambda: _items(table.stream(column), find),
        sample=lambda k: list(_items(table.sample(column, k), find)),
        root=Path(root).as_posix() if is_path else "",
        columns=others,
        remarks=table.remarks,
        read={"path_column" if is_path else f"{kind}_column": column},
    )


def _encoded_column(
    table: OpenTable, name: str, signs: AllSigns, wanted: str | None, encoded: str | None, path: str | None
) -> tuple[str, str]:
    """The column of the examples or their paths, and the modality. UserError where there is none, or several."""
    schema = table.schema
    columns = ", ".join(schema.names)
    for named in (encoded, path):
        if named is not None and named not in schema.names:
            raise UserError(f"{name} has no column {named!r}; it has {columns}")
    first = next(iter(signs))
    what = f"encoded {signs[wanted or first].nouns}"
    for named, fits, needed in ((encoded, is_bytes, what), (path, is_text, "paths")):
        if named is not None:
            if not fits(schema.field(named).type):
                raise UserError(f"column {named!r} of {name} holds {schema.field(named).type}, not {needed}")
            return named, wanted or first
    binary = [field.name for field in schema if is_bytes(field.type)]
    by_column = {of.columns[0]: one for one, of in signs.items() if of.columns and of.columns[0] in binary}
    kind = choose(signs, Counter(by_column.values()), wanted, name)
    if wanted is None and not by_column and binary:
        kind = _begins_like(table, binary[0], signs) or kind
    usual = [c for c in binary if c.lower() in signs[kind].columns]
    candidates = usual[:1] or [c for c in binary if c not in by_column]
    if len(candidates) > 1:
        raise UserError(f"{name} has several binary columns ({', '.join(candidates)}): choose with --{kind}-column")
    paths = path_columns(schema)
    if not (candidates or paths):
        raise UserError(
            f"{name} has no column of {signs[kind].nouns}: name one with --{kind}-column or "
            f"--path-column, or texts with --text-column (of {columns})"
        )
    return (candidates or paths)[0], kind


def _begins_like(table: OpenTable, column: str, signs: AllSigns) -> str | None:
    """The modality by the first bytes of a column; None where they tell none."""
    first = next((value for value in map(_content, each(next(table.stream(column)))) if value), b"")
    for name, of in signs.items():
        if of.begins and isinstance(first, bytes):
            module, _, function = of.begins.partition(":")
            if getattr(import_module(module), function)(first):
                return name
    return None


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a type holds encoded examples: binary, or Hugging Face's struct of bytes and path."""
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" and is_bytes(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _of_files(ids: pa.Array, signs: AllSigns) -> Counter[str]:
    """Count these paths by the modality of the files."""
    some = (ids[row].as_py() for row in spread(len(ids), 1000))
    kinds = (of_suffix(signs, suffix_of(PurePosixPath(path or "").name)) for path in some)
    return Counter(kind for kind in kinds if kind)


def _stamps_of_paths(ids: pa.Array, find: Find) -> Iterator[bytes]:
    for path in each(ids):
        try:
            found = find(path)
            if isinstance(found, Unreadable):
                yield f"{path} {found.reason}".encode()
                continue
            yield f"{path} {state_of(found.stat())}".encode()
        except (OSError, ValueError):
            yield f"{path} absent".encode()


def _cells(chunks: Iterator[pa.Array]) -> Iterator[bytes]:
    for value in chain.from_iterable(map(each, chunks)):
        cell = value.get("bytes") or str(value.get("path")).encode() if isinstance(value, dict) else value
        yield cell or b""


def _items(chunks: Iterator[pa.Array], find: Find) -> Iterator[Item]:
    return (_item(value, find) for value in chain.from_iterable(map(each, chunks)))


def _item(value: Any, find: Find) -> Item:
    content = _content(value)
    return find(content.replace("\\", "/")) if isinstance(content, str) else bytes(content or b"")


def _content(value: Any) -> Any:
    """The bytes or the path in a cell."""
    return value.get("bytes") or value.get("path") if isinstance(value, dict) else value
