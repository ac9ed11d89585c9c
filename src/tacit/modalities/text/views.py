"""Random views of documents, and masks of their tokens.

Shapes: B documents, N tokens, L tokens of a view.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tacit.core import keys
from tacit.core.masks import MaskSchedule, span_starts, unit_mask
from tacit.core.types import Batch
from tacit.modalities.text.spec import TextSpec


def is_special(tokens: Tensor, spec: TextSpec) -> Tensor:
    """True where a number is not text, in the shape of `tokens`."""
    found = torch.zeros_like(tokens, dtype=torch.bool)
    for number in spec.specials:
        found |= tokens == number
    return found


@dataclass(frozen=True)
class TextViews:
    """Views of documents: a random run of tokens, at most `length` numbers with [CLS] and [SEP] around it.

    The run is the share `crop` of the document, drawn between its two ends, but at least `least` tokens where there are
    as many, and never more than `most`. The share `delete` of its tokens is left out. Packed rows, which hold several
    documents, stay as they are.
    """

    spec: TextSpec
    length: int
    crop: tuple[float, float] = (1.0, 1.0)
    least: int = 8
    most: int = 2**31
    delete: float = 0.0

    @torch.no_grad()
    def __call__(self, batch: Batch, view: int) -> Batch:
        """View number `view` of every document: `tokens`, `valid` and `word` [B L], `key` the view's own."""
        key = keys.split(batch["key"], view)
        if "segment" in batch:
            return {**batch, "key": key}
        tokens, own = batch["tokens"], batch["valid"] & ~is_special(batch["tokens"], self.spec)
        head, tail = int(self.spec.cls >= 0), int(self.spec.sep >= 0)
        room = self.length - head - tail
        n = own.sum(1)  # [B] tokens of each document, which stand together
        share, place = keys.uniform(key, "crop", 2).unbind(1)
        low, high = self.crop
        wanted = (n * (low + (high - low) * share)).round().long()
        taken = wanted.clamp(min=self.least, max=min(room, self.most)).minimum(n)  # [B]
        first = own.int().argmax(1) + (place * (n - taken + 1)).long()  # [B]
        widest = max(1, int(taken.max())) if len(taken) else 1
        at = torch.arange(widest, device=tokens.device)
        there = at < taken[:, None]  # [B W]
        source = (first[:, None] + at).clamp(max=tokens.shape[1] - 1)
        run, word = tokens.gather(1, source), batch["word"].gather(1, source) & there
        if self.delete:
            there, run, word = self._thinned(key, there, run, word)
        out = torch.full((len(tokens), head + widest + tail), self.spec.pad, dtype=tokens.dtype, device=tokens.device)
        valid, words = torch.zeros_like(out, dtype=torch.bool), torch.zeros_like(out, dtype=torch.bool)
        ends = head + there.sum(1, keepdim=True)  # [B 1] where [SEP] stands
        out[:, head : head + widest] = torch.where(there, run, out[:, head : head + widest])
        words[:, head : head + widest] = word & there
        if head:
            out[:, 0] = self.spec.cls
        if tail:
            out.scatter_(1, ends, self.spec.sep)
        valid = torch.arange(out.shape[1], device=out.device) < ends + tail
        return {**batch, "tokens": out, "valid": valid, "word": words, "key": key}

    def _thinned(self, key: Tensor, there: Tensor, run: Tensor, word: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Leave out a share of the tokens and close the gaps; the first one stays."""
        kept = there & (keys.uniform(key, "delete", run.shape[1]) >= self.delete)
        kept[:, 0] = there[:, 0]
        order = (~kept).int().argsort(dim=1, stable=True)
        return kept.gather(1, order), run.gather(1, order), word.gather(1, order)


@dataclass(frozen=True)
class TokenMask:
    """Hides a share of each row's tokens: words as a whole, or spans of `span` words on average, or single tokens."""

    spec: TextSpec
    hiding: MaskSchedule
    span: float = 3.0  # words

    def __call__(self, batch: Batch, progress: Tensor) -> Tensor:
        key = keys.split(batch["key"], "mask")
        counts = batch["valid"] & ~is_special(batch["tokens"], self.spec)
        starts = torch.ones_like(counts) if self.hiding.unit == "token" else batch["word"] | ~counts
        if self.hiding.unit == "span":
            starts = span_starts(key, batch["word"], self.span) | ~counts
        return unit_mask(key, counts, starts, self.hiding.at(progress))
