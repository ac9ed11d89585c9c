"""Decodes one volume: its slices in order, in the closest canonical orientation, resampled to one grid.

Numpy alone is imported here; pydicom and nibabel where a file asks for them. The only routine of voxels, shared by the
cache and by every encoder.

A volume is turned so that its axes run along the patient's, cut along one of them, and laid as radiologists look at it:
columns run to the patient's left or to the back, rows to the back or to the feet. Its middle lies in the middle of the
grid; what sticks out is cut off, what is missing is black. Along each axis values are averaged with weights that fall
linearly to 0 over the coarser of both spacings, so that nothing is skipped.

Shapes: X Y Z along the patient's axes (right, front, head), D slices, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.data.worker import read_whole
from tacit.modalities.medical import dicom, files, nifti
from tacit.modalities.medical.geometry import affine, canonical, ordered
from tacit.modalities.volume.spec import Range

# Part of every cache's key: raise it with any change that may alter a voxel, or a statistic of voxels.
VERSION = 1

LEAST = 4  # voxels along each axis
MOST = 1 << 28  # voxels that are decoded
SOME = 4096  # values of a volume that stand for all
ENDS = (0.005, 0.995)  # quantiles that are black and white where a volume has its own

# What a person should know of a volume, in words.
FINDINGS = {
    "gaps": "hold voxels that are no numbers, read as black",
    "few": "hold few different values, as masks do that lie beside scans; leave them out if that is what they are",
    "flat": "have one value in all voxels once they are read",
}
_FEW = 32  # different values

Sources = Sequence[bytes | Path]


class Scan(NamedTuple):
    """One volume as it was scanned."""

    voxels: NDArray[Any]  # [X Y Z]
    spacing: NDArray[np.float64]  # [3] mm


class Grid(NamedTuple):
    """What every volume is resampled to."""

    axis: int  # that slices are cut along
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]  # mm


def scans(sources: Sources, at_work: Callable[[], None] = lambda: None) -> Iterator[Scan]:
    """The volumes of one file, or the one that several files are the slices of. ValueError where there is none."""
    form = files.form(sources[0])
    if not form:
        raise ValueError("a picture, and no volume")
    found = _of_slices(sources, at_work) if form == files.DICOM else _of_volumes(sources[0])
    for scan in found:
        if min(scan.voxels.shape) < LEAST:
            shape = " x ".join(map(str, scan.voxels.shape))
            raise ValueError(f"{shape} voxels, and a volume has {LEAST} along each axis")
        if not (np.isfinite(scan.spacing).all() and (scan.spacing > 0).all()):
            raise ValueError("its header does not say how far apart its voxels are")
        yield scan


def _of_volumes(source: bytes | Path) -> Iterator[Scan]:
    data, spacing = nifti.read(source)
    if data.ndim == 5:  # in colour
        data = data.astype(np.float32).mean(4)
    if data[..., 0].size > MOST:
        raise ValueError(f"{data[..., 0].size:,} voxels, more than the {MOST:,} that are decoded")
    for number in range(data.shape[3]):
        yield Scan(data[..., number], spacing)


def _of_slices(sources: Sources, at_work: Callable[[], None]) -> Iterator[Scan]:
    """Of DICOM files, one a slice, or of one with all of them in frames."""
    several = len(sources) > 1
    planes: list[NDArray[Any]] = []
    places: list[dicom.Place] = []
    for source in sources:
        ds = dicom.read(read_whole(source))
        if not dicom.holds_image(ds):
            raise ValueError("holds no image")
        found = dicom.places(ds)
        for number, image in enumerate(dicom.images(ds, windowed=False)):
            planes.append(image if image.ndim == 2 else image.mean(2))
            places.append(found[number])
            if len(planes) * image.size > MOST:
                raise ValueError(f"more than the {MOST:,} voxels that are decoded")
        if several and len(planes) != len(places):
            raise ValueError("its files hold different numbers of frames")
        at_work()
    if len({plane.shape for plane in planes}) > 1:
        raise ValueError("its slices differ in size")
    if len(planes) < LEAST:
        raise ValueError(f"{len(planes)} slices, and a volume has {LEAST} at least")
    for rows in _moments(places):
        own = [places[row] for row in rows]
        order, step = ordered([of.position for of in own], [of.orientation for of in own])
        turn = affine(own[0].orientation, own[0].spacing, step, own[int(order[0])].position)
        voxels, spacing = canonical(np.stack([planes[rows[at]] for at in order]), turn)
        yield Scan(voxels, spacing)


def _moments(places: Sequence[dicom.Place]) -> Iterator[list[int]]:
    """The rows of each volume: frames that lie in the same places several times are as many volumes."""
    times: dict[tuple[float, ...], list[int]] = {}
    for row, place in enumerate(places):
        times.setdefault(tuple(round(value, 3) for value in (*place.position, *place.orientation)), []).append(row)
    counts = {len(rows) for rows in times.values()}
    if len(counts) > 1:
        yield list(range(len(places)))  # which is refused as doubled
        return
    for moment in range(counts.pop()):
        yield [rows[moment] for rows in times.values()]


# ---------------------------------------------------------------- one grid, one range


def fit(scan: Scan, grid: Grid, ends: Range | None) -> NDArray[np.uint16]:  # [D H W]
    """Scale and resample; `ends` are black and white, None for those of the volume itself."""
    low, high = own_range(scan.voxels) if ends is None else ends
    voxels = laid(scan.voxels, grid.axis)
    spacing = laid_spacing(scan.spacing, grid.axis)
    turned = [_weights(*of) for of in zip(voxels.shape, spacing, grid.shape, grid.spacing, strict=True)]
    slices = []
    for plane in voxels:
        values = (np.nan_to_num(plane.astype(np.float32), nan=low, posinf=high, neginf=low) - low) / (high - low)
        slices.append(turned[1] @ values.clip(0, 1) @ turned[2].T)  # [H W]
    whole = np.tensordot(turned[0], np.stack(slices), 1)  # [D H W]
    deep: NDArray[np.uint16] = np.rint(65535 * whole).clip(0, 65535).astype(np.uint16)
    return deep


def findings(voxels: NDArray[Any], read: NDArray[np.uint16]) -> tuple[str, ...]:
    """Which of `FINDINGS` are made of a volume and what was read from it."""
    gaps = voxels.dtype.kind == "f" and not np.isfinite(voxels).all()
    found = {"gaps": gaps, "few": len(np.unique(sample(voxels, SOME))) <= _FEW, "flat": read.min() == read.max()}
    return tuple(name for name, made in found.items() if made)


def laid(voxels: NDArray[Any], axis: int) -> NDArray[Any]:
    """A view of [X Y Z] as slices [D H W] along this axis, as one looks at them."""
    return np.moveaxis(voxels, axis, 0)[:, ::-1, ::-1].swapaxes(1, 2)


def laid_spacing(spacing: Sequence[float] | NDArray[np.float64], axis: int) -> tuple[float, float, float]:
    """Of slices, rows and columns, from that along the patient's axes."""
    columns, rows = (float(spacing[other]) for other in range(3) if other != axis)
    return float(spacing[axis]), rows, columns


