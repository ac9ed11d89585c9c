"""What is decoded once and kept: found where an earlier run has left it, or made now, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import filelock

from tacit.errors import RunFailed
from tacit.files import flush, is_disk_full

Kept = TypeVar("Kept")


def find_or_make(
    memo: Path,
    root: Path,
    find: Callable[[], Kept | None],
    glimpse: Callable[[], Kept | None],
    make: Callable[[], None],
) -> Kept:
    """What `find` has found under the lock of `memo`, or a `glimpse` if it gives one, or what `find` finds once made.

    RunFailed where the disk that holds `root` is full.
    """
    with filelock.FileLock(memo.with_suffix(".lock")):
        kept = find()
        if kept is None:
            kept = glimpse()
        if kept is None:
            try:
                make()
            except OSError as error:
                if is_disk_full(error):
                    raise RunFailed(f"the disk is full at {root}; free some space or choose another --cache") from error
                raise
            kept = find()
            assert kept is not None
    return kept


@contextmanager
def partial_folder(folders: Path, name: str) -> Iterator[Path]:
    """An empty folder to work in, which is gone afterwards unless `put_in_place` has moved it."""
    partial = folders / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # what a killed run has left there
    partial.mkdir(mode=0o700)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def put_in_place(partial: Path, final: Path, is_whole: Callable[[Path], bool]) -> None:
    """Move a finished folder to its place, unless the same content has come there from elsewhere, even just now."""
    for path in [*partial.iterdir(), partial]:
        flush(path)
    if is_whole(final):
        return
    shutil.rmtree(final, ignore_errors=True)
    try:
        partial.rename(final)
    except OSError:
        if not is_whole(final):
            raise
    flush(final.parent)
