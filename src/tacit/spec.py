"""The shape of image data as an encoder sees it. No torch here: data, encoders and the command line share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ImageSpec:
    """Square images of `size` px; `mean` and `std` are per channel, of pixel values in [0, 1].

    `alignment` is the variance over places of the data's mean image, as a share of the mean variance inside an image:
    how much alike the images are laid out. Scans, glyphs, portraits and products have 0.3 and more, photos of scenes
    hardly anything. What a crop may cut away depends on it.

    `dataclasses.asdict` gives its JSON form, `ImageSpec.of` reads it back.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    alignment: float = 0.0

    def __post_init__(self) -> None:
        assert min(self.size, self.channels) > 0, self
        assert len(self.mean) == len(self.std) == self.channels, self
        assert all(value > 0 for value in self.std), self

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ImageSpec:
        return cls(
            size=int(values["size"]),
            channels=int(values["channels"]),
            mean=tuple(float(value) for value in values["mean"]),
            std=tuple(float(value) for value in values["std"]),
            alignment=float(values.get("alignment", 0.0)),
        )
