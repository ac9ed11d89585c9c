"""From a folder of images to a report, and on from there, for labels that are no classes. Tiny runs on real digits."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pa_csv
import pytest
from PIL import Image

import tacit
from tacit import cli
from tacit.core.errors import UserError
from tacit.evaluation import Predictions, Report, Seal
from tests.tiny import digit_labels, digits

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("brief", "few_fits")]

LABELLED, LATER, ALL = 120, 150, 180
NAMES = ["even", "large"]
TOLD: dict[str, dict[str, Any]] = {
    "regression": {"target": "regression", "metric": "d2_absolute_error"},
    "multilabel": {"multilabel": "|"},
    "retrieval": {"target": "retrieval"},
}


def number(row: int) -> int:
    return int(digit_labels()[row])


def several(row: int) -> str:
    true = (number(row) % 2 == 0, number(row) > 4)
    return "|".join(name for name, here in zip(NAMES, true, strict=True) if here) or "|"


LABEL: dict[str, Callable[[int], str]] = {
    "regression": lambda row: f"{number(row) + 0.5}",
    "multilabel": several,
    "retrieval": lambda row: f"digit {number(row)}",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """180 digits as files; for each target the labels of the first 120, and of 30 more that came later."""
    root = tmp_path_factory.mktemp("digits")
    (root / "images").mkdir()
    for row in range(ALL):
        Image.fromarray(digits()[row, 0].numpy()).save(root / "images" / f"{row:03d}.png")
    for target, label in LABEL.items():
        for name, rows in (("few", range(LABELLED)), ("later", range(LABELLED, LATER))):
            with (root / f"{target}-{name}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([("file", "label"), *((f"{row:03d}.png", label(row)) for row in rows)])
    return root


@pytest.fixture(scope="module")
def runs(folder: Path) -> Callable[[str], Path]:
    """The run of a target, made when it is first asked for."""

    def run(target: str) -> Path:
        out = folder / f"run-{target}"
        if not out.exists():
            labels = str(folder / f"{target}-few.csv")
            told: dict[str, Any] = {"tasks": "simclr", "budget": "2steps", "out": str(out), **TOLD[target]}
            told |= {} if target == "retrieval" else {"primary_budget": 20, "label_budgets": ["20 in all"]}
            tacit.run(str(folder / "images"), labels=labels, **told)
        return out

    return run


@pytest.mark.parametrize("target", list(TOLD))
def test_judged_again_with_later_labels_and_compared(
    target: str, runs: Callable[[str], Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run's own target is taken over: none is named here."""
    run, out = runs(target), tmp_path / "again"
    assert (run / "report.html").exists()
    labels = [word for name in ("few", "later") for word in ("--labels", str(folder / f"{target}-{name}.csv"))]
    budget = [] if target == "retrieval" else ["--label-budgets=20 in all", "--primary-budget=20"]
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", str(run), str(folder / "images"), *labels, *budget, "--out", str(out)])
    assert ended.value.code == 0
    before, after = (Report.load(of).data for of in (run, out))
    assert before["target"] == after["target"] == target
    assert before["primary_metric"] == after["primary_metric"]
    assert after["n_test"] == before["n_test"]
    assert {name.split(".")[0] for name in Predictions.load(out).item} <= set(Seal.load(run).items)
    if target == "retrieval":  # nothing is learned, so that more labels change no draw
        capsys.readouterr()
        verdict = tacit.compare(str(run), str(out)).verdicts[0]
        assert "nDCG@10 among the test items, search by cosine" in verdict
    else:
        assert after["n_train"] == before["n_train"] + LATER - LABELLED
        with pytest.raises(UserError, match="never probed on the same draws"):
            tacit.compare(str(run), str(out))


@pytest.mark.parametrize("target", ["regression", "multilabel"])
def test_judgements_with_the_same_labels_are_compared(target: str, runs: Callable[[str], Path], tmp_path: Path) -> None:
    run = runs(target)
    compared = tacit.compare(str(run), str(shutil.copytree(run, tmp_path / "twin")))
    measure = {"regression": "D2 of the absolute error, ridge regression", "multilabel": "AUROC, linear probe"}
    assert measure[target] in compared.verdicts[0]
    assert {row["budget"] for row in compared.gains} >= {"20 in all"}
    assert all(row["gain"] == pytest.approx(0, abs=1e-9) for row in compared.gains)


def test_other_targets_and_metrics_are_not_compared(runs: Callable[[str], Path], folder: Path, tmp_path: Path) -> None:
    run, labels = runs("regression"), str(folder / "regression-few.csv")
    twin = shutil.copytree(run, tmp_path / "metric")
    replace(Predictions.load(run), metric="r2").save(twin)
    with pytest.raises(UserError, match="on regression by d2_absolute_error, the other on regression by r2: judge"):
        tacit.compare(str(run), str(twin))
    out = tmp_path / "target"
    tacit.evaluate(str(run), str(folder / "images"), target="retrieval", labels=labels, out=str(out))
    assert Report.load(out).data["primary_metric"] == "ndcg@10/test-gallery"  # not the run's
    with pytest.raises(UserError, match="the other on retrieval by ndcg@10/test-gallery: judge both alike"):
        tacit.compare(str(run), str(out))


