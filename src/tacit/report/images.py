"""Arrays to small inline images.

Images are [H W], [C H W] or [H W C] with C of 1 to 4, of which 1 or 3 are shown; uint8, uint16, bool or float in
[0, 1]. PNG keeps every pixel and is used while it is small; photographs beyond the limit become JPEG, so that a report
stays light.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PIXELATED_BELOW = 48  # px: smaller images are shown with sharp pixels rather than blurred
PNG_SHRINKS = 6  # how many times to shrink at most
SHEET_LIMIT = 400_000  # bytes of the sheet of all thumbnails of a map


def to_image(array: Any) -> Image.Image:
    """An 8-bit grey or RGB image; floats are clipped to [0, 1] and NaN is shown black."""
    pixels = np.asarray(array)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 2, 3, 4):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 3 and pixels.shape[-1] in (2, 4):
        pixels = pixels[..., : pixels.shape[-1] - 1]  # bands of any meaning: one as grey, or three as colour
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] != 3) or 0 in pixels.shape:
        raise ValueError(f"not an image: shape {np.shape(array)}; give [H W], [C H W] or [H W C] with 1 to 4 channels")
    if pixels.dtype == np.uint16:
        pixels = (pixels / 257).round()
    elif pixels.dtype != np.uint8:
        pixels = (np.clip(np.nan_to_num(pixels.astype(np.float64)), 0, 1) * 255).round()
    return Image.fromarray(pixels.astype(np.uint8))


def thumbnail(array: Any, side: int) -> Image.Image:
    """The image shrunk so that its longer side is at most `side` px; never enlarged."""
    image = to_image(array)
    image.thumbnail((side, side))
    return image


def data_uri(image: Image.Image, limit: int = 6_000) -> str:
    """`data:` address: PNG if it takes at most `limit` bytes, else the best JPEG that does, else the smallest JPEG."""
    raw = image.width * image.height * len(image.getbands())
    kind, data = "png", _encoded(image, "PNG") if raw <= PNG_SHRINKS * limit else b""
    if not data or len(data) > limit:
        kind = "jpeg"
        for quality in (88, 75, 55):
            data = _encoded(image, "JPEG", quality=quality)
            if len(data) <= limit:
                break
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class Sheet:
    """All thumbnails of a map in one image, so that 1500 of them cost one download and one decode."""

    def __init__(self, arrays: Sequence[Any] | NDArray[Any], side: int = 32) -> None:
        images = [thumbnail(array, side) for array in arrays]
        self.columns = max(1, math.ceil(math.sqrt(len(images))))
        self.rows = max(1, math.ceil(len(images) / self.columns))
        self.cell = max((max(image.size) for image in images), default=1)
        mode = "L" if all(image.mode == "L" for image in images) else "RGB"
        sheet = Image.new(mode, (self.columns * self.cell, self.rows * self.cell))
        for number, image in enumerate(images):
            row, column = divmod(number, self.columns)
            left, top = (self.cell - image.width) // 2, (self.cell - image.height) // 2
            sheet.paste(image, (column * self.cell + left, row * self.cell + top))
        self.uri = data_uri(sheet, SHEET_LIMIT)
