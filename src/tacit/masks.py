"""Which tokens to hide: masks as a pure function of each example's key, on the key's device.

Every row hides exactly the same number of tokens, so batches of visible tokens need no padding.

Shapes: B examples, N tokens, H W the grid they lie on (N = H * W, row by row).
"""

from __future__ import annotations

import torch
from torch import Tensor

from tacit import keys


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


def _first(order: Tensor, ratio: float) -> Tensor:
    """True at the first round(ratio * n) entries of each row's order [B N]."""
    n = order.shape[1]
    hidden = torch.zeros(order.shape, dtype=torch.bool, device=order.device)
    return hidden.scatter_(1, order[:, : round(ratio * n)], True)
