"""The spec of volumes, as an encoder sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from tacit.core.spec import SpecOf, number, numbers, whole

if TYPE_CHECKING:
    from tacit.modalities.volume.encoder import VolumeEncoder  # noqa: F401  (the base class names it)

MOST_SLICES, MOST_SIDE = 1 << 10, 1 << 10  # limits for a file, which is untrusted


class Range(NamedTuple):
    """Black and white in the data's own numbers, such as Hounsfield units."""

    low: float
    high: float


@dataclass(frozen=True)
class VolumeSpec(SpecOf["VolumeEncoder"]):
    """Volumes of `slices` x `side` x `side` voxels, `spacing` mm apart along these axes.

    Slices are cut along `axis` of the patient (0 left to right, 1 back to front, 2 feet to head) and lie as
    radiologists look at them. Numbers are scaled so that `range` is black and white; None: the range of each volume by
    itself, since the numbers of most scanners but CT have no unit. `mean` and `std` are of voxel values in [0, 1].
    """

    kind: ClassVar[str] = "volume"

    slices: int
    side: int
    spacing: tuple[float, float, float]  # mm, of slices, rows and columns
    axis: int
    mean: float
    std: float
    range: Range | None = None
    turns: bool = False  # whether scans may be mirrored and turned: where orientation means nothing

    def __post_init__(self) -> None:
        assert min(self.slices, self.side) > 0, self
        assert min(self.spacing) > 0, self
        assert self.std > 0, self
        assert self.axis in (0, 1, 2), self

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.slices, self.side, self.side)

    @property
    def short(self) -> str:
        return " x ".join(map(str, self.shape))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> VolumeSpec:
        spacing, axis, std = numbers(values, "spacing"), values.get("axis"), number(values["std"], "std")
        if len(spacing) != 3 or min(spacing) <= 0 or type(axis) is not int or not 0 <= axis < 3 or std <= 0:
            raise ValueError(f"spacing is {spacing!r:.60}, axis {axis!r:.20} and std {std!r:.20}")
        ends = None if values.get("range") is None else numbers(values, "range")
        if ends is not None and (len(ends) != 2 or not ends[0] < ends[1]):
            raise ValueError(f"range is {ends!r:.40}")
        return cls(
            slices=whole(values, "slices", MOST_SLICES),
            side=whole(values, "side", MOST_SIDE),
            spacing=(spacing[0], spacing[1], spacing[2]),
            axis=axis,
            mean=number(values["mean"], "mean"),
            std=std,
            range=None if ends is None else Range(*ends),
            turns=bool(values.get("turns", False)),
        )
