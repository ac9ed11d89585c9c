"""Match names and paths of label rows to examples.

Label files were often written on another machine, in another folder, with other slashes. A path matches an example if
it is a tail of the example's full path: every folder that it names must agree. An absolute path of another machine may
differ above the data folder, whose name must agree; of several such locations only the one that agrees most counts.
No file is ever opened.
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
    """The example that each of R keys refers to."""

    rows: NDArray[np.int64]  # [R] row numbers, or `UNKNOWN` or `AMBIGUOUS`
    agree: NDArray[np.int64]  # [R] number of path components that agree
    moved: str = ""  # the folder of another machine that was taken for the data folder


def match_names(names: Sequence[str], ids: Iterable[str]) -> Match:
    """Match whole names; a name of several examples is ambiguous."""
    place: dict[str, int] = {}
    for row, name in enumerate(ids):
        place[name] = AMBIGUOUS if name in place else row
    return Match(np.array([place.get(name, UNKNOWN) for name in names], np.int64), np.ones(len(names), np.int64))


def match(paths: Sequence[str], ids: Iterable[str], root: str = "", endings: frozenset[str] = frozenset()) -> Match:
    """Match paths, see above. An id equal to the path wins over longer ids that end with it.

    Where no path has one of the `endings`, ids are compared without theirs too.
    """
    cut = None if any(has_ending(path, endings) for path in paths) else endings
    wanted = [_key(path, cut) for path in paths]
    # A path can only match if the file name agrees: other ids need not be held.
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
    elsewhere: dict[str, list[int]] = {}  # folders of another name or machine, and the paths below them
    home = ""  # the longest part of the data folder that a path names
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
    """Whether a name has one of these endings."""
    return _suffix(path) in endings


class _Folder:
    """The data folder, and whether a path may refer to it by another name."""

    def __init__(self, root: str) -> None:
        self.root, self.key = root, _key(root, cut=None)
        self._known: dict[str, bool] = {}

    def may_be(self, named: str, path: str) -> bool:
        """Whether the folder `named` (a key) that `path` has above the example's own path may be the data folder."""
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
    """The end of each component except the last."""
    end = key.find("/") + 1
    while 0 < end < len(key):
        yield end
        end = key.find("/", end) + 1


def _most_alike(places: Iterable[str], above: str, home: str) -> str | None:
    """The folder that agrees most with the data folder, at least in `home`; None where several do."""
    agree = {place: len(_common(place, above)) for place in places}
    best = [place for place in agree if agree[place] == max(agree.values())]
    return best[0] if len(best) == 1 and best[0].startswith(home) else None


def _key(path: str, cut: frozenset[str] | None) -> str:
    """The components from last to first, each closed by a slash, so that shared tails become shared prefixes.

    With `cut`, the file name is normalised as a name and loses these endings.
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
    """The common prefix, in whole components."""
    agree = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[: a.rfind("/", 0, agree) + 1]


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()
