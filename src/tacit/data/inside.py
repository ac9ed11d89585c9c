"""Paths that data name: they are opened inside the folder that they start from, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from tacit.data.documents import Unreadable

OUTSIDE = Unreadable("leads out of the table's folder; put the table beside or above its files")

Find = Callable[[str], Path | Unreadable]


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
