"""Medical files in a decoding process: which they are, and each image in them.

A file may hold none (a report, a plan), one, or many: frames of a DICOM object, slices of a volume. Numpy alone is
imported here; pydicom and nibabel where a file asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tacit.data.worker import read_whole
from tacit.modalities.medical import dicom, nifti
from tacit.modalities.medical.names import DICOM_ENDINGS, PICTURES, VOLUME_ENDINGS

DICOM, VOLUME = "dicom", "volume"


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


def images(source: bytes | Path, form: str, *, windowed: bool) -> Iterator[NDArray[Any]]:
    """Each image of a file, see `dicom.images` and `nifti.images`."""
    if form == VOLUME:
        return nifti.images(source)
    ds = dicom.read(read_whole(source))
    return dicom.images(ds, windowed=windowed) if dicom.holds_image(ds) else iter(())
