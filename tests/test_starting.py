"""What can be known at the start is refused at the start: before the first step, and with the folder left free."""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import tacit
from tacit.commands import evaluate_encoder
from tacit.core.errors import UserError
from tacit.core.files import check_place
from tacit.encoders import save_encoder
from tacit.evaluation import Report
from tacit.evaluation.predictions import Predictions
from tacit.evaluation.probes import finetune
from tacit.experiment import starting
from tacit.experiment.folder import settings_of
from tacit.experiment.pacing import Cost
from tacit.training.stepping import Stepper
from tests import made
from tests.tiny import digits, tiny_audio_encoder, tiny_encoder

ROWS, SPEAKERS = 120, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of images of four speakers each, and encoders, to be named by `{folder}`."""
    root = tmp_path_factory.mktemp("data")
    images = []
    for pixels in digits()[:ROWS, 0]:
        buffer = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(buffer, "PNG")
        images.append(buffer.getvalue())
    speaker = [f"speaker {row % SPEAKERS}" for row in range(ROWS)]

    def table(name: str, **columns: Any) -> None:
        pq.write_table(pa.table({"image": pa.array(images), "speaker": speaker, **columns}), root / name)

    mixed = [f"class {row // SPEAKERS % 3}" for row in range(ROWS)]
    apart = [f"class {row % SPEAKERS}" if row % SPEAKERS < 2 else mixed[row] for row in range(ROWS)]
    table("mixed.parquet", label=mixed)
    table("apart.parquet", label=apart, half=["test" if row % SPEAKERS < 2 else "train" for row in range(ROWS)])
    table("one.parquet", label=["always"] * ROWS, only=["theo"] * ROWS)
    table("alone.parquet", label=[f"class {row % 3}" for row in range(ROWS)], only=["theo"] * ROWS)
    table("numbers.parquet", label=[row / 7 for row in range(ROWS)])
    table("tested.parquet", label=[f"class {row % 3}" for row in range(ROWS)], split=["test"] * (ROWS - 1) + ["train"])
    save_encoder(tiny_encoder(), root / "images")
    save_encoder(tiny_audio_encoder(), root / "sounds")
    (root / "file").write_text("no folder")
    (root / "own_start.py").write_text(
        "def pairs(batch): return (batch['index'], batch['index'])\n"
        "def sums(batch): return batch['image'].float().sum((2, 3))\n"
        "def fails(batch): return batch['no such thing']\n"
        "def infinite(batch): return batch['image'].float().flatten(1) / 0\n"
    )
    return root


def training(*given: object, **more: object) -> NoReturn:
    raise AssertionError("it came to training")


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither pretraining, nor timing it, nor training on labels."""
    monkeypatch.setattr(Stepper, "__call__", training)
    monkeypatch.setattr(finetune, "train_on_labels", training)


HELD = {"group_column": "speaker", "holdout": "speaker=speaker 0"}

