"""Paths that data name: they are opened inside the folder that they start from, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from tacit.data.documents import Unreadable
from tacit.data.places import Place, Remote

OUTSIDE = Unreadable("leads out of the table's folder; put the table beside or above its files")

ELSEWHERE = Unreadable("a path in a table behind an URL leads nowhere; give tar shards, or the bytes in the table")

Find = Callable[[str], Path | Unreadable]


def home(places: Sequence[Place], root: Path | None) -> tuple[str, Find]:
    """The folder that the paths in tables at `places` start from, and how they are found.

    In a table in memory they start from `root`; where that is None, from the working folder, and they lead anywhere.
    """
    if not places:
        return str(root or Path.cwd()), inside(root) if root else Path.cwd().joinpath
    first = places[0]
    if isinstance(first, Remote):
        return first.url.rpartition("/")[0], lambda name: ELSEWHERE
    return str(first.resolve().parent), inside(first.resolve().parent)


def inside(root: Path) -> Find:
    """Where paths that start from `root` lie; `OUTSIDE` if that is not below it, by `..`, in full, or through links."""
    top = os.path.realpath(root)
    real = lru_cache(maxsize=1024)(os.path.realpath)

    def find(name: str) -> Path | Unreadable:
        try:
            path = root / name
            lies = os.path.realpath(path) if path.is_symlink() else os.path.join(real(path.parent), path.name)
        except (OSError, ValueError) as error:
            return Unreadable(str(error))
        return path if Path(lies).is_relative_to(top) else OUTSIDE

    return find
