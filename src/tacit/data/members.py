"""List the members of a tar shard from its headers: which of them form an example, and at which byte they begin.

The shard is untrusted. Names are never used as paths; links, devices and sparse files are skipped, and an impossible
header ends the list with a remark.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any, NamedTuple

import pyarrow as pa

from tacit.core.errors import UserError
from tacit.data.places import Place, reaching, size_of
from tacit.data.rows import concatenated, table_of
from tacit.data.signs import AllSigns, of_suffix, suffix_of

NAME, WHOLE, BEGIN, SIZE, KIND = "__name__", "__whole__", "__begin__", "__size__", "__kind__"
PLACED = (NAME, WHOLE, BEGIN, SIZE, KIND)
SKIPPED, UNREAD = b"skipped", b"unread"

_BLOCK = 512  # bytes of a header
_TEXTS = frozenset(["cls", "cls2", "index", "id", "label", "txt", "text", "transcript", "caption"])
_MOST = {"json": 1 << 20} | dict.fromkeys(_TEXTS, 1 << 16)  # bytes of a member whose text is read
_COLUMNS = 100  # at most, from the JSON of a shard
_AT_ONCE = 4096  # examples converted to arrow at a time

Row = dict[str, Any]


class Shard(NamedTuple):
    """A tar file being read, and what was skipped so far."""

    place: Place
    file: IO[bytes]
    size: int  # bytes
    skipped: list[tuple[str, str]]
    unread: Counter[str]  # members that are neither read nor reported by name, counted by ending

    def skip(self, name: str, why: str) -> None:
        self.skipped.append((f"{self.place.name}/{name}", why))


def index_of(place: Place, signs: AllSigns, kind: str | None) -> pa.Table:
    """Index a shard, one row per example: the columns `PLACED` of its content, and those of its JSON and texts.

    The content is of the first modality in `signs` that occurs; only of `kind`, where that is given.
    """
    parts: list[pa.Table] = []
    with reaching(str(place), (OSError,)), place.open("rb") as file:
        shard = Shard(place, file, size_of(place), [], Counter())
        rows = _examples(shard, signs, kind)
        while block := list(islice(rows, _AT_ONCE)):
            parts.append(table_of(block))
    aside = {SKIPPED: json.dumps(shard.skipped), UNREAD: json.dumps(shard.unread)}
    if not parts:
        names = {name: pa.array([], pa.string()) for name in (NAME, WHOLE)}
        empty = pa.table(names | {name: pa.array([], pa.int64()) for name in PLACED[2:]})
        return empty.replace_schema_metadata(aside)
    index = concatenated(parts, [part.num_rows for part in parts])
    return index.replace_schema_metadata(aside)


class Member(NamedTuple):
    """A plain file of a shard."""

    name: str
    ending: str  # after the first dot of the file name, lower case
    begin: int  # bytes
    size: int  # bytes

    @property
    def stem(self) -> str:
        """The name without its last ending."""
        return self.name.rpartition(".")[0]

    @property
    def last(self) -> str:
        """The last ending, without its dot."""
        return self.ending.rpartition(".")[2]

    @property
    def suffix(self) -> str:
        """The last ending with its dot; empty where there is none."""
        return self.last and f".{self.last}"

    @property
    def inner(self) -> str:
        """The part between the first dot and the last: empty, mask, left, 2.840.1."""
        return self.ending.rpartition(".")[0]

    def kind(self, signs: AllSigns, wanted: str | None) -> str | None:
        kind = of_suffix(signs, suffix_of(f"x.{self.last}"))
        return None if wanted not in (None, kind) or self.last == "gz" else kind


def _examples(shard: Shard, signs: AllSigns, wanted: str | None) -> Iterator[Row]:
    """Form examples from adjacent members whose paths agree up to the first dot of the file name."""
    key, group, columns = "", list[Member](), set[str]()
    for info in _members(shard):
        folder, slash, base = info.name.rpartition("/")
        stem, _, ending = base.partition(".")
        if not stem:
            continue  # hidden, as the metadata files of macOS
        if key != folder + slash + stem:
            yield from _samples(shard, key, group, signs, wanted, columns)
            key, group = folder + slash + stem, []
        group.append(Member(info.name, ending.lower(), info.offset_data, info.size))
    yield from _samples(shard, key, group, signs, wanted, columns)


def _samples(
    shard: Shard, key: str, group: list[Member], signs: AllSigns, wanted: str | None, columns: set[str]
) -> Iterator[Row]:
    """The examples among members whose names agree up to the first dot.

    One example, as WebDataset defines it, where a single member is of the modality, or a single one has no further
    dot while the others have words between dots (0001.jpg, 0001.mask.png). Else each is an example: words between dots
    (0001.left.png) make them parts of one whole, numbers (1.2.840.1.png) do not.
    """
    found = {kind: [member for member in group if member.kind(signs, wanted) == kind] for kind in signs}
    kind = next((kind for kind in signs if found[kind]), None)
    if kind is None:
        for member in group:
            if wanted is None and member.last in ("json", "cls"):
                shard.skip(member.name, "no content lies beside it")
            else:
                shard.unread[member.suffix] += 1
        return
    contents = found[kind]
    plain = [member for member in contents if not member.inner]
    words = not any(character.isdigit() for member in contents for character in member.inner)
    if len(contents) > 1 and len(plain) == 1 and words:
        for member in contents:
            if member is not plain[0]:
                shard.skip(member.name, f"beside {plain[0].name}, which is the one that is read")
        contents = plain
    chosen = {*found[kind]}
    shard.unread.update(m.suffix for m in group if m not in chosen and m.last not in _MOST)
    whole = len(contents) == 1 or words
    beside: dict[str, list[Member]] = {}
    for member in group:
        if member not in contents and (whole or member.kind(signs, wanted) != kind):
            beside.setdefault(key if len(contents) == 1 else member.stem, []).append(member)
    for content in contents:
        row = Row()
        row |= {NAME: content.name, BEGIN: content.begin, SIZE: content.size, KIND: list(signs).index(kind)}
        row[WHOLE] = key if whole and len(contents) > 1 else content.name
        for member in [*beside.get(key, ()), *(beside.get(content.stem, ()) if content.stem != key else ())]:
            ending = member.ending if len(contents) == 1 else member.last
            if member.size <= _MOST.get(ending, -1):
                _read(row, shard, member, ending, columns)
        yield row


def _read(row: Row, shard: Shard, member: Member, ending: str, columns: set[str]) -> None:
    """Add the content of a small member to the row: JSON by its keys, a text under the member's ending."""
    shard.file.seek(member.begin)
    text = shard.file.read(member.size).decode("utf-8", "replace").strip()
    cells: Any = {ending: text}
    if ending == "json":
        try:
            cells = json.loads(text)
        except (ValueError, RecursionError):
            cells = None
    if not isinstance(cells, dict):
        shard.skip(member.name, "no JSON object")
        return
    new = [name for name in cells if name not in columns and not name.startswith("__")]
    columns.update(new[: _COLUMNS - len(columns)])
    row |= {name: value for name, value in cells.items() if name in columns}


def _members(shard: Shard) -> Iterator[tarfile.TarInfo]:
    """Plain files that the shard holds completely."""
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
