"""Sorted once, mapped into memory ever after: the events of all users end to end, each user's in time.

A folder of it, histories/KEY/ beside the folders of `tacit.data.cache`, holds
    events.bin        int32, the number of each event's item in the catalogue
    times.bin         float64, when it happened, in seconds, or its place in the order; absent where rows are in order
    weights.bin       float32, what it weighs; absent where all weigh the same
    starts.bin        int64 [N + 1], where each history begins
    owner.bin         int32 [N], whose it is: the number of the user in the listing
    content.bin       16-byte hash per history, of the ids of its items
    items.parquet, meta.json
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.catalogue import FILE_NAME, Catalogue
from tacit.spec import ItemSpec

if TYPE_CHECKING:
    from tacit.types import Batch

LONGEST = 4096  # events of a history that `batch` gives, the latest ones
FORMAT = 1
COLUMNS = {"events": np.dtype(np.int32), "times": np.dtype(np.float64), "weights": np.dtype(np.float32)}
_AT_ONCE = 1 << 14  # histories whose times are looked at together

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Histories:
    """What N users did, seen up to some event of each; only the rows asked for are copied.

    `ends` says where what is seen of each history ends. What comes later is held out: it is in no batch, and `later`
    alone tells it. May be read from several threads.
    """

    events: NDArray[np.int32]
    times: NDArray[np.float64] | None  # seconds where `timed`
    weights: NDArray[np.float32] | None
    starts: NDArray[np.int64]  # [N + 1]
    ends: NDArray[np.int64]  # [N]
    owner: NDArray[np.int32]  # [N]
    content: NDArray[np.void]  # [N] 16-byte hash of each history
    spec: ItemSpec
    data_hash: str
    timed: bool  # whether it is known when events happened, and not in which order alone
    folder: Path

    @classmethod
    def load(cls, folder: Path, length: int) -> Histories:
        meta = json.loads((folder / "meta.json").read_text())
        catalogue = Catalogue.load(folder / FILE_NAME)
        found = {name: _mapped(folder / f"{name}.bin", dtype) for name, dtype in COLUMNS.items()}
        starts = np.fromfile(folder / "starts.bin", np.int64)
        return cls(
            events=found["events"],
            times=found["times"] if meta["ordered"] else None,
            weights=found["weights"] if meta["weighted"] else None,
            starts=starts,
            ends=starts[1:],
            owner=np.fromfile(folder / "owner.bin", np.int32),
            content=np.fromfile(folder / "content.bin", dtype="V16"),
            spec=ItemSpec(len(catalogue), length, catalogue),
            data_hash=str(meta["data_hash"]),
            timed=bool(meta["timed"]),
            folder=folder,
        )

    def __len__(self) -> int:
        return len(self.content)

    @property
    def nbytes(self) -> int:
        """Bytes on the disk."""
        each = self.starts.itemsize + self.owner.itemsize + self.content.itemsize
        return sum(column.nbytes for column in (self.events, self.times, self.weights) if column is not None) + (
            each * len(self)
        )

    @property
    def lengths(self) -> Rows:
        """Events seen of each history, [N]."""
        return np.asarray(self.ends - self.starts[:-1])

    def seen(self, rows: Rows) -> list[NDArray[np.int32]]:
        """The items seen of each of these histories, numbers of the catalogue, from the first to the latest."""
        bounds = zip(self.starts[rows].tolist(), self.ends[rows].tolist(), strict=True)
        return [self.events[begin:end] for begin, end in bounds]

    def later(self, rows: Rows) -> list[NDArray[np.int32]]:
        """The items held out of each of these histories: what comes after what is seen."""
        bounds = zip(self.ends[rows].tolist(), self.starts[rows + 1].tolist(), strict=True)
        return [self.events[begin:end] for begin, end in bounds]

    def without_last(self, k: int) -> Histories:
        """Without the last k events of each history, of which the first always stays."""
        whole = np.diff(self.starts)
        return replace(self, ends=self.starts[1:] - np.minimum(k, whole - 1))

    def before(self, moment: float) -> Histories:
        """Without the events from this moment on. Some histories may then be empty."""
        assert self.times is not None
        ends = np.empty(len(self), np.int64)
        for first in range(0, len(self), _AT_ONCE):
            bounds = self.starts[first : first + _AT_ONCE + 1]
            earlier = np.concatenate([[0], np.cumsum(self.times[bounds[0] : bounds[-1]] < moment)])
            at = bounds - bounds[0]
            ends[first : first + _AT_ONCE] = bounds[:-1] + earlier[at[1:]] - earlier[at[:-1]]
        return replace(self, ends=ends)

    def batch(self, rows: Rows) -> Batch:
        """`tokens` [B N], 0 where padding, `valid` [B N], `index` [B], and `weight` [B N] where events have one.

        Of a history longer than `LONGEST` the latest events.
        """
        import torch

        rows = np.asarray(rows, np.int64)
        ends = self.ends[rows]
        lengths = np.minimum(ends - self.starts[rows], LONGEST)
        place = np.arange(int(lengths.max(initial=1)))  # [N]
        valid = place < lengths[:, None]  # [B N]
        source = ((ends - lengths)[:, None] + place)[valid]
        tokens = np.full(valid.shape, self.spec.pad, np.int64)
        tokens[valid] = self.events[source] + np.int64(self.spec.first)
        batch = {"tokens": tokens, "valid": valid, "index": rows.copy()}
        if self.weights is not None:
            batch["weight"] = np.zeros(valid.shape, np.float32)
            batch["weight"][valid] = self.weights[source]
        return {name: torch.from_numpy(value) for name, value in batch.items()}


def describe(folder: Path, catalogue: Catalogue, data_hash: str, **facts: Any) -> None:
    """Write what `Histories.load` and `is_whole` read, beside the events."""
    catalogue.save(folder / FILE_NAME)
    sizes = {path.name: path.stat().st_size for path in sorted(folder.glob("*.bin"))}
    meta = {"format": FORMAT, "data_hash": data_hash, "sizes": sizes, **facts}
    (folder / "meta.json").write_text(json.dumps(meta))


def is_whole(folder: Path) -> bool:
    """Whether a folder holds all bytes of the histories."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        sizes = {path.name: path.stat().st_size for path in folder.glob("*.bin")}
    except (OSError, ValueError):
        return False
    return bool(meta["sizes"] == sizes and (folder / FILE_NAME).is_file())


def _mapped(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    if not path.is_file() or not path.stat().st_size:
        return np.empty(0, dtype)
    return np.asarray(np.memmap(path, dtype, "r"))
