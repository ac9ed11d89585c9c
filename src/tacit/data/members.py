"""The members of a tar shard, listed by reading its headers: which of them make up an example, and where they lie.

The shard may be anybody's. Names are names, wherever they would lead; links, devices and sparse files are left aside,
and a header that says what cannot be ends the list, which then says so.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any, NamedTuple

import pyarrow as pa

from tacit.data.kinds import KINDS, kind_of_suffix, suffix_of
from tacit.data.places import Place, reaching, size_of
from tacit.data.rows import concatenated, table_of
from tacit.errors import UserError

NAME, BEGIN, SIZE, KIND = "__name__", "__begin__", "__size__", "__kind__"
PLACED = (NAME, BEGIN, SIZE, KIND)
SKIPPED = b"skipped"

_BLOCK = 512  # bytes of a header
_TEXTS = frozenset(["cls", "cls2", "index", "id", "label", "txt", "text", "transcript", "caption"])
_MOST = {"json": 1 << 20} | dict.fromkeys(_TEXTS, 1 << 16)  # bytes of a member that is read for its words
_COLUMNS = 100  # that a shard's JSON makes, at most
_AT_ONCE = 4096  # examples made into arrow at a time
_ORDER = list(KINDS)

Row = dict[str, Any]


class Shard(NamedTuple):
    """A tar file being read, and what was left aside of it so far."""

    place: Place
    file: IO[bytes]
    size: int  # bytes
    skipped: list[tuple[str, str]]

    def skip(self, name: str, why: str) -> None:
        self.skipped.append((f"{self.place.name}/{name}", why))


def index_of(place: Place, kind: str | None) -> pa.Table:
    """One row per example of a shard: the columns `PLACED` of its content, and those of its JSON and texts.

    The content is the image, or else the sound, or else the text; only of `kind`, where that is given.
    """
    parts: list[pa.Table] = []
    with reaching(str(place), (OSError,)), place.open("rb") as file:
        shard = Shard(place, file, size_of(place), [])
        rows = _examples(shard, kind)
        while block := list(islice(rows, _AT_ONCE)):
            parts.append(table_of(block))
    if not parts:
        return pa.table({NAME: pa.array([], pa.string())} | {name: pa.array([], pa.int64()) for name in PLACED[1:]})
    index = concatenated(parts, [part.num_rows for part in parts])
    return index.replace_schema_metadata({SKIPPED: json.dumps(shard.skipped)})


def _examples(shard: Shard, kind: str | None) -> Iterator[Row]:
    """Members side by side whose names are alike up to the first point of the file's own."""
    key, row, columns = "", Row(), set[str]()
    for member in _members(shard):
        folder, slash, base = member.name.rpartition("/")
        stem, _, ending = base.partition(".")
        if not stem:
            continue  # hidden, as a Mac's own notes are
        if key != folder + slash + stem:
            if BEGIN in row:
                yield row
            key, row = folder + slash + stem, {}
        _note(row, member, ending.lower(), kind)
        if member.size <= _MOST.get(ending.lower(), -1):
            _read(row, shard, member, ending.lower(), columns)
    if BEGIN in row:
        yield row


def _note(row: Row, member: tarfile.TarInfo, ending: str, asked: str | None) -> None:
    """Take a member for the content, if it is one and what was taken before comes later in the order of kinds."""
    kind = kind_of_suffix(suffix_of(f"x.{ending}"))
    if kind is None or asked not in (None, kind) or ending.endswith(".gz"):
        return
    if _ORDER.index(kind) < row.get(KIND, len(_ORDER)):
        row |= {NAME: member.name, BEGIN: member.offset_data, SIZE: member.size, KIND: _ORDER.index(kind)}


def _read(row: Row, shard: Shard, member: tarfile.TarInfo, ending: str, columns: set[str]) -> None:
    """What a small member says of its example: JSON by its keys, a text by the member's ending."""
    shard.file.seek(member.offset_data)
    text = shard.file.read(member.size).decode("utf-8", "replace").strip()
    said: Any = {ending: text}
    if ending == "json":
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
    if not isinstance(said, dict):
        shard.skip(member.name, "no JSON object")
        return
    new = [name for name in said if name not in columns and not name.startswith("__")]
    columns.update(new[: _COLUMNS - len(columns)])
    row |= {name: value for name, value in said.items() if name in columns}


def _members(shard: Shard) -> Iterator[tarfile.TarInfo]:
    """Plain files that lie in the shard whole."""
    end = 0
    try:
        with tarfile.open(fileobj=shard.file, mode="r:", encoding="utf-8", errors="replace") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # a million of them would take a gigabyte
                if member.offset < end or member.size < 0:
                    raise tarfile.ReadError("a header that leads back")
                end = tar.offset
                if not member.isreg() or member.issparse():
                    if not member.isdir():
                        shard.skip(member.name, "a link" if member.issym() or member.islnk() else "no plain file")
                elif end > shard.size:
                    raise tarfile.ReadError("it ends amid a member")
                else:
                    yield member
        shard.file.seek(end)
        if shard.file.read(_BLOCK).strip(b"\0"):
            raise tarfile.ReadError("no header where one should be")
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        if not end:
            raise UserError(f"{shard.place} cannot be read as a tar file: {error}") from None
        shard.skip(f"at byte {end:,}", f"damaged, and not read from there on ({error})")
