"""Medical files in a decoding process: which they are, and each image in them.

A file may hold none (a report, a plan), one, or many: frames of a DICOM object, slices of a volume. Numpy alone is
imported here; pydicom and nibabel where a file asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.data.worker import read_whole
from tacit.modalities.image import dicom, nifti
from tacit.modalities.image.decode import Header, Values
from tacit.modalities.image.options import DICOM_ENDINGS, PICTURES, VOLUME_ENDINGS

DICOM, VOLUME = "dicom", "volume"

_LOOKED_AT = 32  # images of a file whose values stand for all of them
_SOME, _MOST = 64, 1024  # values of an image, and of a file, that a scale rests on


def known(head: bytes) -> bool:
    """Whether a file without a usual ending that begins so is a medical one."""
    return dicom.known(head) or nifti.known(head)


def form(source: bytes | Path) -> str:
    """`DICOM`, `VOLUME`, or nothing for a picture."""
    if isinstance(source, bytes):
        head = source[: nifti.HEAD]
        if dicom.known(head):
            return DICOM
        return VOLUME if nifti.known(head) or nifti.packed(head) else ""
    name = source.name.lower()
    if name.endswith(PICTURES):
        return ""
    if name.endswith((*DICOM_ENDINGS, *VOLUME_ENDINGS)):
        return DICOM if name.endswith(DICOM_ENDINGS) else VOLUME
    with source.open("rb") as file:
        head = file.read(nifti.HEAD)
    return DICOM if dicom.known(head) else VOLUME if nifti.known(head) else ""


def header(source: bytes | Path, form: str) -> Header:
    """Size and depth. ValueError where there is no image."""
    if form == VOLUME:
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


def images(source: bytes | Path, form: str, *, windowed: bool) -> Iterator[NDArray[Any]]:
    """Each image of a file, see `dicom.images` and `nifti.images`."""
    if form == VOLUME:
        return nifti.images(source)
    ds = dicom.read(read_whole(source))
    return dicom.images(ds, windowed=windowed) if dicom.holds_image(ds) else iter(())


def values(source: bytes | Path, form: str) -> Values | None:
    """The numbers of a file that have no black and white of their own; None of any other."""
    low, high, some = np.inf, -np.inf, []
    for image in islice(images(source, form, windowed=False), _LOOKED_AT if form == DICOM else None):
        if image.dtype.kind == "f" and len(finite := image[np.isfinite(image)]):
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            some.append(finite[:: 1 + len(finite) // _SOME])
    if not some:
        return None
    together = np.concatenate(some).astype(np.float64)
    return Values("float", low, high, together[:: 1 + len(together) // _MOST])
