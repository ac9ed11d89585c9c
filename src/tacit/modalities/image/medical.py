"""What a medical file tells before its images are decoded: their form, and numbers without black and white."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from tacit.data.worker import read_whole
from tacit.modalities.image.decode import Header, Values
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
