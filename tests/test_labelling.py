"""Which examples to label next: the right ones, and never one that is sealed or labelled already."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tacit
from tacit import cli
from tacit.commands import next_labels as labelling
from tacit.commands.next_labels import by_margin, by_typicality, choose_method
from tacit.core.errors import UserError
from tacit.dataset import open_dataset
from tacit.evaluation import Seal
from tacit.evaluation.targets import make_target
from tacit.experiment.split import split_dataset
from tests.made import change_settings
from tests.tiny import digit_labels, digits

pytest.importorskip("skactiveml")

LISTED, LABELLED, ALL, PATIENTS = 200, 130, 240, 40


def target(row: int) -> str:
    return f"finding-{digit_labels()[row] % 3}"


def scan(row: int) -> str:
    return f"scan{row:04d}.png"


def write_labels(file: Path, label: dict[int, str]) -> Path:
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["file", "label", "patient"])
        writer.writerows([scan(row), label.get(row, ""), f"p{row % PATIENTS}"] for row in range(LISTED))
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 digits as files; of 40 patients the first 200, of which 130 are labelled."""
    root = tmp_path_factory.mktemp("digits")
    (root / "images").mkdir()
    for row in range(ALL):
        Image.fromarray(digits()[row, 0].numpy()).save(root / "images" / scan(row))
    write_labels(root / "few.csv", {row: target(row) for row in range(LABELLED)})
    return root


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """Pretrained for a moment, its test patients sealed; afterwards two copies have come into the data."""
    out = folder / "run"
    told: dict[str, Any] = {"labels": str(folder / "few.csv"), "group_column": "patient"}
    tacit.pretrain(str(folder / "images"), budget="3steps", out=str(out), **told)
    sealed = sealed_rows(out, folder)
    apart = next(row for row in range(LABELLED) if row not in sealed)
    shutil.copy(folder / "images" / scan(sealed[0]), folder / "images" / "copy-of-sealed.png")
    shutil.copy(folder / "images" / scan(apart), folder / "images" / "copy-of-labelled.png")
    return out


def sealed_rows(run: Path, folder: Path) -> list[int]:
    dataset = open_dataset(str(folder / "images"))
    items = Seal.load(run).items
    rows = {name: of.tobytes().hex() for name, of in zip(dataset.ids.to_pylist(), dataset.content, strict=True)}
    return [row for row in range(ALL) if rows[scan(row)] in items]


# ---------------------------------------------------------------- the two ways of choosing


def test_the_densest_of_each_large_cluster_without_labels() -> None:
    chance = np.random.default_rng(0)
    centres = 50 * np.eye(6)[:, :5]
    sizes = [3, 3, 40, 30, 20, 10]  # the first two hold the labelled example
    X = np.concatenate([c + chance.normal(size=(n, 5)) for c, n in zip(centres, sizes, strict=True)]).astype(np.float32)
    cluster = np.repeat(np.arange(6), sizes)
    first = [0, 3]
    order = np.concatenate([first, np.setdiff1d(np.arange(len(X)), first)])
    chose = by_typicality(X[order], 2, 4, seed=0)
    picked = order[2:][chose.picked]
    assert cluster[picked].tolist() == [2, 3, 4, 5]
    for row, score in zip(picked, chose.score, strict=True):
        own = X[cluster == cluster[row]].astype(float)
        k = min(labelling.NEIGHBOURS, len(own) - 1)
        far = np.sort(np.linalg.norm(own[:, None] - own[None], axis=2), axis=1)[:, 1 : k + 1].mean(axis=1)
        assert score == pytest.approx(1 / far.min(), rel=1e-4)
        assert far[np.flatnonzero(cluster == cluster[row]).tolist().index(row)] == pytest.approx(far.min(), rel=1e-5)


def test_many_clusters_are_all_different() -> None:
    X = np.random.default_rng(0).normal(size=(1500, 4)).astype(np.float32)
    picked = by_typicality(X, 480, 60, seed=0).picked
    assert len(set(picked.tolist())) == 60
    assert picked.min() >= 0


