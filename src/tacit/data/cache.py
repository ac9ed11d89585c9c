"""The folder in which decoded data are kept: where it is, and how it is emptied.

    decoded/KEY/     images; KEY names content and form, see `tacit.data.store`
    texts/KEY/       texts
    sounds/KEY/      sounds
    histories/KEY/   events; and so on, each modality in a folder of its own
    listings/KEY.*   which of these belongs to a listing of files (paths, sizes, times) and which files were bad

It is readable by its owner only. Folders appear whole or not at all; a lock per listing makes a second run wait.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

import filelock

from tacit.core import folders
from tacit.core.errors import UserError
from tacit.data.store import UNDER_WAY

_KEY = re.compile(r"[0-9a-f]{32}")
_BEGUN = re.compile(r"\.[0-9a-f]{32}(\.spool)?\.partial")
_LISTING = re.compile(r"[0-9a-f]{32}\.(json|lock|members\.parquet)|\.[0-9a-f]{32}\..+\.partial")


def default_root() -> Path:
    """TACIT_CACHE, or the platform's folder for caches. UserError where nobody knows the person's home."""
    if named := os.environ.get("TACIT_CACHE"):
        return Path(named)
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "tacit"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "tacit"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tacit"
    except RuntimeError:
        raise UserError("no home folder is known; name a folder for decoded data with --cache or TACIT_CACHE") from None


def clean(root: Path | None = None) -> int:
    """Delete all decoded data, and nothing that Tacit has not written; returns the bytes freed.

    UserError where a run is decoding just now.
    """
    root = root or default_root()
    for lock in _listings(root):
        try:
            if lock.suffix == ".lock":
                filelock.FileLock(lock, blocking=False).acquire().lock.release()
        except filelock.Timeout:
            raise UserError(f"another run is decoding into {root}; clean it when that has ended") from None
    freed = 0
    for folder in _below(root):
        owned = [inner for inner in _below(folder) if _is_own(inner)]
        for inner in owned:
            freed += _size(inner)
            with suppress(OSError):  # what is open on Windows, or of another owner
                folders.remove(inner, UNDER_WAY)
                inner.rmdir()
            freed -= _size(inner)
        if owned:
            _remove_if_empty(folder)
    for listing in _listings(root):
        freed += listing.stat().st_size
        try:
            listing.unlink()
        except OSError:
            freed -= listing.stat().st_size
    _remove_if_empty(root / "listings")
    return freed


def _below(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _listings(root: Path) -> list[Path]:
    """The files that say which cache belongs to which data."""
    found = [path for path in _below(root / "listings") if _LISTING.fullmatch(path.name)]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _is_own(folder: Path) -> bool:
    """Whether Tacit has made this folder, whole or not."""
    begun = _BEGUN.fullmatch(folder.name) or (_KEY.fullmatch(folder.name) and _is_kept(folder))
    return bool(begun) and folder.is_dir() and not folder.is_symlink()


def _is_kept(folder: Path) -> bool:
    """Whether a folder with a name like one of ours is one: by what it holds, even if that is damaged."""
    return (folder / "meta.json").is_file() and (folder / "content.bin").is_file()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _remove_if_empty(folder: Path) -> None:
    if not folder.is_symlink():
        with suppress(OSError):
            folder.rmdir()
