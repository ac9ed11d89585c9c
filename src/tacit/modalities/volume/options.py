"""The options of volumes and the names of their encoders, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tacit.core.errors import UserError
from tacit.core.options import PYTHON_ONLY
from tacit.core.spec import SpecOf
from tacit.data.signs import Signs
from tacit.modalities.medical.names import DICOM_ENDINGS, VOLUME_ENDINGS
from tacit.modalities.options import ModalityOptions

SIZES = (8, 256)  # voxels a side
SPACINGS = (0.05, 50.0)  # mm

READS = "volumes"  # what an encoder of this modality reads, for messages

ENCODERS = {
    "volume_slices": "tacit.modalities.volume.convnet:SliceNet",
    "volume_convnet": "tacit.modalities.volume.convnet:VolumeNet",
    "volume_vit_tiny": "tacit.modalities.volume.vit:VolumeViT",
    "volume_vit_small": "tacit.modalities.volume.vit:VolumeViT",
}

# Where volumes are not named, a folder of such files is looked into: see `stacks.are_volumes`.
SIGNS = Signs(
    nouns="volumes",
    when_named=frozenset([*DICOM_ENDINGS, *VOLUME_ENDINGS]),
    unnamed="tacit.modalities.medical.files:known",
)


@dataclass(frozen=True, kw_only=True)
class Options(ModalityOptions):
    """How volumes are read.

    Args:
        volume_size: voxels a side, 8 to 256; slices may be fewer. Default: the volumes' own, at most 48
        volume_spacing: mm between the voxels of slices, to which all volumes are resampled; default: so that most
            volumes fit
        volume_turns: scans may be mirrored and turned: say so only where left and right, front and back mean nothing
        volume_spec: the spec of an encoder of volumes, in whose grid and range they are read
    """

    group = "volumes"

    volume_size: int | None = None
    volume_spacing: float | None = None
    volume_turns: bool = False
    volume_spec: SpecOf[Any] | None = field(default=None, metadata=PYTHON_ONLY)

    def check(self) -> None:
        if self.volume_size is not None and not SIZES[0] <= self.volume_size <= SIZES[1]:
            raise UserError(
                f"--volume-size {self.volume_size} is out of range; choose {SIZES[0]} to {SIZES[1]} voxels a side"
            )
        if self.volume_spacing is not None and not SPACINGS[0] <= self.volume_spacing <= SPACINGS[1]:
            raise UserError(
                f"--volume-spacing {self.volume_spacing:g} is out of range; choose {SPACINGS[0]} to {SPACINGS[1]:g} mm"
            )