# What is asked of `tacit run digits`, or of another table, and what it is told.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no budget": ({"budget": "5 bananas"}, "cannot read the budget '5 bananas'"),
    "negative seed": ({"seed": -1}, "--seed -1: give a number from 0 on"),
    "two seeds": ({"seeds": 2}, "--seeds 2 supports no claim"),
    "no device": ({"device": "tpu"}, "--device tpu is none; choose from auto, cpu, cuda, mps"),
    "no precision": ({"precision": "16"}, "--precision 16 is none"),
    "no time to wait": ({"timeout": 0.0}, "--timeout 0: give the seconds"),
    "empty batch": ({"batch_size": 0}, "--batch-size 0: give examples per step"),
    "one to compare": ({"batch_size": 1}, "simclr learns by telling examples of a step apart; give 2 at least"),
    "unequal parts": ({"accumulate": 7}, "64 examples per process have no 7 equal parts"),
    "no part": ({"accumulate": 0}, "a step is computed in one part at least"),
    "all bad steps": ({"skip_bad_steps": 9}, "at most 3 can be passed over"),
    "last task of sound": ({"tasks": "simclr,rotation,wav2vec2"}, "'wav2vec2' has no recipe for data of kind image"),
    "weightless task": ({"tasks": "simclr,simclr+0*rotation"}, r"cannot read the weight in '0\*rotation'"),
    "weight without number": ({"tasks": "simclr+nan*rotation"}, r"cannot read the weight in 'nan\*rotation'"),
    "task twice in a sum": ({"tasks": "simclr+2*simclr"}, r"the sum 'simclr\+2\*simclr' names 'simclr' twice"),
    "encoder of text": ({"encoder": "bert_nano"}, "bert_nano reads text, and the data are images"),
    "nothing to go on from": ({"init": "{data}/nowhere"}, "there is no encoder at .*nowhere"),
    "going on from sound": ({"init": "{data}/sounds"}, "image"),
    "no seal": ({"seal": "{data}/nowhere"}, "no seal at .*nowhere"),
    "against nothing": ({"against": ["{data}/nowhere"]}, "--against: there is no encoder at .*nowhere"),
    "against a name unknown here": ({"against": ["hf:owner/no-such-model"]}, "--against: hf:owner/no-such-model"),
    "against no module": ({"against": ["no_such_module:f"]}, "--against: no_such_module:f: there is no module"),
    "against no function": ({"against": ["own_start:non"]}, "--against: own_start:non: 'own_start' has no 'non'"),
    "against one twice": ({"against": ["{data}/images"] * 2}, "--against .*images is named twice"),
    "against sound": ({"against": ["{data}/sounds"]}, "the encoder audio_convnet is of kind audio"),
    "against pairs": ({"against": ["own_start:pairs"]}, "own_start:pairs answers 4 examples with tuple"),
    "against what fails": ({"against": ["own_start:fails"]}, "own_start:fails cannot read these data: KeyError"),
    "against infinity": ({"against": ["own_start:infinite"]}, "4 of 4 examples have NaN or infinite features"),
    "metric misspelt": ({"metric": "aurok"}, "no metric named 'aurok'; did you mean 'auroc'"),
    "metric of numbers": ({"metric": "r2"}, "no metric 'r2' for classification"),
    "no label budget": ({"label_budgets": ["10", "ten"]}, "'ten' is no label budget"),
    "label budget unfilled": ({"label_budgets": ["5000"]}, "no label budget can be filled"),
    "primary budget unfilled": ({"primary_budget": 5000}, "primary budget 5000 cannot be filled"),
    "no target": ({"target": "classes"}, "--target classes is none"),
    "target that does not fit": ({"target": "multilabel"}, "--target multilabel"),
    "measurements as classes": ({"table": "numbers"}, "the labels look like measurements"),
    "one class": ({"table": "one"}, "labels need at least two classes"),
    "one group": ({"table": "alone", "group_column": "only"}, "all labelled examples belong to one group"),
    "test group of one class": ({"table": "apart", **HELD}, "fewer than two classes can be tested"),
    "classes in one test group each": (
        {"table": "apart", "group_column": "speaker", "split_column": "half"},
        r"fewer than two classes can be tested \(class 0: 1 test groups; class 1: 1 test groups; class 2",
    ),
    "next to all of it tested": ({"table": "tested", "split_column": "split"}, "labels need at least two classes"),
    "metric without labels": (
        {"table": "mixed", "label_column": None, "metric": "auroc"},
        "--metric: nothing is judged without labels; name them with --labels FILE",
    ),
    "against without labels": (
        {"table": "mixed", "label_column": None, "against": ["{data}/images"]},
        "--against: nothing is judged without labels",
    ),
}


