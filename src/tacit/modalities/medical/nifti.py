"""NIfTI, MGH and what else nibabel reads, as slices.

A volume is brought into its closest canonical orientation (right, anterior, superior) and its numbers are scaled as its
header says. It is cut along the axis of the coarsest spacing, the head-foot axis where spacings agree; what has more
than three axes is cut volume by volume. Slices lie as DICOM's do: columns run to the patient's left or to the back,
rows to the back or to the feet.
"""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.modalities.medical.dicom import INSTALL, About

HEAD = 352  # bytes that tell

_ALIKE = 1.01  # of two spacings that count as one
_MGH = b"\0\0\0\1"
_SUFFIXES = (".nii", ".nii.gz", ".mgh", ".mgz", ".mgh.gz", ".mnc", ".hdr")


def known(head: bytes) -> bool:
    """Whether a file that begins so holds a volume: NIfTI of either version, or the header of a pair of files."""
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0"):
        return True
    return any(  # Analyze: the size of its header, and the number of axes
        head[:4] == struct.pack(f"{order}i", 348) and 1 <= struct.unpack_from(f"{order}h", head, 40)[0] <= 7
        for order in "<>"
        if len(head) > 42
    )


def packed(head: bytes) -> bool:
    """Whether bytes that begin so, and are no picture, can be a volume: compressed, or MGH, which has no mark."""
    return head[:2] == b"\x1f\x8b" or head[:4] == _MGH


def read(source: bytes | Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The volumes [X Y Z V] or, in colour, [X Y Z V 3], and the spacing [3] in mm.

    ValueError where they cannot be read.
    """
    try:
        import nibabel
        import nibabel.affines
    except ImportError:
        raise ValueError(f"a medical volume, and reading these needs a library: {INSTALL}") from None
    try:
        image = _opened(source, nibabel)
        if len(image.shape) > 2:
            image = nibabel.as_closest_canonical(image)
        data = np.asanyarray(image.dataobj)
        spacing = nibabel.affines.voxel_sizes(image.affine)[:3]
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.strerror is None:  # nibabel's own, and gzip's
            raise ValueError("not a volume, or a damaged one") from None
        raise
    except Exception:
        raise ValueError("not a volume, or a damaged one") from None
    colour: tuple[int, ...] = ()
    if data.dtype.names:
        if not {"R", "G", "B"} <= {*data.dtype.names}:
            raise ValueError("its voxels are no numbers")
        data, colour = np.stack([data[name] for name in "RGB"], axis=-1), (3,)
    if data.dtype.kind not in "iufb":
        raise ValueError("its voxels are complex numbers; save their magnitude")
    if not data.size:
        raise ValueError("holds no voxel")
    axes = data.ndim - len(colour)
    data = data.reshape(*(*data.shape[:axes], 1, 1, 1)[:3], -1, *colour)
    return data, np.asarray(spacing, np.float64)


def about(source: bytes | Path) -> About | None:
    """The shape of the volumes of a file; None where it cannot be read."""
    try:
        import nibabel

        shape = _opened(source, nibabel).shape
    except (MemoryError, OSError):
        raise
    except Exception:
        return None
    return About(shape=tuple(map(int, (*shape, 1, 1, 1)[:3])), dicom=False)


def images(source: bytes | Path) -> Iterator[NDArray[Any]]:
    """Each slice [H W]: uint8 as it is stored, anything else as float32; in colour [H W 3] of uint8."""
    data, spacing = read(source)
    axis = _axis(data.shape[:3], spacing)
    for volume in range(data.shape[3]):
        for place in range(data.shape[axis]):
            part = np.take(data[:, :, :, volume], place, axis=axis)
            plane = part[::-1, ::-1].swapaxes(0, 1)
            yield plane if plane.dtype == np.uint8 else plane.astype(np.float32)


def _axis(shape: tuple[int, ...], spacing: NDArray[Any]) -> int:
    """The axis of a single slice, or of the coarsest spacing: the last one of those that agree."""
    single = [axis for axis in range(3) if shape[axis] == 1]
    if len(single) == 1:
        return single[0]
    return max(axis for axis in range(3) if spacing[axis] * _ALIKE >= max(spacing))


def _opened(source: bytes | Path, nibabel: Any) -> Any:
    """The image of a file by its ending, or of bytes by how they begin."""
    if isinstance(source, Path) and source.name.lower().endswith(_SUFFIXES):
        return nibabel.load(source)
    data = source.read_bytes() if isinstance(source, Path) else source
    if data[:2] == b"\x1f\x8b":
        with gzip.open(io.BytesIO(data)) as file:
            data = file.read()
    if data[:4] == _MGH:
        return nibabel.MGHImage.from_bytes(data)
    return (nibabel.Nifti2Image if data[4:6] == b"n+" else nibabel.Nifti1Image).from_bytes(data)
