"""List the files below a folder, at any depth, without a Python object per file."""

from __future__ import annotations

import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.data.inside import homes_of
from tacit.data.opened import TABLE_SUFFIXES
from tacit.data.signs import BEGINNING, AllSigns, by_beginning, choose, of_suffix, suffix_of
from tacit.data.source import Source, digest, each, spread

_ABOUT = ("README", "LICENSE", "NOTICE")
_BESIDE = TABLE_SUFFIXES | {".json", ".npz", ".npy", ".tar", ".md", ".md.gz"}
TABLES = frozenset([".parquet", ".csv", ".jsonl", ".npz", ".npy"])
_CHUNK = 1 << 16  # names held as Python strings at once


def folder_source(root: Path, signs: AllSigns, kind: str | None = None) -> Source:
    """All files of one modality below `root`, sorted by path; ids are paths relative to `root`, with forward slashes.

    Hidden files are skipped. Links to files are followed within `root` only, and from a snapshot of Hugging Face's
    cache to its blobs; links to folders are never followed.
    """
    root = root.resolve()
    others: Counter[str] = Counter()
    names, sizes, times, kinds, skipped = _list(root, signs, others)
    found = Counter(kinds)
    counts = {name: found[number] for number, name in enumerate(signs)}
    about = next(
        name for name, of in signs.items() if of.notes
    )  # the modality whose files may be notes about other data
    pages = _pages(names, signs[about].notes)
    if kind is None and counts[about] < sum(counts.values()):
        # a page of notes beside images describes them and is no example
        counts[about] -= pages
    elif kind is None and (tables := _tables(root)) and counts[about] == pages <= len(tables):
        # nor are a few pages beside tables
        raise UserError(
            f"{root} holds tables ({', '.join(tables[:5])}): name one of them as the data, and perhaps --test"
        )
    kind = choose(signs, counts, kind, str(root))
    if not counts[kind]:
        raise UserError(_empty(root, kind, signs[kind].suffixes, others, skipped))
    chosen = np.asarray(kinds) == list(signs).index(kind)
    others.update(suffix_of(name) for name in each(names.filter(pa.array(~chosen))) if not _is_about(name))
    rows = np.flatnonzero(chosen)
    names = names.take(pa.array(rows))
    order = pc.sort_indices(names).to_numpy()
    names, rows = names.take(pa.array(order)), rows[order]
    sizes, times = sizes[rows], times[rows]
    return Source(
        name=root.name,
        kind=kind,
        ids=names,
        fingerprint=digest([str(root).encode(), b"\0".join(_buffers(names)), sizes.tobytes(), times.tobytes()]),
        items=lambda: (root / name for name in each(names)),
        sample=lambda k: [root / names[row].as_py() for row in spread(len(names), k)],
        root=root.as_posix(),
        skipped=tuple(skipped),
        unread=dict(others.most_common()),
    )


def _pages(names: pa.Array, endings: frozenset[str]) -> int:
    """Count the pages of notes among these names."""
    pattern = "|".join(re.escape(ending) for ending in sorted(endings))
    return pc.sum(pc.match_substring_regex(names, f"(?i)({pattern})$")).as_py() or 0


def _tables(root: Path) -> list[str]:
    """The tables directly inside a folder, by name."""
    return sorted(path.name for path in root.iterdir() if path.suffix.lower() in TABLES)


def holds_files(root: Path, signs: AllSigns) -> bool:
    """Whether a folder holds a file of any modality at any depth, not counting pages such as README."""
    return any(of_suffix(signs, suffix_of(name)) for _, name in _files(root, []) if not name.startswith(_ABOUT))


def _is_about(name: str) -> bool:
    """Whether a file beside the data documents them or may hold their labels."""
    return name.rpartition("/")[2].startswith(_ABOUT) or suffix_of(name) in _BESIDE


def _list(
    root: Path, signs: AllSigns, others: Counter[str]
) -> tuple[pa.Array, NDArray[np.int64], NDArray[np.int64], array[int], list[tuple[str, str]]]:
    """Paths, sizes in bytes, times of change in ns [N 2], modality numbers, and skipped files with the reason.

    Counts the endings of files of no modality in `others`.
    """
    chunks: list[pa.Array] = []
    names: list[str] = []
    sizes, times, kinds = array("q"), array("q"), array("b")
    skipped: list[tuple[str, str]] = []
    numbers = {name: number for number, name in enumerate(signs)}
    homes = homes_of(root)
    for entry, name in _files(root, skipped):
        kind = of_suffix(signs, suffix_of(name))
        if kind is None and not (_is_about(name) or entry.is_symlink()):
            kind = _unnamed(entry, signs)
        if kind is None:
            others[suffix_of(name)] += not _is_about(name)
            continue
        if entry.is_symlink() and not any(map(Path(entry.path).resolve().is_relative_to, homes)):
            skipped.append((name, "a link leading out of the folder"))
            continue
        try:
            name.encode()
            status = entry.stat()
        except UnicodeEncodeError:
            skipped.append((name.encode(errors="replace").decode(), "the name is not valid Unicode"))
            continue
        except OSError as error:
            skipped.append((name, (error.strerror or "cannot be read").lower()))
            continue
        names.append(name)
        sizes.append(status.st_size)
        times.extend((status.st_mtime_ns, status.st_ctime_ns))  # the second cannot be set back
        kinds.append(numbers[kind])
        if len(names) == _CHUNK:
            chunks.append(pa.array(names, pa.string()))
            names = []
    chunks.append(pa.array(names, pa.string()))
    return pa.concat_arrays(chunks), np.asarray(sizes), np.asarray(times).reshape(-1, 2), kinds, skipped


def _files(root: Path, skipped: list[tuple[str, str]]) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Visible files below `root`, each with its relative path."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{folder}{entry.name}/")
                    elif entry.is_file():
                        yield entry, folder + entry.name
                    elif entry.is_dir():
                        skipped.append((folder + entry.name, "a link to a folder"))
                    elif entry.is_symlink():
                        skipped.append((folder + entry.name, "a link that leads nowhere"))
        except PermissionError:
            skipped.append((folder, "the folder may not be read"))


def _unnamed(entry: os.DirEntry[str], signs: AllSigns) -> str | None:
    """The modality of a file whose ending is of none, by how it begins."""
    try:
        with open(entry.path, "rb") as file:
            return by_beginning(signs, file.read(BEGINNING))
    except OSError:
        return None


def _buffers(names: pa.Array) -> Iterator[bytes]:
    """The buffers of an arrow array made by `take`, which has no offset."""
    return (bytes(buffer) for buffer in names.buffers() if buffer is not None)


def _empty(
    root: Path, kind: str, suffixes: frozenset[str], others: Counter[str], skipped: list[tuple[str, str]]
) -> str:
    if tables := _tables(root):
        return f"{root} holds no {kind} files but {', '.join(tables[:5])}: name one of them as the data"
    if skipped:
        (name, why), more = skipped[0], len(skipped) - 1
        left = f"{name}: {why}" + (f", and {more:,} more" if more else "")
        return f"{root} holds no {kind} files that may be read ({left}): name the folder that holds them"
    there = ", ".join(f"{count:,} of {ending or 'no ending'}" for ending, count in others.most_common(5) if count)
    there = f"; there are files {there}" if there else ""
    return f"{root} holds no {kind} files (looked at any depth for {', '.join(sorted(suffixes))}{there})"
