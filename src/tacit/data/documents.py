"""A document of any size as pieces of clean text: decoded, without NUL characters, cut at white space."""

from __future__ import annotations

import codecs
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

from tacit.data.places import Place
from tacit.data.text import encodings_of, opened_file

BLOCK = 1 << 20  # bytes or characters read at a time
PIECE = 1 << 16  # characters of a piece at most; while a tokenizer works it takes hundreds of bytes for each
CONVERTED, CLEANED = "converted", "cleaned"  # documents in another encoding than UTF-8; documents with NUL characters


class Unreadable(NamedTuple):
    """Stands for a document that was found to be none."""

    reason: str


Document = str | bytes | Path | Unreadable
"""A text, one still encoded, the file that holds it, or why there is none."""


class CannotRead(ValueError):
    """Why a document is skipped."""


def pieces(document: Document, found: Counter[str]) -> Iterator[tuple[str, bytes]]:
    """The text piece by piece, each with its UTF-8; all of them together are the whole text.

    Counts in `found` what had to be done. CannotRead comes before the first piece or not at all.
    """
    here: Counter[str] = Counter()
    for text in _pieces(document, here):
        if "\0" in text:
            here[CLEANED] = 1
            text = text.replace("\0", "")
        try:
            data = text.encode()
        except UnicodeEncodeError:  # halves of surrogate pairs, which JSON can smuggle in
            here[CONVERTED] = 1
            data = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
            text = data.decode()
        yield text, data
    found.update(here)


def encoding_of(path: Place) -> str:
    """The encoding of a whole text file. CannotRead where there is none, or the file is damaged."""
    with _reading(path) as file:
        encodings = encodings_of(file.read(4096))
    for encoding in encodings:
        decoder = codecs.getincrementaldecoder(encoding)()
        with _reading(path) as file:
            try:
                while block := file.read(BLOCK):
                    decoder.decode(block)
                decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                continue
            except (OSError, EOFError, zlib.error) as error:
                raise CannotRead(_said(error)) from None
            return encoding
    raise CannotRead("in none of UTF-8, UTF-16 and cp1252")


def _pieces(document: Document, found: Counter[str]) -> Iterator[str]:
    if isinstance(document, Unreadable):
        raise CannotRead(document.reason)
    if isinstance(document, Path):
        yield from _of_file(document, found)
    elif isinstance(document, bytes):
        yield from _of_text(_decoded(document, found))
    else:
        yield from _of_text(document)


def _of_file(path: Path, found: Counter[str]) -> Iterator[str]:
    with _reading(path) as file:
        try:
            head = file.read(BLOCK)
        except (OSError, EOFError, zlib.error) as error:
            raise CannotRead(_said(error)) from None
    if len(head) < BLOCK:
        yield from _of_text(_decoded(head, found))
        return
    encoding = encoding_of(path)
    found[CONVERTED] += encoding != "utf-8-sig"
    with _reading(path) as file:
        text = io.TextIOWrapper(file, encoding, newline="")
        yield from _cut(iter(lambda: text.read(BLOCK), ""))


def _of_text(text: str) -> Iterator[str]:
    return iter([text]) if len(text) <= PIECE else _cut(iter([text]))


def _cut(blocks: Iterator[str]) -> Iterator[str]:
    """The same text, cut where white space begins, wherever it was cut before: no word is parted, unless it is huge."""
    rest = ""
    for block in blocks:
        text = rest + block
        start = 0
        while len(text) - start > PIECE:
            window = text[start : start + PIECE]
            parts = window.rsplit(None, 1)
            end = start + (len(parts[0]) if len(parts) == 2 else PIECE)
            yield text[start:end]
            start = end
        rest = text[start:]
    if rest:
        yield rest


def _decoded(data: bytes, found: Counter[str]) -> str:
    for encoding in encodings_of(data):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        found[CONVERTED] += encoding != "utf-8-sig"
        return text
    raise CannotRead("in none of UTF-8, UTF-16 and cp1252")


def _reading(path: Place) -> IO[bytes]:
    try:
        return opened_file(path)
    except (OSError, ValueError) as error:
        raise CannotRead(_said(error)) from None


def _said(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or "cannot be read").lower()[:200]


def first_piece(document: Document) -> str:
    """The beginning of a document, or nothing where it cannot be read."""
    try:
        return next(chain((text for text, _ in pieces(document, Counter())), [""]))
    except CannotRead:
        return ""
