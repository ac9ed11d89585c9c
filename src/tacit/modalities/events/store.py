"""The store of events: sorted once, then memory-mapped; the histories of all users end to end, each in order of time.

A folder histories/KEY/ of the cache holds
    events.bin        int32, the number of each event's item in the catalogue
    times.bin         float64, time in seconds, or position in the order; absent where the rows give the order
    weights.bin       float32, weight; absent where all weigh the same
    starts.bin        int64 [N + 1], where each history begins
    owner.bin         int32 [N], the number of the user in the listing
    content.bin       16-byte hash per history, of the ids of its items
    items.parquet, meta.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.data.store import META, mapped, read_content, write_meta
from tacit.modalities.events import histories
from tacit.modalities.events.catalogue import FILE_NAME, Catalogue
from tacit.modalities.events.spec import ItemSpec

if TYPE_CHECKING:
    from tacit.core.types import Batch

LONGEST = 4096  # latest events of a history in a batch, at most
FORMAT = 2
COLUMNS: Mapping[str, np.dtype[Any]] = {
    "events": np.dtype(np.int32),
    "times": np.dtype(np.float64),
    "weights": np.dtype(np.float32),
}
_AT_ONCE = 1 << 14  # histories whose times are processed at a time
_SOME = 1 << 20  # times from which quantiles are computed
_MOMENTS = (0.8, 0.9)  # shares of all events before validation, and before the test

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Histories:
    """N histories: history u is `items[start[u]:stop[u]]`, in order of time; only requested rows are copied.

    Events from `stop` on are held out: they are in no batch, and only `later` returns them. Safe to read from several
    threads.
    """

    items: NDArray[np.int32]  # [E] numbers of the catalogue
    start: NDArray[np.int64]  # [N]
    stop: NDArray[np.int64]  # [N]
    n_items: int
    times: NDArray[np.float64] | None  # [E] seconds where `timed`
    weights: NDArray[np.float32] | None  # [E]
    owner: NDArray[np.int32]  # [N]
    content: NDArray[np.void]  # [N] 16-byte hash of each history
    spec: ItemSpec
    data_hash: str
    timed: bool  # whether `times` are times, not positions in an order
    held: str  # what is held out of pretraining, see `HELD`
    folder: Path

    @classmethod
    def load(cls, folder: Path, length: int, held: str) -> Histories:
        meta = json.loads((folder / META).read_text())
        catalogue = Catalogue.load(folder / FILE_NAME)
        found = {name: mapped(folder / f"{name}.bin", dtype) for name, dtype in COLUMNS.items()}
        starts = np.fromfile(folder / "starts.bin", np.int64)
        return cls(
            items=found["events"],
            start=starts[:-1],
            stop=starts[1:],
            n_items=len(catalogue),
            times=found["times"] if meta["ordered"] else None,
            weights=found["weights"] if meta["weighted"] else None,
            owner=np.fromfile(folder / "owner.bin", np.int32),
            content=read_content(folder),
            spec=ItemSpec(len(catalogue), length, catalogue, uses=len(found["events"]) / len(catalogue)),
            data_hash=str(meta["data_hash"]),
            timed=bool(meta["timed"]),
            held=held,
            folder=folder,
        )

    def __len__(self) -> int:
        return len(self.start)

    @property
    def nbytes(self) -> int:
        """Bytes on the disk."""
        columns = (self.items, self.times, self.weights, self.start, self.owner, self.content)
        return sum(column.nbytes for column in columns if column is not None)

    @property
    def lengths(self) -> Rows:
        """Visible events of each history, [N]."""
        return np.asarray(self.stop - self.start)

    @property
    def ends(self) -> Rows:
        """The end of each history, held-out events included, [N]."""
        return np.append(self.start[1:], len(self.items))

    def seen(self, rows: Rows) -> list[NDArray[np.int32]]:
        """The visible items of each of these histories, from the first to the latest."""
        bounds = zip(self.start[rows].tolist(), self.stop[rows].tolist(), strict=True)
        return [self.items[begin:end] for begin, end in bounds]

    def later(self, rows: Rows) -> list[NDArray[np.int32]]:
        """The held-out items of each of these histories."""
        bounds = zip(self.stop[rows].tolist(), self.ends[rows].tolist(), strict=True)
        return [self.items[begin:end] for begin, end in bounds]

    def take(self, rows: Rows) -> histories.Histories:
        """The visible part of these histories."""
        return histories.Histories(self.items, self.start[rows], self.stop[rows], self.n_items)

    def without_last(self, k: int) -> Histories:
        """Hold out the last k events of each history, but never the first event."""
        ends = self.ends
        return replace(self, stop=ends - np.minimum(k, ends - self.start - 1))

    def before(self, moment: float) -> Histories:
        """Hold out the events from this moment on, which may leave histories empty."""
        assert self.times is not None
        ends, stop = self.ends, np.empty(len(self), np.int64)
        for first in range(0, len(self), _AT_ONCE):
            start, end = self.start[first : first + _AT_ONCE], ends[first : first + _AT_ONCE]
            earlier = np.concatenate([[0], np.cumsum(self.times[start[0] : end[-1]] < moment)])
            stop[first : first + _AT_ONCE] = start + earlier[end - start[0]] - earlier[start - start[0]]
        return replace(self, stop=stop)

    def moments(self) -> tuple[float, float]:
        """The times at which validation and test begin: after 80 % and 90 % of all events.

        UserError where there are no times, or too many events are of one time.
        """
        if self.times is None or not self.timed:
            raise UserError("--holdout time needs times, and here is an order alone; hold out the last events of each")
        some = self.times[:: 1 + len(self.times) // _SOME]
        early, late = np.quantile(some, _MOMENTS, method="higher").tolist()
        if not some.min() < early < late:
            raise UserError(
                "--holdout time: too many events are of one time to part them into what is learned from, validation "
                "and test; hold out the last events of each user instead"
            )
        return float(early), float(late)

    def until(self, stop: Rows) -> Histories:
        """Hold out the events from these positions [N] of `items` on."""
        return replace(self, stop=stop)

    def learned(self) -> Histories:
        """The part for pretraining: holds out the events of validation and test, unless they are held out already."""
        if (self.stop < self.ends).any():
            return self
        if self.held == "time":
            return self.before(self.moments()[0])
        return self if self.held == "none" else self.without_last(2)

    def batch(self, rows: Rows) -> Batch:
        """`tokens` [B N], 0 for padding, `valid` [B N], `index` [B], and `weight` [B N] where events have weights.

        Histories longer than `LONGEST` are cut to their latest events.
        """
        import torch

        rows = np.asarray(rows, np.int64)
        stop = self.stop[rows]
        lengths = np.minimum(stop - self.start[rows], LONGEST)
        place = np.arange(int(lengths.max(initial=1)))  # [N]
        valid = place < lengths[:, None]  # [B N]
        source = ((stop - lengths)[:, None] + place)[valid]
        tokens = np.full(valid.shape, self.spec.pad, np.int64)
        tokens[valid] = self.items[source] + np.int64(self.spec.first)
        batch = {"tokens": tokens, "valid": valid, "index": rows.copy()}
        if self.weights is not None:
            batch["weight"] = np.zeros(valid.shape, np.float32)
            batch["weight"][valid] = self.weights[source]
        return {name: torch.from_numpy(value) for name, value in batch.items()}


def describe(folder: Path, catalogue: Catalogue, data_hash: str, **facts: Any) -> None:
    """Write the catalogue and meta.json beside the events, for `Histories.load`."""
    catalogue.save(folder / FILE_NAME)
    names = [path.name for path in sorted(folder.glob("*.bin"))]
    write_meta(folder, {"format": FORMAT, "data_hash": data_hash, **facts}, [*names, FILE_NAME])
