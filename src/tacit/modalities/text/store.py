"""The store of texts: tokenised once, then memory-mapped, the numbers of all documents end to end, and their texts.

Its folder, texts/KEY/ beside the folders of `tacit.modalities.image.store`, holds
    tokens.bin        numbers without special ones, uint16 or uint32; the top bit is set where a word begins
    starts.bin        int64 [N + 1], where each document begins in tokens.bin
    text.bin          the documents as they were, in UTF-8
    text_starts.bin   int64 [N + 1], where each document begins in text.bin
    content.bin       16-byte hash per document
    tokenizer.json, meta.json
The tokenizer itself counts words, so that the marks are right for any tokenizer and any script.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.text import LONGEST
from tacit.data.store import CONTENT, META, Ragged, read_content, write_meta
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.text.tokens import number_type, word_mark

if TYPE_CHECKING:
    from tacit.core.types import Batch

FORMAT = 2
FILES = ("tokens.bin", "starts.bin", "text.bin", "text_starts.bin", CONTENT, "tokenizer.json")

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """Tokenised documents; only the rows that are read are ever copied. May be read from several threads.

    A glimpse holds a few documents, which stand in for all N in turn.
    """

    tokens: Ragged[np.unsignedinteger[Any]]  # marked
    text: Ragged[np.uint8]
    content: NDArray[np.void]  # [N] 16-byte hash of each document
    spec: TextSpec
    data_hash: str
    folder: Path | None = None  # where it is stored; None for a glimpse

    @classmethod
    def load(cls, folder: Path, length: int) -> Corpus:
        meta = json.loads((folder / META).read_text())
        tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
        spec = TextSpec.of({**meta["spec"], "tokenizer": tokenizer, "length": length})
        return cls(
            tokens=Ragged.load(folder, "tokens", "starts", number_type(spec.vocabulary)),
            text=Ragged.load(folder, "text", "text_starts", np.dtype(np.uint8)),
            content=read_content(folder),
            spec=spec,
            data_hash=str(meta["data_hash"]),
            folder=folder,
        )

    def __len__(self) -> int:
        return len(self.content)

    @property
    def nbytes(self) -> int:
        """Bytes on disk; of a glimpse, what all documents would take."""
        return self.tokens.nbytes(len(self)) + self.text.nbytes(len(self)) + self.content.nbytes

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Numbers of each document [N], special ones not counted."""
        return self.tokens.spans(np.arange(len(self)))[1]

    def unmarked(self, at: Rows) -> tuple[Rows, NDArray[np.bool_]]:
        """The numbers at these places of `tokens`, and where a word begins."""
        marked = self.tokens.values[at]
        bit = marked.dtype.type(word_mark(marked.dtype))
        return (marked & ~bit).astype(np.int64), (marked & bit).astype(np.bool_)

    def texts(self, rows: Rows | Sequence[int]) -> list[str]:
        """These documents as they were read."""
        return [text.tobytes().decode() for text in self.text.take(np.asarray(rows, np.int64))]

    def batch(self, rows: Rows) -> Batch:
        """`tokens`, `valid`, `word` [B N] and `index` [B]: each document whole, or its first `LONGEST` numbers."""
        import torch

        rows = np.asarray(rows, np.int64)
        has_cls, has_sep = self.spec.cls >= 0, self.spec.sep >= 0
        begins, lengths = self.tokens.spans(rows)
        lengths = np.minimum(lengths, LONGEST - has_cls - has_sep)
        whole = lengths + has_cls + has_sep  # [B]
        place = np.arange(int(whole.max(initial=1)))  # [N]
        inner = place - has_cls
        inside = (inner >= 0) & (inner < lengths[:, None])  # [B N]
        tokens = np.full(inside.shape, self.spec.pad, np.int64)
        word = np.zeros(inside.shape, np.bool_)
        tokens[inside], word[inside] = self.unmarked((begins[:, None] + inner)[inside])
        if has_cls:
            tokens[:, 0] = self.spec.cls
        if has_sep:
            tokens[np.arange(len(rows)), whole - 1] = self.spec.sep
        return {
            "tokens": torch.from_numpy(tokens),
            "valid": torch.from_numpy(place < whole[:, None]),
            "word": torch.from_numpy(word),
            "index": torch.from_numpy(rows.copy()),
        }


def describe(folder: Path, spec: TextSpec, n: int, tokens: int, text: int, data_hash: str) -> None:
    """Write the metadata that `Corpus.load` reads, beside the numbers and texts."""
    values = asdict(spec)
    (folder / "tokenizer.json").write_text(values.pop("tokenizer"), encoding="utf-8")
    meta = {"format": FORMAT, "n": n, "tokens": tokens, "text": text, "data_hash": data_hash, "spec": values}
    write_meta(folder, meta, FILES)
