"""The store of pairs: the stores of both sides, and which row of each belongs to which pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.data.source import digest
from tacit.data.store import Store
from tacit.modalities.pair.spec import PairSpec

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.core.types import Batch

Rows = NDArray[np.int64]


class Side(NamedTuple):
    """The decoded examples of one side, and the row of each pair among them, [N]."""

    store: Store
    rows: Rows


@dataclass(frozen=True)
class Pairs:
    """N pairs. An example that belongs to several pairs, such as an image with five captions, is stored once."""

    sides: Mapping[str, Side]

    @property
    def _first(self) -> Side:
        return next(iter(self.sides.values()))

    @property
    def folder(self) -> Path | None:
        """The cache folder of the first side; None where any side is a glimpse."""
        folders = [side.store.folder for side in self.sides.values()]
        return None if None in folders else folders[0]

    def __len__(self) -> int:
        return len(self._first.rows)

    @cached_property
    def spec(self) -> PairSpec:
        return PairSpec({name: side.store.spec for name, side in self.sides.items()})

    @cached_property
    def content(self) -> NDArray[np.void]:
        """The hash of the first side: two captions of one image are two pairs of one content."""
        return np.asarray(self._first.store.content[self._first.rows])

    @cached_property
    def data_hash(self) -> str:
        return digest(
            part for side in self.sides.values() for part in (side.store.data_hash.encode(), side.rows.tobytes())
        )

    @property
    def nbytes(self) -> int:
        return sum(side.store.nbytes for side in self.sides.values())

    def identity(self, side: str) -> Rows:
        """The number of each pair's example of this side, [N]: equal where two pairs share it, or hold copies of it."""
        store, rows = self.sides[side]
        return np.asarray(
            np.unique(_numbers(store.content), axis=0, return_inverse=True)[1].reshape(-1)[rows], np.int64
        )

    def batch(self, rows: Rows) -> Batch:
        """The fields of both sides, each with the name of its side in front, and `index` [B]."""
        import torch

        rows = np.asarray(rows, np.int64)
        fields = {
            f"{name}.{field}": value
            for name, side in self.sides.items()
            for field, value in side.store.batch(side.rows[rows]).items()
        }
        return {**fields, "index": torch.from_numpy(rows.copy())}

    def only(self, side: str, rows: Rows) -> Rows:
        """The rows of these pairs in the store of one side."""
        return np.asarray(self.sides[side].rows[rows])


@dataclass(frozen=True)
class Drawn:
    """Of the pairs that share an example of the first side, one is drawn by the key of each step.

    `firsts` is one pair of each such example; the others are reached from it.
    """

    store: Pairs
    firsts: Rows  # [E] a pair of each example of the first side
    starts: Rows  # [2 N] where the siblings of each of `firsts` begin in `siblings`, and how many there are
    siblings: Rows

    @classmethod
    def among(cls, store: Pairs, rows: Rows) -> Drawn:
        """Of these pairs alone."""
        example = store.identity(store.spec.first)[rows]
        order = np.argsort(example, kind="stable")
        begins = np.flatnonzero(np.r_[True, np.diff(example[order]) > 0])
        counts = np.diff(np.r_[begins, len(rows)])
        firsts = rows[order[begins]]
        sizes = np.zeros(len(store), np.int64)
        where = np.zeros(len(store), np.int64)
        sizes[firsts], where[firsts] = counts, begins
        return cls(store, np.sort(firsts), np.stack([where, sizes]), rows[order])

    @property
    def several(self) -> bool:
        """Whether any example has a choice."""
        return len(self.siblings) > len(self.firsts)

    def batch(self, rows: Rows, key: Tensor) -> Batch:
        """A pair of each of these examples, drawn by its key."""
        from tacit.core import keys

        where, sizes = self.starts[:, rows]
        drawn = keys.uniform(key, "partner", 1)[:, 0].numpy()
        return self.store.batch(self.siblings[where + np.minimum((drawn * sizes).astype(np.int64), sizes - 1)])


def of_side(batch: Mapping[str, Any], side: str) -> dict[str, Any]:
    """The batch of one side of a batch of pairs, with keys of its own."""
    prefix = f"{side}."
    own = {name.removeprefix(prefix): value for name, value in batch.items() if name.startswith(prefix)}
    if "key" not in batch:
        return own
    from tacit.core import keys

    return {**own, "key": keys.split(batch["key"], side)}


def _numbers(content: NDArray[np.void]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(content).view(">u8").reshape(-1, 2)
