"""Locations of tables and tar shards: paths, and URLs that fsspec supports (s3, gs, http, memory, ...)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

from tacit.core.errors import UserError
from tacit.core.offline import refuse_offline

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}  # protocols that need an extra of this package
_CHANGES = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated", "created")  # version fields of file systems
_SECRET = re.compile(r"(?<=//)[^/@\s]*@|\?[^\s'\"]*")  # passwords and signatures in an URL


@dataclass(frozen=True)
class Remote:
    """A file behind an URL."""

    url: str  # for display: without user names, passwords and signatures
    system: Any
    path: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    def open(self, mode: str = "rb") -> IO[bytes]:
        with reaching(self.url):
            return cast(IO[bytes], self.system.open(self.path, mode))

    def info(self) -> dict[str, Any]:
        with reaching(self.url):
            return cast(dict[str, Any], self.system.info(self.path))

    def __str__(self) -> str:
        return self.url


Place = Path | Remote


def is_url(text: str) -> bool:
    return "://" in text


def find(text: str, suffixes: frozenset[str]) -> list[Remote]:
    """The files of an URL: itself, those that match its `*`, or those in a folder that end in `suffixes`.

    UserError where it cannot be reached, or has no such files.
    """
    shown = _shown(text)
    refuse_offline(shown)
    with reaching(shown):
        from fsspec.core import url_to_fs

        system, path = url_to_fs(text)
        if "*" in path:
            paths = sorted(system.glob(path))
        elif shown.lower().endswith(tuple(suffixes)) and system.exists(path):
            paths = [path]
        else:
            paths = sorted(
                name for name in system.ls(path, detail=False) if _shown(name).lower().endswith(tuple(suffixes))
            )
        found = [Remote(_shown(system.unstrip_protocol(path)), system, path) for path in paths]
    if not found:
        raise UserError(f"{shown} holds no {' or '.join(sorted(suffixes))}")
    return found


def stamp_of(place: Place) -> bytes:
    """A stamp that changes when a file does."""
    if isinstance(place, Path):
        return f"{place.resolve()} {state_of(place.stat())}".encode()
    info = place.info()
    return f"{place} {info['size']} {[str(info[name]) for name in _CHANGES if name in info]}".encode()


def state_of(status: os.stat_result) -> str:
    """A stamp that changes whenever a file is written: includes the inode change time, which cannot be set back."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def size_of(place: Place) -> int:
    """Bytes."""
    return place.stat().st_size if isinstance(place, Path) else int(place.info()["size"] or 0)


def _shown(url: str) -> str:
    return _SECRET.sub("", url)


@contextmanager
def reaching(shown: str, others: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn errors of a file system into a UserError of one line; exceptions of `others` pass through."""
    try:
        yield
    except UserError:
        raise
    except others:
        raise
    except ImportError as error:
        extra = _EXTRAS.get(urlsplit(shown).scheme)
        remedy = f"pip install 'tacit-learn[{extra}]'" if extra else str(error)
        raise UserError(f"{shown} needs a package that is not here; install with: {remedy}") from None
    except Exception as error:  # of any file system: networks, permissions, names
        message = _SECRET.sub("", " ".join(str(error).split()))[:200]
        raise UserError(f"{shown} cannot be reached ({type(error).__name__}: {message}); check the address") from None
