"""Stores of decoded examples: loaded from the cache of an earlier run, or written now, completely or not at all.

Every cached file has checksums, which are verified whenever it is opened: training on a flipped bit is worse than
decoding anew. 100 MB take about 0.05 s.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.core import folders
from tacit.core.errors import RunFailed, UserError, is_disk_full, writing_to
from tacit.core.files import flush, write_whole
from tacit.core.folders import private_folder
from tacit.data.source import Source, digest

if TYPE_CHECKING:
    from tacit.core.types import Batch

Number = TypeVar("Number", bound=np.generic)


META, CONTENT = "meta.json", "content.bin"
FILES = ("*.bin", META, "tokenizer.json", "items.parquet")  # all files of a finished folder
UNDER_WAY = (*FILES, "*.new", "*.spool", "spooled/*.spool", "spilled/*")  # and temporary files
AT_ONCE = 2 << 30  # bytes verified when a file is opened; of a larger, unmodified one as many, evenly spread
_BLOCK = 8 << 20  # bytes per checksum
_CHECKSUM, _FILES = "checksum", "files"

Progress = Callable[[int, int], None]  # examples done, examples in all


class Store(Protocol):
    """Decoded examples of a modality; only requested rows are copied. Safe to read from several threads."""

    @property
    def folder(self) -> Path | None:
        """The cache folder; None for a glimpse, a sample that stands for all examples."""

    def __len__(self) -> int: ...

    @property
    def spec(self) -> Any:
        """The `Spec` of the examples, as an encoder sees them."""

    @property
    def content(self) -> NDArray[np.void]:
        """A 16-byte hash of each example's content, [N]; exact copies have equal hashes."""

    @property
    def data_hash(self) -> str:
        """A hash of the content of all examples in order."""

    @property
    def nbytes(self) -> int:
        """Bytes on the disk."""

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """These rows as a `tacit.core.types.Batch` of the modality, with `index` [B]."""


@dataclass(frozen=True)
class Kept:
    """The store of a listing, and which of the listed examples are in it."""

    cache: Any  # a `Store` of the modality
    rows: NDArray[np.int64]  # [N] numbers in the listing
    bad: tuple[tuple[int, str], ...] = ()  # (number in the listing, reason) of the others
    duplicates: int = 0
    seconds_left: float = 0.0  # estimated time to decode the rest, after a glimpse
    blank: int = 0  # listed texts without words: neither in the store nor bad
    counts: Mapping[str, int] = field(
        default_factory=dict
    )  # for texts: converted, cleaned, cut; for sounds: silent, ...
    remarks: tuple[str, ...] = ()
    # [N] where listed examples became several each: the number within, -1 for one that did not
    part: NDArray[np.int64] | None = None

    def named(self, listed: pa.Array) -> pa.Array:
        """The ids of the stored examples, from those of the listing."""
        names = listed.take(pa.array(self.rows))
        if self.part is None:
            return names
        part = pa.array(self.part, mask=self.part < 0).cast(pa.string())
        return pc.binary_join_element_wise(names, part, "#", null_handling="skip")


class Damaged(Exception):
    """A cached file is not as it was written; the message names it."""


class Keeping(NamedTuple):
    """Settings of the cache: its folder, and what the user tolerates."""

    root: Path
    max_bad: float  # fraction of examples that may be unreadable
    progress: Progress | None = None
    patience: float = math.inf  # seconds; where decoding takes longer, a sample stands for all


class Written(NamedTuple):
    """The outcome of writing a source's examples into a folder, content.bin among the files."""

    form: list[Any]  # hashed with the content into the folder's name
    bad: Sequence[tuple[int, str]] = ()
    blank: Sequence[int] = ()
    counts: Mapping[str, int] = MappingProxyType({})
    remarks: Sequence[str] = ()
    parts: Sequence[int] = ()  # how many examples each readable one became, where not all became one


