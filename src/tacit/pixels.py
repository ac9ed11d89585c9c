"""One image in, one square of integers out: the only pixel routine, shared by the cache and by every encoder.

Numpy and Pillow only, because the decoding processes import this file and nothing else of the library.

What it promises: the first frame; turned upright by its EXIF orientation; transparency laid on white; the WHOLE image
resized to the square with an antialiasing filter (nothing is cropped away); 8 bits a channel, or 16 where a grey source
has them. Shapes: C channels, H height and W width in px.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from tacit.framing import Framing

SUFFIXES = frozenset([".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"])

# Naming the formats keeps out those that Pillow hands to other programs (EPS starts Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF")

# A square of 8,900 px: above any camera that people have, below what a decompression bomb needs to hurt.
MAX_PIXELS = 80_000_000

# Part of every cache's key: raise it whenever a change may change a single pixel, or what is measured of them.
VERSION = 2

_DEEP = ("I", "F")  # modes that begin so hold more than 8 bits


class Header(NamedTuple):
    """What the first bytes of an image file tell, without decoding it."""

    width: int  # px
    height: int  # px
    grey: bool
    deep: bool  # more than 8 bits a channel


def open_image(source: bytes | Path | str) -> Image.Image:
    """Open an encoded image lazily: the header is read and checked, no pixel is decoded.

    Raises `ValueError` with a short reason for what is no image, or an image above `MAX_PIXELS`.
    """
    if source == b"":
        raise ValueError("the file is empty")
    try:
        image: Image.Image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(_too_large()) from None
    except UnidentifiedImageError:
        raise ValueError("not an image of a known format (JPEG, PNG, WebP, BMP, TIFF, GIF)") from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(_too_large(f"{image.width} x {image.height} px, "))
    return image


def _too_large(size: str = "") -> str:
    return f"{size}more than the {MAX_PIXELS // 1_000_000} megapixels that are decoded"


def probe(source: bytes | Path | Image.Image) -> Header:
    """Size and depth from the header alone."""
    image = source if isinstance(source, Image.Image) else open_image(source)
    return Header(image.width, image.height, _is_grey(image), image.mode.startswith(_DEEP))


def probe_array(array: NDArray[Any]) -> Header:
    """The same of pixels in memory, [H W], [H W C] or [C H W]."""
    height, width, channels = _channels_last(array).shape
    return Header(width, height, channels < 3, array.dtype.itemsize > 1)


def decode(
    source: bytes | Path, size: int, channels: int, dtype: np.dtype | None = None, framing: Framing | None = None
) -> NDArray[Any]:
    """Decode an image file or its bytes to [C H W]; see `to_square`."""
    with open_image(source) as image:
        if framing is None:
            # JPEG can skip most of its work: decode at 1/2, 1/4 or 1/8, never below twice the size wanted.
            image.draft(image.mode, (2 * size, 2 * size))
        return to_square(image, size, channels, dtype, framing)


def to_square(
    image: Image.Image, size: int, channels: int, dtype: np.dtype | None = None, framing: Framing | None = None
) -> NDArray[Any]:  # [C H W]
    """The image resized whole to `size` px a side, with 1 (grey) or 3 (RGB) channels.

    uint8, or uint16 where one grey channel is asked for and the source holds more than 8 bits; `dtype` forces either.
    Both scales mean the same: uint8 / 255 = uint16 / 65535. `framing` is another way than to resize the whole.
    """
    image.load()
    image = _upright(image)
    if image.mode.startswith(_DEEP):
        plane = _resize_deep(_sixteen_bits(image), size, framing)
        square = np.repeat(plane[None], channels, axis=0)
        return _as(square, dtype or np.dtype(np.uint16 if channels == 1 else np.uint8))
    image = _resize(_plain(image, channels), size, framing)
    square = np.asarray(image)
    square = np.repeat(square[None], channels, axis=0) if square.ndim == 2 else square.transpose(2, 0, 1)
    return _as(square, dtype or np.dtype(np.uint8))


def array_to_square(
    array: NDArray[Any], size: int, channels: int, dtype: np.dtype | None = None, framing: Framing | None = None
) -> NDArray[Any]:  # [C H W]
    """The same for pixels already in memory: uint8 or uint16, [H W], [H W C] or [C H W] with 1 to 4 channels."""
    array = _channels_last(array)  # [H W C]
    height, width, found = array.shape
    as_they_are = (height, width, found) == (size, size, channels) and (framing is None or framing.edge in (0, size))
    if array.dtype == np.uint16:
        array = array if as_they_are else _deep_to_square(array, size, channels, framing)
        return _as(array.transpose(2, 0, 1), dtype or np.dtype(np.uint16))
    if array.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8 or uint16, got {array.dtype}; see tacit.pixels.as_integers")
    if as_they_are:
        return _as(array.transpose(2, 0, 1), dtype or np.dtype(np.uint8))
    return to_square(Image.fromarray(array[..., 0] if found == 1 else array), size, channels, dtype, framing)


def as_integers(pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels of any numeric type as uint8 or uint16, whichever holds them.

    Integers keep their values; floats within [0, 1] are scaled to the full range (8 bits where that loses nothing);
    floats within [0, 255] are rounded. Raises `ValueError` for anything else.
    """
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "iuf" or not pixels.size:
        raise ValueError(f"pixels must be numbers, got an array of {pixels.dtype} with shape {pixels.shape}")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 65535 and (high <= 255 or pixels.dtype.kind != "f")):  # also refuses NaN
        raise ValueError(
            f"pixel values run from {low:g} to {high:g}; scale floats to [0, 1] or [0, 255], integers to [0, 65535]"
        )
    fitting: NDArray[Any]
    if pixels.dtype.kind != "f" or high > 1:
        fitting = np.rint(pixels).astype(np.uint8 if high <= 255 else np.uint16)
    elif np.allclose(pixels * 255, np.rint(pixels * 255), atol=1e-2):
        fitting = np.rint(pixels * 255).astype(np.uint8)
    else:
        fitting = np.rint(pixels * 65535).astype(np.uint16)
    return fitting


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        palette = np.asarray(image.getpalette() or [], dtype=np.uint8).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La") or image.mode.startswith(_DEEP)


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except (SyntaxError, struct.error, ValueError, KeyError, TypeError):
        return image  # broken metadata beside sound pixels


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """8 bits as L or RGB, without transparency; grey stays L even where three channels are wanted."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    wanted = "L" if channels == 1 or image.mode in ("1", "L") else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _resize(image: Image.Image, size: int, framing: Framing | None = None) -> Image.Image:
    if framing is not None:
        return _framed(image, size, framing)
    if image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _framed(image: Image.Image, size: int, framing: Framing) -> Image.Image:
    """The middle of what the whole is resized to; black where that is smaller."""
    width, height = image.size
    wide, high = (framing.edge, framing.edge) if framing.edge else (width, height)  # px, of the whole
    if framing.edge and framing.keep:
        wide = int(framing.edge * width / height) if width > height else framing.edge
        high = int(framing.edge * height / width) if height > width else framing.edge
    left, top = max(0, (wide - size) // 2), max(0, (high - size) // 2)
    right, bottom = min(wide, left + size), min(high, top + size)
    filter_ = Image.Resampling(framing.filter)
    if wide * high <= MAX_PIXELS:
        part = image.resize((wide, high), filter_).crop((left, top, right, bottom))
    else:  # of a picture as narrow as that the middle alone, which rounds a little otherwise
        ends = min(width, right * width / wide), min(height, bottom * height / high)
        part = image.resize(
            (right - left, bottom - top), filter_, box=(left * width / wide, top * height / high, *ends)
        )
    if part.size == (size, size):
        return part
    square = Image.new(part.mode, (size, size))
    square.paste(part, (-((part.width - size) // 2), -((part.height - size) // 2)))
    return square


def _sixteen_bits(image: Image.Image) -> NDArray[np.float32]:
    """Pixel values of a deep grey image on the scale of 16 bits, [H W]."""
    pixels = np.asarray(image)
    low, high = float(pixels.min()), float(pixels.max())
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        return (pixels * 65535).astype(np.float32)
    if not (low >= 0 and high <= 65535):
        raise ValueError(f"grey values run from {low:g} to {high:g}, outside 16 bits")
    return pixels.astype(np.float32)


def _resize_deep(pixels: NDArray[np.float32], size: int, framing: Framing | None = None) -> NDArray[np.uint16]:
    # Pillow's 16-bit modes differ by platform; 32-bit floats hold every 16-bit integer exactly.
    resized = np.asarray(_resize(Image.fromarray(pixels), size, framing))
    deep: NDArray[np.uint16] = np.rint(resized).clip(0, 65535).astype(np.uint16)
    return deep


def _deep_to_square(
    array: NDArray[np.uint16], size: int, channels: int, framing: Framing | None = None
) -> NDArray[np.uint16]:
    """[H W C] to [size size channels]; a fourth channel, or a second, is left out."""
    colour = (array[..., :3] if array.shape[2] >= 3 else array[..., :1]).astype(np.float32)
    if channels == 1:
        colour = colour.mean(axis=2, keepdims=True)
    planes = [_resize_deep(colour[..., c], size, framing) for c in range(colour.shape[2])]
    return np.stack(planes * (channels // len(planes)), axis=2)


def _channels_last(array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim == 2:
        return array[..., None]
    if array.ndim == 3 and 1 <= array.shape[2] <= 4:
        return array
    if array.ndim == 3 and 1 <= array.shape[0] <= 4:
        return array.transpose(1, 2, 0)
    raise ValueError(f"an image has the shape [H W], [H W C] or [C H W] with 1 to 4 channels, got {list(array.shape)}")


def _as(square: NDArray[Any], dtype: np.dtype) -> NDArray[Any]:
    """Change between the two scales: 0..255 and 0..65535."""
    square = np.ascontiguousarray(square)
    if square.dtype == dtype:
        return square
    if dtype == np.uint16:
        return square.astype(np.uint16) * np.uint16(257)
    return ((square.astype(np.uint32) + 128) // 257).astype(np.uint8)
