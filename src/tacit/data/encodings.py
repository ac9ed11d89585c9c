"""Detect the encoding of a text from the whole of it; every replacement or guess is reported.

A text is UTF-8, UTF-16 or UTF-32 with a byte order mark (UTF-16 also without), or else cp1252. Where almost all of it
is valid UTF-8, the rest is damage: each invalid place is read as U+FFFD and counted. Where much of it is UTF-8 and much
is not, texts of two encodings were joined, and the file is refused.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable
from typing import IO, NamedTuple

UTF8 = "utf-8-sig"
_OLD = "cp1252"  # the encoding of a text that fits none of the others

_BLOCK = 1 << 20  # bytes looked at together
_HEAD = 4096  # bytes in which zeros reveal UTF-16
_DAMAGED = 0.5  # invalid places per valid multi-byte character, up to which they count as damage
_BY_CHANCE = 0.1  # common characters that look like UTF-8 per invalid place, up to which they are chance
_LATIN = 0.75  # of the bytes of a text in Latin letters, at least, that are plain ASCII
_WESTERN, _MANY = 0.5, 400  # likewise of a text in cp1252 of so many bytes; Cyrillic or Greek in one byte has fewer

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHERS = {
    b"PK\x03\x04": "a ZIP archive or an Excel file",
    b"\xd0\xcf\x11\xe0": "an Excel or Word file",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "compressed (gzip)",
    b"\x28\xb5\x2f\xfd": "compressed (zstd)",
    b"\xfd7zXZ": "compressed (xz)",
    b"BZh": "compressed (bzip2)",
    b"%PDF-": "a PDF file",
    b"SQLite format 3": "a database",
}
_USUAL = re.compile("[\u0080-\u017f\u0800-\ufffc\U00010000-\U0010ffff]")  # characters that cp1252 text seldom resembles
_PLAIN = bytes([9, 10, 13, *range(32, 127)])


class CannotRead(ValueError):
    """Why a document is skipped."""


class Encoding(NamedTuple):
    """The codec's name of an encoding, and the damage found."""

    name: str
    replaced: int = 0  # places, each read as U+FFFD
    line: int = 0  # of the first of them, from 1 on

    @property
    def errors(self) -> str:
        return "replace" if self.replaced else "strict"

    def remarks(self, of: str) -> tuple[str, ...]:
        """Remarks for the user about a text named `of`."""
        if self.replaced:
            places = f"{self.replaced:,} places that are" if self.replaced > 1 else "a place that is"
            return (f"{of} holds {places} no UTF-8, first in line {self.line:,}; each was read as \ufffd",)
        if self.name in (UTF8, "utf-16", "utf-32"):
            return ()
        other = "; where it is in another encoding, save it as UTF-8 first" if self.name == _OLD else ""
        return (f"{of} is no UTF-8 and was read as {self.name}{other}",)


def wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 where the first bytes of a text have its mark or its zeros; else None."""
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if marked is not None:
        return marked
    for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        some = head[first:200:2]
        if some.count(0) > len(some) // 2:
            return name
    return None


def encoding_of(opened: Callable[[], IO[bytes]]) -> Encoding:
    """Detect the encoding of a whole text, which is reopened for each pass. CannotRead where none fits."""
    with opened() as file:
        head = file.read(_HEAD)
    other = next((what for begins, what in _OTHERS.items() if head.startswith(begins)), None)
    if other is not None:
        raise CannotRead(f"it is {other}, no text")
    wide = wide_encoding(head)
    if wide is not None:
        if _fits(opened, wide):
            return Encoding(wide)
        raise CannotRead(f"begins as {wide.upper()} and is damaged later")
    if _fits(opened, UTF8):
        return Encoding(UTF8)
    return _counted(opened)


def decoded(data: bytes) -> tuple[str, Encoding]:
    """Decode a text; returns it with its encoding. CannotRead where none fits."""
    if wide_encoding(data[:_HEAD]) is None:
        try:
            return data.decode(UTF8), Encoding(UTF8)
        except UnicodeDecodeError:
            pass
    found = encoding_of(lambda: io.BytesIO(data))
    return data.decode(found.name, found.errors), found


def _fits(opened: Callable[[], IO[bytes]], encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with opened() as file:
            while block := file.read(_BLOCK):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _counted(opened: Callable[[], IO[bytes]]) -> Encoding:
    """Choose the encoding of a text that is neither marked nor UTF-8 throughout, by counts of valid places."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    good = usual = bad = lines = first = plain = total = 0
    zeros = [0, 0]  # at even and at odd places
    with opened() as file:
        while block := file.read(_BLOCK):  # of even size, except the last
            text = decoder.decode(block)
            own = block.count("\ufffd".encode())  # replacement characters in the text itself
            wrong = text.count("\ufffd") - own
            if wrong > 0 and not first:
                first = 1 + lines + text[: text.index("\ufffd")].count("\n")
            bad += wrong
            good += len(text) - len(text.encode("ascii", "ignore")) - wrong
            usual += len(text) - len(_USUAL.sub("", text))
            lines += text.count("\n")
            plain += len(block) - len(block.translate(None, _PLAIN))
            total += len(block)
            zeros = [zeros[at] + block[at::2].count(0) for at in (0, 1)]
    bad += len(decoder.decode(b"", final=True))
    first = first or 1 + lines
    if bad <= _DAMAGED * good:
        return Encoding(UTF8, bad, first)
    if plain < _LATIN * total and any(zeros) and not all(zeros):
        wide = "utf-16-le" if zeros[1] else "utf-16-be"
        if _fits(opened, wide):
            return Encoding(wide)
    western = total < _MANY or plain >= _WESTERN * total
    chance = usual <= _BY_CHANCE * bad and good <= _DAMAGED * bad
    if chance and western and _fits(opened, _OLD):
        return Encoding(_OLD)
    if not chance:
        raise CannotRead(f"holds UTF-8 and, in line {first:,} first, another encoding")
    raise CannotRead("in none of UTF-8, UTF-16 and cp1252")