@pytest.fixture
def here(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(data)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return data


def named(value: Any, data: Path) -> Any:
    """With the folder of the data in the place that is left for it."""
    if isinstance(value, list):
        return [named(item, data) for item in value]
    return value.replace("{data}", str(data)) if isinstance(value, str) else value


def run(data: Path, out: Path, *, table: str | None = None, **settings: Any) -> Any:
    usual: dict[str, Any] = {"tasks": "simclr", "budget": "5steps", "offline": True, "out": str(out)}
    usual |= {} if table is None else {"label_column": "label"}
    source = "digits" if table is None else str(data / f"{table}.parquet")
    return tacit.run(source, **{**usual, **{name: named(value, data) for name, value in settings.items()}})


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_before_the_first_step(name: str, here: Path, tmp_path: Path) -> None:
    settings, told = WRONG[name]
    with pytest.raises(UserError, match=told) as error:
        run(here, tmp_path / "run", **settings)
    assert len(str(error.value).splitlines()) == 1
    left = {path.name for path in (tmp_path / "run").iterdir()} if (tmp_path / "run").exists() else set()
    assert left <= {".lock"}, "the folder is not free for the next try"


@pytest.mark.usefixtures("untrained")
def test_a_full_disk_is_noticed_at_the_start(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        starting.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e4 if folder == tmp_path / "run" else 1e9)
    )
    with pytest.raises(UserError, match=r"the disk has 0\.0 MB free at .*, and checkpoints and encoders take about"):
        run(here, tmp_path / "run", tasks="simclr,rotation")


def test_room_counts_every_seed_and_what_is_there_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"bytes": 0}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free["bytes"]))
    once = 3 * 10 + 5 + 2 * 3 * 10 + 5  # weights and two moments three times, the encoder twice
    for seeds, needed in ((1, once), (3, once + 2 * (2 * 3 * 10 + 5))):
        free["bytes"] = needed
        starting.check_room(tmp_path, [(10, 5)], seeds)
        free["bytes"] = needed - 1
        with pytest.raises(UserError, match="free some space"):
            starting.check_room(tmp_path, [(10, 5)], seeds)
        (tmp_path / "kept").write_bytes(b"x")
        starting.check_room(tmp_path, [(10, 5)], seeds)
        (tmp_path / "kept").unlink()


