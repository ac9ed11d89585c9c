"""A table with columns of text, or of images or sounds: encoded bytes, Hugging Face's {bytes, path}, or paths.

Parquet files are read row group by row group, so that a table larger than memory is no obstacle.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tacit.core.errors import UserError
from tacit.data.decode import Item
from tacit.data.inside import Find, home
from tacit.data.kinds import KINDS, choose_kind, kind_of_suffix, suffix_of
from tacit.data.named import distinct
from tacit.data.opened import (
    LINES,
    PATH_NAMES,
    Opened,
    is_text,
    open_tables,
    opened_table,
    refuse_twice,
    row_ids,
    strings,
)
from tacit.data.places import Place, state_of
from tacit.data.source import PATH, Source, digest, each, spread
from tacit.modalities.audio import decode
from tacit.modalities.audio.segments import SPAN, WHOLE, stretches
from tacit.modalities.events.events import Events, in_memory, open_events
from tacit.modalities.events.interactions import Named, are_events, interactions_source
from tacit.modalities.text.documents import Unreadable
from tacit.modalities.text.lines import line_source
from tacit.modalities.text.texts import TEXT_NAMES, table_texts, text_columns

SPANS = ("start_column", "end_column")  # settings

_NAMES = {
    "image": ("image", "img", "picture", "photo", "pixels", "bytes"),
    "audio": ("audio", "sound", "wav", "recording", "bytes"),
}


@dataclass(frozen=True)
class Columns:
    """The kind of data and the columns of a table that a person has named."""

    kind: str | None = None
    image_column: str | None = None
    audio_column: str | None = None
    path_column: str | None = None
    text_column: tuple[str, ...] = ()
    start_column: str | None = None
    end_column: str | None = None
    events: Named = field(default_factory=Named)
    whole: bool = False  # columns start and end mean no stretches of sounds
    before: Mapping[str, Any] = field(default_factory=dict)  # what an earlier reading took, see `settled`

    @property
    def encoded(self) -> str | None:
        """The column of encoded images or sounds."""
        return self.image_column or self.audio_column

    def settled(self, names: Collection[str]) -> tuple[Columns, tuple[str, ...]]:
        """With the columns that an earlier reading took, where no others are named; and those that are missing here."""
        lost: list[str] = []

        whole = WHOLE in (self.before.get("start_column"), self.before.get("end_column"))
        whole = self.whole or (whole and not (self.start_column or self.end_column))

        def taken(setting: str) -> list[str]:
            value = () if whole and setting in SPANS else self.before.get(setting, ())
            columns = [value] if isinstance(value, str) else list(value)
            lost.extend(column for column in columns if column not in names)
            return columns if set(columns) <= set(names) else []

        def one(named: str | None, setting: str) -> str | None:
            return named or next(iter(taken(setting)), None)

        events = self.events._replace(
            user=one(self.events.user, "user_column"),
            item=one(self.events.item, "item_column"),
            time=one(self.events.time, "time_column"),
            event=one(self.events.event, "event_column"),
        )
        if events.event is not None and self.events.event is None:
            events = events._replace(weights=self.events.weights or tuple(self.before.get("event_weight", ())))
        if self.encoded or self.path_column or self.text_column:
            return replace(self, events=events), tuple(lost)
        found = replace(
            self,
            events=events,
            image_column=one(None, "image_column"),
            audio_column=one(None, "audio_column"),
            path_column=one(None, "path_column"),
            text_column=tuple(taken("text_column")),
            start_column=one(self.start_column, "start_column"),
            end_column=one(self.end_column, "end_column"),
            whole=whole,
        )
        return found, tuple(lost)

    def names_in(self, data: pa.Table | Sequence[Place]) -> tuple[Columns, tuple[str, ...]]:
        """The same for a table, whose columns are looked up where there is anything to settle."""
        if not self.before:
            return self, ()
        try:
            events = in_memory(data) if isinstance(data, pa.Table) else open_events(data)
        except UserError:
            return self, ()  # whoever reads it says what is wrong with it
        return self.settled(events.schema.names)


def table_source(
    data: Sequence[Place] | pa.Table,
    name: str,
    ask: Columns,
    stamps: Sequence[bytes] = (),
    root: Path | None = None,
) -> Source:
    """Examples from a table's columns of text, or from its image, audio or path column.

    Every other column is kept. Paths in a table stay in its own folder, or in `root`; those of a table that a person
    has made in memory start from the working folder and may lead anywhere. Ids are the paths, or else a column of ids
    without repetition, or else row numbers; of stretches of files the paths and where they begin and end. `stamps` tell
    whether a table in memory has changed; without them, its cells do.
    """
    ask, lost = ask.names_in(data)
    source = _table_source(data, name, ask, stamps, root)
    if not lost:
        return source
    columns = ", ".join(map(str, chain.from_iterable([v] if isinstance(v, str) else v for v in source.read.values())))
    remark = f"{name} has no column {lost[0]!r}, which was read in training; {columns} is read instead"
    return replace(source, remarks=(*source.remarks, remark))


def _table_source(
    data: Sequence[Place] | pa.Table, name: str, ask: Columns, stamps: Sequence[bytes], root: Path | None
) -> Source:
    paths = [] if isinstance(data, pa.Table) else data
    if isinstance(data, pa.Table):
        refuse_twice(data.column_names, name)
    asked = (ask.encoded or ask.path_column) is not None
    if not asked and (events := _events(data if isinstance(data, pa.Table) else paths, name, ask)) is not None:
        return events
    if paths and not asked and suffix_of(paths[0].name) in LINES:
        chosen: list[str] = []

        def choose(head: Opened) -> Sequence[str]:
            chosen[:] = _texts(head, name, ask.kind, ask.text_column)
            return chosen

        texts = line_source(paths, name, choose)
        if texts is not None:
            return replace(texts, read={"text_column": chosen})
    table = replace(opened_table(data), stamps=list(stamps)) if isinstance(data, pa.Table) else open_tables(paths)
    if not table.rows:
        raise UserError(f"{name} has no rows")
    columns = () if asked and not ask.text_column else _texts(table, name, ask.kind, ask.text_column)
    if columns:
        return replace(table_texts(table, columns, name), read={"text_column": [*columns]})
    return _encoded_source(table, name, *home(paths, root), ask)


def _events(data: pa.Table | Sequence[Place], name: str, ask: Columns) -> Source | None:
    """One example per user, where the table has columns of users and of items, and is of no other kind as well."""
    if ask.kind not in (None, "items"):
        return None
    must = ask.kind == "items"
    try:
        events = in_memory(data) if isinstance(data, pa.Table) else open_events(data)
    except UserError:
        if must:
            raise
        return None  # whoever reads it says what is wrong with it
    if not must and not (are_events(events.schema) and _of_events_alone(events)):
        return None
    return interactions_source(events, ask.events, name)


def _of_events_alone(events: Events) -> bool:
    """Whether a table has no column of contents or texts of a usual name, and none of paths to files."""
    fields = {field.name.lower(): field.type for field in events.schema}
    if any(_is_bytes(held) or (name in TEXT_NAMES and is_text(held)) for name, held in fields.items()):
        return False
    paths = [c for c in PATH_NAMES if c in events.schema.names and is_text(events.schema.field(c).type)]
    first = next(iter(events.stream(paths)), None) if paths else None
    return first is None or not any(_kinds_of_paths(strings(pa.chunked_array([c]))) for c in first.columns)


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


def _encoded_source(table: Opened, name: str, root: str, find: Find, ask: Columns) -> Source:
    column, kind = _encoded_column(table, name, ask)
    others = table.read([c for c in table.schema.names if c != column or is_text(table.schema.field(c).type)])
    is_path = is_text(table.schema.field(column).type)
    key = column
    if is_path:
        ids = pc.replace_substring(pc.fill_null(strings(others[column]), ""), "\\", "/")
        kind = choose_kind(_kinds_of_paths(ids), ask.kind, f"column {column!r} of {name}")
        stamps = chain(table.stamps, _stamps_of_paths(ids, find))
    else:
        kept = table.schema.field(column).type
        inner = pa.types.is_struct(kept) and "path" in kept.names and strings(table.inner_paths(column))
        ids, key = (inner, PATH) if inner and distinct(inner) else row_ids(others, table.rows)
        stamps = chain(table.stamps or _cells(table.stream(column)))
    source = Source(
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
        read={"path_column" if is_path else f"{kind}_column": column, **({"start_column": WHOLE} if ask.whole else {})},
    )
    start, end = ask.start_column, ask.end_column
    if not (start or end or ask.whole) and kind == "audio" and is_path and set(SPAN) <= set(others.column_names):
        start, end = SPAN
    return stretches(source, start, end) if start or end else source


def label_files(labels: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None) -> list[Path]:
    """What `--labels` named: no, one or several files, or `folders` alone."""
    if labels is None:
        return []
    return [Path(labels)] if isinstance(labels, str | os.PathLike) else [Path(file) for file in labels]


def _encoded_column(table: Opened, name: str, ask: Columns) -> tuple[str, str]:
    """The column that holds the images or sounds or their paths, and the kind. UserError where none, or several, do."""
    schema = table.schema
    columns = ", ".join(schema.names)
    for asked in (ask.encoded, ask.path_column):
        if asked is not None and asked not in schema.names:
            raise UserError(f"{name} has no column {asked!r}; it has {columns}")
    what = "encoded sounds" if ask.audio_column else "encoded images"
    for asked, fits, needed in ((ask.encoded, _is_bytes, what), (ask.path_column, is_text, "paths")):
        if asked is not None:
            if not fits(schema.field(asked).type):
                raise UserError(f"column {asked!r} of {name} holds {schema.field(asked).type}, not {needed}")
            return asked, "audio" if ask.audio_column else ask.kind or "image"
    encoded = [field.name for field in schema if _is_bytes(field.type)]
    named = {other.column: name for name, other in KINDS.items() if other.column in encoded}
    kind = choose_kind(Counter(named.values()), ask.kind, name)
    if ask.kind is None and not named and encoded and _sounds_like_one(table, encoded[0]):
        kind = "audio"
    usual = [c for c in encoded if c.lower() in _NAMES.get(kind, ())]
    candidates = usual[:1] or [c for c in encoded if c not in named]
    if len(candidates) > 1:
        raise UserError(f"{name} has several binary columns ({', '.join(candidates)}): choose with --{kind}-column")
    paths = [c for c in PATH_NAMES if c in schema.names and is_text(schema.field(c).type)]
    if not (candidates or paths):
        raise UserError(
            f"{name} has no column of {'sounds' if kind == 'audio' else 'images'}: name one with --{kind}-column or "
            f"--path-column, or texts with --text-column (of {columns})"
        )
    return (candidates or paths)[0], kind


def _sounds_like_one(table: Opened, column: str) -> bool:
    """Whether the first cell of a column begins as sound files do."""
    first = next((value for value in map(_content, each(next(table.stream(column)))) if value), b"")
    return isinstance(first, bytes) and decode.known(first)


def _is_bytes(kind: pa.DataType) -> bool:
    """Encoded images or sounds: plain binary, or Hugging Face's struct of bytes and path."""
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" and _is_bytes(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _kinds_of_paths(ids: pa.Array) -> Counter[str]:
    some = (ids[row].as_py() for row in spread(len(ids), 1000))
    kinds = (kind_of_suffix(suffix_of(PurePosixPath(path or "").name)) for path in some)
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
    """The bytes of a cell, or the path that it holds."""
    return value.get("bytes") or value.get("path") if isinstance(value, dict) else value