def keep(
    source: Source,
    place: str,
    form: Sequence[Any],
    keeping: Keeping,
    load: Callable[[Path], Store],
    write: Callable[[Path], Written],
    glimpse: Callable[[], Kept | None] | None = None,
) -> Kept:
    """Load the store of a source, or write it now where no earlier run has.

    It lies below `place` in the cache; `form` holds everything that determines how the source is read. Where `write`
    would take longer than `keeping.patience`, uses a `glimpse`: a sample stands for all, and nothing is written. Holds
    the lock of the listing, so that a second run waits. UserError where more than the fraction `max_bad` of the
    examples is bad, or there are none; RunFailed where the disk is full or returns other data than were written.
    """
    listings, folders = private_folder(keeping.root / "listings"), private_folder(keeping.root / place)
    memo = listings / f"{digest([json.dumps(list(form)).encode()])}.json"
    repaired: tuple[str, ...] = ()
    with filelock.FileLock(memo.with_suffix(".lock")):
        try:
            kept = _remembered(memo, folders, len(source), load)
        except Damaged as error:
            kept, repaired = None, (f"{error}: it was made anew",)
        if kept is None and glimpse is not None and keeping.patience < math.inf:
            kept = glimpse()
        if kept is None:
            try:
                with writing_to(folders):
                    _write(memo, folders, write)
            except OSError as error:
                if is_disk_full(error):
                    where = f"the disk is full at {keeping.root}"
                    raise RunFailed(f"{where}; free some space or choose another --cache") from error
                raise
            try:
                kept = _remembered(memo, folders, len(source), load)
            except Damaged as error:
                raise RunFailed(f"{error}, just after it was written; choose another --cache") from error
            assert kept is not None
    check_bad(source, list(kept.bad), len(source), keeping.max_bad)
    return replace(kept, remarks=(*kept.remarks, *repaired))


def _remembered(memo: Path, folders: Path, n: int, load: Callable[[Path], Store]) -> Kept | None:
    """The store of an earlier run, if it is complete; else None."""
    saved = read_sealed(memo)
    folder = folders / saved["cache"] if saved else None
    if saved is None or folder is None or read_meta(folder) is None:
        return None
    bad = tuple((int(row), str(reason)) for row, reason in saved.get("bad", ()))
    blank, parts = saved.get("blank", []), saved.get("parts")
    rows = np.delete(np.arange(n), [row for row, _ in bad] + blank)
    part: NDArray[np.int64] | None = None
    if parts:
        rows = np.repeat(rows, parts)
        part = np.concatenate([np.arange(many) if many != 1 else np.array([-1]) for many in parts])
    return Kept(
        load(folder),
        rows,
        bad,
        int(saved["duplicates"]),
        blank=len(blank),
        counts=saved.get("counts", {}),
        remarks=tuple(saved["remarks"]),
        part=part,
    )


def _write(memo: Path, folders: Path, write: Callable[[Path], Written]) -> None:
    """Write into a partial folder, and move it into place. The caller holds the listing's lock."""
    with partial_folder(folders, memo.stem) as partial:
        found = write(partial)
        content = read_content(partial)
        final = folders / digest([json.dumps([hash_of(content), *found.form]).encode()])
        put_in_place(partial, final)
    distinct = np.unique(content.view(">u8").reshape(-1, 2), axis=0)
    saved = {"cache": final.name, "duplicates": len(content) - len(distinct)}
    saved |= {"bad": found.bad, "blank": found.blank, "counts": dict(found.counts), "remarks": found.remarks}
    saved |= {"parts": found.parts} if found.parts else {}
    write_sealed(memo, saved)


def read_content(folder: Path) -> NDArray[np.void]:
    """Read the 16-byte hash of each example in a folder."""
    return np.fromfile(folder / CONTENT, dtype="V16")


def hash_of(content: NDArray[np.void]) -> str:
    """A hash of the content of all examples in order."""
    return digest([content.tobytes()])


def unknown_content(n: int) -> NDArray[np.void]:
    """Distinct placeholder hashes for a glimpse, in which copies are unknown."""
    return np.arange(2 * n, dtype=np.int64).view("V16")