# ---------------------------------------------------------------- predict, export


def test_numbers_are_predicted(
    runs: Callable[[str], Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tacit.predict(str(runs("regression")), str(folder / "images"), out=str(tmp_path / "numbers.csv"))
    said = capsys.readouterr().out
    assert "ridge regression on simclr" in said
    assert "verdict precedes this probe" in said
    assert table.column_names == ["id", "prediction"]
    true = np.array([number(row) + 0.5 for row in range(ALL)])
    assert np.corrcoef(table["prediction"].to_numpy()[:LABELLED], true[:LABELLED])[0, 1] > 0.5
    assert pa_csv.read_csv(tmp_path / "numbers.csv").num_rows == ALL


def test_several_labels_are_predicted(runs: Callable[[str], Path], folder: Path) -> None:
    table = tacit.predict(str(runs("multilabel")), str(folder / "images"))
    assert table.column_names == ["id", "labels", *(f"p({name})" for name in NAMES)]
    scores = np.stack([table[f"p({name})"].to_numpy() for name in NAMES], axis=1)
    expected = ["|".join(name for name, p in zip(NAMES, row, strict=True) if p > 0.5) for row in scores]
    assert table["labels"].to_pylist() == expected
    true = np.array([[name in several(row).split("|") for name in NAMES] for row in range(LABELLED)])
    assert ((scores[:LABELLED] > 0.5) == true).mean() > 0.75


def test_nothing_is_learned_to_search(runs: Callable[[str], Path], folder: Path, tmp_path: Path) -> None:
    run = str(runs("retrieval"))
    for call in (
        lambda: tacit.predict(run, str(folder / "images")),
        lambda: tacit.export(run, to="safetensors", with_head=True, out=str(tmp_path / "out")),
    ):
        with pytest.raises(UserError, match=r"judged by retrieval, and nothing is learned for that: .* tacit embed"):
            call()


@pytest.mark.parametrize("target", ["regression", "multilabel"])
@pytest.mark.parametrize("to", ["onnx", "safetensors"])
def test_an_exported_head_says_what_predict_says(
    to: Any,
    target: str,
    runs: Callable[[str], Path],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shallow: None,
) -> None:
    run, out = runs(target), tmp_path / "out"
    table = tacit.predict(str(run), str(folder / "images"))
    expected = np.stack([column.to_numpy() for column in table.columns[1 if target == "regression" else 2 :]], axis=1)
    expected = expected[:, 0] if target == "regression" else expected
    tacit.export(str(run), to=to, with_head=True, out=str(out))
    output = {"regression": "prediction", "multilabel": "probabilities"}[target]
    said = json.loads((out / "head.json").read_text())
    assert (said["target"], said["output"], said["labels"]) == (target, output, LABELLED)
    assert said["classes"] == (NAMES if target == "multilabel" else [])
    if to == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(out / "encoder.onnx", providers=["CPUExecutionProvider"])
        assert [given.name for given in session.get_outputs()] == ["embedding", output]
        for size in (1, 7):
            [found] = session.run([output], {"image": digits()[:size].numpy()})
            np.testing.assert_allclose(found, expected[:size], atol=1e-3)
    shutil.copy(folder / "images" / "007.png", out / "image.png")
    monkeypatch.chdir(out)
    pasted: dict[str, Any] = {}
    [code] = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    exec(code, pasted)
    answer = pasted[output].detach().numpy() if to == "safetensors" else pasted[output]
    np.testing.assert_allclose(answer, expected[7:8], atol=1e-3)


# ---------------------------------------------------------------- what to label next


@pytest.mark.parametrize("target", list(TOLD))
def test_what_to_label_next(
    target: str, runs: Callable[[str], Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing that has a label already, be it of the run or later, and however few are later."""
    pytest.importorskip("skactiveml")
    run, images, later = str(runs(target)), str(folder / "images"), folder / "one.csv"
    later.write_text(f"file,label\n{LABELLED:03d}.png,{LABEL[target](LABELLED)}\n")
    capsys.readouterr()
    table = tacit.next_labels(run, images, n=10_000, labels=str(later))
    assert f"typiclust, as labels of {target} have no margin" in capsys.readouterr().out
    assert sorted(table["file"].to_pylist()) == [f"{row:03d}.png" for row in range(LABELLED + 1, ALL)]
    with pytest.raises(UserError, match=f"labels of {target} have none; use --method typiclust"):
        tacit.next_labels(run, images, method="margin")