@pytest.mark.parametrize("command", ["run", "evaluate", "predict", "embed", "next_labels"])
def test_where_nothing_can_be_written_is_said_first(command: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before data and encoders are opened."""
    from tacit.commands import embed, next_labels, predict
    from tacit.experiment import opening

    for module in (embed, next_labels, predict, opening):
        monkeypatch.setattr(module, "open_dataset", training)
    end = {"predict": ".csv", "embed": ".parquet", "next_labels": ".csv"}.get(command, "")
    given = ("digits",) if command == "run" else (str(here / "images"), "digits")
    with pytest.raises(UserError, match=r"is no folder|is a file") as error:
        getattr(tacit, command)(*given, out=str(here / "file" / f"inside{end}"))
    assert len(str(error.value).splitlines()) == 1


def test_what_is_not_ones_own_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_place(tmp_path / "new" / "newer")
    (tmp_path / "file").write_text("x")
    check_place(tmp_path / "file")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    for name in ("file", "new", "new/newer"):
        with pytest.raises(UserError, match=f"{name} cannot be written: {tmp_path} is not yours to write in"):
            check_place(tmp_path / name)


NEVER_JUDGED = {
    "against nothing": ({"against": ["{data}/nowhere"]}, "--against: there is no encoder"),
    "against itself by name": ({"against": ["own_start:sums"], "name": "own_start:sums"}, "arms need different names"),
    "against what fails": ({"against": ["own_start:fails"]}, "cannot read these data: KeyError"),
    "metric misspelt": ({"metric": "accuraty"}, "did you mean 'accuracy'"),
    "metric of numbers": ({"metric": "r2"}, "no metric 'r2' for classification"),
    "budget unfilled": ({"primary_budget": "4000 in all"}, "cannot be filled"),
    "no device": ({"device": "gpu"}, "--device gpu is none"),
    "negative seed": ({"seed": -3}, "--seed -3"),
    "no seal": ({"seal": "{data}"}, "no seal at"),
    "report in a file": ({"out": "{data}/file/report"}, "is no folder"),
    "one class": ({"table": "one"}, "labels need at least two classes"),
    "test group of one class": ({"table": "apart", **HELD}, "fewer than two classes can be tested"),
}


@pytest.mark.parametrize("name", NEVER_JUDGED)
def test_what_is_wrong_is_said_before_anything_is_judged(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, told = NEVER_JUDGED[name]
    monkeypatch.setattr("tacit.evaluation.protocol.select", training)
    settings = {key: named(value, here) for key, value in settings.items()}
    subject, table = settings.pop("name", str(here / "images")), settings.pop("table", None)
    usual = {} if table is None else {"label_column": "label"}
    source = "digits" if table is None else str(here / f"{table}.parquet")
    with pytest.raises(UserError, match=told):
        tacit.evaluate(subject, source, offline=True, **{**usual, **settings})


@pytest.mark.usefixtures("brief", "few_fits")
def test_one_test_group_is_judged_and_said_to_be_one(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(here, tmp_path / "run", table="mixed", label_budgets=["2"], **HELD)
    assert report.verdict.outcome != "none"
    assert report.data["n_test_groups"] == report.data["n_test"] == ROWS // SPEAKERS
    assert "all of one group, of which alone this speaks" in report.verdict.text
    assert "all of one group" in capsys.readouterr().out
    assert "all of one group" in (tmp_path / "run" / "report.html").read_text()


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory, brief: None, few_fits: None) -> Path:
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("runs") / "run"
    run(data, out, **BRIEF)
    return out


BRIEF: dict[str, Any] = {"table": "mixed", "label_budgets": ["2"], "tasks": "simclr,rotation", "budget": "3steps"}


@pytest.mark.usefixtures("brief", "few_fits")
def test_a_run_is_judged_anew_by_other_settings(
    trained: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    history = (out / "metrics.jsonl").read_text()
    monkeypatch.setattr(Stepper, "__call__", training)
    asked = {**BRIEF, "against": ["own_start:sums"], "metric": "auroc", "label_budgets": ["1", "5"]}
    with pytest.raises(UserError, match="already holds this run; continue it with --resume, which judges it anew, or"):
        run(here, out, **asked)
    report = run(here, out, **asked, resume=True)
    said = capsys.readouterr().err
    for flag in ("--against", "--metric", "--label-budgets"):
        assert f"{flag} differs: what was trained is kept, and judged anew" in said
    assert report.data["primary_metric"] == "auroc"
    assert {result.budget for result in report.results} == {"1 per class", "5 per class"}
    assert "own_start:sums" in {arm.name for arm in report.arms}
    assert report.data["seal_reads"] == 2
    assert (out / "metrics.jsonl").read_text() == history
    assert settings_of(out)["metric"] == "auroc"


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"against": ["hf:owner/no-such-model"]}, "--against: hf:owner/no-such-model"),
        ({"metric": "r2"}, "no metric 'r2' for classification"),
        ({"label_budgets": ["5000"]}, "no label budget can be filled"),
        ({"seed": 1}, "holds a run with seed 0, not 1"),
        ({"budget": "4steps"}, "holds a run with budget '3steps', not '4steps'"),
    ],
)
def test_a_mistake_leaves_the_run_as_it_was(trained: Path, here: Path, asked: dict[str, Any], told: str) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file() and path.name not in UNSTEADY}
    with pytest.raises(UserError, match=told):
        run(here, trained, **{**BRIEF, **asked}, resume=True)
    after = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file() and path.name not in UNSTEADY}
    assert before == after


UNSTEADY = {"log.txt", "environment.json", ".lock"}


@pytest.mark.usefixtures("brief", "few_fits")
def test_a_run_folder_is_judged_on_what_it_remembers(
    trained: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every task, on the run's own data, seal and budgets; the folder stays as it was but for the seal's count."""
    before = Report.load(trained)
    kept = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file() and path.name != "seal.json"}
    monkeypatch.setattr(Stepper, "__call__", training)
    out = tmp_path / "again"
    again = tacit.evaluate(str(trained), metric="auroc", against=["own_start:sums"], offline=True, out=str(out))
    assert kept == {path: path.read_bytes() for path in kept}
    assert again.data["primary_metric"] == "auroc"
    assert {arm.name for arm in again.arms} == {arm.name for arm in before.arms} | {"own_start:sums"}
    assert [(arm.name, arm.steps) for arm in again.arms if arm.kind == "pretrained"] == [("simclr", 3), ("rotation", 3)]
    assert {result.budget for result in again.results} == {"2 per class"}
    assert again.data["n_test"] == before.data["n_test"]
    assert again.data["seal_reads"] == before.data["seal_reads"] + 1

    depths = [report.data["representation"] for report in (again, before)]  # which each metric chooses for itself
    alike = [arm.name for arm in before.arms if depths[0].get(arm.name) == depths[1].get(arm.name, "")]
    assert alike

    def measured(report: Report) -> dict[Any, float]:
        found = (r for r in report.results if r.metric == "balanced_accuracy" and r.protocol == "knn")
        return {r.arm: r.mean for r in found if r.arm in alike}

    assert measured(again) == pytest.approx(measured(before))
    assert (out / "report.html").exists()
    assert Predictions.load(out).metric == "auroc"


