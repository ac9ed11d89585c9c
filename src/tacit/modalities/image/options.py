"""The options of images and the names of their encoders, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from tacit.core.errors import UserError
from tacit.core.options import PYTHON_ONLY
from tacit.core.spec import SpecOf
from tacit.data.signs import Signs
from tacit.modalities.medical.names import DICOM_ENDINGS, PICTURES, VOLUME_ENDINGS
from tacit.modalities.options import ModalityOptions

SIZES = (4, 1024)  # px

DIGITS = "digits"  # scikit-learn's
BUILT_IN = (DIGITS,)  # words that stand for data where no file has the name

READS = "images"  # what an encoder of this modality reads, for messages

ENCODERS = {
    "convnet": "tacit.modalities.image.convnet:ConvNet",
    "resnet18": "tacit.modalities.image.resnet:ResNet",
    "resnet50": "tacit.modalities.image.resnet:ResNet",
    "vit_tiny": "tacit.modalities.image.vit:ViT",
    "vit_small": "tacit.modalities.image.vit:ViT",
    "vit_base": "tacit.modalities.image.vit:ViT",
}

SIGNS = Signs(
    nouns="images",
    suffixes=frozenset([*PICTURES, *DICOM_ENDINGS, *VOLUME_ENDINGS]),
    unnamed="tacit.modalities.medical.files:known",
    columns=("image", "img", "picture", "photo", "pixels", "bytes"),
)


@dataclass(frozen=True, kw_only=True)
class Options(ModalityOptions):
    """How images are read.

    Args:
        image_size: px a side; default: the images' own, at most 64; in Python also the spec of an encoder
        image_column: the table's column of encoded images
        reads: the spec of an encoder of images, whose channels and scale of grey values they are read in
    """

    group = "images"
    columns: ClassVar[tuple[str, ...]] = ("image_column",)

    image_size: int | SpecOf[Any] | None = None
    image_column: str | None = None
    reads: SpecOf[Any] | None = field(default=None, metadata=PYTHON_ONLY)

    def check(self) -> None:
        if isinstance(self.image_size, int) and not SIZES[0] <= self.image_size <= SIZES[1]:
            raise UserError(f"--image-size {self.image_size} is out of range; choose {SIZES[0]} to {SIZES[1]} px")
