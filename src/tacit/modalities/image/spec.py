"""The spec of images, as an encoder sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tacit.core.spec import SpecOf, number, numbers, whole
from tacit.modalities.image.decode import Scale
from tacit.modalities.image.framing import Framing

if TYPE_CHECKING:
    from tacit.modalities.image.encoder import ImageEncoder  # noqa: F401  (the base class names it)

LARGEST_SIZE, MOST_CHANNELS = 1 << 14, 1 << 10  # px; limits for a file, which is untrusted


@dataclass(frozen=True)
class ImageSpec(SpecOf["ImageEncoder"]):
    """Square images of `size` px; `mean` and `std` are per channel, of pixel values in [0, 1].

    `alignment` is the variance over places of the data's mean image, as a share of the mean variance inside an image:
    how much alike the images are laid out. Scans, glyphs, portraits and products have 0.3 and more, photos of scenes
    hardly anything. What a crop may cut away depends on it. `framing` states how a picture becomes the square, where a
    public encoder needs another way than Tacit's, which resizes the whole.

    `dataclasses.asdict` gives its JSON form, `ImageSpec.of` reads it back.
    """

    kind: ClassVar[str] = "image"

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    alignment: float = 0.0
    framing: Framing | None = None
    scale: Scale | None = None  # black and white in the data's own numbers; None where unknown

    def __post_init__(self) -> None:
        assert min(self.size, self.channels) > 0, self
        assert len(self.mean) == len(self.std) == self.channels, self
        assert all(value > 0 for value in self.std), self

    @property
    def short(self) -> str:
        return str(self.size)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ImageSpec:
        return cls(
            size=whole(values, "size", LARGEST_SIZE),
            channels=whole(values, "channels", MOST_CHANNELS),
            mean=numbers(values, "mean"),
            std=numbers(values, "std"),
            alignment=number(values.get("alignment", 0.0), "alignment"),
            framing=framing_of(values.get("framing")),
            scale=scale_of(values.get("scale")),
        )


def framing_of(values: Any) -> Framing | None:
    """A framing from its JSON form."""
    if values is None:
        return None
    edge, keep, filter_ = values
    if type(edge) is not int or not 0 <= edge <= LARGEST_SIZE or type(filter_) is not int or not 0 <= filter_ < 6:
        raise ValueError(f"framing is {values!r:.40}")
    return Framing(edge, bool(keep), filter_)


def scale_of(values: Any) -> Scale | None:
    """A scale from its JSON form."""
    if values is None:
        return None
    numbers, *ends, bits = values if len(values) == 4 else (*values, 16)  # bits, which an older Tacit did not store
    low, high = (number(end, "scale") for end in ends)
    if numbers not in ("uint8", "uint16", "int", "float") or not low < high or bits not in (8, 16):
        raise ValueError(f"scale is {values!r:.40}")
    return Scale(numbers, low, high, bits)
