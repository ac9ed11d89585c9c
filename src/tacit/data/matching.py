"""Paths as join keys: which example does a row of a label file mean?

The file was often written on another machine, from another folder, with other slashes. A path means the example with
which it shares the longest tail of whole components, if only one example shares that much. Nothing is ever opened.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from tacit import pixels, sounds

UNKNOWN, AMBIGUOUS = -1, -2
_LAST = "\U0010ffff"
_ENDINGS = pixels.SUFFIXES | sounds.SUFFIXES


def match(paths: Sequence[str], ids: Iterable[str], root: str = "") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each path the row of the example it means, or `UNKNOWN` or `AMBIGUOUS`; and how many components agree.

    An id that is the path itself wins over longer ones that end so. Paths written without any file ending are compared
    with the ids without theirs.
    """
    cut = not any(_suffix(path) in _ENDINGS for path in paths)
    wanted = [_key(path, cut) for path in paths]
    # A path can mean an example only if at least the file's own name agrees: the others need not be held.
    last = {_first(key) for key in wanted}
    candidates = [(key, row) for row, name in enumerate(ids) if _first(key := _key(name, cut)) in last]
    exact: dict[str, int] = {}
    for key, row in candidates:
        exact[key] = AMBIGUOUS if key in exact else row
    above = _key(root, cut=False)
    keyed = sorted((key + above, row) for key, row in candidates)
    keys, numbers = [key for key, _ in keyed], [row for _, row in keyed]
    rows = np.full(len(paths), UNKNOWN, np.int64)
    agree = np.zeros(len(paths), np.int64)
    for i, key in enumerate(wanted):
        if key in exact:
            rows[i], agree[i] = exact[key], len(key)  # more than any tail of it
            continue
        at = bisect_left(keys, key)
        shared = max((_common(key, keys[j]) for j in (at - 1, at) if 0 <= j < len(keys)), key=len, default="")
        if not shared:
            continue
        start, stop = bisect_left(keys, shared), bisect_left(keys, shared + _LAST)
        rows[i] = numbers[start] if stop == start + 1 else AMBIGUOUS
        agree[i] = shared.count("/")
    return rows, agree


def _key(path: str, cut: bool) -> str:
    """The components from the last to the first, each closed by a slash: shared tails become shared beginnings."""
    parts = [part for part in unicodedata.normalize("NFC", path).replace("\\", "/").split("/") if part not in ("", ".")]
    if cut and parts and _suffix(parts[-1]) in _ENDINGS:
        parts[-1] = parts[-1][: -len(_suffix(parts[-1]))]
    return "".join(f"{part}/" for part in reversed(parts))


def _first(key: str) -> str:
    return key[: key.find("/")]


def _common(a: str, b: str) -> str:
    """The whole components with which both begin."""
    agree = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[: a.rfind("/", 0, agree) + 1]


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()
