"""How a picture becomes a square. No Pillow here, since encoders and commands know of it that decode nothing."""

from __future__ import annotations

from typing import NamedTuple


class Framing(NamedTuple):
    """How a picture becomes a square where not as usual: resized, and perhaps the middle of it cut out.

    With `keep` the shorter side is resized to `edge` px and the proportions are kept, else both sides are; the middle
    of the square's size is what is left. An `edge` of 0 resizes nothing.
    """

    edge: int  # px
    keep: bool
    filter: int  # of Pillow's `Image.Resampling`
