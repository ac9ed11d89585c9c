"""The store of time series: read once, then memory-mapped; the values of all series end to end.

A folder series/KEY/ of the cache holds
    values.bin        float32, the channels of a step side by side; NaN where a series has no number in a channel
    starts.bin        int64 [N + 1], first step of each series
    content.bin       16-byte hash per series, of its values
    meta.json         the SeriesSpec, and checksums
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.data.source import Source, Unreadable
from tacit.data.store import (
    CONTENT,
    Keeping,
    Kept,
    Ragged,
    Written,
    check_bad,
    hash_of,
    keep,
    nothing_readable,
    read_content,
    write_meta,
)
from tacit.modalities.series.files import CsvFiles
from tacit.modalities.series.options import LENGTHS, Options
from tacit.modalities.series.spec import MOST_CHANNELS, SeriesSpec
from tacit.modalities.series.tables import Steps

if TYPE_CHECKING:
    from tacit.core.types import Batch

FORMAT = 2  # 1 read some files otherwise
LENGTH = 1024  # steps of a window at most, by default
NEARLY_ALL = 0.95  # share of series that fit into a window, where they are no longer than that
APART = 4.0  # ratio of deviations between and within series from which on each is normalised by itself
LOST = 0.01  # of the deviation of a series, by which single precision may change its values
COARSE = "vary by so little beside their size that single precision loses it; subtract a constant from each"
LEAST = 8  # steps of a series
LONGEST = 1 << 20  # first steps of a series in a batch, at most

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class SeriesStore:
    """N series of any length; only requested rows are copied. Safe to read from several threads."""

    ragged: Ragged[np.float32]  # of all series, [S C] values
    content: NDArray[np.void]  # [N]
    spec: SeriesSpec
    data_hash: str
    folder: Path | None

    @classmethod
    def load(cls, folder: Path) -> SeriesStore:
        meta = json.loads((folder / "meta.json").read_text())
        spec = SeriesSpec.of(meta["spec"])
        ragged = Ragged.load(folder, "values", "starts", np.dtype(np.float32))
        ragged = replace(ragged, values=ragged.values.reshape(-1, spec.channels))
        return cls(ragged, read_content(folder), spec, str(meta["data_hash"]), folder)

    def __len__(self) -> int:
        return len(self.content)

    @property
    def nbytes(self) -> int:
        """Bytes on the disk."""
        return self.ragged.nbytes(len(self)) + self.content.nbytes

    @property
    def lengths(self) -> Rows:
        """Steps of each series, [N]."""
        return np.diff(self.ragged.starts)

    def series(self, rows: Rows) -> list[NDArray[np.float32]]:
        """These series [T C], memory-mapped."""
        return self.ragged.take(np.asarray(rows, np.int64))

    def batch(self, rows: Rows) -> Batch:
        """`series` [B T C] float32, 0 for padding, `length` [B] and `index` [B]."""
        return padded([of[:LONGEST] for of in self.series(rows)], np.asarray(rows, np.int64))


class Pieces:
    """The series `rows`, each cut into equal pieces of at most `longest` steps.

    The position of a piece is computed from the lengths: random access at constant cost.
    """

    def __init__(self, store: SeriesStore, rows: Rows, longest: int) -> None:
        self.store, self.rows = store, np.asarray(rows, np.int64)
        self.ends = np.cumsum(-(-store.lengths[self.rows] // longest))  # [rows] cumulative number of pieces

    def __len__(self) -> int:
        return int(self.ends[-1])

    def batch(self, numbers: Rows) -> Batch:
        """As `SeriesStore.batch`; `index` is the row of the series."""
        numbers = np.asarray(numbers, np.int64)
        at = np.searchsorted(self.ends, numbers, side="right")
        first = np.where(at > 0, self.ends[at - 1], 0)
        rows, pieces, inside = self.rows[at], self.ends[at] - first, numbers - first
        begins, lengths = self.store.ragged.spans(rows)
        left, right = lengths * inside // pieces, lengths * (inside + 1) // pieces
        spans = zip((begins + left).tolist(), (begins + right).tolist(), strict=True)
        return padded([self.store.ragged.values[begin:end] for begin, end in spans], rows)


def padded(series: list[NDArray[np.float32]], index: Rows) -> Batch:
    """Pad series [T C] to a batch: `series` [B T C], `length` [B], `index` [B]."""
    import torch

    lengths = np.array([len(of) for of in series], np.int64)
    values = np.zeros((len(series), int(lengths.max(initial=1)), series[0].shape[1]), np.float32)
    for row, of in zip(values, series, strict=True):
        row[: len(of)] = of
    return {
        "series": torch.from_numpy(values),
        "length": torch.from_numpy(lengths),
        "index": torch.from_numpy(index.copy()),
    }


# ---------------------------------------------------------------- loaded or written


def open_series(source: Source, options: Options, keeping: Keeping) -> Kept:
    """Load the series of this source, or read them now where no earlier run has."""
    if options.length is not None and not LENGTHS[0] <= options.length <= LENGTHS[1]:
        raise UserError(f"--length {options.length} is out of range; choose {LENGTHS[0]} to {LENGTHS[1]:,} steps")

    steps: Sequence[Steps] = source.about or ()

    def load(folder: Path) -> SeriesStore:
        store = SeriesStore.load(folder)
        length, relative_to = options.length or store.spec.length, options.relative_to or store.spec.relative_to
        step = steps[0].step if steps else store.spec.step
        return replace(store, spec=replace(store.spec, length=length, relative_to=relative_to, step=step))

    known = [source.fingerprint, "series", FORMAT]
    if source.by_path:
        known += [options.channels, options.series_time_column, options.series_step]
    files = CsvFiles(options)
    return keep(source, "series", known, keeping, load, lambda folder: _write(source, files, steps, folder, keeping))


def _write(source: Source, files: CsvFiles, steps: Sequence[Steps], folder: Path, keeping: Keeping) -> Written:
    """Write the series into a folder."""
    bad: list[tuple[int, str]] = []
    starts, content = array("q", [0]), bytearray()
    gaps, coarse, moments = 0, 0, Moments()
    with (folder / "values.bin").open("wb") as file:
        for row, item in enumerate(source.items()):
            values = _values(item, files)
            series = _usable(values, moments.channels)
            if isinstance(series, Unreadable):
                bad.append((row, series.reason))
                check_bad(source, bad, row + 1, keeping.max_bad)
            else:
                assert not isinstance(values, Unreadable)
                coarse += _is_coarse(values, series)
                known = np.isfinite(series)
                gaps += not known.all()
                series = filled(series, known)
                file.write(series.tobytes())
                starts.append(starts[-1] + len(series))
                content += hashlib.blake2b(series.tobytes(), digest_size=16).digest()
                moments.add(series)
            if keeping.progress is not None and (row % 256 == 255 or row + 1 == len(source)):
                keeping.progress(row + 1, len(source))
    hashes = np.frombuffer(bytes(content), "V16")
    if not len(hashes):
        raise nothing_readable(source, "series", bad[0][1], bad[0][0])
    (folder / CONTENT).write_bytes(content)
    (folder / "starts.bin").write_bytes(starts.tobytes())
    places = np.asarray(starts, np.int64)
    names = tuple(files.names or ()) if source.by_path else ()
    spec = replace(moments.spec(places[1:] - places[:-1]), names=names, step=files.steps.step)
    meta = {"format": FORMAT, "data_hash": hash_of(hashes), "spec": asdict(spec)}
    write_meta(folder, meta, ("values.bin", "starts.bin", CONTENT))
    remarks = [line for of in steps for line in of.remarks] + files.remarks
    remarks += [f"{gaps:,} series have gaps, filled along straight lines between neighbours"] if gaps else []
    remarks += [f"{coarse:,} series {COARSE}"] if coarse else []
    form = ["series", FORMAT, *([names, files.steps.step] if source.by_path else [])]
    return Written(form, bad, remarks=remarks)


def _values(item: Any, files: CsvFiles) -> NDArray[np.float64] | Unreadable:
    """An example as [T C], NaN where missing: an array or a CSV file; bytes are unreadable."""
    if isinstance(item, Unreadable):
        return item
    if isinstance(item, Path):
        return files(item)
    if isinstance(item, bytes):
        return Unreadable("bytes in a shard or a table are no series; give lists of numbers, or files of CSV")
    return np.asarray(item, np.float64)


def _is_coarse(values: NDArray[np.float64], series: NDArray[np.float32]) -> bool:
    """Whether single precision loses what happens in a series, which varies by little beside its size."""
    for channel in range(series.shape[1]):
        exact = values[np.isfinite(series[:, channel]), channel]
        spread = exact.std() if len(exact) else 0.0
        if spread and np.abs(exact - exact.astype(np.float32)).max() > LOST * spread:
            return True
    return False


def _usable(series: NDArray[np.float64] | Unreadable, channels: int) -> NDArray[np.float32] | Unreadable:
    """The series [T C] in single precision, NaN where missing; or why it is unusable."""
    if isinstance(series, Unreadable):
        return series
    if series.shape[1] > MOST_CHANNELS:
        return Unreadable(f"it has {series.shape[1]:,} channels; at most {MOST_CHANNELS:,} can be")
    if channels and series.shape[1] != channels:
        return Unreadable(f"it has {series.shape[1]} channels, the first series {channels}")
    if len(series) < LEAST:
        return Unreadable(f"it has {len(series)} steps; at least {LEAST} are needed")
    with np.errstate(over="ignore"):
        single = series.astype(np.float32)
    single[~np.isfinite(single)] = np.nan
    return single if np.isfinite(single).any() else Unreadable("it holds no number")


def filled(series: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fill gaps by linear interpolation, constant at the ends; channels [T C] without any number stay NaN."""
    if known.all():
        return np.ascontiguousarray(series)
    found = series.copy()
    place = np.arange(len(series))
    for channel in range(series.shape[1]):
        here = known[:, channel]
        if here.any():
            found[:, channel] = np.interp(place, place[here], series[here, channel])
    return found


