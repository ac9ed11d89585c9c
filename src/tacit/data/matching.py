"""Names as join keys: which example does a row of a label file mean?

The file was often written on another machine, from another folder, with other slashes. A path means an example if it
is the end of the example's whole path: a folder that it names must be there. An absolute path of another machine may
differ above the folder of the data, whose name must agree; of several such places none is taken but the one that
agrees with the most. Nothing is ever opened.
"""

from __future__ import annotations

import os
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from tacit.core import naming

UNKNOWN, AMBIGUOUS = -1, -2
_LAST = "\U0010ffff"
_UP = re.compile(r"(^|[\\/])\.\.([\\/]|$)")
_ABSOLUTE = re.compile(r"^(/|~|[A-Za-z]:/|[A-Za-z][\w+.-]*://)")


@dataclass(frozen=True)
class Match:
    """For each of R keys the example that it means."""

    rows: NDArray[np.int64]  # [R] or `UNKNOWN` or `AMBIGUOUS`
    agree: NDArray[np.int64]  # [R] how many components agree
    moved: str = ""  # the folder of another machine that was taken for that of the data


def match_names(names: Sequence[str], ids: Iterable[str]) -> Match:
    """By the whole name; what names several examples is ambiguous."""
    place: dict[str, int] = {}
    for row, name in enumerate(ids):
        place[name] = AMBIGUOUS if name in place else row
    return Match(np.array([place.get(name, UNKNOWN) for name in names], np.int64), np.ones(len(names), np.int64))


def match(paths: Sequence[str], ids: Iterable[str], root: str = "", endings: frozenset[str] = frozenset()) -> Match:
    """By path, see above. An id that is the path itself wins over longer ones that end so.

    Paths written without any of the `endings` of files are compared with the ids without theirs.
    """
    cut = None if any(has_ending(path, endings) for path in paths) else endings
    wanted = [_key(path, cut) for path in paths]
    # A path can mean an example only if at least the file's own name agrees: the others need not be held.
    last = {_first(key) for key in wanted}
    own = ((_key(f"{root}/{name}" if _UP.search(name) else name, cut), row) for row, name in enumerate(ids))
    candidates = [(key, row) for key, row in own if _first(key) in last]
    exact: dict[str, int] = {}
    for key, row in candidates:
        exact[key] = AMBIGUOUS if key in exact else row
    folder = _Folder(root)
    keyed = sorted((key + folder.key, row) for key, row in candidates)
    keys, numbers = [key for key, _ in keyed], [row for _, row in keyed]
    rows = np.full(len(paths), UNKNOWN, np.int64)
    agree = np.zeros(len(paths), np.int64)
    elsewhere: dict[str, list[int]] = {}  # folders of another name or machine, and the paths that lie there
    home = ""  # the most that a path names of the folder of the data
    for i, key in enumerate(wanted):
        if not key:
            continue
        if key in exact:
            rows[i], agree[i] = exact[key], len(key)  # more than any tail of it
            continue
        start, stop = bisect_left(keys, key), bisect_left(keys, key + _LAST)
        if start < stop:
            rows[i] = numbers[start] if stop == start + 1 else AMBIGUOUS
            agree[i] = key.count("/")
            home = max(home, key[len(keys[start]) - len(folder.key) :], key=len)
        elif whole := [end for end in _ends(key) if key[:end] in exact and folder.may_be(key[end:], paths[i])]:
            end = max(whole, key=lambda end: len(_common(key, key[:end] + folder.key)))
            rows[i] = exact[key[:end]]
            agree[i] = _common(key, key[:end] + folder.key).count("/")
            elsewhere.setdefault(key[end:], []).append(i)
    taken = _most_alike(elsewhere, folder.key, home)
    for place, found in elsewhere.items():
        if place != taken:
            rows[found] = UNKNOWN
    return Match(rows, agree, "" if taken is None else _reversed(taken))


def has_ending(path: str, endings: frozenset[str]) -> bool:
    """Whether a name ends as one of these files does."""
    return _suffix(path) in endings


class _Folder:
    """The folder of the data, and whether a path may mean it by another name."""

    def __init__(self, root: str) -> None:
        self.root, self.key = root, _key(root, cut=None)
        self._known: dict[str, bool] = {}

    def may_be(self, named: str, path: str) -> bool:
        """Whether the folder that `path` names above an example's own, as a key, may be that of the data."""
        text = path.replace("\\", "/")
        absolute = _ABSOLUTE.match(text)
        start = absolute[0] if absolute else ""
        if start + named not in self._known:
            self._known[start + named] = self._may_be(start, named)
        return self._known[start + named]

    def _may_be(self, start: str, named: str) -> bool:
        place = ("/" if start == "/" else "") + _reversed(named)
        if self.root and start in ("", "/") and os.path.isdir(place):
            return os.path.isdir(self.root) and os.path.samefile(place, self.root)
        return bool(start) and (not self.key or _first(named) == _first(self.key))


def _ends(key: str) -> Iterator[int]:
    """Where each of the components but the last ends."""
    end = key.find("/") + 1
    while 0 < end < len(key):
        yield end
        end = key.find("/", end) + 1


def _most_alike(places: Iterable[str], above: str, home: str) -> str | None:
    """The one of these folders that agrees with most of the data's own, `home` at least; none where several do."""
    agree = {place: len(_common(place, above)) for place in places}
    best = [place for place in agree if agree[place] == max(agree.values())]
    return best[0] if len(best) == 1 and best[0].startswith(home) else None


def _key(path: str, cut: frozenset[str] | None) -> str:
    """The components from the last to the first, each closed by a slash: shared tails become shared beginnings.

    The file's own name is compared as a name, without these endings, where endings are given to `cut`.
    """
    text = unicodedata.normalize("NFC", path).strip().replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    while ".." in parts:
        at = parts.index("..")
        parts = parts[: max(0, at - 1)] + parts[at + 1 :]
    if cut and parts and has_ending(parts[-1], cut):
        parts[-1] = parts[-1][: -len(_suffix(parts[-1]))]
    if cut is not None and parts:
        parts[-1] = naming.plain(parts[-1])
    return "".join(f"{part}/" for part in reversed(parts))


def _reversed(key: str) -> str:
    return "/".join(reversed(key.rstrip("/").split("/")))


def _first(key: str) -> str:
    return key[: key.find("/")]


def _common(a: str, b: str) -> str:
    """The whole components with which both begin."""
    agree = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[: a.rfind("/", 0, agree) + 1]


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()
