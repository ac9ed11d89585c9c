"""Randomness as a pure function of (seed, step, position, purpose).

Every example of a global batch carries a 64-bit key. Views and masks hash that key with the name of what they draw, so
a draw needs no generator, no order and no state: it is the same for the same example whether one process or two
compute it, in one micro-batch or eight, in the first run or a resumed one. The mixer is SplitMix64 (Steele, Lea &
Flood 2014, "Fast splittable pseudorandom number generators"), computed in wrapping int64 arithmetic on the device of
the key.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # evaluating embeddings needs `fold` but no torch, whose import takes seconds
    from torch import Tensor

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _signed(word: int) -> int:
    word &= _WORD
    return word - (1 << 64) if word >> 63 else word


def fold(seed: int, *parts: int | str) -> int:
    """Mix `parts` into `seed`: a non-negative 63-bit integer, unrelated for neighbouring inputs."""
    state = 0
    for part in (seed, *parts):  # the state is mixed between words, so that their order matters
        word = zlib.crc32(part.encode()) if isinstance(part, str) else part
        state = ((state ^ (word & _WORD)) + _GOLDEN) & _WORD
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _WORD
        state ^= state >> 31
    return state >> 1


def seed_torch(seed: int) -> None:
    """Seed torch's global generators, for initial weights, dropout and what else draws from them.

    Without an accelerator the one on the CPU alone: for the others torch would keep the stack of every call, 1 ms each.
    """
    import torch

    torch.manual_seed(seed) if torch.accelerator.is_available() else torch.default_generator.manual_seed(seed)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of an int64 tensor."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = x + _signed(_GOLDEN)
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def batch_keys(seed: int, step: int, positions: Tensor) -> Tensor:
    """Keys [B] of the examples at these positions [B] of the global batch of this step."""
    return _mix(positions.long() ^ fold(seed, step, "batch"))


def split(key: Tensor, purpose: int | str) -> Tensor:
    """Keys [B] for an independent purpose: the second view, another mask."""
    return _mix(key ^ fold(0, purpose))


def uniform(key: Tensor, purpose: str, n: int) -> Tensor:
    """Independent draws [B n], float32, uniform in [0, 1)."""
    import torch

    counter = torch.arange(n, device=key.device, dtype=torch.int64)
    word = _mix(split(key, purpose)[:, None] + counter * _signed(_GOLDEN))  # [B n]
    return _shift(word, 40).float() * 2.0**-24


def normal(key: Tensor, purpose: str, n: int) -> Tensor:
    """Independent draws [B n], float32, standard normal (Box and Muller 1958)."""
    radius = (-2.0 * (-uniform(key, purpose + "/radius", n)).log1p()).sqrt()
    return radius * (2.0 * math.pi * uniform(key, purpose + "/angle", n)).cos()


def permutation(key: Tensor, purpose: str, n: int) -> Tensor:
    """An independent random order of 0..n-1 for each key: [B n] int64."""
    return uniform(key, purpose, n).argsort(dim=1, stable=True)
