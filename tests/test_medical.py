"""Medical files are read by the standard's steps, whatever they are called, and nothing of a header goes anywhere."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import tacit
from tacit.core.errors import UserError
from tacit.data.source import TEST
from tacit.encoders import build_encoder
from tacit.modalities.medical import dicom, nifti
from tests.test_private import left_in

pydicom = pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CT, CAPTURE, REPORT = (f"1.2.840.10008.5.1.4.1.1.{of}" for of in ("2", "7", "88.11"))
RNG = np.random.default_rng(0)
STORED = RNG.integers(-1000, 1000, (20, 16)).astype(np.int16)
EIGHT = RNG.integers(0, 256, (20, 16)).astype(np.uint8)
COLOUR = RNG.integers(0, 256, (20, 16, 3)).astype(np.uint8)

Written = Callable[..., Any]


def made(pixels: NDArray[Any] | None = None, *, kind: str = CT, bits: int | None = None, **elements: Any) -> Any:
    """A DICOM object of these pixels, [H W], [H W 3] or [F H W], and of these elements."""
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = kind
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    ds.Modality = {CT: "CT", REPORT: "SR"}.get(kind, "OT")
    if pixels is not None:
        colour = pixels.shape[-1] == 3
        ds.Rows, ds.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
        if colour:
            ds.PlanarConfiguration = 0
        elif pixels.ndim == 3:
            ds.NumberOfFrames = len(pixels)
        ds.BitsAllocated = 8 * pixels.itemsize
        ds.BitsStored = bits or ds.BitsAllocated
        ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(pixels.dtype.kind == "i")
        ds.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(ds, name, value)
    return ds


def table(values: NDArray[Any], first: int, bits: int) -> Any:
    """A sequence of one lookup table."""
    item = pydicom.Dataset()
    item.add_new(0x00283002, "SS" if first < 0 else "US", [len(values), first, bits])
    item.add_new(0x00283006, "OW", values.astype("<u2").tobytes())
    return pydicom.Sequence([item])


def palette() -> dict[str, Any]:
    told: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, step in (("Red", 1), ("Green", 2), ("Blue", 3)):
        told[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        told[f"{name}PaletteColorLookupTableData"] = (np.arange(256) * 80 * step).astype("<u2").tobytes()
    return told


def enhanced() -> Any:
    """Two frames, of which each has a rescale and a window of its own."""
    ds, groups = made(np.stack([STORED, STORED // 2])), []
    for number in range(2):
        group, values, window = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        values.RescaleSlope, values.RescaleIntercept = 1 + number, -10
        window.WindowCenter, window.WindowWidth = 40 * number, 400
        group.PixelValueTransformationSequence = pydicom.Sequence([values])
        group.FrameVOILUTSequence = pydicom.Sequence([window])
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = pydicom.Sequence(groups)
    return ds


def documented(ds: Any, windowed: bool) -> Iterator[NDArray[Any]]:
    """What pydicom's documentation says to do, one step after the other, as [0, 1] where it ends in a display."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

    decoded = pixel_array(ds)
    for number, frame in enumerate(decoded if int(ds.get("NumberOfFrames") or 1) > 1 else [decoded]):
        of = pydicom.Dataset()
        of.file_meta = ds.file_meta
        of.update(ds.group_dataset(0x0028))
        groups = (ds.get("SharedFunctionalGroupsSequence", [])[:1], ds.get("PerFrameFunctionalGroupsSequence", []))
        for group in (*groups[0], *groups[1][number : number + 1]):
            for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                for item in group.get(name, []):
                    of.update(item)
        if of.get("PhotometricInterpretation") == "PALETTE COLOR":
            coloured = apply_color_lut(frame, of)[..., :3]
            yield coloured / np.iinfo(coloured.dtype).max
            continue
        bits = of.get("BitsStored") or 0
        if frame.ndim == 3:
            yield frame / (2.0**bits - 1)
            continue
        values = apply_modality_lut(frame, of).astype(np.float64)
        slope, intercept = float(of.get("RescaleSlope", 1)), float(of.get("RescaleIntercept", 0))
        half = 2.0 ** (bits - 1)
        low, high = (-half, half - 1) if of.get("PixelRepresentation") else (0, 2 * half - 1)
        low, high = (low * slope + intercept, high * slope + intercept) if bits else (values.min(), values.max())
        window = [of.get(name) for name in ("WindowCenter", "WindowWidth")]
        shown = (None not in window and bits) or "VOILUTSequence" in of
        plain = bits and bits <= 8 and (slope, intercept) == (1, 0) and not of.get("PixelRepresentation")
        if windowed and shown:
            values = apply_voi_lut(np.rint(values).astype(np.int64) if "VOILUTSequence" in of else values, of)
            if "VOILUTSequence" in of:
                low, high = 0, 2.0 ** of.VOILUTSequence[0].LUTDescriptor[2] - 1
        values = low + high - values if of.get("PhotometricInterpretation") == "MONOCHROME1" else values
        yield (values - low) / (high - low) if (windowed and shown) or (plain and not shown) else values


