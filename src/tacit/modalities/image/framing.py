"""How a picture becomes a square. Imports no Pillow, since encoders and commands that decode nothing use it."""

from __future__ import annotations

from typing import NamedTuple


class Framing(NamedTuple):
    """How a picture becomes a square in another way than Tacit's own: resized, and perhaps cropped to its centre.

    With `keep` the shorter side is resized to `edge` px and the aspect ratio is kept, else both sides are resized; then
    the centre is cropped to the size of the square. An `edge` of 0 resizes nothing.
    """

    edge: int  # px
    keep: bool
    filter: int  # of Pillow's `Image.Resampling`