class Moments:
    """Running counts, means and squared deviations of each channel, within series and overall."""

    def __init__(self) -> None:
        self.channels = 0

    def add(self, series: NDArray[np.float32]) -> None:
        """Add a series [T C]."""
        if not self.channels:
            self.channels = series.shape[1]
            self.n, self.mean, self.squares, self.within = np.zeros((4, self.channels))
        values = series.astype(np.float64)
        known = np.isfinite(values)
        n = known.sum(0)
        some = np.maximum(n, 1)
        mean = np.where(known, values, 0).sum(0) / some
        within = (np.where(known, values - mean, 0) ** 2).sum(0)
        total = np.maximum(self.n + n, 1)
        apart = mean - self.mean  # Chan, Golub & LeVeque 1983: numerically stable for large values
        self.squares += within + apart**2 * self.n * n / total
        self.within += within
        self.mean += apart * n / total
        self.n += n

    def spec(self, lengths: Rows) -> SeriesSpec:
        """The spec of all series, which have these lengths [N]."""
        deviation = np.sqrt(self.squares / np.maximum(self.n, 1))
        std = np.where(deviation > 1e-6 * np.maximum(np.abs(self.mean), 1e-30), deviation, 1.0)
        between = (self.squares - self.within).sum()
        apart = between > APART**2 * self.within.sum()
        length = int(min(LENGTH, max(LEAST, np.quantile(lengths, NEARLY_ALL, method="higher"))))
        return SeriesSpec(
            channels=self.channels,
            length=length,
            mean=tuple(self.mean.tolist()),
            std=tuple(std.tolist()),
            relative_to="series" if apart else "data",
        )