@dataclass(frozen=True)
class Ragged(Generic[Number]):
    """Rows of different lengths, end to end. A glimpse holds fewer rows than n, which are repeated in turn."""

    values: NDArray[Number]
    starts: NDArray[np.int64]  # beginning of each row, and end of the last

    @classmethod
    def load(cls, folder: Path, values: str, starts: str, dtype: np.dtype[Number]) -> Ragged[Number]:
        return cls(mapped(folder / f"{values}.bin", dtype), mapped(folder / f"{starts}.bin", np.dtype(np.int64)))

    @classmethod
    def of(cls, rows: Sequence[NDArray[Number]]) -> Ragged[Number]:
        return cls(np.concatenate(rows), np.cumsum([0, *map(len, rows)], dtype=np.int64))

    def spans(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The beginnings of these rows in `values`, and their lengths, [B] each."""
        rows = rows % (len(self.starts) - 1)
        begins = self.starts[rows]
        return begins, self.starts[rows + 1] - begins

    def take(self, rows: NDArray[np.int64]) -> list[NDArray[Number]]:
        """These rows, as views of mapped memory."""
        spans = zip(*(of.tolist() for of in self.spans(rows)), strict=True)
        return [self.values[begin : begin + length] for begin, length in spans]

    def nbytes(self, n: int) -> int:
        """Bytes on disk of n rows; for a glimpse, what all would take."""
        return int(n * (self.values.nbytes / max(1, len(self.starts) - 1) + self.starts.itemsize))


def mapped(path: Path, dtype: np.dtype[Number]) -> NDArray[Number]:
    """Map a file into memory as an array; empty where there is no such file."""
    if not path.is_file() or not path.stat().st_size:
        return np.empty(0, dtype)
    return np.asarray(np.memmap(path, dtype, "r"))


@contextmanager
def partial_folder(place: Path, name: str) -> Iterator[Path]:
    """An empty folder to write into, removed afterwards unless `put_in_place` has moved it."""
    partial = place / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # leftovers of a killed run
    partial.mkdir(mode=0o700)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def put_in_place(partial: Path, final: Path) -> None:
    """Move a finished folder into place, unless another process has put the same content there meanwhile."""
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
                path.replace(final / path.name)  # beside what another process has put there
    flush(final.parent)


# ---------------------------------------------------------------- checksums


def write_meta(folder: Path, values: Mapping[str, Any], names: Sequence[str]) -> None:
    """Write meta.json of a folder: `values`, and checksums of these files."""
    (folder / META).write_text(_sealed({**values, _FILES: {name: _checksums(folder / name) for name in names}}))


def read_meta(folder: Path) -> dict[str, Any] | None:
    """Read what `write_meta` wrote; None where there is nothing. Damaged where a file of the folder has changed."""
    meta = read_sealed(folder / META)
    for name, expected in (meta or {}).get(_FILES, {}).items():
        _compare(folder / name, expected)
    return meta


def is_whole(folder: Path) -> bool:
    """Whether a folder exists and is unchanged."""
    try:
        return read_meta(folder) is not None
    except Damaged:
        return False


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON with a checksum, atomically."""
    write_whole(path, _sealed(values))


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Read what `write_sealed` wrote; None where there is nothing. Damaged where it has changed."""
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
    values = json.loads(json.dumps(values))  # tuples become lists, as when read back
    return json.dumps({**values, _CHECKSUM: _checksum(values)})


def _checksum(values: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _checksums(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        sums = [zlib.crc32(block) for block in iter(lambda: file.read(_BLOCK), b"")]
    return {"size": path.stat().st_size, "stamp": _stamp(path.stat()), "sums": sums}


def _stamp(status: os.stat_result) -> list[int]:
    """Values that change whenever a file is written, even if its times are set back."""
    return [status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _compare(path: Path, expected: Mapping[str, Any]) -> None:
    """Damaged where a file differs from its checksums."""
    try:
        status = path.stat()
        if status.st_size != expected["size"]:
            raise Damaged(f"{path} is damaged")
        blocks, step = len(expected["sums"]), 1
        if status.st_size > AT_ONCE and _stamp(status) == expected["stamp"]:
            step = -(-status.st_size // AT_ONCE)
        with path.open("rb") as file:
            for block in range(time.time_ns() % step, blocks, step):
                file.seek(block * _BLOCK)
                if zlib.crc32(file.read(_BLOCK)) != expected["sums"][block]:
                    raise Damaged(f"{path} is damaged")
    except FileNotFoundError:
        raise Damaged(f"{path} is missing") from None
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({(error.strerror or str(error)).lower()})") from None


def check_bad(source: Source, bad: Sequence[tuple[int, str]], seen: int, max_bad: float) -> None:
    """UserError where more than the fraction `max_bad` of the source is bad; `seen` examples were read so far."""
    if len(bad) <= max_bad * len(source):
        return
    first = "; ".join(f"{source.ids[row].as_py()}: {reason}" for row, reason in bad[:3])
    stretched = any("a stretch from" in reason for _, reason in bad[:3])
    hint = "; if the columns mean no stretches, --start-column none reads whole files" if stretched else ""
    raise UserError(
        f"{len(bad):,} of {seen:,} examples cannot be read, more than --max-bad {max_bad:g} allows ({first}); "
        f"remove or repair them, or raise --max-bad{hint}"
    )


def nothing_readable(source: Source, what: str, reason: str, row: int = 0) -> UserError:
    """The error where no example can be read: the first one, and why."""
    first = source.ids[row].as_py() or "without a name"
    start = f" (paths start from {source.root})" if source.root and source.columns is not None else ""
    return UserError(f"{source.name} holds no readable {what}; the first, {first}: {reason}{start}")
