"""The cache folder of decoded data: where it is, and how it is emptied.

    decoded/KEY/     images; KEY hashes content and format, see `tacit.data.store`
    texts/KEY/       texts
    sounds/KEY/      sounds
    histories/KEY/   events; and so on, one folder for each modality
    listings/KEY.*   which of these belongs to a listing of files (paths, sizes, times), and which files were unreadable

Only its owner can read it. Folders appear complete or not at all; one lock per listing makes a second run wait.
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
    """TACIT_CACHE, or the platform's folder for caches. UserError where the home folder is unknown."""
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
    """Delete all decoded data, and nothing that Tacit did not write. Returns the bytes freed.

    UserError while another run is decoding.
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
            with suppress(OSError):  # files open on Windows, or owned by someone else
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
    """The files that map listings to cache folders."""
    found = [path for path in _below(root / "listings") if _LISTING.fullmatch(path.name)]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _is_own(folder: Path) -> bool:
    """Whether Tacit made this folder, complete or not."""
    begun = _BEGUN.fullmatch(folder.name) or (_KEY.fullmatch(folder.name) and _is_kept(folder))
    return bool(begun) and folder.is_dir() and not folder.is_symlink()


def _is_kept(folder: Path) -> bool:
    """Whether a folder with a name like ours is ours, by the files in it, damaged or not."""
    return (folder / "meta.json").is_file() and (folder / "content.bin").is_file()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _remove_if_empty(folder: Path) -> None:
    if not folder.is_symlink():
        with suppress(OSError):
            folder.rmdir()
