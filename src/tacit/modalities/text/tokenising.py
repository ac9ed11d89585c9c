"""Texts to numbers on disk: read, tokenised and written at the same time, in chunks of half a megabyte."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from numpy.typing import NDArray
from tokenizers import Tokenizer

from tacit.core.text import LONGEST
from tacit.data.encodings import CannotRead
from tacit.data.source import Source
from tacit.data.store import check_bad
from tacit.modalities.text.documents import pieces
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.text.tokens import PIECE, marked_numbers, plain_numbers

_CHUNK = 1 << 19  # characters
_UNDER_WAY = 2  # threads that tokenise: one in Rust while the other hands over its numbers


class Chunk(NamedTuple):
    """Pieces of documents: their numbers in the listing, their texts, and these in UTF-8."""

    rows: list[int]
    texts: list[str]
    data: list[bytes]


@dataclass
class DocumentReader:
    """Reads documents in chunks of half a megabyte, and counts what it finds."""

    source: Source
    max_bad: float
    bad: list[tuple[int, str]] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)

    def chunks(self) -> Iterator[Chunk]:
        chunk, size = Chunk([], [], []), 0
        for row, document in enumerate(self.source.items()):
            try:
                for number, (text, data) in enumerate(pieces(document, self.found)):
                    if number == 0 and len(text) < PIECE and (not text or text.isspace()):
                        self.blank.append(row)
                        break
                    chunk.rows.append(row)
                    chunk.texts.append(text)
                    chunk.data.append(data)
                    size += len(text)
                    if size >= _CHUNK:
                        yield chunk
                        chunk, size = Chunk([], [], []), 0
            except CannotRead as error:
                self.bad.append((row, str(error)))
                check_bad(self.source, self.bad, row + 1, self.max_bad)
        if chunk.rows:
            yield chunk


def numbered(
    chunks: Iterable[Chunk], tokenizer: Tokenizer, spec: TextSpec
) -> Iterator[tuple[Chunk, NDArray[Any], list[int]]]:
    """Tokenise chunks: the marked numbers of each one's pieces, end to end, and the count of each piece."""
    tokenizer.encode_special_tokens = True  # a [MASK] in a text is text
    plain = plain_numbers(spec)
    under_way: deque[tuple[Chunk, Future[tuple[NDArray[Any], list[int]]]]] = deque()
    with ThreadPoolExecutor(_UNDER_WAY, thread_name_prefix="tacit-tokenise") as threads:
        for chunk in chunks:
            under_way.append((chunk, threads.submit(marked_numbers, tokenizer, chunk.texts, plain)))
            if len(under_way) > _UNDER_WAY:
                chunk, future = under_way.popleft()
                yield chunk, *future.result()
        while under_way:
            chunk, future = under_way.popleft()
            yield chunk, *future.result()


class Writer:
    """Writes the files of a corpus, document by document. A document without tokens is removed again, as blank."""

    def __init__(self, folder: Path) -> None:
        self.tokens = self.bytes = self.cut = 0
        self.blank: list[int] = []
        self._folder = folder
        self._row = -1
        self._began = (0, 0)  # tokens and bytes before the document under way
        self._hash = hashlib.blake2b(digest_size=16)

    def __enter__(self) -> Writer:
        names = ("tokens", "text", "content", "starts", "text_starts")
        self._files: dict[str, IO[bytes]] = {name: (self._folder / f"{name}.bin").open("wb") for name in names}
        for name in ("starts", "text_starts"):
            self._files[name].write(bytes(8))
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            for file in self._files.values():
                file.close()

    def write(self, chunk: Chunk, marked: NDArray[Any], lengths: list[int]) -> None:
        self._files["tokens"].write(marked.data)
        for row, data, length in zip(chunk.rows, chunk.data, lengths, strict=True):
            if row != self._row:
                self._finish()
                self._row = row
            self._hash.update(data)
            self._files["text"].write(data)
            self.tokens += length
            self.bytes += len(data)

    def _finish(self) -> None:
        if self._row < 0:
            return
        length = self.tokens - self._began[0]
        if length:
            self._files["content"].write(self._hash.digest())
            self._files["starts"].write(array("q", [self.tokens]).tobytes())
            self._files["text_starts"].write(array("q", [self.bytes]).tobytes())
            self.cut += length + 2 > LONGEST
        else:
            self.blank.append(self._row)
            self.bytes = self._began[1]
            self._files["text"].seek(self.bytes)
            self._files["text"].truncate()
        self._began = (self.tokens, self.bytes)
        self._hash = hashlib.blake2b(digest_size=16)
