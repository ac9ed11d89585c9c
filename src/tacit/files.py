"""Files that are whole or absent: hashes, flushing to the disk, folders that appear at once."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tacit.errors import RunFailed, UserError


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Make a written file, or the entries of a folder, survive a power cut."""
    if path.is_dir() and os.name == "nt":  # Windows has no such call for folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_place(path: Path) -> None:
    """UserError where this file or folder could not be written or made: known before anything is computed for it."""
    above = path.absolute()
    there = next(folder for folder in (above, *above.parents) if folder.exists() or folder.is_symlink())
    there = there.parent if there == above and not there.is_dir() else there
    if not there.is_dir():
        raise UserError(f"{path} cannot be written, because {there} is no folder; choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written: {there} is not yours to write in; choose another --out")


def write_whole(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_file(final: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `final` once the block has ended well. RunFailed on a full disk."""
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(final)
    except OSError as error:
        if is_disk_full(error):
            raise RunFailed(f"the disk is full at {final.parent}; free some space and try again") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def is_disk_full(error: BaseException) -> bool:
    """Also where a library has wrapped the system's error in one of its own."""
    return (isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}) or "No space left" in str(error)


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """An empty folder to write into, which takes the place of `final` once the block has ended well.

    Until then, and where the block fails, `final` stays as it was.
    """
    final = final.absolute()
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    old = final.with_name(f".{final.name}.{os.getpid()}.old")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for path in sorted(partial.rglob("*")):
            flush(path)
        flush(partial)
        if final.exists():
            final.rename(old)
        partial.rename(final)
        flush(final.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not final.exists():
            old.rename(final)
        shutil.rmtree(old, ignore_errors=True)