def check(ds: Any) -> int:
    """How many frames were as documented."""
    for windowed in (True, False):
        found, right = list(dicom.images(ds, windowed=windowed)), list(documented(ds, windowed))
        assert len(found) == len(right)
        for image, wanted in zip(found, right, strict=True):
            if image.dtype.kind == "u":
                top = np.iinfo(image.dtype).max
                np.testing.assert_allclose(image, top * wanted, rtol=0, atol=1)
            else:
                np.testing.assert_allclose(image, wanted, rtol=1e-6)
    return len(found)


OBJECTS: dict[str, Callable[[], Any]] = {
    "rescaled": lambda: made(STORED, RescaleSlope=2, RescaleIntercept=-24),
    "a window": lambda: made(STORED, RescaleSlope=2, RescaleIntercept=-24, WindowCenter=40, WindowWidth=350),
    "two windows": lambda: made(STORED, WindowCenter=[40, -600], WindowWidth=[350, 1500]),
    "an exact window": lambda: made(STORED, WindowCenter=0, WindowWidth=100.5, VOILUTFunction="LINEAR_EXACT"),
    "a sigmoid": lambda: made(STORED, WindowCenter=0, WindowWidth=300, VOILUTFunction="SIGMOID"),
    "a table": lambda: made(STORED, VOILUTSequence=table(np.arange(2000) * 2, -1000, 12)),
    "12 bits, white is 0": lambda: made(
        np.abs(STORED).astype(np.uint16), bits=12, PhotometricInterpretation="MONOCHROME1"
    ),
    "a window, white is 0": lambda: made(
        STORED, PhotometricInterpretation="MONOCHROME1", WindowCenter=0, WindowWidth=900
    ),
    "8 bits": lambda: made(EIGHT, kind=CAPTURE),
    "8 bits, white is 0": lambda: made(EIGHT, PhotometricInterpretation="MONOCHROME1"),
    "8 bits, a window": lambda: made(EIGHT, WindowCenter=100, WindowWidth=90),
    "5 bits": lambda: made(EIGHT >> 3, bits=5),
    "palette": lambda: made(EIGHT, **palette()),
    "colour": lambda: made(COLOUR),
    "deep colour": lambda: made(COLOUR.astype(np.uint16) * 250),
    "luminance and chroma": lambda: made(COLOUR, PhotometricInterpretation="YBR_FULL"),
    "many values": lambda: made(
        np.tile(STORED, (13, 17)), RescaleSlope=2, RescaleIntercept=-24, WindowCenter=[9, 1], WindowWidth=[300, 2]
    ),
    "many values, white is 0": lambda: made(np.tile(STORED, (13, 17)), PhotometricInterpretation="MONOCHROME1"),
    "frames": lambda: made(np.stack([EIGHT, EIGHT // 2, EIGHT // 3])),
    "enhanced": enhanced,
}


@pytest.mark.parametrize("name", OBJECTS)
def test_pixels_go_through_the_steps_of_the_standard(name: str) -> None:
    assert check(OBJECTS[name]()) == {"frames": 3, "enhanced": 2}.get(name, 1)


def test_colour_and_eight_bits_stay_as_they_are() -> None:
    assert np.array_equal(next(dicom.images(made(COLOUR))), COLOUR)
    assert np.array_equal(next(dicom.images(made(EIGHT))), EIGHT)
    (turned,) = dicom.images(made(EIGHT, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(turned, 255 - EIGHT)


# ---------------------------------------------------------------- folders


def save(ds: Any, path: Path, *, preamble: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    if not preamble:
        path.write_bytes(path.read_bytes()[132:])


def slices(folder: Path, n: int, **elements: Any) -> None:
    """n slices of a CT, two of each patient, with a window."""
    for number in range(n):
        told = {"PatientID": f"P{number // 2}", "WindowCenter": 0, "WindowWidth": 900, **elements}
        save(made(STORED + number, **told), folder / f"{number}.dcm")


def test_a_folder_of_any_names_and_depths(tmp_path: Path, cached: Callable[..., Any]) -> None:
    folder = tmp_path / "pacs"
    window = {"WindowCenter": 0, "WindowWidth": 900}
    save(made(STORED, **window), folder / "a" / "IM000001")
    save(made(STORED + 1, **window), folder / "a" / "b" / "1.2.840.113619.2.55.3")
    save(made(STORED + 2, **window), folder / "no_preamble", preamble=False)
    save(made(np.stack([STORED + 3, STORED + 4]), **window), folder / "two.dcm")
    save(made(kind=REPORT), folder / "report.dcm")
    save(made(kind="1.2.840.10008.1.3.10"), folder / "DICOMDIR")
    save(made(STORED, Modality="SEG"), folder / "mask.dcm")
    for number in range(20):
        save(made(STORED - number, **window), folder / "many" / f"{number:02}.ima")
    (folder / "README").write_text("about these")
    (folder / "notes").write_text("0123456789" * 50)
    (folder / "broken.dcm").write_bytes((folder / "two.dcm").read_bytes()[:900])
    data = cached(folder, image_size=16)
    ids = data.ids.to_pylist()
    assert {"a/IM000001", "a/b/1.2.840.113619.2.55.3", "no_preamble", "two.dcm#0", "two.dcm#1"} <= {*ids}
    assert len(data) == 25
    assert data.cache.dtype == np.uint16
    said = " ".join(data.notes.lines())
    assert "broken.dcm: " in said
    assert "shorter than its header says" in said
    assert "3 files hold no image" in said
    assert "24 files were read by the window" in said
    wanted = next(dicom.images(made(STORED, **window)))
    assert abs(int(data.cache.pixels[ids.index("a/IM000001")].mean()) - wanted.mean()) < 300


def test_one_rule_for_all_where_a_window_lacks(tmp_path: Path, cached: Callable[..., Any]) -> None:
    slices(tmp_path / "ct", 6)
    save(made(STORED * 2), tmp_path / "ct" / "bare.dcm")
    data = cached(tmp_path / "ct", image_size=16)
    assert data.spec.scale.numbers == "float"
    assert data.spec.scale.low < -1500
    assert data.spec.scale.high > 1500
    slices(tmp_path / "shown", 6)
    windowed = cached(tmp_path / "shown", image_size=16)
    assert windowed.spec.scale.numbers == "uint16"
    for own, folder in ((data, "ct"), (windowed, "shown")):  # an encoder prepares a file as its data were read
        given = [tmp_path / folder / name for name in own.ids.to_pylist()]
        prepared = build_encoder("convnet", own.spec).prepare(given)["image"]
        assert torch.equal(prepared, own.batch(np.arange(len(own)))["image"])
    with pytest.raises(UserError, match="has no window of its own"):
        build_encoder("convnet", windowed.spec).prepare(tmp_path / "ct" / "bare.dcm")
    with pytest.raises(UserError, match=r"bare\.dcm: has no window of its own"):  # and an encoder reads as it has read
        cached(tmp_path / "ct", image_size=windowed.spec)


def test_without_the_libraries_one_line_says_what_to_install(
    tmp_path: Path, cached: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slices(tmp_path / "ct", 2)
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "pydicom.py").write_text("raise ImportError('absent')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "absent"))
    with pytest.raises(UserError, match=re.escape('pip install "tacit-learn[medical]"')):
        cached(tmp_path / "ct")


def misspelt(ds: Any, path: Path) -> bytes:
    """An object whose number of frames is a word."""
    ds.NumberOfFrames = 12345
    save(ds, path)
    path.write_bytes(path.read_bytes().replace(b"12345 ", b"zebra "))
    return path.read_bytes()


def test_errors_quote_nothing(tmp_path: Path) -> None:
    short = made(STORED, WindowCenter=0, WindowWidth=9)
    short.PixelData = short.PixelData[:40]
    private = made(STORED)
    private.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.3.zebra")
    word = dicom.read(misspelt(made(STORED), tmp_path / "word"))
    flat = made(STORED, RescaleSlope=0, RescaleIntercept=5)
    said = {"shorter than its header says": short, "in a private way": private, "its header does not say": word}
    said["its rescale slope is 0"] = flat
    for words, ds in said.items():
        with pytest.raises(ValueError, match=words) as caught:
            list(dicom.images(ds))
        assert "zebra" not in str(caught.value)
        assert caught.value.__suppress_context__
    with pytest.raises(ValueError, match="not a DICOM file"):
        dicom.read(b"zebra" * 100)


# ---------------------------------------------------------------- volumes


def volume(shape: tuple[int, ...], zooms: tuple[float, ...], dtype: Any = np.int16) -> Any:
    data = RNG.integers(0, 100, shape).astype(dtype)
    flipped = np.diag([-zooms[0], zooms[1], zooms[2], 1.0])
    return nibabel.Nifti1Image(data, flipped, dtype=dtype)


@pytest.mark.parametrize(
    ("shape", "zooms", "axis"),
    [
        ((5, 6, 7), (1.0, 1.0, 1.0), 2),
        ((5, 6, 7), (1.0, 3.0, 1.0), 1),
        ((5, 6, 7), (2.0, 1.0, 1.0), 0),
        ((5, 6, 7, 3), (1.0, 1.0, 4.0), 2),
        ((5, 6, 1), (1.0, 1.0, 0.1), 2),
    ],
)
def test_slices_are_cut_along_the_coarsest_axis(
    shape: tuple[int, ...], zooms: tuple[float, ...], axis: int, tmp_path: Path
) -> None:
    image = volume(shape, zooms)
    nibabel.save(image, tmp_path / "a.nii.gz")
    whole = nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii.gz")).get_fdata()
    whole = whole.reshape(*shape[:3], -1)
    planes = [np.take(whole[..., v], k, axis)[::-1, ::-1].T for v in range(whole.shape[3]) for k in range(shape[axis])]
    packed = (tmp_path / "a.nii.gz").read_bytes()
    for source in (tmp_path / "a.nii.gz", packed, gzip.decompress(packed)):
        found = list(nifti.images(source))
        assert len(found) == len(planes)
        assert all(np.array_equal(one, other) for one, other in zip(found, planes, strict=True))


def test_volumes_are_slices_of_their_subjects(tmp_path: Path, cached: Callable[..., Any]) -> None:
    for subject in range(3):
        for session in range(2):
            path = tmp_path / "bids" / f"sub-{subject:02}" / f"ses-{session}" / "anat"
            path.mkdir(parents=True)
            nibabel.save(volume((8, 9, 4), (1, 1, 5)), path / "T1w.nii.gz")
    mgh = nibabel.MGHImage(RNG.random((8, 9, 4), np.float32), np.eye(4))
    nibabel.save(mgh, tmp_path / "bids" / "other.mgz")
    pair = nibabel.AnalyzeImage(RNG.integers(0, 9, (8, 9, 4)).astype(np.int16), np.eye(4))
    nibabel.save(pair, tmp_path / "bids" / "x.hdr")
    data = cached(tmp_path / "bids", kind="image", image_size=8)
    assert len(data) == 8 * 4
    assert len(np.unique(data.group)) == 3 + 2
    ids = data.ids.to_pylist()
    groups = dict(zip(ids, data.group.tolist(), strict=True))
    assert groups["sub-01/ses-0/anat/T1w.nii.gz#0"] == groups["sub-01/ses-1/anat/T1w.nii.gz#3"]
    assert groups["sub-01/ses-0/anat/T1w.nii.gz#0"] != groups["sub-02/ses-0/anat/T1w.nii.gz#0"]
    assert "6 files are scans of heads" in " ".join(data.notes.lines())


def test_a_single_volume_is_read_slice_by_slice(tmp_path: Path, cached: Callable[..., Any]) -> None:
    nibabel.save(volume((8, 9, 6), (1, 1, 5)), tmp_path / "scan.nii.gz")
    data = cached(tmp_path, image_size=8)
    assert len(data) == 6
    prepared = build_encoder("convnet", data.spec).prepare(tmp_path / "scan.nii.gz")["image"]
    assert torch.equal(prepared, data.batch(np.arange(6))["image"])


# ---------------------------------------------------------------- whose they are


def test_patients_are_groups_unless_told_otherwise(tmp_path: Path, cached: Callable[..., Any]) -> None:
    folder = tmp_path / "ct"
    slices(folder, 8, StudyInstanceUID="1.2.3", Manufacturer="zebra")
    for name, told in {
        "issuer": {"PatientID": "P0", "IssuerOfPatientID": "here"},  # which the other files of P0 may leave out
        "one": {"PatientID": "P9", "IssuerOfPatientID": "here"},
        "other": {"PatientID": "P9", "IssuerOfPatientID": "elsewhere"},
        "name": {"PatientName": "Doe^Jane", "PatientBirthDate": "19310227"},
        "again": {"PatientName": "DOE^JANE", "PatientBirthDate": "19310227"},
        "nobody": {"StudyInstanceUID": "1.2.4"},
    }.items():
        save(made(STORED, WindowCenter=0, WindowWidth=90, Manufacturer="horse", **told), folder / f"{name}.dcm")
    data = cached(folder, image_size=8)
    groups = dict(zip(data.ids.to_pylist(), data.group.tolist(), strict=True))
    assert groups["0.dcm"] == groups["1.dcm"] != groups["2.dcm"]
    assert groups["name.dcm"] == groups["again.dcm"] != groups["nobody.dcm"]
    assert groups["issuer.dcm"] == groups["0.dcm"]
    assert groups["one.dcm"] != groups["other.dcm"]
    assert len({*groups.values()}) == 8
    said = " ".join(data.notes.lines())
    assert "grouped by patient (8)" in said
    assert "2 of manufacturer" in said
    assert not re.search("zebra|horse|Doe", said)
    (tmp_path / "ill.csv").write_text("PatientID,ill\nP0,yes\nP1,no\nP9,yes\nP77,no\nP2,no\n")
    labelled = cached(folder, image_size=8, labels=[str(tmp_path / "ill.csv")])
    assert labelled.label.tolist().count(-1) == 7  # two of P9, and those of whom no row is
    assert any(
        "3 of 5 rows of the label file have a PatientID found here; 1 have none: row 4; 1 have one that several "
        "patients share, and label nobody: row 3" in line
        for line in labelled.notes.lines()
    )
    other = cached(folder, image_size=8, group_column="study", holdout="manufacturer=horse")
    assert len(np.unique(other.group)) == 7
    assert (other.split == TEST).sum() == 6
    assert other.columns is None
    save(made(STORED, PatientID="P0", Manufacturer="horse"), folder / "moved.dcm")
    with pytest.raises(UserError, match="both sides of the test split"):
        cached(folder, image_size=8, holdout="manufacturer=horse")


def test_the_answer_for_a_patient_is_the_mean_over_what_is_theirs() -> None:
    from tacit.commands.predict import pooled

    first, mean = pooled(np.array([[0.2, 0.8], [0.9, 0.1], [0.6, 0.4]]), np.array([7, 3, 7]))
    assert first.tolist() == [0, 1]
    np.testing.assert_allclose(mean, [[0.4, 0.6], [0.9, 0.1]])
    assert pooled(np.array([2, 0, 1]), np.array([1, 1, 1]))[1].tolist() == [1]  # ordered classes


def planted(number: int) -> dict[str, Any]:
    """Elements that name somebody, in every representation of text, dates, times, UIDs and numbers."""
    return {
        "PatientID": f"zebraID{number // 2}",
        "PatientName": f"zebraNAME^{number // 2}",
        "PatientBirthDate": "19310227",
        "StudyDate": "19870604",
        "StudyTime": "031415.926535",
        "AcquisitionDateTime": "20010203040506.070809",
        "PatientAge": "077Y",
        "StudyInstanceUID": "1.2.826.0.1.5556667778.1",
        "InstitutionName": f"zebraSITE{number % 3}",
        "InstitutionAddress": "zebraADDRESS",
        "Manufacturer": f"zebraMAKER{number % 2}",
        "AccessionNumber": "zebraACCESSION",
        "StationName": "zebraSTATION",
        "ReferringPhysicianName": "zebraDOCTOR",
        "ImageComments": "zebraCOMMENT",
        "PatientComments": "zebraCOMMENT",
        "RetrieveAETitle": "zebraTITLE",
        "ProtocolName": "zebraPROTOCOL",
        "RetrieveURL": "http://zebraURL",
        "BurnedInAnnotation": "YES",
        "WindowCenter": 0,
        "WindowWidth": 900,
        "WindowCenterWidthExplanation": "zebraWINDOW",
    }


def hide_names_in(ds: Any) -> None:
    """Add names where they are read past: in private elements, an overlay and a long text."""
    block = ds.private_block(0x0099, "zebraCREATOR", create=True)
    block.add_new(1, "LO", "zebraPRIVATE")
    block.add_new(2, "OB", b"zebraBYTES")
    ds.add_new(0x60000022, "LO", "zebraOVERLAY")
    ds.add_new(0x00189074, "UT", "zebraTEXT")


def check_nothing_told(places: list[Path], shown: str) -> None:
    """Search every byte that a run has left, and what it has said, for what was planted."""
    for place in places:
        assert left_in(place) == {}
    told = b"".join(path.read_bytes() for place in places for path in place.rglob("*") if path.is_file())
    told += shown.encode()
    for word in (b"19310227", b"19870604", b"031415", b"20010203", b"077Y", b"5556667778", b"zebra", b"Zebra"):
        assert word not in told, word


def test_a_private_run_leaves_nothing_of_a_header(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "scans"
    for number in range(24):
        lines = 400 * (np.arange(20) % (2 + number % 5) > 0)[:, None] + 300 * (np.arange(16) > number % 16)
        ds = made((STORED // 4 + lines - 300).astype(np.int16), **planted(number))
        hide_names_in(ds)
        save(ds, folder / "zebraFOLDER" / f"zebraFILE{number}.dcm")
    misspelt(made(STORED, **planted(0)), folder / "zebraBROKEN.dcm")
    out, cache = tmp_path / "run", tmp_path / "cache"
    ask = {"budget": "1steps", "device": "cpu", "private": True, "image_size": 16, "cache": str(cache)}
    tacit.pretrain(str(folder), task="simclr", out=str(out), worst_group="manufacturer", **ask)
    shown = capsys.readouterr()
    check_nothing_told([out, cache], shown.out + shown.err)


# ---------------------------------------------------------------- files of others


@pytest.mark.skipif(not (SHARED / "dicom_samples").is_dir(), reason="pydicom's test files are not here")
@pytest.mark.filterwarnings("ignore")
def test_every_readable_sample_reads_as_documented_and_every_other_is_named() -> None:
    read, refused = 0, []
    for row in csv.DictReader((SHARED / "dicom_samples" / "index.csv").open()):
        path = SHARED / "dicom_samples" / row["file"]
        if not path.is_file():
            continue
        try:
            ds = dicom.read(path.read_bytes())
            assert not any(name in ds for name in dicom._PIXELS) or check(ds) >= 1
            read += 1
        except ValueError as error:
            refused.append((row["file"], str(error)))
    assert read > 70
    assert {name.rpartition("/")[2] for name, _ in refused} == {
        *("liver_deflate.dcm", "liver_nonbyte_aligned_deflate.dcm", "liver_nonbyte_aligned_rle.dcm"),
        *("JPEG2000-embedded-sequence-delimiter.dcm", "JPGExtended.dcm", "badVR.dcm", "meta_missing_tsyntax.dcm"),
        "no_meta.dcm",
    }
    assert "pylibjpeg-libjpeg" in dict(refused)["pydicom_test/JPGExtended.dcm"]


@pytest.mark.skipif(not (SHARED / "nifti_samples").is_dir(), reason="nibabel's test files are not here")
def test_every_sample_of_a_volume_reads_as_nibabel_reads_it() -> None:
    for path in sorted((SHARED / "nifti_samples").iterdir()):
        if path.suffix != ".md":
            whole = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()
            found = list(nifti.images(path))
            assert sum(image.size for image in found) == whole.size
            assert np.isclose(sum(image.astype(np.float64).sum() for image in found), whole.sum(), rtol=1e-5)
