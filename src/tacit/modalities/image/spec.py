"""Images as an encoder sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tacit.core.spec import SpecOf
from tacit.modalities.image.decode import Scale
from tacit.modalities.image.framing import Framing

if TYPE_CHECKING:
    from tacit.modalities.image.encoder import ImageEncoder  # noqa: F401  (the base class names it)


@dataclass(frozen=True)
class ImageSpec(SpecOf["ImageEncoder"]):
    """Square images of `size` px; `mean` and `std` are per channel, of pixel values in [0, 1].

    `alignment` is the variance over places of the data's mean image, as a share of the mean variance inside an image:
    how much alike the images are laid out. Scans, glyphs, portraits and products have 0.3 and more, photos of scenes
    hardly anything. What a crop may cut away depends on it. `framing` says how a picture becomes the square, where an
    encoder that others have trained wants another way than Tacit's: the whole, resized.

    `dataclasses.asdict` gives its JSON form, `ImageSpec.of` reads it back.
    """

    kind: ClassVar[str] = "image"

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    alignment: float = 0.0
    framing: Framing | None = None
    scale: Scale | None = None  # what was black and white in the data's own numbers; None where nobody knows

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
            framing=framing_of(values.get("framing")),
            scale=None if values.get("scale") is None else Scale(*values["scale"]),
        )


def framing_of(values: Any) -> Framing | None:
    """A framing from its JSON form."""
    return None if values is None else Framing(int(values[0]), bool(values[1]), int(values[2]))
