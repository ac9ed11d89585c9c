"""Where slices lie: their order along the normal of their orientation, and how far apart they are. Lengths in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # the orientation of an object that states none

_TURNED = 1e-2  # largest difference between direction cosines of one orientation; headers round them
_UNEQUAL = 0.05  # of the usual distance, by which one may differ
_SAME = 0.01  # of the usual distance, below which two slices lie in one place


def ordered(
    positions: Sequence[Sequence[float]], orientations: Sequence[Sequence[float]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Sort n slices along the normal: their order [n], and the step from one to the next [3].

    ValueError where they are no volume: orientations mixed, slices doubled or missing, or spaced unequally.
    """
    places, turned = np.asarray(positions, np.float64), np.asarray(orientations, np.float64)
    if np.abs(turned - turned[0]).max() > _TURNED:
        raise ValueError("its slices have several orientations (a localizer, or several scans under one name)")
    along = places @ np.cross(turned[0, :3], turned[0, 3:])
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    usual = float(np.median(steps))
    doubled = int((steps <= max(_SAME * usual, 1e-4)).sum())
    if doubled:
        raise ValueError(f"{doubled:,} of its slices lie where another does (doubled, or of several moments)")
    apart = np.abs(steps - usual)
    if apart.max() > _UNEQUAL * usual:
        missing = np.rint(steps / usual).clip(min=1) - 1
        whole = np.abs(steps - (missing + 1) * usual) <= _UNEQUAL * usual
        if whole.all():
            raise ValueError(f"{int(missing.sum()):,} of its slices are missing")
        raise ValueError(f"its slices are spaced unequally, {steps.min():.4g} to {steps.max():.4g} mm")
    first, last = places[order[0]], places[order[-1]]
    return order, (last - first) / (len(places) - 1)


def affine(
    orientation: Sequence[float], spacing: Sequence[float], step: NDArray[np.float64], first: Sequence[float]
) -> NDArray[np.float64]:
    """From (slice, row, column) to the patient's right, front and head [4 4]; DICOM's point left and back instead."""
    turned = np.asarray(orientation, np.float64)
    found = np.eye(4)
    found[:3, 0], found[:3, 1], found[:3, 2] = step, turned[3:] * spacing[0], turned[:3] * spacing[1]
    found[:3, 3] = first
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ found


def canonical(slices: NDArray[np.generic], of: NDArray[np.float64]) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """The closest view of [A B C ...] whose axes run to the right, front and head, and their spacing [3].

    `of` [4 4] leads from indices to the patient's axes, as in nibabel.
    """
    from nibabel.orientations import apply_orientation, io_orientation

    turn = io_orientation(of)
    spacing = np.zeros(3)
    spacing[turn[:, 0].astype(int)] = np.linalg.norm(of[:3, :3], axis=0)
    return apply_orientation(slices, turn), spacing
