"""What people do after the verdict: predict, compare runs, judge again with more labels. Tiny runs on real digits."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

import tacit
from tacit import cli
from tacit.commands.evaluate_encoder import run_has_seen
from tacit.core.errors import UserError
from tacit.dataset import open_dataset
from tacit.evaluation import Predictions, Report, Seal
from tacit.evaluation.features import extract
from tacit.evaluation.probes.linear import fit_probe
from tacit.experiment.split import split_dataset
from tacit.report import without_data
from tests.tiny import digit_labels, digits

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("brief", "few_fits")]

LABELLED, LATER, ALL = 120, 160, 200
FEW: dict[str, Any] = {"label_budgets": ["2", "5"], "primary_budget": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 digits as files; the labels of the first 120, and those of 40 more that came later."""
    root, target = tmp_path_factory.mktemp("digits"), digit_labels()
    (root / "images").mkdir()
    for row in range(ALL):
        Image.fromarray(digits()[row, 0].numpy()).save(root / "images" / f"scan{row:04d}.png")
    for name, rows in (("few", range(LABELLED)), ("later", range(LABELLED, LATER))):
        with (root / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([("file", "label"), *((f"scan{r:04d}.png", f"finding-{target[r] % 3}") for r in rows)])
    return root


def run(folder: Path, out: Path, **settings: Any) -> Path:
    told = {"labels": str(folder / "few.csv"), "budget": "8steps", "out": str(out), **FEW, **settings}
    tacit.run(str(folder / "images"), **told)
    return out


@pytest.fixture(scope="module")
def first(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(folder, tmp_path_factory.mktemp("runs") / "first", tasks="simclr")


@pytest.fixture(scope="module")
def second(folder: Path, first: Path) -> Path:
    """Another task from another seed, judged on the first run's seal."""
    return run(folder, first.parent / "second", tasks="rotation", seed=5, seal=str(first), private=True)


@pytest.fixture(scope="module")
def again(folder: Path, first: Path) -> Path:
    """The first run's encoder judged once more, with more labels."""
    out, labels = first.parent / "again", [str(folder / f"{name}.csv") for name in ("few", "later")]
    tacit.evaluate(str(first), str(folder / "images"), labels=labels, out=str(out), private=True, **FEW)
    return out


def data_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())["data"]
    return content


# ---------------------------------------------------------------- predict


def test_predictions_come_from_a_probe_on_all_labels(first: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "predicted.csv"
    table = tacit.predict(str(first), str(folder / "images"), out=str(out))
    names = ["finding-0", "finding-1", "finding-2"]
    assert table.column_names == ["id", "class", *(f"p({name})" for name in names)]
    assert table.num_rows == ALL
    probabilities = np.stack([table[f"p({name})"].to_numpy() for name in names], axis=1)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert table["class"].to_pylist() == [names[k] for k in probabilities.argmax(axis=1)]

    dataset = open_dataset(str(folder / "images"), labels=str(folder / "few.csv"))
    data = data_of(first)
    features = extract(tacit.load_encoder(str(first)), dataset.batch, np.arange(ALL))
    shown = features[data["representation"][data["selected_arm"]]]
    rows = np.flatnonzero(dataset.label >= 0)
    assert len(rows) == LABELLED == data["n_train"] + data["n_test"]
    probe = fit_probe(shown[rows], dataset.label[rows], n_classes=3, seed=0)
    assert table["id"].to_pylist() == dataset.ids.to_pylist()
    np.testing.assert_allclose(probabilities, probe.probabilities(shown), atol=1e-5)

    read = pa_csv.read_csv(out)
    assert read["class"].to_pylist() == table["class"].to_pylist()
    tacit.predict(str(first), str(folder / "images"), out=str(tmp_path / "predicted.parquet"))
    written = pq.read_table(tmp_path / "predicted.parquet")
    assert written.equals(table)
    assert b"verdict precedes" in written.schema.metadata[b"tacit"]


def test_new_data_need_no_labels(first: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new").mkdir()
    for row in range(150, 156):
        shutil.copy(folder / "images" / f"scan{row:04d}.png", tmp_path / "new")
    whole = tacit.predict(str(first), str(folder / "images"))
    capsys.readouterr()
    part = tacit.predict(str(first), str(tmp_path / "new"))
    with pytest.raises(UserError, match="--by-group"):
        tacit.predict(str(first), str(tmp_path / "new"), by_group=True)
    assert "verdict precedes this probe" in capsys.readouterr().out
    assert part["class"].to_pylist() == whole["class"].to_pylist()[150:156]
    np.testing.assert_allclose(part["p(finding-1)"], whole["p(finding-1)"].to_numpy()[150:156], atol=1e-5)


def test_a_private_run_predicts_the_same(first: Path, folder: Path, tmp_path: Path) -> None:
    """Its report calls an arm by another name where that name is not ours."""
    shutil.copytree(first, tmp_path / "private")
    content = json.loads((first / "report.json").read_text().replace('"simclr"', '"scans/anna"'))
    for arm in content["arms"]:
        arm["own"] = arm["name"] != "scans/anna"
    (tmp_path / "private" / "report.json").write_text(json.dumps(without_data(content)))
    assert "anna" not in str(data_of(tmp_path / "private"))
    [one, other] = [tacit.predict(str(r), str(folder / "images")) for r in (first, tmp_path / "private")]
    assert one.equals(other)


def test_other_labels_may_be_learned_from(first: Path, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "side.csv"
    table.write_text("file,side\n" + "".join(f"scan{r:04d}.png,{'left' if r % 2 else 'right'}\n" for r in range(40)))
    predicted = tacit.predict(str(first), str(folder / "images"), labels=str(table), label_column="side")
    assert predicted.column_names == ["id", "class", "p(left)", "p(right)"]


def test_mistakes_in_predicting(first: Path, folder: Path, tmp_path: Path) -> None:
    images = str(folder / "images")
    with pytest.raises(UserError, match=r"written as \.csv or \.parquet"):
        tacit.predict(str(first), images, out="predicted.xlsx")
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(UserError, match="--overwrite"):
        tacit.predict(str(first), images, out=str(tmp_path / "there.csv"))
    with pytest.raises(UserError, match="holds no run of Tacit"):
        tacit.predict(str(tmp_path), images)
    (tmp_path / "colour").mkdir()
    for n in range(3):
        Image.fromarray(np.random.default_rng(n).integers(0, 255, (8, 8, 3), np.uint8)).save(
            tmp_path / "colour" / f"{n}.png"
        )
    with pytest.raises(UserError, match="in colour, and the encoder reads grey images"):
        tacit.predict(str(first), str(tmp_path / "colour"))


# ---------------------------------------------------------------- one seal, several judgements


def test_a_seal_is_taken_over(first: Path, second: Path) -> None:
    one, other = Seal.load(first), Seal.load(second)
    assert one.items == other.items
    assert len(one.items) > 30
    assert data_of(second)["seal_reads"] >= 2
    assert data_of(first)["pretrained_on"] == data_of(second)["pretrained_on"] == ALL - len(one.items)
    kept = [Predictions.load(run) for run in (first, second)]
    np.testing.assert_array_equal(np.sort(kept[0].item), np.sort(kept[1].item))


def test_kept_predictions_name_nothing(second: Path) -> None:
    with np.load(second / "predictions.npz") as arrays:
        told = " ".join(
            [*arrays.files, *(str(arrays[n].tolist()) for n in arrays.files if arrays[n].dtype.kind == "U")]
        )
    assert not [word for word in ("scan", "finding", "rotation", "digits") if word in told]


def test_sealed_inputs_are_held_out_also_without_labels(first: Path, folder: Path) -> None:
    dataset, sealed = open_dataset(str(folder / "images")), Seal.load(first)
    assert dataset.classes == ()
    split = split_dataset(dataset, seed=0, sealed=sealed)
    held_out = {dataset.content[row].tobytes().hex() for row in np.setdiff1d(np.arange(ALL), split.pretrain)}
    assert held_out == set(sealed.items)


def test_labels_added_later_join_training_only(first: Path, again: Path) -> None:
    before, after = data_of(first), data_of(again)
    assert after["n_test"] == before["n_test"]
    assert after["n_train"] == before["n_train"] + LATER - LABELLED
    kept = [Predictions.load(of) for of in (first, again)]
    np.testing.assert_array_equal(np.sort(kept[0].item), np.sort(kept[1].item))
    assert {name.split(".")[0] for name in kept[1].item} == set(Seal.load(first).items)
    assert after["seal_reads"] > before["seal_reads"]
    assert "transductive" not in Report.load(again).verdict.text


def test_labels_that_leave_out_the_sealed_ones_are_refused(first: Path, folder: Path) -> None:
    reads = Seal.load(first).reads
    with pytest.raises(UserError, match="none of the sealed test examples has a label here"):
        tacit.evaluate(str(first), str(folder / "images"), labels=str(folder / "later.csv"))
    assert Seal.load(first).reads == reads


def test_what_a_run_may_have_seen(first: Path, tmp_path: Path) -> None:
    """Test inputs that were pretrained on are called so, whichever seal they come from."""
    images, own = "images", Seal.load(first)
    other = Seal(0, "hash", {"0" * 32: "0" * 32})
    assert not run_has_seen(first, own, images, {})
    assert run_has_seen(first, other, images, {})
    for name, said, expected in (
        ("unlabelled", "data: images\n", True),
        ("elsewhere", "data: others\n", False),
        ("split", "data: images\nsplit_column: part\n", False),
        ("transductive", "data: others\ntransductive: true\n", True),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(said)
        assert run_has_seen(tmp_path / name, None, images, {"split_column": "part"}) is expected, name
    assert not run_has_seen(tmp_path / "no run", own, images, {})


# ---------------------------------------------------------------- compare


def test_runs_on_one_seal_are_compared(first: Path, second: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reads = Seal.load(first).reads
    with pytest.raises(SystemExit) as ended:
        cli.main(["compare", str(first), str(second)])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for said in ("first (simclr) ", "second: rotation *", "first (simclr) - second (rotation)", "5 labels per class"):
        assert said in shown
    compared = tacit.compare(str(first), str(second))
    assert Seal.load(first).reads == reads
    [verdict] = compared.verdicts
    assert verdict.split(":")[0].split(",")[0] in {"BETTER", "WORSE", "NO EVIDENCE"}
    [gain] = [row for row in compared.gains if row["budget"] == "5 per class"]
    means = {}
    for folder in (first, second):
        report = Report.load(folder)
        [means[folder]] = [
            r.mean
            for r in report.results
            if (r.arm, r.protocol, r.metric, r.budget)
            == (report.data["selected_arm"], "linear", "balanced_accuracy", "5 per class")
        ]
    assert gain["gain"] == pytest.approx(means[first] - means[second])
    assert gain["low"] < gain["gain"] < gain["high"]
    assert gain["draws"] == 3
    assert "at 2 labels per class" in tacit.compare(str(first), str(second), primary_budget=2).verdicts[0]


def test_what_cannot_be_compared_is_refused(first: Path, again: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two run folders or more"):
        tacit.compare(str(first), str(first))
    with pytest.raises(UserError, match="never probed on the same draws"):
        tacit.compare(str(first), str(again))
    shutil.copytree(first, tmp_path / "other")
    sealed = Seal.load(tmp_path / "other")
    Seal(sealed.seed, sealed.source, dict(list(sealed.items.items())[1:])).save(tmp_path / "other")
    with pytest.raises(UserError, match="judged on another seal"):
        tacit.compare(str(first), str(tmp_path / "other"))
    (tmp_path / "other" / "predictions.npz").unlink()
    with pytest.raises(UserError, match=r"no predictions\.npz"):
        tacit.compare(str(first), str(tmp_path / "other"))
