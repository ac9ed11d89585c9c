"""Headers of medical files: read in decoding processes while data are opened, and kept nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any, ClassVar

import pyarrow.compute as pc

from tacit.data.decode import Decoded, Item, Plan, Pool
from tacit.data.source import Source, Unreadable, each
from tacit.modalities.medical.dicom import About
from tacit.modalities.medical.names import DICOM_ENDINGS, PICTURES, VOLUME_ENDINGS

_AT_ONCE = 64  # files of a request


@dataclass(frozen=True)
class Headers(Plan):
    """What is read of a header is in `About`, and nothing is decoded."""

    decoder: ClassVar[str] = "tacit.modalities.medical.worker:answer"
    batch: ClassVar[int] = _AT_ONCE

    @classmethod
    def probe_in_memory(cls, item: Any, what: str) -> Decoded:
        return Decoded(bytes(16), b"null")


def medical(source: Source) -> bool:
    """Whether some of these are no pictures by their names."""
    if not source.by_path or not len(source):
        return False
    if pc.all(_ends(source, PICTURES)).as_py():
        return False
    return bool(source.root) or bool(pc.any(_ends(source, (*DICOM_ENDINGS, *VOLUME_ENDINGS))).as_py())


def _ends(source: Source, endings: Sequence[str]) -> Any:
    """Whether each name has one of these endings."""
    escaped = "|".join(ending.replace(".", r"\.") for ending in endings)
    return pc.match_substring_regex(source.ids, rf"(?i)({escaped})$")


_last: list[tuple[str, list[About | None]]] = []  # of the data opened last: two modalities may ask one after the other
_SOME = 64  # files, evenly spread, that are read first


def headers(source: Source) -> list[About | None]:
    """What the header of each file tells; None for pictures, and where it cannot be read."""
    found = headers_if(source, lambda some: True)
    assert found is not None
    return found


def headers_if(source: Source, worth: Callable[[Sequence[About | None]], bool]) -> list[About | None] | None:
    """The same, unless those of some files are not `worth` it."""
    if not _last or _last[0][0] != source.fingerprint:
        with Pool(Headers) as pool:
            if not worth(list(_asked(pool, source.sample(_SOME)))):
                return None
            found = list(_asked(pool, _items(source)))
        _last[:] = [(source.fingerprint, found)]
    return _last[0][1]


def forget() -> None:
    """Keep nothing of what was read last."""
    _last.clear()


def _asked(pool: Pool, items: Iterable[Item]) -> Iterator[About | None]:
    for outcome in pool.probe(items, "about"):
        values = None if outcome.data is None else json.loads(outcome.data)
        yield None if values is None else About._make(map(_kept, values))


def _kept(value: Any) -> Any:
    """One object for all equal words, and no lists."""
    return intern(value) if isinstance(value, str) else tuple(map(_kept, value)) if isinstance(value, list) else value


def _items(source: Source) -> Iterator[Item]:
    """The files whose headers tell something."""
    passed = Unreadable("not read")
    for name, item in zip(each(source.ids), source.items(), strict=True):
        yield passed if name.lower().endswith(PICTURES) else item
