"""Paths inside data, which may only lead to files inside their base folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from tacit.data.places import Place, Remote
from tacit.data.source import Unreadable

OUTSIDE = Unreadable("leads out of the table's folder; put the table beside or above its files")

ELSEWHERE = Unreadable("a path in a table behind an URL leads nowhere; give tar shards, or the bytes in the table")

Find = Callable[[str], Path | Unreadable]


def home(places: Sequence[Place], root: Path | None) -> tuple[str, Find]:
    """The base folder of the paths in tables at `places`, and a function that resolves them.

    Paths of a table in memory are relative to `root`; where that is None, to the working folder, and unrestricted.
    """
    if not places:
        return str(root or Path.cwd()), inside(root) if root else Path.cwd().joinpath
    first = places[0]
    if isinstance(first, Remote):
        return first.url.rpartition("/")[0], lambda name: ELSEWHERE
    own = first.parent.resolve()  # for a link to a blob, the folder of the snapshot
    folder = own if len(homes_of(own)) > 1 else first.resolve().parent
    return str(folder), inside(folder)


def homes_of(root: Path) -> list[Path]:
    """The folders that links below `root` may lead to: itself, and for a snapshot in Hugging Face's cache its blobs.

    The cache holds MODEL/blobs/HASH, and links to them as MODEL/snapshots/COMMIT/NAME.
    """
    top = Path(os.path.realpath(root))
    shot = next((folder for folder in (top, *top.parents) if folder.parent.name == "snapshots"), None)
    blobs = None if shot is None else shot.parent.parent / "blobs"
    return [top] if blobs is None or not blobs.is_dir() or blobs.is_symlink() else [top, blobs]


def inside(root: Path) -> Find:
    """Resolve paths relative to `root`; `OUTSIDE` for one that leaves it by `..`, as an absolute path or through links.

    Links in a snapshot of Hugging Face's cache may lead to its blobs.
    """
    homes = homes_of(root)
    real = lru_cache(maxsize=1024)(os.path.realpath)

    def find(name: str) -> Path | Unreadable:
        try:
            path = root / name
            linked = path.is_symlink()
            lies = os.path.realpath(path) if linked else os.path.join(real(path.parent), path.name)
        except (OSError, ValueError) as error:
            return Unreadable(str(error))
        return path if any(map(Path(lies).is_relative_to, homes if linked else homes[:1])) else OUTSIDE

    return find