def own_range(voxels: NDArray[Any]) -> Range:
    """Nearly the least and the greatest number of a volume. ValueError where all are one."""
    values = sample(voxels)
    if not len(values):
        raise ValueError("holds no numbers")
    low, high = (float(of) for of in np.quantile(values, ENDS))
    if not low < high:
        low, high = float(values.min()), float(values.max())
    if not low < high:
        raise ValueError("all its voxels have one value")
    return Range(low, high)


def sample(voxels: NDArray[Any], many: int = 1 << 18) -> NDArray[np.float64]:
    """About so many finite values, evenly spread."""
    flat = voxels.reshape(-1)[:: 1 + voxels.size // many].astype(np.float64)
    return flat[np.isfinite(flat)]


def _weights(n: int, spacing: float, size: int, step: float) -> NDArray[np.float32]:
    """[size n]: how much each of n values counts in each of `size`, whose middles coincide; rows outside are 0."""
    places = (np.arange(size) - (size - 1) / 2) * step
    there = (np.arange(n) - (n - 1) / 2) * spacing
    weight = (1 - np.abs(places[:, None] - there) / max(spacing, step)).clip(0)
    weight[np.abs(places) > n * spacing / 2] = 0
    total = weight.sum(1, keepdims=True)
    return (weight / np.where(total > 0, total, 1)).astype(np.float32)
