"""Decodes one image to one square of integers: the only pixel routine, shared by the cache and by every encoder.

Numpy and Pillow only, because the decoding processes import this file and hardly anything else of the library.

It reads the first frame, turns it upright by its EXIF orientation, lays transparency on white where the file has any,
and resizes the WHOLE image to the square with an antialiasing filter (nothing is cropped away). The result has 8 bits a
channel, or 16 where a grey source has them. Numbers whose type defines no grey values are scaled by one `Scale` for a
whole data set. Any other change to an image is recorded (`FINDINGS`), never silent.

Shapes: C channels, H height and W width in px.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

from tacit.modalities.image.framing import Framing

# Naming the formats keeps out those that Pillow hands to other programs (EPS starts Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF")

# A square of 8,900 px: more than common cameras take, less than a decompression bomb needs to do harm.
MAX_PIXELS = 80_000_000

# Part of every cache's key: raise it with any change that may alter a pixel, or a statistic of pixels.
VERSION = 5

# Changes to an image that a person should know of, or that its plan did not foresee.
FINDINGS = ("opacity", "frames", "shallow", "bands", "clipped", "eight", "windowed", "colour", "deep", "wide")
UNFORESEEN = FINDINGS[-3:]

_DEEP = ("I", "F")  # modes with these prefixes hold more than 8 bits
_AGREE = 4  # of 255; the channels of a grey image that JPEG stored in colour differ by no more
_MOST_OUTSIDE = 0.05  # share of the nonzero values that may lie outside the scale; with more an image is refused
_FEW = 0.001  # share of the values at either end that a scale need not cover
_BLOCK = 1 << 24  # values processed at a time
_SAMPLE = 1 << 20  # values from which a scale is estimated


class Header(NamedTuple):
    """The header of an image file, read without decoding any pixel."""

    width: int  # px
    height: int  # px
    grey: bool
    deep: bool  # more than 8 bits a channel
    bands: int = 0  # 2 or 4 where they are neither grey nor colour, and none is marked as opacity
    wide: bool = False  # numbers of 32 bits, whose type defines no black and white


class Scale(NamedTuple):
    """The values of black and white in a data set's own numbers."""

    numbers: str  # uint8, uint16, int (any other) or float
    low: float
    high: float
    bits: int = 16  # that hold the values without loss

    @property
    def natural(self) -> bool:
        """Whether other types have equivalent values of black and white: 255 is as white as 1.0."""
        return (self.low, self.high) in {*_NATURAL, (0.0, 65535.0)}

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    def describe(self) -> str:
        """The scale in a few words."""
        return f"{self.low:,.6g} is black, {self.high:,.6g} is white"


BY_TYPE = {"uint8": Scale("uint8", 0.0, 255.0, 8), "uint16": Scale("uint16", 0.0, 65535.0)}
_NATURAL = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


