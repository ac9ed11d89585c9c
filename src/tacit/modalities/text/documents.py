"""A document of any size as pieces of clean text: decoded, without NUL characters, cut at white space."""

from __future__ import annotations

import io
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

from tacit.data.encodings import UTF8, CannotRead, Encoding, decoded, encoding_of
from tacit.data.places import Place
from tacit.data.source import Unreadable
from tacit.data.text import opened_file
from tacit.modalities.text.tokens import clean, cut, parts_of

BLOCK = 1 << 20  # bytes or characters read at a time
CONVERTED = "converted"  # documents in another encoding than UTF-8
REPLACED = "replaced"  # documents with bytes that are in no encoding
CLEANED = "cleaned"  # documents with NUL characters


class Converted(NamedTuple):
    """A text, and how it was encoded."""

    text: str
    encoding: Encoding


Document = str | bytes | Path | Converted | Unreadable
"""A text, still encoded, in a file or already decoded, or the reason why there is none."""


def text_of(document: Document) -> str | bytes:
    """The content of a document in memory; empty for all others."""
    if isinstance(document, Converted):
        return document.text
    return document if isinstance(document, str | bytes) else ""


def pieces(document: Document, found: Counter[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the text piece by piece, each with its UTF-8; together they are the whole text.

    Counts in `found` the repairs that were needed. Raises CannotRead before the first piece or not at all.
    """
    here: Counter[str] = Counter()
    for text in _pieces(document, here):
        text, data, cleaned, converted = clean(text)
        here |= {name: 1 for name, did in ((CLEANED, cleaned), (CONVERTED, converted)) if did}
        yield text, data
    found.update(here)


def encoding_of_file(path: Place) -> Encoding:
    """Detect the encoding of a whole text file. Raises CannotRead where there is none, or the file is damaged."""
    try:
        return encoding_of(lambda: opened_file(path))
    except (OSError, EOFError, zlib.error) as error:
        raise CannotRead(_reason(error)) from None


def _pieces(document: Document, found: Counter[str]) -> Iterator[str]:
    if isinstance(document, Unreadable):
        raise CannotRead(document.reason)
    if isinstance(document, Path):
        yield from _of_file(document, found)
    elif isinstance(document, bytes):
        yield from parts_of(_counted(Converted(*decoded(document)), found))
    elif isinstance(document, Converted):
        yield from parts_of(_counted(document, found))
    else:
        yield from parts_of(document)


def _of_file(path: Path, found: Counter[str]) -> Iterator[str]:
    with _open(path) as file:
        try:
            head = file.read(BLOCK)
        except (OSError, EOFError, zlib.error) as error:
            raise CannotRead(_reason(error)) from None
    if len(head) < BLOCK:
        yield from parts_of(_counted(Converted(*decoded(head)), found))
        return
    encoding = encoding_of_file(path)
    _counted(Converted("", encoding), found)
    with _open(path) as file:
        text = io.TextIOWrapper(file, encoding.name, encoding.errors, newline="")
        yield from cut(iter(lambda: text.read(BLOCK), ""))


def _counted(document: Converted, found: Counter[str]) -> str:
    """Return its text, and count conversions and replacements in `found`."""
    found[CONVERTED] += document.encoding.name != UTF8
    found[REPLACED] += document.encoding.replaced > 0
    return document.text


def _open(path: Place) -> IO[bytes]:
    try:
        return opened_file(path)
    except (OSError, ValueError) as error:
        raise CannotRead(_reason(error)) from None


def _reason(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or "cannot be read").lower()[:200]


def first_piece(document: Document) -> str:
    """The beginning of a document; empty where it cannot be read."""
    try:
        return next(chain((text for text, _ in pieces(document, Counter())), [""]))
    except CannotRead:
        return ""
