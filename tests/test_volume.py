"""Files become volumes in one grid, whoever has written them, and what is no volume is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import tacit
from tacit.core import keys
from tacit.core.errors import UserError
from tacit.core.types import Batch
from tacit.encoders import build_encoder
from tacit.experiment.tasks import tasks_of
from tacit.modalities import modality_named
from tacit.modalities.medical.geometry import affine, canonical
from tacit.modalities.volume.decode import Grid, Scan, fit, laid
from tacit.modalities.volume.spec import Range, VolumeSpec
from tests.test_medical import CT, check_nothing_told, hide_names_in, made, planted, save

pydicom = pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

RNG = np.random.default_rng(0)
SPEC = VolumeSpec(12, 16, (2.0, 1.0, 1.0), 2, mean=0.4, std=0.2)
AXIAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]


def scan(seed: int, shape: tuple[int, ...] = (12, 16, 16)) -> NDArray[np.int16]:
    """A ball of another place and size for each seed, in noise: Hounsfield units."""
    rng = np.random.default_rng(seed)
    at = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    ball = np.square(at - rng.uniform(-0.4, 0.4, (3, 1, 1, 1))).sum(0) < rng.uniform(0.2, 0.6) ** 2
    return (np.where(ball, 60, -1000) + rng.integers(-20, 20, shape)).astype(np.int16)


def series(
    folder: Path, voxels: NDArray[np.int16], *, orientation: list[int] = AXIAL, apart: float = 2.0, **elements: Any
) -> list[Path]:
    """A file for each slice of [D H W], named in no order."""
    paths, normal = [], np.cross(orientation[:3], orientation[3:])
    for number, plane in enumerate(voxels):
        place = {"ImagePositionPatient": (number * apart * normal).tolist(), "ImageOrientationPatient": orientation}
        paths.append(folder / f"{(7 * number) % 31:02}.dcm")
        told = {"SeriesInstanceUID": "1.2.3", **place, "PixelSpacing": [1.0, 1.0], **elements}
        save(made(plane, **told), paths[-1])
    return paths


def several(folder: Path, many: int) -> None:
    for number in range(many):
        told = {"SeriesInstanceUID": f"1.2.{number}", "PatientID": f"00{number // 2}"}
        series(folder / f"p{number}", scan(number), **told)


# ---------------------------------------------------------------- geometry


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, [-1, 0, 0, 0, 0, -1], [0, -1, 0, 1, 0, 0]])
def test_slices_turn_to_the_patients_axes_as_nibabel_turns_them(orientation: list[int]) -> None:
    voxels = RNG.integers(0, 99, (5, 6, 7))
    step = 3.0 * np.cross(orientation[:3], orientation[3:])
    of = affine(orientation, (0.5, 2.0), step, (0, 0, 0))
    found, spacing = canonical(voxels, of)
    wanted = nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels.astype(np.int16), of))
    assert np.array_equal(found, wanted.get_fdata())
    np.testing.assert_allclose(spacing, wanted.header.get_zooms())


def test_one_slice_after_the_other_is_as_dicom_lays_it() -> None:
    """Axial slices come back as they were written, from feet to head."""
    voxels = scan(0)
    found, _ = canonical(voxels, affine(AXIAL, (1, 1), np.array([0, 0, 2.0]), (0, 0, 0)))
    assert np.array_equal(laid(found, 2), voxels)


def test_resampling_keeps_what_fits_and_blackens_what_lies_outside() -> None:
    voxels = scan(1, (16, 16, 12))
    there = Scan(voxels, np.array([1.0, 1.0, 2.0]))
    same = fit(there, Grid(2, (12, 16, 16), (2.0, 1.0, 1.0)), Range(-1020.0, 80.0))
    wanted = (laid(voxels, 2).astype(float) + 1020) / 1100
    np.testing.assert_allclose(same / 65535, wanted.clip(0, 1), atol=1e-4)
    half = fit(there, Grid(2, (12, 8, 8), (2.0, 2.0, 2.0)), Range(-1020.0, 80.0))
    assert abs(half.mean() - same.mean()) < 0.02 * same.mean()
    wide = fit(there, Grid(2, (14, 20, 20), (2.0, 1.0, 1.0)), Range(-1020.0, 80.0))
    assert np.array_equal(wide[1:-1, 2:-2, 2:-2], same)
    assert not wide[0].any()
    assert not wide[:, :2].any()
    with pytest.raises(ValueError, match="one value"):
        fit(Scan(np.ones((4, 4, 4)), np.ones(3)), Grid(0, (4, 4, 4), (1, 1, 1)), None)


# ---------------------------------------------------------------- folders


def test_files_of_a_series_are_one_volume(tmp_path: Path, cached: Callable[..., Any]) -> None:
    folder = tmp_path / "scans"
    several(folder, 4)
    series(folder / "localizer", scan(5)[:4], SeriesInstanceUID="1.3.1")
    series(folder / "localizer" / "again", scan(6)[:4], SeriesInstanceUID="1.3.1", orientation=SAGITTAL)
    paths = series(folder / "gap", scan(7), SeriesInstanceUID="1.3.2")
    paths[5].unlink()
    series(folder / "twice", scan(8), SeriesInstanceUID="1.3.3", apart=0.0)
    series(folder / "two", scan(8)[:2], SeriesInstanceUID="1.3.4")
    save(made(kind="1.2.840.10008.5.1.4.1.1.88.11"), folder / "report.dcm")
    data = cached(folder)
    assert data.kind == "volume"
    assert data.ids.to_pylist() == ["p0", "p1", "p2", "p3"]
    assert len(np.unique(data.group)) == 2
    assert data.spec.shape == (12, 16, 16)
    assert data.spec.range is not None
    assert data.spec.range.low < -900
    low, high = data.spec.range
    for row in range(4):
        wanted = ((scan(row).astype(float) - low) / (high - low)).clip(0, 1)
        np.testing.assert_allclose(data.cache.voxels[row] / 65535, wanted, atol=1e-3)
    said = " ".join(data.notes.lines())
    for words in (
        "read as 4 volumes",
        "--kind image",
        "several orientations",
        "1 of its slices are missing",
        "2 slices",
    ):
        assert words in said
    assert "lie where another does" in said
    assert "1 files hold no image" in said
    assert cached(folder, kind="image", image_size=16).kind == "image"
    for path in sorted((folder / "p1").iterdir()):
        path.rename(path.with_suffix(""))  # any ending, or none
    assert cached(folder, kind="volume").data_hash == data.data_hash


def test_masks_and_gaps_among_scans_are_counted(tmp_path: Path, cached: Callable[..., Any]) -> None:
    for number in range(3):
        voxels = scan(number).astype(np.float32) + 2000  # no CT: each has a range of its own
        voxels[:, :2] = np.nan
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / f"scan{number}.nii.gz")
        nibabel.save(
            nibabel.Nifti1Image((scan(number) > 0).astype(np.uint8), np.eye(4)), tmp_path / f"s{number}.nii.gz"
        )
    said = " ".join(cached(tmp_path).notes.lines())
    assert "3 of 6 volumes hold voxels that are no numbers, read as black" in said
    assert "3 of 6 volumes hold few different values, as masks do" in said


def test_labels_by_patient_are_those_of_each_scan(tmp_path: Path, cached: Callable[..., Any]) -> None:
    folder = tmp_path / "scans"
    several(folder, 8)
    (tmp_path / "few.csv").write_text("PatientID,finding\n0,ill\n1,well\n2,ill\n9,well\n")  # zeros got lost
    data = cached(folder, labels=str(tmp_path / "few.csv"))
    found = [data.classes[n] if n >= 0 else "" for n in data.label.tolist()]
    assert found == ["ill", "ill", "well", "well", "ill", "ill", "", ""]
    (tmp_path / "other.csv").write_text("PatientID,finding\nA,ill\nB,well\n")
    with pytest.raises(UserError, match="no 'PatientID' of the label file"):
        cached(folder, labels=str(tmp_path / "other.csv"))


def test_files_of_freesurfer_are_volumes_and_patients_never_share_one(
    tmp_path: Path, cached: Callable[..., Any]
) -> None:
    for number in range(2):
        place = tmp_path / f"{number}"
        place.mkdir()
        nibabel.save(nibabel.MGHImage(scan(number).astype(np.float32), np.eye(4)), place / "t1.mgz")
        series(tmp_path / f"ct{number}", scan(number), PatientID=f"P{number}")  # of one SeriesInstanceUID
    data = cached(tmp_path)
    assert data.kind == "volume"
    assert data.ids.to_pylist() == ["0/t1.mgz", "1/t1.mgz", "ct0", "ct1"]


def test_frames_and_axes_of_time_are_volumes_of_their_own(tmp_path: Path, cached: Callable[..., Any]) -> None:
    for number in range(2):
        frames = np.concatenate([scan(number), scan(number + 2)])
        ds, groups = made(frames, SeriesInstanceUID=f"1.{number}", kind=CT), []
        for frame in range(24):
            group, place, turn = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
            place.ImagePositionPatient, turn.ImageOrientationPatient = [0, 0, 2.0 * (11 - frame % 12)], AXIAL
            group.PlanePositionSequence = pydicom.Sequence([place])
            group.PlaneOrientationSequence = pydicom.Sequence([turn])
            groups.append(group)
        ds.PerFrameFunctionalGroupsSequence = pydicom.Sequence(groups)
        save(ds, tmp_path / "scans" / f"{number}.dcm")
    four = np.stack([scan(number, (16, 16, 12)) for number in range(3)], 3)
    nibabel.save(nibabel.Nifti1Image(four, np.diag([-1.0, -1.0, 2.0, 1.0])), tmp_path / "scans" / "x.nii.gz")
    data = cached(tmp_path / "scans")
    assert data.ids.to_pylist() == [
        "0.dcm#0",
        "0.dcm#1",
        "1.dcm#0",
        "1.dcm#1",
        "x.nii.gz#0",
        "x.nii.gz#1",
        "x.nii.gz#2",
    ]
    low, high = data.spec.range
    wanted = ((scan(2)[::-1].astype(float) - low) / (high - low)).clip(0, 1)
    np.testing.assert_allclose(data.cache.voxels[1] / 65535, wanted, atol=1e-3)


def test_a_private_run_on_volumes_leaves_nothing_of_a_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scans"
    for number in range(8):
        told = {name: value for name, value in planted(number).items() if not name.startswith("Window")}
        told |= {"SeriesInstanceUID": f"1.2.826.0.1.5556667778.{number}", "InstanceCreatorUID": "1.2.5556667778"}
        for path in series(folder / f"zebraFOLDER{number}", scan(number, (6, 16, 16)), **told):
            ds = pydicom.dcmread(path)
            hide_names_in(ds)
            save(ds, path)
    series(folder / "zebraGAP", scan(9)[:3], **planted(9))
    labels = "".join(f"zebraID{patient},{'ill' if patient % 2 else 'well'}\n" for patient in range(4))
    (tmp_path / "few.csv").write_text(f"PatientID,finding\n{labels}")
    out, cache = tmp_path / "run", tmp_path / "cache"
    ask: dict[str, Any] = {"budget": "1steps", "device": "cpu", "private": True, "cache": str(cache)}
    tacit.pretrain(str(folder), task="simclr", out=str(out), labels=str(tmp_path / "few.csv"), **ask)
    shown = capsys.readouterr()
    check_nothing_told([out, cache], shown.out + shown.err)
    assert "8 volumes of 8 x 16 x 16 voxels" in shown.err


# ---------------------------------------------------------------- encoders and tasks


def batch(n: int = 4) -> Batch:
    slices = np.stack([(scan(number).astype(np.float64) + 1020) / 1100 for number in range(n)])
    image = torch.from_numpy((65535 * slices.clip(0, 1)).astype(np.uint16))[:, None]
    return {"image": image, "index": torch.arange(n), "key": keys.batch_keys(0, 0, torch.arange(n))}


@pytest.mark.parametrize("name", ["volume_slices", "volume_convnet", "volume_vit_tiny"])
def test_encoders_have_tokens_in_three_dimensions_and_hide_them(name: str) -> None:
    encoder: Any = build_encoder(name, SPEC).eval()
    with torch.inference_mode():
        found = encoder(batch(), depths=(0, encoder.n_depths - 1))
        assert found.grid == encoder.grid
        assert found.tokens.shape == (4, np.prod(encoder.grid), encoder.dim)
        torch.testing.assert_close(found.depths[1], found.pooled)
        mask = torch.zeros(found.tokens.shape[:2], dtype=torch.bool)
        torch.testing.assert_close(encoder.masked(batch(), mask).tokens, found.tokens)
        assert not torch.allclose(encoder.masked(batch(), ~mask).tokens, found.tokens)
    own = encoder.prepare([scan(0)])["image"]
    low, high = np.quantile(scan(0), (0.005, 0.995))
    wanted = ((scan(0) - low) / (high - low)).clip(0, 1)
    np.testing.assert_allclose(own[0, 0].numpy() / 65535, wanted, atol=0.02)


def test_a_graph_takes_volumes_one_by_one_and_many_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from tacit.formats.write import export

    torch.manual_seed(0)
    done = export(build_encoder("volume_slices", SPEC, width=32), "onnx", tmp_path / "graph")
    assert done["difference"] < 1e-4


def test_tasks_learn_and_turns_keep_every_voxel() -> None:
    assert {"simclr", "byol", "vicreg", "rotation", "position", "masked"} <= {*tasks_of("volume")}
    for task in tasks_of("volume"):
        recipe = modality_named("volume").recipe({task: 1.0}, build_encoder("volume_slices", SPEC), examples=16)
        out = recipe.task(batch())
        out.loss.backward()
        assert torch.isfinite(out.loss)
        assert recipe.task.vain(batch()) == ""
        if task == "rotation":
            for turn in recipe.task.turns.values():  # type: ignore[union-attr, operator]
                assert turn(batch())["image"].long().sum() == batch()["image"].long().sum()


def test_views_depend_on_their_key_alone_and_can_leave_a_volume_as_it_is() -> None:
    from tacit.modalities.volume.views import BlockTarget, VolumeViews

    views = modality_named("volume").views(SPEC)
    whole, part = views(batch(), 0)["image"], views({name: of[2:] for name, of in batch().items()}, 0)["image"]
    torch.testing.assert_close(whole[2:], part)
    assert not torch.allclose(whole, views(batch(), 1)["image"], atol=0.05)
    same = VolumeViews()(batch(), 0)
    torch.testing.assert_close(same["image"], batch()["image"].float() / 65535)
    blocks = BlockTarget((5, 6, 6), (3, 3, 3))
    torch.testing.assert_close(blocks.picture(blocks(same), same), same["image"], atol=1e-4, rtol=1e-4)


def test_views_of_one_patient_are_no_negatives() -> None:
    """As by the formula, with the terms of one group left out."""
    from tacit.tasks.simclr import SimCLR

    task = SimCLR(build_encoder("volume_slices", SPEC), modality_named("volume").views(SPEC), out=8, temperature=0.5)
    z = torch.nn.functional.normalize(torch.randn(6, 2, 8), dim=2)
    group = torch.tensor([0, 0, 1, 2, 2, 2])
    found = task.compared(torch.cat([z, group[:, None, None].expand(6, 2, 1).float()], 2)).loss
    total, flat, of = 0.0, z.flatten(0, 1), group.repeat_interleave(2)
    for i in range(12):
        others = [k for k in range(12) if k != i and (k == i ^ 1 or of[k] != of[i])]
        total += float(-flat[i] @ flat[i ^ 1] / 0.5 + torch.logsumexp(flat[others] @ flat[i] / 0.5, 0))
    assert float(found) == pytest.approx(total / 12, rel=1e-5)


def test_baselines_tell_volumes_apart_without_training() -> None:
    from tacit.modalities.volume.baselines import Intensities, Voxels

    plain = Voxels.fit(lambda rows: {name: of[rows] for name, of in batch(6).items()}, np.arange(6), SPEC, seed=0)
    found = plain(batch(6), depths=(0, 1))
    assert found.pooled.shape == (6, plain.dim) == found.depths[1].shape
    whole, components = found.pooled - plain.mean, found.depths[0]
    torch.testing.assert_close(components.square().sum(1), whole.square().sum(1), rtol=1e-3, atol=1e-3)
    shares = Intensities()(batch(6)).pooled
    assert shares.shape == (6, Intensities.dim)
    torch.testing.assert_close(shares[:, :32].square().sum(1), torch.ones(6))
