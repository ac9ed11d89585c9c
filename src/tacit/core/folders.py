"""Folders that Tacit writes, and which files in them are its own: no other file is ever removed, replaced or changed.

A folder that Tacit fills holds `.tacit`, which says what it is and lists the files that were written there, as paths
relative to the folder. A folder of an older Tacit has none; the caller then passes the patterns of Tacit's own files.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from tacit.core.errors import RunFailed, UserError, is_disk_full, writing_to
from tacit.core.files import flush, sweep, write_whole

MARKER = ".tacit"
_LITTER = re.compile(r"\.(.+)\.\d+\.(partial|old)")


def marked(folder: Path) -> str | None:
    """What this folder holds, by Tacit's mark; None without a mark, or with a damaged one."""
    return _mark(folder)[0]


def listed(folder: Path) -> frozenset[str]:
    """The files that Tacit has written into this folder, by its own mark."""
    return _mark(folder)[1]


def mark(folder: Path, what: str, names: Iterable[str] = ()) -> None:
    """Mark a folder as filled by Tacit with these files. UserError where a file of that name is somebody else's."""
    if marked(folder) is None and os.path.lexists(folder / MARKER):
        raise UserError(f"{folder / MARKER} is no mark of Tacit, or is damaged; move it away, or choose another --out")
    content = {"tacit": what, "files": sorted({*names} - {MARKER})}
    write_whole(folder / MARKER, json.dumps(content, indent=1) + "\n")


def _mark(folder: Path) -> tuple[str | None, frozenset[str]]:
    path = folder / MARKER
    try:
        if path.is_symlink() or not path.is_file():
            return None, frozenset()
        content = json.loads(path.read_bytes())
        what, names = content["tacit"], frozenset(map(str, content["files"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None, frozenset()
    # A folder may come from a stranger: only paths inside it are accepted.
    return (what if isinstance(what, str) else None), frozenset(filter(_inside, names))


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def files_in(folder: Path) -> list[str]:
    """All files below this folder except the mark, as relative paths; links to folders are not followed."""
    found = []
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if Path(place, name).is_symlink()]
        found += [Path(place, name).relative_to(folder).as_posix() for name in (*names, *links)]
    return sorted(name for name in found if name != MARKER)


def remove(folder: Path, patterns: Collection[str]) -> None:
    """Delete the files whose paths relative to `folder` match these patterns, and the folders that this leaves empty.

    Linked folders are searched too; they and the links stay.
    """
    plain = [parent for pattern in patterns for parent in PurePosixPath(pattern).parents if "*" not in str(parent)]
    emptied = {folder / parent for parent in plain if parent.parts}
    for pattern in patterns:
        for path in list(folder.glob(pattern)):
            if path.is_file() or path.is_symlink():
                path.unlink()
                emptied |= {*path.parents} - {folder, *folder.parents}
    for place in sorted(emptied, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):  # not empty, or a link
            place.rmdir()


def remove_own(folder: Path, known: Collection[str]) -> None:
    """Delete Tacit's own files in this folder, and the folder unless it holds others; see `own_files`.

    A linked folder is left alone.
    """
    if folder.is_symlink() or not folder.is_dir():
        return
    was_marked = marked(folder) is not None
    remove(folder, [_literal(name) for name in own_files(folder, known)])
    if was_marked:
        (folder / MARKER).unlink()
    with suppress(OSError):  # not empty
        folder.rmdir()


def is_beginning(name: str, patterns: Collection[str]) -> bool:
    """Whether this is an unfinished file of a killed process whose final name matches one of these patterns."""
    found = _litter(name, patterns)
    return found is not None and found[2] == "partial"


def _litter(name: str, patterns: Collection[str]) -> re.Match[str] | None:
    found = _LITTER.fullmatch(name)
    return found if found and any(fnmatchcase(found[1], pattern) for pattern in patterns) else None


def remove_litter(folder: Path, patterns: Collection[str]) -> None:
    """Delete the unfinished files and folders in `folder` whose final names match these patterns."""
    if not folder.is_dir():
        return
    for path in list(folder.iterdir()):
        found = _litter(path.name, patterns)
        if found is None:
            continue
        if found[2] == "old" and not (folder / found[1]).exists():
            path.rename(folder / found[1])  # an older Tacit was killed between two steps of replacing it
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def whole_folder(final: Path, *, last: str, what: str | None = None, known: Collection[str] = ()) -> Iterator[Path]:
    """An empty folder to write into; once the block has succeeded, its files become those of `final`.

    Until then, and where the block fails, `final` stays as it was. A new folder appears at once. In an existing one the
    files are replaced one by one, `last` after all others, by which a reader sees whether all belong together. Files of
    others stay: UserError where one is in the way. `known` are the patterns of Tacit's own files in a folder without a
    mark; `what` marks the folder.
    """
    final = Path(os.path.realpath(final))
    final.parent.mkdir(parents=True, exist_ok=True)
    there = final.is_dir()
    partial = (final if there else final.parent) / f".{final.name}.{os.getpid()}.partial"
    sweep(partial.parent / final.name)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with writing_to(final):
            yield partial
        if what is not None and not there:
            mark(partial, what, files_in(partial))
        for path in sorted(partial.rglob("*")):
            flush(path)
        flush(partial)
        if there:
            _replace(final, partial, last, what, known)
        else:
            partial.rename(final)
        flush(final.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(final: Path, partial: Path, last: str, what: str | None, known: Collection[str]) -> None:
    """Move the files of `partial` into `final`, and delete Tacit's earlier files there."""
    new, before = files_in(partial), own_files(final, known)
    for name in new:
        place = final / name
        inside = [final / parent for parent in PurePosixPath(name).parents if parent.parts]
        folders = all(not parent.is_symlink() and (parent.is_dir() or not parent.exists()) for parent in inside)
        if not folders or (name not in before and os.path.lexists(place)) or place.is_dir():
            raise UserError(f"{place} was not written by Tacit and is in the way; move it, or choose another --out")
    if what is not None:
        mark(final, what, {*before, *new})  # both, until the old ones are gone
    for name in sorted(new, key=lambda name: (name == last, name)):
        (final / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).replace(final / name)
    remove(final, [_literal(name) for name in before - {*new}])
    if what is not None:
        mark(final, what, new)


def own_files(folder: Path, known: Collection[str]) -> set[str]:
    """Tacit's own files in this folder: by its mark, or, without one, those that match these patterns."""
    there = files_in(folder)
    if marked(folder) is not None:
        return {*there} & listed(folder)
    return {name for name in there if any(_matches(name, pattern) for pattern in known)}


def _matches(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _literal(name: str) -> str:
    """A name as a pattern that matches it alone."""
    return re.sub(r"([\[*?])", r"[\1]", name)


def private_folder(folder: Path) -> Path:
    """A cache folder, readable by its owner alone if newly made. UserError where it cannot be made."""
    remedy = "name another folder for decoded data with --cache or TACIT_CACHE"
    try:
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(exist_ok=True, mode=0o700)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        if is_disk_full(error):
            raise RunFailed(f"the disk is full at {folder}; free some space or choose another --cache") from error
        raise UserError(f"the cache {folder} cannot be written: {error.strerror or error}; {remedy}") from None
    return folder
