"""Which tokens to hide: masks as a pure function of each example's key, on the key's device.

For images every row hides exactly the same number of tokens, so batches of visible tokens need no padding; for
sequences of different lengths every row hides the same share.

Shapes: B examples, N tokens, H W the grid they lie on (N = H * W, row by row).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tacit.core import keys

UNITS = ("token", "word", "span")  # by which text is masked; a span is several words


class MaskSchedule(NamedTuple):
    """The share of the tokens that is hidden, linear from the start of training to its end.

    `end` equals the start by default; `unit` applies to text alone, and is a word by default.
    """

    share: float
    end: float | None = None
    unit: str | None = None

    def at(self, progress: Tensor) -> float | Tensor:
        """The share at `progress` in [0, 1]."""
        return self.share if self.end is None else self.share + (self.end - self.share) * progress


def random_mask(key: Tensor, n: int, ratio: float) -> Tensor:
    """[B N] bool, True at round(ratio * n) tokens of each row, all choices equally likely."""
    return _first(keys.permutation(key, "mask", n), ratio)


def block_mask(key: Tensor, grid: tuple[int, int], ratio: float, *, block: int) -> Tensor:
    """[B N] bool, True at round(ratio * N) tokens of each row, in squares of `block` x `block` tokens.

    The grid is tiled with squares from a random corner, and whole squares are hidden in random order; only the last one
    may be hidden in part. A square hides what a convolution or a neighbour would otherwise give away.
    """
    height, width = grid
    corner = (keys.uniform(key, "mask/corner", 2) * block).long()  # [B 2]
    rows = (torch.arange(height, device=key.device) + corner[:, :1]) // block  # [B H]
    columns = (torch.arange(width, device=key.device) + corner[:, 1:]) // block  # [B W]
    across = (width - 1) // block + 2  # the most squares that a row of tokens can touch
    down = (height - 1) // block + 2
    square = (rows[:, :, None] * across + columns[:, None, :]).flatten(1)  # [B N]
    rank = keys.permutation(key, "mask/square", down * across).gather(1, square)
    return _first(rank.argsort(dim=1, stable=True), ratio)


def unit_mask(key: Tensor, counts: Tensor, starts: Tensor, ratio: float | Tensor) -> Tensor:
    """[B N] bool, True at about the share `ratio` of each row's tokens that count [B N], whole units at a time.

    A unit (a token, a word, a span of words) begins where `starts` [B N] is True. Units are hidden in random order
    until the share is reached, the last one whole too; a row with any valid token hides at least one unit.
    """
    n = counts.shape[1]
    unit = starts.long().cumsum(1)  # [B N] 0 to n
    priority = keys.uniform(key, "mask/unit", n + 1).gather(1, unit).masked_fill(~counts, 2.0)
    rank = priority.argsort(dim=1, stable=True).argsort(dim=1)  # units stay together, invalid tokens come last
    first = rank.new_full((len(rank), n + 1), n)  # [B N+1] of each unit
    first = first.scatter_reduce(1, unit, rank.masked_fill(~counts, n), "amin")
    wanted = (ratio * counts.sum(1)).round().clamp(min=1)
    return counts & (first.gather(1, unit) < wanted[:, None])


def span_starts(key: Tensor, words: Tensor, mean: float) -> Tensor:
    """Where spans of words begin [B N], words being where `words` [B N] is True: geometric, `mean` words on average."""
    return words & (keys.uniform(key, "mask/span", words.shape[1]) < 1.0 / mean)


def _first(order: Tensor, ratio: float) -> Tensor:
    """True at the first round(ratio * n) entries of each row's order [B N]."""
    n = order.shape[1]
    hidden = torch.zeros(order.shape, dtype=torch.bool, device=order.device)
    return hidden.scatter_(1, order[:, : round(ratio * n)], True)
