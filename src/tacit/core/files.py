"""Files that are whole or absent: hashes, flushing to the disk, checks of the file to write."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tacit.core.errors import RunFailed, UserError, is_disk_full, writing_to

_LITTER_SECONDS = 3600.0  # after which another process's unfinished file counts as litter


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


def check_place(path: Path, flag: str = "--out") -> None:
    """UserError where this file or folder could not be written, before anything is computed for it."""
    above = path.absolute()
    there = next(folder for folder in (above, *above.parents) if folder.exists() or folder.is_symlink())
    there = there.parent if there == above and not there.is_dir() else there
    if not there.is_dir():
        raise UserError(f"{path} cannot be written, because {there} is no folder; choose another {flag}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written: {there} is not yours to write in; choose another {flag}")


def write_whole(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)  # so that the file opened is new, not a link to another
    try:
        with writing_to(path):
            with partial.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
            flush(partial)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_file(final: Path) -> Iterator[Path]:
    """A path to write to, which replaces `final` once the block has succeeded. RunFailed on a full disk.

    Where `final` is a link, its target is replaced, which keeps its permissions.
    """
    final = Path(os.path.realpath(final)) if final.is_symlink() else final
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    sweep(final)
    try:
        with writing_to(final):
            yield partial
            flush(partial)
        if final.is_file():
            shutil.copymode(final, partial)
        partial.replace(final)
    except OSError as error:
        if is_disk_full(error):
            raise RunFailed(f"the disk is full at {final.parent}; free some space and try again") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def sweep(final: Path) -> None:
    """Remove the unfinished copies of `final` that killed processes left beside it an hour ago or more."""
    begun = re.compile(rf"\.{re.escape(final.name)}\.(\d+)\.partial")
    with suppress(OSError):
        for path in list(final.parent.iterdir()):
            found = begun.fullmatch(path.name)
            if found and path.lstat().st_mtime < time.time() - _LITTER_SECONDS and not _lives(int(found[1])):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(process))


def check_target(out: Path, *, overwrite: bool, is_own: Callable[[Path], bool], by: str) -> None:
    """UserError where the output file must not be written: only files that `by` wrote are replaced."""
    if out.is_symlink() and not out.exists():
        raise UserError(f"--out {out} is a link that leads nowhere; choose another --out")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file")
    if not out.exists():
        return
    if not overwrite:
        raise UserError(f"{out} exists; replace it with --overwrite or choose another --out")
    if not out.is_file() or not _holds(is_own, out):
        raise UserError(f"{out} was not written by {by}, which replaces nothing else; choose another --out")
    if not out.stat().st_mode & 0o222:
        raise UserError(f"{out} is read-only; make it writable or choose another --out")


def first_line(path: Path) -> str:
    """The first line of a text file, as far as a line that Tacit wrote can reach."""
    with path.open("rb") as file:
        return file.readline(1 << 24).decode("utf-8").rstrip("\r\n")


def _holds(is_own: Callable[[Path], bool], out: Path) -> bool:
    try:
        return is_own(out)
    except Exception:  # damaged, or another type of file
        return False
