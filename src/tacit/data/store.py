"""What is decoded once and kept: found where an earlier run has left it, or made now, whole or not at all.

Every kept file has checksums beside it, which are compared whenever it is opened: training on a flipped bit is worse
than decoding anew. 100 MB take about 0.05 s.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import filelock

from tacit.core import folders
from tacit.core.errors import RunFailed, is_disk_full
from tacit.core.files import flush, write_whole

Kept = TypeVar("Kept")

META = "meta.json"
FILES = ("*.bin", META, "tokenizer.json", "items.parquet")  # all that is ever kept
AT_ONCE = 2 << 30  # bytes of a file that are compared at an opening; of a larger, untouched one as many, evenly spread
_BLOCK = 8 << 20  # bytes that have one checksum
_CHECKSUM, _FILES = "checksum", "files"


class Damaged(Exception):
    """What an earlier run has left is not as it was written; says where."""


def find_or_make(
    memo: Path,
    root: Path,
    find: Callable[[], Kept | None],
    glimpse: Callable[[], Kept | None],
    make: Callable[[], None],
) -> tuple[Kept, tuple[str, ...]]:
    """What `find` has found under the lock of `memo`, or a `glimpse` if it gives one, or what `find` finds once made.

    Beside it what a person should know: that something damaged was made anew. RunFailed where the disk that holds
    `root` is full, or does not give back what was written.
    """
    said: tuple[str, ...] = ()
    with filelock.FileLock(memo.with_suffix(".lock")):
        try:
            kept = find()
        except Damaged as error:
            kept, said = None, (f"{error}: it was made anew",)
        if kept is None:
            kept = glimpse()
        if kept is None:
            try:
                make()
            except OSError as error:
                if is_disk_full(error):
                    raise RunFailed(f"the disk is full at {root}; free some space or choose another --cache") from error
                raise
            try:
                kept = find()
            except Damaged as error:
                raise RunFailed(f"{error}, just after it was written; choose another --cache") from error
            assert kept is not None
    return kept, said


@contextmanager
def partial_folder(place: Path, name: str) -> Iterator[Path]:
    """An empty folder to work in, which is gone afterwards unless `put_in_place` has moved it."""
    partial = place / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # what a killed run has left there
    partial.mkdir(mode=0o700)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def put_in_place(partial: Path, final: Path) -> None:
    """Move a finished folder to its place, unless the same content has come there from elsewhere, even just now."""
    for path in [*partial.iterdir(), partial]:
        flush(path)
    if is_whole(final):
        return
    folders.remove(final, FILES)
    try:
        partial.rename(final)  # onto nothing, or an empty folder
    except OSError:
        if not is_whole(final):
            for path in sorted(partial.iterdir(), key=lambda path: (path.name == META, path.name)):
                path.replace(final / path.name)  # beside what somebody else has put there
    flush(final.parent)


# ---------------------------------------------------------------- checksums


def write_meta(folder: Path, values: Mapping[str, Any], names: Sequence[str]) -> None:
    """Write meta.json of a folder: `values`, and the checksums of the files of these names."""
    (folder / META).write_text(_sealed({**values, _FILES: {name: _told(folder / name) for name in names}}))


def read_meta(folder: Path) -> dict[str, Any] | None:
    """What `write_meta` wrote, None where there is nothing; Damaged where a file of the folder is not as it was."""
    meta = read_sealed(folder / META)
    for name, told in (meta or {}).get(_FILES, {}).items():
        _compare(folder / name, told)
    return meta


def is_whole(folder: Path) -> bool:
    """Whether a folder is there and as it was written."""
    try:
        return read_meta(folder) is not None
    except Damaged:
        return False


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON with a checksum, whole or not at all."""
    write_whole(path, _sealed(values))


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What `write_sealed` wrote, None where there is nothing; Damaged where it is not what was written."""
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
        if values.pop(_CHECKSUM) == _checksum(values):
            return values
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise Damaged(f"{path} is damaged")


def _sealed(values: Mapping[str, Any]) -> str:
    values = json.loads(json.dumps(values))  # tuples become lists, as they are read
    return json.dumps({**values, _CHECKSUM: _checksum(values)})


def _checksum(values: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _told(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        sums = [zlib.crc32(block) for block in iter(lambda: file.read(_BLOCK), b"")]
    return {"size": path.stat().st_size, "stamp": _stamp(path.stat()), "sums": sums}


def _stamp(status: os.stat_result) -> list[int]:
    """What changes when anybody writes to a file, whatever he does to its times."""
    return [status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _compare(path: Path, told: Mapping[str, Any]) -> None:
    """Damaged where a file is not as it was told."""
    try:
        status = path.stat()
        if status.st_size != told["size"]:
            raise Damaged(f"{path} is damaged")
        blocks, step = len(told["sums"]), 1
        if status.st_size > AT_ONCE and _stamp(status) == told["stamp"]:
            step = -(-status.st_size // AT_ONCE)
        with path.open("rb") as file:
            for block in range(time.time_ns() % step, blocks, step):
                file.seek(block * _BLOCK)
                if zlib.crc32(file.read(_BLOCK)) != told["sums"][block]:
                    raise Damaged(f"{path} is damaged")
    except FileNotFoundError:
        raise Damaged(f"{path} is missing") from None
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({(error.strerror or str(error)).lower()})") from None
