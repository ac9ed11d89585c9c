"""The store of volumes, decoded once and then mapped into memory: [N D H W] of uint16 in one plain file.

A folder of it, volumes/KEY/, holds volumes.bin, content.bin (16-byte hash of each volume) and meta.json.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.data.decode import Decoded, Plan, Pool
from tacit.data.source import Source
from tacit.data.store import (
    CONTENT,
    Keeping,
    Kept,
    Written,
    check_bad,
    hash_of,
    keep,
    nothing_readable,
    read_content,
    write_meta,
)
from tacit.modalities.volume import decode, worker
from tacit.modalities.volume.decode import Grid
from tacit.modalities.volume.options import Options
from tacit.modalities.volume.spec import Range, VolumeSpec

if TYPE_CHECKING:
    from tacit.core.types import Batch

LARGEST = 48  # voxels a side, unless a size is set: a step of 64 takes a CPU over twice as long
WHOLE = 4  # of which sides are multiples, so that patches and halvings fit
HOUNSFIELD = (-2000.0, -500.0)  # where the least numbers of a CT lie: air
ENDS = (0.001, 0.999)  # quantiles of all values that are black and white where numbers have a unit
_PROBED = 64  # volumes that decide grid and range
_MEASURED = 500  # volumes whose voxels give mean and deviation
_LEAST_STD = 1e-3

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class VolumePlan(Plan):
    """What every volume is decoded to, see `Grid`; `range` is None where each has its own."""

    decoder: ClassVar[str] = "tacit.modalities.volume.worker:answer"
    batch: ClassVar[int] = 4

    axis: int
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]  # mm
    range: Range | None

    @classmethod
    def answered(cls, content: bytes, result: bytes) -> Decoded:
        hashes, found, voxels = worker.answered(result)
        return Decoded(hashes, voxels, found=found)

    @property
    def nbytes(self) -> int:
        """Bytes of a volume."""
        return 2 * math.prod(self.shape)

    @property
    def grid(self) -> Grid:
        return Grid(self.axis, self.shape, self.spacing)


@dataclass(frozen=True)
class VolumeStore:
    """Decoded volumes; only requested rows are ever copied. May be read from several threads."""

    voxels: NDArray[np.uint16]  # [N D H W]
    content: NDArray[np.void]  # [N]
    spec: VolumeSpec
    data_hash: str
    folder: Path | None

    @classmethod
    def load(cls, folder: Path) -> VolumeStore:
        meta = json.loads((folder / "meta.json").read_text())
        spec = VolumeSpec.of(meta["spec"])
        mapped = np.memmap(folder / "volumes.bin", np.uint16, "r").reshape(-1, *spec.shape)
        return cls(np.asarray(mapped), read_content(folder), spec, str(meta["data_hash"]), folder)

    def __len__(self) -> int:
        return len(self.content)

    @property
    def nbytes(self) -> int:
        return int(self.voxels.nbytes)

    def volumes(self, rows: Rows) -> NDArray[np.uint16]:
        """A copy of these rows, [B D H W]."""
        return self.voxels.take(np.asarray(rows, np.int64), axis=0)

    def batch(self, rows: Rows) -> Batch:
        """`image` [B 1 D H W] and `index` [B] of these rows."""
        import torch

        rows = np.asarray(rows, np.int64)
        return {"image": torch.from_numpy(self.volumes(rows))[:, None], "index": torch.from_numpy(rows.copy())}


def open_volumes(source: Source, options: Options, keeping: Keeping) -> Kept:
    """The volumes of this source, decoded now unless an earlier run has done it."""
    reads = options.volume_spec
    assert reads is None or isinstance(reads, VolumeSpec)
    like = [asdict(reads)["range"], reads.shape, reads.spacing, reads.axis] if reads is not None else None
    form = [source.fingerprint, "volume", decode.VERSION, options.volume_size, options.volume_spacing, like]

    def load(folder: Path) -> VolumeStore:
        store = VolumeStore.load(folder)
        turns = reads.turns if reads is not None else options.volume_turns
        return replace(store, spec=replace(store.spec, turns=turns))

    return keep(source, "volumes", form, keeping, load, lambda folder: _decode(source, options, reads, folder, keeping))


def choose_plan(source: Source, options: Options, reads: VolumeSpec | None, pool: Pool) -> VolumePlan:
    """Axis, grid and range, from some of the volumes unless an encoder states them."""
    if reads is not None:
        return VolumePlan(reads.axis, reads.shape, reads.spacing, reads.range)
    answers = [outcome.data for outcome in pool.probe(source.sample(_PROBED))]
    facts = [json.loads(answer) for answer in answers if answer is not None]
    if not facts:
        raise nothing_readable(source, "volume", pool.why_not(next(iter(source.items()))))
    shapes, spacings = np.array([of["shape"] for of in facts]), np.array([of["spacing"] for of in facts])  # [n 3] X Y Z
    axis = int(np.bincount([_coarsest(spacing) for spacing in spacings], minlength=3)[::-1].argmax())
    axis = 2 - axis  # the last one of those that are as frequent
    spacing, shape = _grid(np.median(shapes * spacings, axis=0), np.median(spacings, axis=0), axis, options)
    return VolumePlan(axis, shape, spacing, _range([np.array(of["values"]) for of in facts]))


def _coarsest(spacing: NDArray[np.float64]) -> int:
    """The axis of the coarsest spacing, the last one of those that agree."""
    return max(axis for axis in range(3) if spacing[axis] * 1.01 >= max(spacing))


def _grid(
    extent: NDArray[np.float64], native: NDArray[np.float64], axis: int, options: Options
) -> tuple[tuple[float, float, float], tuple[int, int, int]]:
    """Spacing in mm and shape of slices, rows and columns, for volumes of this extent in mm and of these spacings."""
    deep, *across = decode.laid_spacing(extent, axis)
    apart, *within = decode.laid_spacing(native, axis)
    most = options.volume_size or LARGEST
    step = options.volume_spacing or max(min(within), max(across) / most)
    between = max(step, apart, deep / most)
    side = min(most, _whole(max(across) / step))
    slices = min(most, _whole(deep / between))
    return (between, step, step), (slices, side, side)


def _whole(n: float) -> int:
    return max(2 * WHOLE, WHOLE * math.ceil(round(n, 3) / WHOLE))


def _range(values: Sequence[NDArray[np.float64]]) -> Range | None:
    """One range for all where numbers have a unit, as those of CT have; None where each volume has its own."""
    least = [float(np.quantile(of, ENDS[0])) for of in values if len(of)]
    if not HOUNSFIELD[0] <= np.median(least or [0.0]) <= HOUNSFIELD[1]:
        return None
    low, high = np.quantile(np.concatenate(list(values)), ENDS)
    return Range(float(np.floor(low)), float(np.ceil(high)))


def _decode(source: Source, options: Options, reads: VolumeSpec | None, folder: Path, keeping: Keeping) -> Written:
    bad: list[tuple[int, str]] = []
    parts: list[int] = []
    found = Counter[str]()
    n = len(source)
    with Pool(VolumePlan) as pool:
        plan = choose_plan(source, options, reads, pool)
        needed, free = n * plan.nbytes, shutil.disk_usage(folder.parent).free
        if needed > free:
            raise UserError(
                f"{n:,} volumes of {plan.shape} voxels need a cache of {needed / 1e9:.1f} GB, but {folder.parent} has "
                f"{free / 1e9:.1f} GB free: choose a smaller --volume-size or another --cache"
            )
        with (folder / "volumes.bin").open("wb") as volumes, (folder / CONTENT).open("wb") as content:
            for row, outcome in enumerate(pool.decode(source.items(), plan)):
                if outcome.data is None:
                    bad.append((row, outcome.reason))
                    check_bad(source, bad, row + 1, keeping.max_bad)
                else:
                    volumes.write(outcome.data)
                    content.write(outcome.content)
                    parts.append(len(outcome.content) // 16)
                    found.update(outcome.found)
                if keeping.progress is not None:
                    keeping.progress(row + 1, n)
    hashes = read_content(folder)
    if not len(hashes):
        raise nothing_readable(source, "volume", bad[0][1], bad[0][0])
    voxels = np.memmap(folder / "volumes.bin", np.uint16, "r").reshape(-1, *plan.shape)
    spec = _measured(voxels, plan)
    write_meta(folder, {"data_hash": hash_of(hashes), "spec": asdict(spec)}, ("volumes.bin", CONTENT))
    several = parts if any(many != 1 for many in parts) else []
    findings = [
        f"{found[name]:,} of {len(hashes):,} volumes {what}" for name, what in decode.FINDINGS.items() if found[name]
    ]
    remarks = [_how_read(plan), *findings]
    if several:
        remarks.append(f"{len(hashes):,} volumes are those of {len(parts):,} files, of which some hold several")
    return Written(["volume", decode.VERSION, *asdict(plan).values()], bad, remarks=remarks, parts=several)


def _how_read(plan: VolumePlan) -> str:
    where = ("from left to right", "from back to front", "from feet to head")[plan.axis]
    ends = "the range of each by itself" if plan.range is None else f"{plan.range.low:,.6g} to {plan.range.high:,.6g}"
    apart, step, _ = plan.spacing
    return (
        f"volumes are read as {plan.shape[0]} slices {where}, {apart:.3g} mm apart, of {plan.shape[1]} x "
        f"{plan.shape[2]} voxels of {step:.3g} mm (--volume-size, --volume-spacing); black to white is {ends}"
    )


def _measured(voxels: NDArray[np.uint16], plan: VolumePlan) -> VolumeSpec:
    """Mean and deviation of voxel values in [0, 1], from some of the volumes where there are many."""
    total = squares = 0.0
    rows = np.linspace(0, len(voxels) - 1, min(len(voxels), _MEASURED)).astype(np.int64)
    for row in rows:
        values = voxels[row].astype(np.float64) / 65535
        total, squares = total + float(values.mean()), squares + float(np.square(values).mean())
    mean = total / len(rows)
    std = math.sqrt(max(squares / len(rows) - mean**2, _LEAST_STD**2))
    return VolumeSpec(plan.shape[0], plan.shape[1], plan.spacing, plan.axis, float(mean), std, plan.range)