class Values(NamedTuple):
    """A summary of the finite numbers of a data set."""

    numbers: str
    low: float
    high: float
    some: NDArray[np.float64]  # a sample of them
    blocks: Callable[[], Iterator[NDArray[Any]]] = lambda: iter(())  # all of them, where they are in memory

    @classmethod
    def of(cls, blocks: Callable[[], Iterator[NDArray[Any]]]) -> Values:
        """Summarise arrays of one type, which are iterated over once or twice."""
        parts, low, high, total, numbers = [], np.inf, -np.inf, 0, "float"
        for block in blocks():
            numbers, total = numbers_of(block.dtype), total + block.size
            if numbers in BY_TYPE:
                return cls(numbers, 0.0, BY_TYPE[numbers].high, np.zeros(0), blocks)
            flat = block.reshape(-1)
            flat = flat[np.isfinite(flat)] if numbers == "float" else flat
            if len(flat):
                low, high = min(low, float(flat.min())), max(high, float(flat.max()))
                parts.append(flat[:: _stride(len(flat), _SAMPLE // 16)].astype(np.float64))
                if sum(map(len, parts)) > _SAMPLE:
                    parts = [part[::2] for part in parts]
        return cls(numbers, low, high, np.concatenate(parts) if parts else np.zeros(0), blocks)

    @classmethod
    def together(cls, several: Sequence[Values]) -> Values:
        """Merge the summaries of several images."""
        numbers = "float" if any(of.numbers == "float" for of in several) else "int"
        each = max(1, _SAMPLE // max(1, len(several)))
        some = [of.some[:: _stride(len(of.some), each)] for of in several]
        low, high = min(of.low for of in several), max(of.high for of in several)
        return cls(numbers, low, high, np.concatenate(some))

    def fit(self, scale: Scale) -> bool:
        """Whether 8 bits hold all values on this scale without loss."""

        def whole(block: NDArray[Any]) -> bool:
            at = 255 * (block.astype(np.float64) - scale.low) / (scale.high - scale.low)
            at = at[(at > -0.5) & (at < 255.5)]  # not NaN either
            return bool(np.allclose(at, np.rint(at), rtol=0, atol=1e-2))

        blocks = iter(self.blocks())
        first = next(blocks, None)
        return first is not None and whole(self.some) and whole(first) and all(map(whole, blocks))


def numbers_of(dtype: np.dtype) -> str:
    """The class of numbers by which pixels of this type are scaled. ValueError for a type that is no number."""
    if dtype.kind not in "iufb":
        raise ValueError(f"pixels must be numbers, got an array of {dtype}")
    if dtype in (np.uint8, np.bool_):
        return "uint8"
    return "uint16" if dtype == np.uint16 else "float" if dtype.kind == "f" else "int"


def _stride(n: int, most: int) -> int:
    """A step that samples about `most` of n values, and all channels in turn."""
    step = 1 + n // most
    while math.gcd(step, 6) > 1:
        step += 1
    return step


def scale_of(values: Values) -> Scale:
    """The scale of a data set of these numbers: by their type; by a usual range that holds nearly all of them; or else
    from about the smallest to about the largest of them. A few outliers never move it.
    """
    scale = _range_of(values)
    return scale if values.numbers in BY_TYPE else scale._replace(bits=8 if values.fit(scale) else 16)


def _range_of(values: Values) -> Scale:
    numbers, low, high, some, _ = values
    if numbers in BY_TYPE:
        return BY_TYPE[numbers]
    if not len(some):
        return Scale(numbers, 0.0, 1.0)
    inked = some[some != 0]
    least, most = (0.0, 0.0) if not len(inked) else np.quantile(inked, (_FEW, 1 - _FEW)).tolist()
    if numbers == "int" and low >= 0:
        if high <= 255 or (most <= 255 and high <= 510):
            return Scale(numbers, 0.0, 255.0)
        if high <= 65535:
            return Scale(numbers, 0.0, 65535.0)
    for black, white in _NATURAL if numbers == "float" else ():
        if black <= least and most <= white and max(abs(least), abs(most)) >= white / 16:
            return Scale(numbers, black, white)
    least, most = np.quantile(some, (_FEW, 1 - _FEW)).tolist()
    low, high = (max(low, 2 * least - most), min(high, 2 * most - least)) if most > least else (low, high)
    if numbers == "int":
        low, high = float(np.floor(low)), float(np.ceil(high))
    return Scale(numbers, low, high if high > low else low + 1)


def scale_for(numbers: str, scale: Scale) -> Scale:
    """The scale for numbers of this type in a data set that is read by `scale`."""
    if numbers == scale.numbers or not scale.natural:
        return scale._replace(numbers=numbers, bits=scale.bits if numbers == scale.numbers else 16)
    if numbers in BY_TYPE:
        return BY_TYPE[numbers]
    return Scale(numbers, 0.0, 1.0 if numbers == "float" else max(255.0, scale.high))


def versions() -> list[str | None]:
    """The versions of all decoding libraries."""
    import PIL

    return [PIL.__version__, *map(features.version, ("jpg", "libtiff", "zlib", "webp"))]


def identity(image: Image.Image) -> bytes:
    """The bytes that determine how an image in memory looks: pixels, palette, transparency, orientation."""
    palette = image.palette
    colours = b"" if palette is None else f"{palette.mode} ".encode() + palette.tobytes()
    info = (image.info.get("transparency"), _orientation(image))
    return b"\0".join([f"{image.mode} {image.size} {info}".encode(), colours, image.tobytes()])


def open_image(source: bytes | Path | str) -> Image.Image:
    """Open an encoded image lazily: the header is read and checked, no pixel is decoded.

    Raises `ValueError` with a short reason for a file that is no image, or an image above `MAX_PIXELS`.
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
    if image.mode == "RGB" and _tags(image)[0] == 4 and getattr(image, "_planar_configuration", 1) != 2:
        image._mode = "RGBX"  # Pillow would leave the fourth band out
    return image


def _too_large(size: str = "") -> str:
    return f"{size}more than the {MAX_PIXELS // 1_000_000} megapixels that are decoded"


def probe(source: bytes | Path | Image.Image) -> Header:
    """Size and depth from the header alone."""
    image = source if isinstance(source, Image.Image) else open_image(source)
    deep = image.mode.startswith(_DEEP)
    wide = deep and _deep_numbers(image) != "uint16"
    return Header(image.width, image.height, _is_grey(image), deep, 4 * _is_four_bands(image), wide)


def probe_array(array: NDArray[Any]) -> Header:
    """The same for pixels in memory, [H W], [H W C] or [C H W]."""
    height, width, channels = _channels_last(array).shape
    numbers_of(array.dtype)
    bands = channels if channels in (2, 4) else 0
    return Header(width, height, channels == 1, array.dtype.itemsize > 1, bands)


def values(source: bytes | Path | Image.Image) -> Values | None:
    """The numbers of an image file whose type defines no black and white; None for any other file."""
    with open_image(source) if not isinstance(source, Image.Image) else source.copy() as image:
        if not image.mode.startswith(_DEEP) or (numbers := _deep_numbers(image)) == "uint16":
            return None
        found = np.asarray(image)
        found = found[np.isfinite(found)].reshape(-1)
        if not len(found):
            return None
        some = found[:: _stride(len(found), 256)].astype(np.float64)
        return Values(numbers, float(found.min()), float(found.max()), some)


def decode(
    source: bytes | Path,
    size: int,
    channels: int,
    dtype: np.dtype | None = None,
    framing: Framing | None = None,
    **settings: Any,
) -> NDArray[Any]:
    """Decode an image file or its bytes to [C H W]; see `to_square`."""
    with open_image(source) as image:
        if framing is None:
            # JPEG can skip most of its work: decode at 1/2, 1/4 or 1/8, never below twice the size wanted.
            image.draft(image.mode, (2 * size, 2 * size))
        return to_square(image, size, channels, dtype, framing, **settings)


def to_square(
    image: Image.Image,
    size: int,
    channels: int,
    dtype: np.dtype | None = None,
    framing: Framing | None = None,
    *,
    scale: Scale | None = None,
    strict: bool = False,
    found: set[str] | None = None,
) -> NDArray[Any]:  # [C H W]
    """The image resized whole to `size` px a side, with 1 (grey), 3 (RGB) or 4 channels (bands of any meaning).

    uint8, or uint16 where one grey channel is requested and the source holds more than 8 bits; `dtype` forces either.
    Both scales mean the same: uint8 / 255 = uint16 / 65535. Numbers of 32 bits are read by `scale`, or else by their
    own range. `framing` replaces the resizing of the whole. What was done is added to `found`, see `FINDINGS`.

    ValueError where the image has other channels than requested; with `strict` also where it is in colour and grey is
    requested, or many of its values lie outside the scale.
    """
    found = set() if found is None else found
    if 0 in image.size:
        raise ValueError("has no pixels")
    look_at(image, found)
    numbers = _deep_numbers(image) if image.mode.startswith(_DEEP) else ""
    transparent, four = image.info.get("transparency"), _is_four_bands(image)
    image.load()
    image = _upright(image)
    if channels in (2, 4) and not (channels == 4 and four):
        raise ValueError(f"no image of {channels} bands, which are read here")
    if numbers:
        if channels == 3 and (dtype is None or dtype == np.uint8):
            found.add("shallow")
        if channels == 1 and dtype == np.uint8:
            found.add("deep")
        if numbers != "uint16" and (scale is None or scale.numbers in BY_TYPE) and not strict:
            found.add("wide")
        grey = np.asarray(image)
        if numbers == "uint16" and isinstance(transparent, int):
            found |= {"opacity"} if (grey == transparent).any() else set()
            grey = np.where(grey == transparent, np.uint16(65535), grey)
        rule = scale_for(numbers, scale) if scale is not None else scale_of(Values.of(lambda: iter([grey])))
        plane = _resize_deep(_sixteen_bits(grey, rule, strict, found).astype(np.float32), size, framing)
        return _as(
            np.repeat(plane[None], channels, axis=0), dtype or np.dtype(np.uint16 if channels == 1 else np.uint8)
        )
    if dtype == np.uint16:
        found.add("eight")
    if channels == 4:
        planes = [_resize(band, size, framing) for band in image.split()]
        return _as(np.stack([np.asarray(plane) for plane in planes]), dtype or np.dtype(np.uint8))
    if four:
        found.add("bands")
        image = Image.merge("RGB", image.split()[:3])
    if channels == 1 and not _is_grey(image):
        found.add("colour")
        if strict and not _agrees(_plain(image, 3, set())):
            raise ValueError("in colour, and the encoder reads grey images: convert it")
    image = _resize(_plain(image, channels, found), size, framing)
    square = np.asarray(image)
    square = np.repeat(square[None], channels, axis=0) if square.ndim == 2 else square.transpose(2, 0, 1)
    return _as(square, dtype or np.dtype(np.uint8))


def array_to_square(
    array: NDArray[Any],
    size: int,
    channels: int,
    dtype: np.dtype | None = None,
    framing: Framing | None = None,
    *,
    scale: Scale | None = None,
    strict: bool = False,
    found: set[str] | None = None,
) -> NDArray[Any]:  # [C H W]
    """The same for pixels already in memory, of any numbers: [H W], [H W C] or [C H W] with 1 to 4 channels.

    A second or a fourth channel counts as any other, whatever its meaning.
    """
    found = set() if found is None else found
    array = _channels_last(array)  # [H W C]
    if not array.size:
        raise ValueError("has no pixels")
    numbers = numbers_of(array.dtype)
    rule = scale_for(numbers, scale) if scale is not None else scale_of(Values.of(lambda: iter([array])))
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif rule != BY_TYPE.get(numbers):
        array = _sixteen_bits(array, rule, strict, found)
        dtype = dtype or rule.dtype
        array = _as(array, rule.dtype)
    if dtype == np.uint16 and numbers == "uint8":
        found.add("eight")
    height, width, bands = array.shape
    if bands != channels and bands in (2, 4):
        opacity = "; if the fourth is opacity, give a PIL image of mode RGBA" if bands == 4 else ""
        raise ValueError(f"an array of {bands} channels, where {channels} are read{opacity}")
    if bands != channels and channels in (2, 4):
        raise ValueError(f"an array of {bands} channels, where {channels} are read")
    if strict and channels == 1 and bands == 3 and not _agrees(array):
        raise ValueError("in colour, and the encoder reads grey images: convert it")
    whole = framing is None or framing.edge in (0, size)
    as_they_are = whole and (height, width, bands) == (size, size, channels)
    if array.dtype == np.uint16:
        array = array if as_they_are else _deep_to_square(array, size, channels, framing)
        return _as(array.transpose(2, 0, 1), dtype or np.dtype(np.uint16))
    if as_they_are:
        return _as(array.transpose(2, 0, 1), dtype or np.dtype(np.uint8))
    if bands in (2, 4):
        planes = [np.asarray(_resize(Image.fromarray(array[..., band]), size, framing)) for band in range(bands)]
        return _as(np.stack(planes), dtype or np.dtype(np.uint8))
    return to_square(Image.fromarray(array[..., 0] if bands == 1 else array), size, channels, dtype, framing)


def blocks_of(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Iterate over a stack of images, block by block."""
    step = max(1, _BLOCK // max(1, images[0].size))
    return (images[first : first + step] for first in range(0, len(images), step))


def look_at(image: Image.Image, found: set[str]) -> None:
    """Add to `found` what a file holds beyond what is read of it; call this before its pixels are loaded."""
    tile: Any = getattr(image, "tile", None)
    if not tile or image.tell() > 0:  # in memory, or a frame chosen by the caller
        return
    raw = tile[0][3]
    raw = raw[0] if isinstance(raw, tuple) and raw else raw
    if ";16" in str(raw) and not image.mode.startswith(_DEEP):
        found.add("shallow")
    if _tags(image)[0] > len(image.getbands()):
        found.add("bands")
    if image.format in ("TIFF", "PNG", "WEBP", "GIF") and _has_more(image):
        found.add("frames")


def _has_more(image: Image.Image) -> bool:
    if image.format != "GIF":
        return bool(getattr(image, "n_frames", 1) > 1)
    try:
        image.seek(1)
    except (EOFError, OSError, ValueError, SyntaxError):
        return False
    finally:
        image.seek(0)
    return True


def _tags(image: Image.Image) -> tuple[int, tuple[int, ...]]:
    """The number of bands of a TIFF file, and the meanings of those beyond grey or colour."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return 0, ()
    extra = tags.get(338, ())
    return int(tags.get(277, 1)), extra if isinstance(extra, tuple) else (extra,)


def _is_four_bands(image: Image.Image) -> bool:
    """Whether an image has a fourth band that is not opacity."""
    if image.mode == "RGBX":
        return True
    bands, extra = _tags(image)
    return image.mode == "RGBA" and bands == 4 and not any(of in (1, 2) for of in extra[:1])


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        palette = np.asarray(image.getpalette() or [], dtype=np.uint8).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La") or image.mode.startswith(_DEEP)


def _agrees(colour: Image.Image | NDArray[Any]) -> bool:
    """Whether the three channels are equal, but for the rounding of JPEG."""
    channels = np.asarray(colour).astype(np.int32)
    spread = int((channels.max(-1) - channels.min(-1)).max(initial=0))
    return spread <= _AGREE * (257 if np.asarray(colour).dtype == np.uint16 else 1)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, struct.error, ValueError, KeyError, TypeError, OSError):
        return 1  # broken metadata, but sound pixels


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
    except (SyntaxError, struct.error, ValueError, KeyError, TypeError):
        return image


def _plain(image: Image.Image, channels: int, found: set[str]) -> Image.Image:
    """8 bits as L or RGB, without transparency; grey stays L even where three channels are wanted."""
    if image.mode == "LAB":
        from PIL import ImageCms

        image = ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), _srgb(), outputMode="RGB") or image
    if image.mode == "La":
        image = _unmultiplied(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if np.asarray(image)[..., 3].min(initial=255) < 255:
            found.add("opacity")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    wanted = "L" if channels == 1 or image.mode in ("1", "L") else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _srgb() -> Any:
    from PIL import ImageCms

    return ImageCms.createProfile("sRGB")


def _unmultiplied(image: Image.Image) -> Image.Image:
    """Undo the multiplication of grey by its opacity; Pillow does so for colour alone."""
    grey, opacity = image.split()
    return Image.merge("RGBa", [grey, grey, grey, opacity]).convert("RGBA")


def _resize(image: Image.Image, size: int, framing: Framing | None = None) -> Image.Image:
    if framing is not None:
        return _framed(image, size, framing)
    if image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _framed(image: Image.Image, size: int, framing: Framing) -> Image.Image:
    """Resize the whole and crop its centre, padded with black where it is smaller."""
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
    else:  # of so narrow a picture, resize the centre alone, which rounds a little differently
        ends = min(width, right * width / wide), min(height, bottom * height / high)
        part = image.resize(
            (right - left, bottom - top), filter_, box=(left * width / wide, top * height / high, *ends)
        )
    if part.size == (size, size):
        return part
    square = Image.new(part.mode, (size, size))
    square.paste(part, (-((part.width - size) // 2), -((part.height - size) // 2)))
    return square


def _deep_numbers(image: Image.Image) -> str:
    """The class of numbers of a mode of more than 8 bits."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return "uint16"
    return "float" if image.mode == "F" else "int"


def _sixteen_bits(array: NDArray[Any], rule: Scale, strict: bool, found: set[str]) -> NDArray[np.uint16]:
    """Scale numbers to 16 bits. ValueError for NaN and infinity, with `strict` also for many outside the scale."""
    if array.dtype == np.uint16 and rule == BY_TYPE["uint16"]:
        return array
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("holds values that are no numbers (NaN or infinite); fill them in")
    at = (array.astype(np.float64) - rule.low) / (rule.high - rule.low)
    beyond = (at < -1e-6) | (at > 1 + 1e-6)
    if beyond.any():
        found.add("clipped")
        if strict and beyond.sum() > _MOST_OUTSIDE * np.count_nonzero(array):
            reach = f"{float(array.min()):,.6g} to {float(array.max()):,.6g}"
            raise ValueError(f"values from {reach}, where {rule.describe()}; scale them so")
    deep: NDArray[np.uint16] = np.rint(at * 65535).clip(0, 65535).astype(np.uint16)
    return deep


def _resize_deep(pixels: NDArray[np.float32], size: int, framing: Framing | None = None) -> NDArray[np.uint16]:
    # Pillow's 16-bit modes differ by platform; 32-bit floats hold every 16-bit integer exactly.
    resized = np.asarray(_resize(Image.fromarray(pixels), size, framing))
    deep: NDArray[np.uint16] = np.rint(resized).clip(0, 65535).astype(np.uint16)
    return deep


def _deep_to_square(
    array: NDArray[np.uint16], size: int, channels: int, framing: Framing | None = None
) -> NDArray[np.uint16]:
    """[H W C] to [size size channels]."""
    colour = array.astype(np.float32)
    if channels == 1 and array.shape[2] == 3:
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
    """Convert between the two scales: 0..255 and 0..65535."""
    square = np.ascontiguousarray(square)
    if square.dtype == dtype:
        return square
    if dtype == np.uint16:
        return square.astype(np.uint16) * np.uint16(257)
    return ((square.astype(np.uint32) + 128) // 257).astype(np.uint8)