def test_the_smallest_margins() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), size=50)
    chose = by_margin(probabilities, 5, ["a", "b", "c", "d"])
    two = np.sort(probabilities, axis=1)[:, -2:]
    margin = two[:, 1] - two[:, 0]
    assert chose.picked.tolist() == np.argsort(margin)[:5].tolist()
    np.testing.assert_allclose(chose.score, 1 - np.sort(margin)[:5])
    names = np.array(["a", "b", "c", "d"])[np.argsort(-probabilities[chose.picked[0]])[:2]]
    assert chose.why[0].startswith(f"between {names[0]} (0.")
    assert f" and {names[1]} (0." in chose.why[0]


# ---------------------------------------------------------------- on a run


def test_nothing_sealed_labelled_or_copied_is_proposed(run: Path, folder: Path) -> None:
    sealed = sealed_rows(run, folder)
    assert len(sealed) > 20
    taken = {row % PATIENTS for row in sealed}
    free = [row for row in range(LABELLED, ALL) if row >= LISTED or row % PATIENTS not in taken]
    for method in ("typiclust", "margin"):
        table = tacit.next_labels(str(run), str(folder / "images"), n=10_000, method=method)
        assert sorted(table["file"].to_pylist()) == [scan(row) for row in free]


def test_sealed_labels_do_not_steer(run: Path, folder: Path, tmp_path: Path) -> None:
    before = tacit.next_labels(str(run), str(folder / "images"), n=20, method="margin")
    sealed = set(sealed_rows(run, folder))
    shutil.copytree(run, tmp_path / "run")
    poisoned = {row: "finding-9" if row in sealed else target(row) for row in range(LABELLED)}
    file = write_labels(tmp_path / "poisoned.csv", poisoned)
    change_settings(tmp_path / "run", str(folder / "few.csv"), str(file))
    again = tacit.next_labels(str(tmp_path / "run"), str(folder / "images"), n=20, method="margin", trust=True)
    assert again.equals(before)


