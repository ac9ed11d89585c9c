"""DICOM files as images, by the standard's own steps, as pydicom documents them (PS3.3, C.7.6.3 and C.11).

    decode -> palette -> YBR to RGB -> modality lookup table or rescale -> VOI lookup table or window -> MONOCHROME1

MONOCHROME1 (the least value is white) is turned over last, since the standard means it of what the window has made.
Windowed grey values have 16 bits from black to white; without a window they stay the numbers that the file means, such
as Hounsfield units. Eight plain bits and colour stay as they are.

Nothing of a header is part of an error: pydicom's own may quote any element.
"""

from __future__ import annotations

import io
import logging
import math
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.modalities.medical.geometry import AXIAL

HEAD = 132  # bytes that tell: the preamble and DICM
MAX_PIXELS = 80_000_000  # of a frame, as of a picture
INSTALL = 'pip install "tacit-learn[medical]"'

_REPRESENTATIONS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_EXTENDED_JPEG = "1.2.840.10008.1.2.4.51"  # of 8 or 12 bits
_NO_IMAGES = frozenset(["SEG", "RTDOSE"])  # modalities of grids that lie over images
_GREY = ("MONOCHROME1", "MONOCHROME2")
_READ_BY = ("PixelValueTransformationSequence", "FrameVOILUTSequence")  # of enhanced objects, for all frames or for one
_SCREENED = frozenset(["US", "IVUS", "SC", "OT", "XC", "ES", "GM", "DOC"])  # modalities that often show text
_SCREEN = tuple(f"1.2.840.10008.5.1.4.1.1.{of}" for of in (7, 6, 3))  # screen captures and ultrasound
_HEAD = ("HEAD", "BRAIN", "SKULL", "FACE", "ORBIT", "SINUS", "IAC", "NEURO")
_FACED = frozenset(["CT", "MR", "PT"])

