"""The images of a medical file as squares; and before, their form, and numbers without black and white."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.data.worker import read_whole
from tacit.modalities.image.decode import BY_TYPE, Header, Scale, Values, array_to_square
from tacit.modalities.image.framing import Framing
from tacit.modalities.medical import dicom, files, nifti

_LOOKED_AT = 32  # images of a file whose values stand for all of them
_SOME, _MOST = 64, 1024  # values of an image, and of a file, that a scale rests on


def header(source: bytes | Path, form: str) -> Header:
    """Size and depth. ValueError where there is no image."""
    if form == files.VOLUME:
        first = next(nifti.images(source), None)
        if first is None:
            raise ValueError("holds no image")
        deep = first.dtype != np.uint8
        return Header(first.shape[1], first.shape[0], first.ndim == 2, deep, 0, deep)
    ds = dicom.read(read_whole(source))
    if not dicom.holds_image(ds):
        raise ValueError("holds no image")
    width, height, grey, deep, wide = dicom.form(ds)
    return Header(width, height, grey, deep, 0, wide)


def values(source: bytes | Path, form: str) -> Values | None:
    """The numbers of a file that have no black and white of their own; None of any other."""
    low, high, some = np.inf, -np.inf, []
    for image in islice(files.images(source, form, windowed=False), _LOOKED_AT if form == files.DICOM else None):
        if image.dtype.kind == "f" and len(finite := image[np.isfinite(image)]):
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            some.append(finite[:: 1 + len(finite) // _SOME])
    if not some:
        return None
    together = np.concatenate(some).astype(np.float64)
    return Values("float", low, high, together[:: 1 + len(together) // _MOST])


def squares(
    source: bytes | Path,
    form: str,
    size: int,
    channels: int,
    dtype: np.dtype[Any] | None,
    framing: Framing | None,
    *,
    scale: Scale | None,
    strict: bool,
    found: set[str] | None = None,
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Each image of a file with its square, as `decode.decode` gives it for a picture.

    ValueError where images have no window of their own, while those that an encoder was trained on had.
    """
    found = set() if found is None else found
    windowed = scale is None or scale.numbers in BY_TYPE
    for image in files.images(source, form, windowed=windowed):
        deep, grey = image.dtype != np.uint8, image.ndim == 2
        if grey and image.dtype.kind == "f" and windowed:
            if strict:
                raise ValueError("has no window of its own, by which the encoder's images were read")
            found.add("wide")
        found |= {"windowed"} if grey and image.dtype == np.uint16 else set()
        found |= {"colour"} if channels == 1 and not grey else set()
        found |= {"deep" if channels == 1 else "shallow"} if deep and dtype == np.uint8 else set()
        own = scale if image.dtype.kind == "f" else None  # others have their own black and white
        yield image, array_to_square(image, size, channels, dtype, framing, scale=own, strict=strict, found=found)