def test_what_a_run_folder_does_not_remember(trained: Path, tmp_path: Path) -> None:
    lost = shutil.copytree(trained, tmp_path / "run")
    config = made.unsealed(lost / "config.yaml")
    (lost / "config.yaml").write_text(config.replace(f"data: {settings_of(trained)['data']}", "data: <numpy.ndarray>"))
    with pytest.raises(UserError, match="does not remember its data, an object in Python: name the data"):
        tacit.evaluate(str(lost))
    (lost / "config.yaml").write_text(config + "\n")
    with pytest.raises(UserError, match="was not made here by you, or was changed since, and its config"):
        tacit.evaluate(str(lost))
    (lost / "config.yaml").write_text(config.replace("seeds: 1", "seeds: 3"))
    with pytest.raises(UserError, match=r"has not pretrained rotation\.2 yet|has not pretrained simclr\.2 yet"):
        tacit.evaluate(str(lost), trust=True)
    with pytest.raises(UserError, match="give the data to judge"):
        tacit.evaluate(str(trained / "encoder"))


@pytest.mark.parametrize(
    ("budget", "least", "told"),
    [
        ("5steps", 1.0, "--budget 5steps: judging takes a time, such as 90s or 10m"),
        ("soon", 1.0, "cannot read the budget 'soon'"),
        ("10s", 1e4, r"--budget 10s is too small: .* 2 h 46 min more; give --budget [0-9.]+[ms], or fewer"),
    ],
)
def test_a_time_that_no_judgement_fits_into_is_refused(
    budget: str, least: float, told: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tacit.evaluation.protocol.select", training)
    monkeypatch.setattr(
        evaluate_encoder, "validation_cost", lambda *asked, **how: lambda encoders: Cost(least, least, 1.0)
    )
    with pytest.raises(UserError, match=told):
        tacit.evaluate(str(here / "images"), str(here / "mixed.parquet"), label_column="label", budget=budget)


@pytest.mark.usefixtures("few_fits")
def test_what_does_not_fit_into_the_time_of_a_judgement_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training from scratch is said to take a week: the rest is judged, and the verdict says what it lacks."""
    week = 7 * 86400.0
    plan = Cost(week, week, week, week - 1.0)
    monkeypatch.setattr(evaluate_encoder, "validation_cost", lambda *asked, **how: lambda encoders: plan)
    monkeypatch.setattr(finetune, "train_on_labels", training)
    asked = {"label_column": "label", "label_budgets": ["2", "5"], "budget": "1h"}
    report = tacit.evaluate(str(here / "images"), str(here / "mixed.parquet"), **asked)
    assert {result.budget for result in report.results} == {"2 per class", "5 per class"}
    assert "not compared with training from scratch" in report.verdict.text
    assert report.data["given_up"][0].startswith("training from scratch (about 167 h")