# What decides how a grey value is shown: tables, or else numbers and words.
_BY_TABLE = ("ModalityLUTSequence", "VOILUTSequence")
_BY_NUMBER = (
    *("PhotometricInterpretation", "BitsStored", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction"),
)
_MANY = 1 << 16  # values of a frame, from which on it is quicker to look each of them up
_KEPT = 64
_shown_as: dict[
    tuple[str, ...], NDArray[Any]
] = {}  # what each value of 16 bits is shown as; slices of a series share it

# All that is ever read of a header beside how its pixels are read.
_TAGS = (
    *("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "SeriesInstanceUID"),
    *("Modality", "BodyPartExamined", "Laterality", "ImageLaterality", "Manufacturer", "ManufacturerModelName"),
    *("InstitutionName", "ProtocolName", "BurnedInAnnotation", "SOPClassUID", "SpecificCharacterSet"),
    *("AccessionNumber", "TemporalPositionIdentifier", "EchoNumbers"),
    *("Rows", "Columns", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient"),
)


class About(NamedTuple):
    """What a header states of an image beside its pixels. It is read and used, and kept nowhere."""

    patient: tuple[str, ...] = ()  # what names them, () where nothing does
    study: str = ""
    series: str = ""
    modality: str = ""
    body_part: str = ""
    laterality: str = ""
    manufacturer: str = ""
    model: str = ""
    site: str = ""
    protocol: str = ""
    burnt: bool = False  # text may be part of the pixels
    head: bool = False  # a scan from which a face may be made
    accession: str = ""
    moment: str = ""  # of several scans under one name, which one
    shape: tuple[int, ...] = ()  # frames or slices, rows and columns; () where there is no image
    position: tuple[float, ...] = ()  # mm, of the first value; () where a header does not tell
    orientation: tuple[float, ...] = ()  # of rows and of columns
    dicom: bool = True


class Place(NamedTuple):
    """Where a frame lies in the patient, in mm."""

    position: tuple[float, ...]  # of its first value
    orientation: tuple[float, ...]  # of rows and of columns, cosines
    spacing: tuple[float, ...]  # of rows and of columns


def known(head: bytes) -> bool:
    """Whether a file that begins so is one of DICOM: by its preamble, or by a plausible first element without one."""
    if head[128:HEAD] == b"DICM":
        return True
    if len(head) < 20:
        return False
    for order in "<>":
        group, element = struct.unpack_from(f"{order}HH", head)
        if group in (2, 8) and element <= 0x60 and head[4:6] in _REPRESENTATIONS:
            return True
    group, element, length = struct.unpack_from("<HHI", head)  # without a representation; the next one is of its group
    return group == 8 and element <= 0x60 and length <= 64 and head[8 + length : 10 + length] == b"\x08\0"


@cache
def library() -> Any:
    """pydicom, which says nothing by itself. ValueError where it is not installed."""
    try:
        import pydicom
        import pydicom.pixels
    except ImportError:
        raise ValueError(f"a DICOM file, and reading these needs a library: {INSTALL}") from None
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    return pydicom


def read(data: bytes) -> Any:
    """The header and the pixels, not yet decoded. ValueError where there is no header."""
    pydicom = library()
    try:
        if not known(data[:HEAD]):
            raise ValueError
        ds = pydicom.dcmread(io.BytesIO(data), force=True)
        if not len(ds) and not data[128:HEAD] == b"DICM":
            raise ValueError
        if not hasattr(ds, "file_meta"):
            ds.file_meta = pydicom.dataset.FileMetaDataset()
        if not ds.file_meta.get("TransferSyntaxUID"):
            implicit, little = ds.original_encoding
            names = {(True, True): "ImplicitVRLittleEndian", (False, True): "ExplicitVRLittleEndian"}
            ds.file_meta.TransferSyntaxUID = getattr(
                pydicom.uid, names.get((bool(implicit), bool(little)), "ExplicitVRBigEndian")
            )
    except MemoryError:
        raise
    except Exception:
        raise ValueError("not a DICOM file, or its header is damaged") from None
    return ds


def holds_image(ds: Any) -> bool:
    """Whether there is one: no report, plan or directory, and no mask or dose that lies over one."""
    try:
        modality = str(ds.get("Modality", ""))
    except Exception:  # of an element that is damaged
        modality = ""
    return any(name in ds for name in _PIXELS) and modality not in _NO_IMAGES


def form(ds: Any) -> tuple[int, int, bool, bool, bool]:
    """Width and height in px; whether its first image is grey, holds more than 8 bits, and lacks a window."""
    try:
        view = _view(ds, 0)
        grey, window = _is_grey(view), _window(view)
        deep = not (_is_plain(view) and window is None) if grey else int(view.get("BitsStored") or 8) > 8
        return int(ds.Columns), int(ds.Rows), grey, deep, grey and deep and window is None
    except Exception:
        raise ValueError("its header does not say how its pixels are read") from None


def images(ds: Any, *, windowed: bool = True) -> Iterator[NDArray[Any]]:
    """Each frame: grey [H W] of uint8, of uint16 by its window or of float32 without one; colour [H W 3] of uint8 or
    uint16. ValueError where one cannot be decoded.
    """
    width, height, *_ = form(ds)
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} px, more than the {MAX_PIXELS // 1_000_000} megapixels that are decoded")
    if _view(ds, 0).get("RescaleSlope") == 0:
        raise ValueError("its rescale slope is 0, which leaves one grey value for all") from None
    frames, number = _frames(ds), 0
    while True:
        try:
            frame = next(frames, None)
            if frame is None:
                return
            image = _image(frame, _view(ds, number), windowed)
        except MemoryError:
            raise
        except Exception:
            raise ValueError(_why_not(ds)) from None
        yield image
        number += 1


def _frames(ds: Any) -> Iterator[NDArray[Any]]:
    """The decoded frames. A single one is read whole: pydicom 3.0 corrects the sign of JPEG 2000 only there."""
    pixels = library().pixels
    if int(ds.get("NumberOfFrames") or 1) == 1:
        yield pixels.pixel_array(ds, index=0)
    else:
        yield from pixels.iter_pixels(ds)


def about(source: bytes | Path) -> About:
    """What the header tells of whose image it is and where it comes from. ValueError where it cannot be read."""
    pydicom = library()
    where = source if isinstance(source, Path) else io.BytesIO(source)
    try:
        ds = pydicom.dcmread(where, force=True, stop_before_pixels=True, specific_tags=list(_TAGS))
        tags = {name: _text(ds.get(name)) for name in _TAGS}
    except (MemoryError, OSError):
        raise
    except Exception:
        raise ValueError("not a DICOM file, or its header is damaged") from None
    modality, part, burnt = tags["Modality"], tags["BodyPartExamined"], tags["BurnedInAnnotation"].upper()
    patient: tuple[str, ...] = ()
    if tags["PatientID"]:
        patient = ("id", tags["PatientID"], tags["IssuerOfPatientID"])
    elif tags["PatientName"]:
        patient = ("name", tags["PatientName"].upper(), tags["PatientBirthDate"])
    size = [int(tags[name] or 0) for name in ("Rows", "Columns")]
    frames = int(tags["NumberOfFrames"] or 1)
    shows_text = modality in _SCREENED or tags["SOPClassUID"].startswith(_SCREEN)
    return About(
        patient,
        tags["StudyInstanceUID"],
        tags["SeriesInstanceUID"],
        modality,
        part,
        tags["Laterality"] or tags["ImageLaterality"],
        tags["Manufacturer"],
        tags["ManufacturerModelName"],
        tags["InstitutionName"],
        tags["ProtocolName"],
        burnt == "YES" or (shows_text and burnt != "NO"),
        modality in _FACED and part.upper().startswith(_HEAD),
        tags["AccessionNumber"],
        " ".join((tags["TemporalPositionIdentifier"], tags["EchoNumbers"])),
        (frames, *size) if all(size) and modality not in _NO_IMAGES else (),
        _numbers(ds.get("ImagePositionPatient"), 3),
        _numbers(ds.get("ImageOrientationPatient"), 6),
    )


def places(ds: Any) -> list[Place]:
    """Where each frame lies; frames that do not say so lie one after the other. ValueError where it makes no sense."""
    try:
        frames = int(ds.get("NumberOfFrames") or 1)
        return [_place(ds, number) for number in range(frames)]
    except Exception:
        raise ValueError("its header does not say where its slices lie") from None


def _place(ds: Any, number: int) -> Place:
    groups = _groups(ds, number)

    def found_in(sequence: str, name: str, many: int) -> tuple[float, ...]:
        items = [group[sequence][0] for group in groups if group.get(sequence)]
        return next((found for item in (*items, ds) if (found := _numbers(item.get(name), many))), ())

    orientation = found_in("PlaneOrientationSequence", "ImageOrientationPatient", 6) or AXIAL
    spacing = found_in("PixelMeasuresSequence", "PixelSpacing", 2) or (1.0, 1.0)
    position = found_in("PlanePositionSequence", "ImagePositionPatient", 3)
    if int(ds.get("NumberOfFrames") or 1) > 1 and not any(group.get("PlanePositionSequence") for group in groups):
        between = found_in("PixelMeasuresSequence", "SpacingBetweenSlices", 1)
        apart = between or found_in("", "SliceThickness", 1) or (1.0,)
        normal = np.cross(orientation[:3], orientation[3:])
        position = tuple((np.asarray(position or (0.0, 0.0, 0.0)) + number * apart[0] * normal).tolist())
    return Place(position or (0.0, 0.0, 0.0), orientation, spacing)


def _numbers(value: Any, many: int) -> tuple[float, ...]:
    """So many finite numbers; () for any others."""
    try:
        found = tuple(float(of) for of in (value if many > 1 else [value]))
    except (TypeError, ValueError):
        return ()
    return found if len(found) == many and all(map(math.isfinite, found)) else ()


def _text(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())


# ---------------------------------------------------------------- the steps


def _groups(ds: Any, number: int) -> list[Any]:
    """What enhanced objects tell of all frames, and of this one."""
    groups = []
    for name, place in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", number)):
        sequence = ds.get(name)
        groups += [sequence[place]] if sequence and place < len(sequence) else []
    return groups


def _view(ds: Any, number: int) -> Any:
    """The elements by which a frame is read: the file's, and of enhanced objects those of all frames and of this."""
    groups = _groups(ds, number)
    items = [group[name][0] for group in groups for name in _READ_BY if group.get(name)]
    if not items:
        return ds
    view = ds.group_dataset(0x0028)
    view.file_meta = ds.file_meta
    for item in items:
        for element in item:
            view[element.tag] = element
    return view


def _image(frame: NDArray[Any], view: Any, windowed: bool) -> NDArray[Any]:
    """A frame by all steps. Where it has many grey values of 16 bits, each value goes through them once."""
    alone = view.get("PhotometricInterpretation") in _GREY and "BitsStored" in view
    if not alone or frame.size < _MANY or frame.dtype.itemsize != 2 or any(view.get(name) for name in _BY_TABLE):
        return _shown(frame, view, windowed)
    key = (frame.dtype.str, str(windowed), *(str(view.get(name)) for name in _BY_NUMBER))
    if key not in _shown_as:
        if len(_shown_as) >= _KEPT:
            _shown_as.clear()
        _shown_as[key] = _shown(np.arange(1 << 16, dtype=np.uint16).view(frame.dtype), view, windowed)
    return _shown_as[key][frame.view(np.uint16)]


def _shown(frame: NDArray[Any], view: Any, windowed: bool) -> NDArray[Any]:
    if view.get("PhotometricInterpretation") == "PALETTE COLOR":
        frame = library().pixels.apply_color_lut(frame, view)
        depth = int(view.RedPaletteColorLookupTableDescriptor[2])
        return _colour(frame[..., :3], 16 if frame.dtype.itemsize > 1 and depth > 8 else 8)
    if frame.ndim == 3:
        return _colour(frame[..., :3], int(view.get("BitsStored", 8 * frame.dtype.itemsize)))
    inverted = view.get("PhotometricInterpretation") == "MONOCHROME1"
    window = _window(view)
    if _is_plain(view) and window is None:
        white = 2 ** int(view.BitsStored) - 1
        plain = (frame if white == 255 else np.rint(frame * (255 / white)).clip(0, 255)).astype(np.uint8)
        return 255 - plain if inverted else plain
    values = frame if _is_identity(view) else library().pixels.apply_modality_lut(frame, view)
    if windowed and window is not None:
        shown = window.of(values, view)
        deep: NDArray[np.uint16] = np.rint(65535 * (1 - shown if inverted else shown)).astype(np.uint16)
        return deep
    values = values.astype(np.float32)
    return np.float32(sum(_range(view, values))) - values if inverted else values


def _colour(frame: NDArray[Any], bits: int) -> NDArray[Any]:
    """[H W 3] of 8 bits as they are, of any other number of them as 16."""
    if bits == 8:
        return frame.astype(np.uint8)
    deep: NDArray[np.uint16] = np.rint(frame * (65535 / (2.0**bits - 1))).clip(0, 65535).astype(np.uint16)
    return deep


class _Window(NamedTuple):
    """How grey values are shown: by a lookup table, or between black and white about a centre."""

    centre: float = 0.0
    width: float = 0.0  # 0: by the table
    function: str = "LINEAR"

    def of(self, values: NDArray[Any], view: Any) -> NDArray[np.float64]:
        """The values from 0 (black) to 1 (white)."""
        if not self.width:
            whole = values if values.dtype.kind in "iu" else np.rint(values).astype(np.int64)
            table = library().pixels.processing.apply_voi(whole, view)
            return np.asarray(table / (2.0 ** int(view.VOILUTSequence[0].LUTDescriptor[2]) - 1)).clip(0, 1)
        centre, width = self.centre, self.width
        if self.function == "SIGMOID":
            return np.asarray(1 / (1 + np.exp(-4 * (values.astype(np.float64) - centre) / width)))
        if self.function == "LINEAR":
            centre, width = centre - 0.5, width - 1
        shown = values.astype(np.float64)
        if width == 0:
            return np.asarray(shown > centre, np.float64)
        shown -= centre - width / 2
        shown /= width
        return shown.clip(0, 1, out=shown)


def _window(view: Any) -> _Window | None:
    """The first way to show them that a header gives; None where it gives none that makes sense."""
    if view.get("PhotometricInterpretation") not in _GREY:
        return None
    sequence = view.get("VOILUTSequence")
    if sequence and sequence[0].get("LUTDescriptor") is not None and sequence[0].get("LUTData") is not None:
        return _Window()
    centre, width = (_first(view.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = str(view.get("VOILUTFunction") or "LINEAR").upper()
    if centre is None or width is None or not math.isfinite(centre + width) or "BitsStored" not in view:
        return None
    least = 1.0 if function == "LINEAR" else 1e-12
    known_one = function in ("LINEAR", "LINEAR_EXACT", "SIGMOID")
    return _Window(centre, width, function) if known_one and width >= least else None


def _first(value: Any) -> float | None:
    """The first of one or several numbers."""
    if value is None or isinstance(value, str):
        return None
    several = value if hasattr(value, "__getitem__") else [value]
    return float(several[0]) if len(several) else None


def _is_grey(view: Any) -> bool:
    return int(view.get("SamplesPerPixel") or 1) == 1 and view.get("PhotometricInterpretation") != "PALETTE COLOR"


def _is_identity(view: Any) -> bool:
    """Whether stored values are the ones that are meant."""
    rescale = (view.get("RescaleSlope"), view.get("RescaleIntercept"))
    return not view.get("ModalityLUTSequence") and (None in rescale or tuple(map(float, rescale)) == (1.0, 0.0))


def _is_plain(view: Any) -> bool:
    """Whether grey values have 8 bits at most, and their own black and white."""
    bits = view.get("BitsStored")
    return bits is not None and int(bits) <= 8 and not view.get("PixelRepresentation") and _is_identity(view)


def _range(view: Any, values: NDArray[Any]) -> tuple[float, float]:
    """The least and the greatest value that can be stored, as what is meant by it."""
    bits = view.get("BitsStored")
    if bits is None:
        return float(values.min()), float(values.max())
    if tables := view.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** int(tables[0].LUTDescriptor[2]) - 1
    half = 2.0 ** (int(bits) - 1)
    low, high = (-half, half - 1) if view.get("PixelRepresentation") else (0.0, 2 * half - 1)
    if _is_identity(view):
        return low, high
    slope, intercept = float(view.RescaleSlope), float(view.RescaleIntercept)
    return low * slope + intercept, high * slope + intercept


def _why_not(ds: Any) -> str:
    """Why its pixels are not decoded, in words that quote nothing of the header."""
    try:
        uid = library().uid
        syntax = ds.file_meta.TransferSyntaxUID
        if syntax == _EXTENDED_JPEG and int(ds.BitsAllocated) > 8:
            return (
                "JPEG of 12 bits, which only pylibjpeg-libjpeg decodes (its licence is the GPL): "
                "pip install pylibjpeg-libjpeg"
            )
        if syntax not in uid.UID_dictionary:
            return "compressed in a private way that nobody else decodes"
        if syntax.is_compressed:
            return f"its pixels cannot be decoded ({syntax.name})"
        samples, frames = int(ds.get("SamplesPerPixel") or 1), int(ds.get("NumberOfFrames") or 1)
        if len(ds.PixelData) < frames * int(ds.Rows) * int(ds.Columns) * samples * int(ds.BitsAllocated) // 8:
            return "its pixel data are shorter than its header says"
    except Exception:
        return "its header does not say how its pixels are read"
    return "its pixels do not fit what its header says of them"
