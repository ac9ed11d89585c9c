"""What encoders of images and volumes share: how small ConvNets shrink a picture, and which tokens to hide."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tacit.core import keys
from tacit.core.masks import MaskSchedule, random_mask
from tacit.core.types import Batch

SMALLEST_MAP = 4
TINY = 16  # px
NARROWEST = 16  # channels


def halving_layers(size: int, width: int) -> list[tuple[int, int]]:
    """(stride, channels) of every convolution for pictures of `size` px; the last has `width` channels.

    Up to 16 px: one at full size, then two that halve the picture. Above, where a full-size one would cost more than
    all others together: alternately one that halves it and one that widens it, until a map of at most 4 x 4 is left.
    """
    if size <= TINY:
        return [(1, max(NARROWEST, width // 4)), (2, max(NARROWEST, width // 2)), (2, width)]
    halvings = (-(-size // SMALLEST_MAP) - 1).bit_length()
    layers = [(2, width)]  # from the last to the first
    for halving in range(halvings - 1):
        layers += [(1, max(NARROWEST, width >> halving)), (2, max(NARROWEST, width >> halving + 1))]
    return layers[::-1]


@dataclass(frozen=True)
class RandomMask:
    """Masks a share of the tokens of a grid, at least one and not all, drawn anew for every example."""

    hiding: MaskSchedule
    places: int

    def __call__(self, batch: Batch, progress: Tensor) -> Tensor:
        count = min(max(1, round(float(self.hiding.at(progress)) * self.places)), self.places - 1)
        return random_mask(keys.split(batch["key"], "mask"), self.places, count / self.places)