def test_a_file_to_fill_in(run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line: filled in by half, read with the earlier labels, and not proposed again."""
    out, images = tmp_path / "next.csv", str(folder / "images")
    with pytest.raises(SystemExit) as ended:
        cli.main(["next-labels", str(run), images, "--n", "12", "--out", str(out)])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "margin" in shown
    assert "12 to label" in shown
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "label", "patient", "why", "score"]
    assert {row["label"] for row in rows} == {""}
    for row in rows[:6]:
        row["label"] = target(int(row["file"][4:8]))
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    told: dict[str, Any] = {"labels": [str(folder / "few.csv"), str(out)], "group_column": "patient"}
    before = open_dataset(images, labels=str(folder / "few.csv"), group_column="patient")
    after = open_dataset(images, **told)
    assert (after.label >= 0).sum() == (before.label >= 0).sum() + 6
    np.testing.assert_array_equal(after.group, before.group)  # an empty cell takes no group away
    sides = [split_dataset(opened, seed=0, sealed=Seal.load(run)).labelled for opened in (before, after)]
    assert sides[0] is not None
    assert sides[1] is not None
    assert len(sides[1].train) == len(sides[0].train) + 6
    assert len(sides[1].test) == len(sides[0].test)
    again = tacit.next_labels(str(run), images, n=10_000, labels=str(out))
    assert not set(again["file"].to_pylist()) & {row["file"] for row in rows[:6]}
    assert set(again["file"].to_pylist()) >= {row["file"] for row in rows[6:]}


def test_from_no_label_at_all(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run without labels; then one label of each class, which is too few for any other command."""
    images, out = str(folder / "images"), tmp_path / "run"
    tacit.pretrain(images, budget="3steps", out=str(out))
    capsys.readouterr()
    table = tacit.next_labels(str(out), images, n=3)
    assert "0 labels of 0 classes to learn from" in capsys.readouterr().out
    assert table.column_names == ["file", "label", "why", "score"]
    proposed = table["file"].to_pylist()
    assert len(set(proposed)) == 3
    filled = tmp_path / "filled.csv"
    filled.write_text("file,label\n" + "".join(f"{name},{i}\n" for i, name in enumerate(proposed)))
    later = tacit.next_labels(str(out), images, n=10_000, labels=str(filled))
    assert "3 labels of 3 classes" in (said := capsys.readouterr().out)
    assert "typiclust" in said
    assert not set(later["file"].to_pylist()) & set(proposed)
    assert tacit.next_labels(str(out), images, n=5, labels=str(filled), method="margin").num_rows == 5
    with pytest.raises(UserError, match="the labels to learn from have 0; use --method typiclust"):
        tacit.next_labels(str(out), images, method="margin")
    some = tacit.next_labels(str(out), images, n=10_000, labels=str(filled), ignore_label=["2"])
    assert "2 labels of 2 classes" in capsys.readouterr().out
    assert proposed[2] not in some["file"].to_pylist()  # somebody looked at it and could not tell


def test_labels_of_the_data_themselves_count_beside_a_file(tmp_path: Path) -> None:
    """As in the built-in digits, of which 200 come with a label, and 500 are held out."""
    out = tmp_path / "run"
    tacit.pretrain("digits", budget="2steps", out=str(out))
    dataset = open_dataset("digits")
    assert dataset.split is not None
    unlabelled = np.flatnonzero((dataset.label < 0) & (dataset.split != 1))
    more = tmp_path / "more.csv"
    more.write_text("row,label\n" + "".join(f"{dataset.ids[row]},7\n" for row in unlabelled[:4].tolist()))
    table = tacit.next_labels(str(out), "digits", n=10_000, labels=str(more), method="margin")
    assert sorted(map(int, table["row"].to_pylist())) == unlabelled[4:].tolist()


@pytest.mark.parametrize(
    ("asked", "labels", "classes", "method"),
    [
        ("auto", 10 * labelling.SWITCH - 1, 10, "typiclust"),
        ("auto", 10 * labelling.SWITCH, 10, "margin"),
        ("auto", 1000, 1, "typiclust"),
        ("auto", 0, 0, "typiclust"),
        ("typiclust", 1000, 2, "typiclust"),
        ("margin", 2, 2, "margin"),
    ],
)
def test_auto_switches_with_the_labels(asked: str, labels: int, classes: int, method: str) -> None:
    assert choose_method(asked, labels, classes, make_target("classification"))[0] == method


@pytest.mark.parametrize("target", ["multilabel", "regression", "tokens"])
def test_other_targets_have_no_margin(target: str) -> None:
    of = make_target(target)
    assert choose_method("auto", 1000, 10, of) == ("typiclust", f"as labels of {target} have no margin")
    assert choose_method("typiclust", 0, 0, of)[0] == "typiclust"
    with pytest.raises(UserError, match="--method typiclust"):
        choose_method("margin", 1000, 10, of)


def test_a_run_must_be_finished(run: Path, folder: Path, tmp_path: Path) -> None:
    """Only `tacit pretrain` leaves an encoder without a report."""
    unfinished = shutil.copytree(run, tmp_path / "run")
    change_settings(unfinished, "task: simclr", "tasks: simclr,rotation")
    with pytest.raises(UserError, match="no report in"):
        tacit.next_labels(str(unfinished), str(folder / "images"))


def test_mistakes(run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = str(folder / "images")
    (tmp_path / "there.csv").write_text("mine")
    for told, message in (
        ({"n": 0}, "--n 0 is nothing to label"),
        ({"method": "entropy"}, "no method named 'entropy'; choose auto, typiclust, margin"),
        ({"out": "next.parquet"}, r"written as \.csv"),
        ({"out": str(tmp_path / "there.csv")}, "perhaps with labels filled in"),
    ):
        with pytest.raises(UserError, match=message):
            tacit.next_labels(str(run), images, **told)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="holds no run of Tacit"):
        tacit.next_labels(str(tmp_path), images)
    few = tmp_path / "few"
    few.mkdir()
    for row in range(ALL, ALL + 3):
        Image.fromarray(digits()[row, 0].numpy()).save(few / scan(row))
    with pytest.raises(UserError, match=r"only 0 of the 200 rows of .* check that it belongs to these data"):
        tacit.next_labels(str(run), str(few))
    monkeypatch.setattr(labelling, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'tacit-learn\[active\]'"):
        tacit.next_labels(str(run), images)
