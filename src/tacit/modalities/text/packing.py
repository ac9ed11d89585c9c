"""Documents end to end, cut into rows of equal length: no number of a batch is padding.

The documents form one stream that is never stored: only the end of each is. Row r begins at r * length of the stream,
found by bisection, so that random access costs the same for all rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tacit.modalities.text.store import Corpus

if TYPE_CHECKING:
    from tacit.core.types import Batch


class Packed:
    """The documents `rows` of a corpus in this order, each [CLS] tokens [SEP], as rows of `length` numbers.

    A rest at the end that fills no row is left out; a stream shorter than a row is one row with padding.
    """

    def __init__(self, corpus: Corpus, rows: NDArray[np.int64], length: int) -> None:
        assert len(rows), "nothing to pack"
        assert length > 0, length
        self.corpus, self.documents, self.length = corpus, np.asarray(rows, np.int64), length
        self._has_cls, self._has_sep = corpus.spec.cls >= 0, corpus.spec.sep >= 0
        _, lengths = corpus.tokens.spans(self.documents)
        self.ends = np.cumsum(lengths + self._has_cls + self._has_sep)  # [documents] of the stream

    def __len__(self) -> int:
        return max(1, int(self.ends[-1]) // self.length)

    def batch(self, numbers: NDArray[np.int64]) -> Batch:
        """`tokens`, `valid`, `word` and `segment` [B L], and `index` [B], the row of the first document, of these rows.

        `segment` numbers the documents within a row from 0 on; padding has a number of its own.
        """
        import torch

        spec = self.corpus.spec
        place = np.asarray(numbers, np.int64)[:, None] * self.length + np.arange(self.length)  # [B L]
        valid = place < self.ends[-1]
        document = np.searchsorted(self.ends, place, side="right")
        segment = document - document[:, :1]
        document = np.minimum(document, len(self.ends) - 1)  # where padding
        begins, lengths = self.corpus.tokens.spans(self.documents[document])
        first = self.ends[document] - lengths - self._has_cls - self._has_sep
        inner = place - first - self._has_cls  # [B L] within the document
        inside = valid & (inner >= 0) & (inner < lengths)
        tokens = np.full(place.shape, spec.pad, np.int64)
        word = np.zeros(place.shape, np.bool_)
        tokens[inside], word[inside] = self.corpus.unmarked((begins + inner)[inside])
        tokens[valid & (inner < 0)] = spec.cls
        tokens[valid & (inner == lengths)] = spec.sep
        return {
            "tokens": torch.from_numpy(tokens),
            "valid": torch.from_numpy(valid),
            "word": torch.from_numpy(word),
            "segment": torch.from_numpy(segment),
            "index": torch.from_numpy(self.documents[document[:, 0]]),
        }
