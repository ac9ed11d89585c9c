"""Histories: who used what, one thing after the other, as numbers of a catalogue.

No torch until a batch is asked for: data, baselines and the judge share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.spec import FIRST

if TYPE_CHECKING:
    from tacit.core.types import Batch

Ints = NDArray[np.int64]

PADDING = 0  # in a batch; see `tacit.core.spec.FIRST`
_SOME = 2**20  # times that moments are found from


@dataclass(frozen=True)
class Histories:
    """U histories over a catalogue of `n_items`: history u is `items[start[u]:stop[u]]`, in order of time.

    Histories may overlap: what a person used until yesterday and until today are two of them.
    """

    items: NDArray[Any]  # [E] integers 0..n_items-1, perhaps mapped from a file
    start: Ints  # [U]
    stop: Ints  # [U]
    n_items: int

    def __len__(self) -> int:
        return len(self.start)

    @property
    def lengths(self) -> Ints:
        """[U]"""
        return self.stop - self.start

    def take(self, rows: Ints) -> Histories:
        """Only these histories, in this order."""
        return Histories(self.items, self.start[rows], self.stop[rows], self.n_items)

    def counts(self) -> Ints:
        """How often each item occurs [n_items]."""
        found = np.zeros(self.n_items, np.int64)
        for _, places in self.events():
            found += np.bincount(self.items[places], minlength=self.n_items)
        return found

    def events(self, size: int = 2**22) -> Iterator[tuple[Ints, Ints]]:
        """The history and the place in `items` of every event, in blocks of whole histories, of about `size` events."""
        ends = np.cumsum(self.lengths)
        cuts = (np.searchsorted(ends, np.arange(size, ends[-1:].sum(), size)) + 1).tolist()
        for rows in np.split(np.arange(len(self)), cuts):
            lengths = self.lengths[rows]
            history = np.repeat(rows, lengths)
            since = np.arange(len(history)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            yield history, self.start[history] + since

    def moments(self, times: NDArray[Any], shares: Sequence[float]) -> list[Any]:
        """The times before which about these shares of all events lie; `times` [E] are those of `items`."""
        step = 1 + int(self.lengths.sum()) // _SOME
        some = np.concatenate([times[places[::step]] for _, places in self.events()])
        return list(np.quantile(some, shares, method="higher"))

    def batch(self, rows: Ints) -> Batch:
        """The histories of these rows as `types.Batch` has them, whole."""
        import torch

        rows = np.ascontiguousarray(rows)
        lengths = self.lengths[rows]
        at = np.arange(max(1, int(lengths.max(initial=0))))
        valid = at < lengths[:, None]  # [B N]
        tokens = np.full(valid.shape, PADDING, np.int64)
        tokens[valid] = self.items[(self.start[rows, None] + at)[valid]] + FIRST
        return {"tokens": torch.from_numpy(tokens), "valid": torch.from_numpy(valid), "index": torch.from_numpy(rows)}
