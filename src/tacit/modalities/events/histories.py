"""Histories: the sequence of items of each user, as numbers of a catalogue.

Shared by data, baselines and evaluation; imports torch only to make a batch.
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
_SOME = 2**20  # times from which quantiles are computed


@dataclass(frozen=True)
class Histories:
    """U histories over a catalogue of `n_items`; history u is `items[start[u]:stop[u]]`, in order of time.

    Histories may overlap, such as those of one user until yesterday and until today.
    """

    items: NDArray[Any]  # [E] integers 0..n_items-1, may be memory-mapped
    start: Ints  # [U]
    stop: Ints  # [U]
    n_items: int

    def __len__(self) -> int:
        return len(self.start)

    @property
    def lengths(self) -> Ints:
        """Events of each history, [U]."""
        return self.stop - self.start

    def take(self, rows: Ints) -> Histories:
        """Select these histories, in this order."""
        return Histories(self.items, self.start[rows], self.stop[rows], self.n_items)

    def counts(self) -> Ints:
        """Occurrences of each item, [n_items]."""
        found = np.zeros(self.n_items, np.int64)
        for _, places in self.events():
            found += np.bincount(self.items[places], minlength=self.n_items)
        return found

    def events(self, size: int = 2**22) -> Iterator[tuple[Ints, Ints]]:
        """Blocks of whole histories of about `size` events: the history and the index in `items` of each event."""
        ends = np.cumsum(self.lengths)
        cuts = (np.searchsorted(ends, np.arange(size, ends[-1:].sum(), size)) + 1).tolist()
        for rows in np.split(np.arange(len(self)), cuts):
            lengths = self.lengths[rows]
            history = np.repeat(rows, lengths)
            since = np.arange(len(history)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            yield history, self.start[history] + since

    def moments(self, times: NDArray[Any], shares: Sequence[float]) -> list[Any]:
        """Quantiles of the times of all events at these shares; `times` [E] belong to `items`."""
        step = 1 + int(self.lengths.sum()) // _SOME
        some = np.concatenate([times[places[::step]] for _, places in self.events()])
        return list(np.quantile(some, shares, method="higher"))

    def batch(self, rows: Ints) -> Batch:
        """These histories in full, as a `types.Batch`."""
        import torch

        rows = np.ascontiguousarray(rows)
        lengths = self.lengths[rows]
        at = np.arange(max(1, int(lengths.max(initial=0))))
        valid = at < lengths[:, None]  # [B N]
        tokens = np.full(valid.shape, PADDING, np.int64)
        tokens[valid] = self.items[(self.start[rows, None] + at)[valid]] + FIRST
        return {"tokens": torch.from_numpy(tokens), "valid": torch.from_numpy(valid), "index": torch.from_numpy(rows)}
