"""The order of training as a pure function: which examples make up step s, without a list of all examples.

Position p = s * batch + i runs on over all epochs; epoch p // n is a permutation of the n rows of its own, so every
epoch visits every row once and no batch is ever short. The permutation is a keyed Feistel network on the smallest power
of two that holds n, walked along its cycles until it lands below n (Black & Rogaway 2002, "Ciphers with arbitrary
finite domains"): any position of any epoch costs microseconds and no memory, so resuming at any step costs nothing.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core import keys
from tacit.core.errors import UserError
from tacit.core.types import Batch

_ROUNDS = 6
_FEW = 1024  # with halves of a few bits a Feistel network is visibly uneven; so few rows are simply sorted by a hash
_AHEAD = 2  # batches prepared ahead


def shuffled(positions: NDArray[np.int64], n: int, key: int) -> NDArray[np.int64]:
    """Where a permutation of 0..n-1, named by `key`, sends these positions [B]; each must lie in 0..n-1."""
    if n <= _FEW:
        words = _mix(np.uint64(key) ^ _mix(np.arange(n, dtype=np.uint64) + np.uint64(1)))
        return words.argsort()[positions]
    bits = (n - 1).bit_length()
    rounds = [np.uint64(keys.fold(key, r)) for r in range(_ROUNDS)]
    out = _feistel(positions.astype(np.uint64), bits, rounds)
    outside = np.flatnonzero(out >= n)
    while len(outside):
        out[outside] = _feistel(out[outside], bits, rounds)
        outside = outside[out[outside] >= n]
    return out.astype(np.int64)


def _feistel(x: NDArray[np.uint64], bits: int, rounds: list[np.uint64]) -> NDArray[np.uint64]:
    """A permutation of the `bits`-bit numbers. The halves may differ by a bit; after an even number they are back."""
    low_bits = bits // 2
    high_bits = bits - low_bits
    high, low = x >> np.uint64(low_bits), x & np.uint64((1 << low_bits) - 1)
    for round_key in rounds:
        high, low = low, high ^ (_mix(low ^ round_key) & np.uint64((1 << high_bits) - 1))
        high_bits, low_bits = low_bits, high_bits
    return (high << np.uint64(low_bits)) | low


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (see `tacit.core.keys`), wrapping as unsigned integers do."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Span:
    """0..n-1 without a list of them, for `Batches.among`."""

    n: int

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows


@dataclass(eq=False)
class Batches:
    """Step -> batch, for any rank of any world size. `read` fetches rows, as `Dataset.batch` does."""

    read: Callable[[NDArray[np.int64]], Batch]
    among: NDArray[np.int64] | Span  # the rows to train on
    batch_size: int  # of the global batch: all ranks together
    seed: int = 0
    drawn: Callable[[NDArray[np.int64], Tensor], Batch] | None = None  # `read` where keys draw what of a row is read

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not len(self.among):
            raise UserError(f"a batch of {self.batch_size} out of {len(self.among)} examples cannot be drawn")

    def rows(self, step: int) -> NDArray[np.int64]:
        """Rows of the global batch of this step, [batch_size]."""
        n = len(self.among)
        start = step * self.batch_size
        position = np.arange(start, start + self.batch_size, dtype=np.int64)
        epoch, within = position // n, position % n
        for number in range(int(epoch[0]), int(epoch[-1]) + 1):
            here = epoch == number
            within[here] = shuffled(within[here], n, keys.fold(self.seed, "order", number))
        return self.among[within]

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """This rank's share of the step, with `image`, `index` and the `key` of each example."""
        if self.batch_size % world:
            raise UserError(f"a batch of {self.batch_size} cannot be shared equally by {world} processes")
        share = self.batch_size // world
        mine = slice(rank * share, (rank + 1) * share)
        rows, key = self.rows(step)[mine], keys.batch_keys(self.seed, step, torch.arange(self.batch_size)[mine])
        return {**(self.read(rows) if self.drawn is None else self.drawn(rows, key)), "key": key}

    def stream(self, start: int, stop: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """The batches of steps start..stop-1, prepared ahead by one thread that ends with the iterator."""
        return ahead(partial(self, step, rank, world) for step in range(start, stop))


def ahead(calls: Iterator[Callable[[], Batch]]) -> Iterator[Batch]:
    """Results of the calls in order, at most `_AHEAD` early; an exception comes out where its result would have."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def work() -> None:
        try:
            for call in calls:
                result = call()
                while not _put(ready, result):
                    if stopped.is_set():
                        return
            last: BaseException | None = None
        except BaseException as error:
            last = error
        while not stopped.is_set() and not _put(ready, last):
            pass

    thread = threading.Thread(target=work, daemon=True, name="tacit-batches")
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


def _put(ready: queue.Queue[Batch | BaseException | None], item: Batch | BaseException | None) -> bool:
    try:
        ready.put(item, timeout=0.1)
    except queue.Full:
        return False
    return True
