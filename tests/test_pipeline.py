"""Whole commands on small real data: from files to encoder and report, and what can go wrong on the way."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import tacit
from tacit import cli
from tacit.core.errors import RunFailed, UserError
from tacit.evaluation import splits
from tacit.experiment.pacing import Cost
from tests.clock import count_steps
from tests.tiny import digit_labels, digits

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("brief", "few_fits")]

LABELLED, ALL = 160, 240
FEW: dict[str, Any] = {"label_budgets": ["5"], "primary_budget": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 digits as PNG files in subfolders; 160 of them labelled in a file with semicolons."""
    root = tmp_path_factory.mktemp("digits")
    target = digit_labels()
    with (root / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["file", "label"])
        for row in range(ALL):
            path = root / "images" / f"part{row % 3}" / f"scan{row:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(digits()[row, 0].numpy()).save(path)
            if row < LABELLED:
                writer.writerow([f"C:\\export\\images\\part{row % 3}\\scan{row:04d}.png", f"finding-{target[row] % 3}"])
    return root


def run(folder: Path, out: Path, **settings: Any) -> Any:
    told = {"labels": str(folder / "labels.csv"), "tasks": "simclr,rotation", "budget": "8steps", "out": str(out)}
    told |= settings
    return tacit.run(str(folder / "images"), **{**({} if told["labels"] is None else FEW), **told})


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "a run"
    run(folder, out)
    return out


def test_a_run_leaves_what_it_promises(finished: Path) -> None:
    for name in (
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "report.json",
        "report.html",
        "log.txt",
        "seal.json",
    ):
        assert (finished / name).stat().st_size > 0, name
    report = json.loads((finished / "report.json").read_text())
    assert report["schema"] == 1
    assert {arm["name"] for arm in report["arms"]} == {"simclr", "rotation", "random-init", "pixels", "scratch"}
    assert report["verdict"]["outcome"] in {"transfers", "harms", "equivalent", "underpowered", "collapsed"}
    assert "not compared with any public pretrained encoder" in report["verdict"]["text"]
    assert report["data"]["seal_reads"] == 1
    for result in report["results"]:
        assert 0 <= result["mean"] <= 1
        assert result["low"] <= result["mean"] <= result["high"]
    page = (finished / "report.html").read_text()
    assert "finding-1" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_encoder_is_of_use(finished: Path, folder: Path, tmp_path: Path) -> None:
    encoder = tacit.load_encoder(str(finished))
    batch = encoder.prepare(sorted((folder / "images").rglob("*.png"))[:5])
    with torch.no_grad():
        pooled = encoder(batch).pooled
    assert pooled.shape == (5, encoder.dim)
    out = tmp_path / "embeddings.parquet"
    tacit.embed(str(finished), str(folder / "images"), out=str(out))
    table = pq.read_table(out)
    assert table.column_names[:2] == ["id", "embedding"]
    assert table.num_rows == ALL
    ids = table["id"].to_pylist()
    row = ids.index("part0/scan0000.png")
    np.testing.assert_allclose(table["embedding"][row].as_py(), pooled[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="--overwrite"):
        tacit.embed(str(finished), str(folder / "images"), out=str(out))
    tacit.export(str(finished), to="safetensors", out=str(tmp_path / "exported"))
    assert tacit.load_encoder(str(tmp_path / "exported")).dim == encoder.dim


def test_an_encoder_is_judged_again_on_the_same_seal(finished: Path, folder: Path, tmp_path: Path) -> None:
    labels = str(folder / "labels.csv")
    report = tacit.evaluate(str(finished), str(folder / "images"), labels=labels, out=str(tmp_path), **FEW)
    assert report.data["seal_reads"] == 2
    first = json.loads((finished / "report.json").read_text())
    assert report.data["n_test"] == first["data"]["n_test"]
    assert (tmp_path / "report.html").exists()


def test_a_function_is_judged_by_its_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_features.py").write_text(
        "from torch.nn.functional import adaptive_avg_pool2d\n"
        "def quarters(batch): return adaptive_avg_pool2d(batch['image'].float(), 2).flatten(1)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    report = tacit.evaluate("own_features:quarters", str(folder / "images"), labels=str(folder / "labels.csv"), **FEW)
    assert report.verdict.arm == "own_features:quarters"
    assert report.verdict.outcome in {"harms", "underpowered", "equivalent"}


def test_selection_never_sees_test_labels(folder: Path, tmp_path: Path) -> None:
    """Poison the sealed labels: nothing before the final report may change."""
    target = digit_labels()
    told = {}
    for name, turn in (("clean", 0), ("poisoned", 1)):
        with (tmp_path / f"{name}.csv").open("w") as file:
            file.write("file,label,split\n")
            for row in range(LABELLED):
                test = row % 3 == 0
                label = (target[row] + turn * test) % 3
                file.write(f"part{row % 3}/scan{row:04d}.png,{label},{'test' if test else 'train'}\n")
        report = run(folder, tmp_path / name, labels=str(tmp_path / f"{name}.csv"), split_column="split")
        losses = [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        chosen = {key: report.data[key] for key in ("selected_arm", "representation", "validation")}
        told[name] = (chosen, losses, [result.mean for result in report.results])
    assert told["clean"][:2] == told["poisoned"][:2]
    assert told["clean"][2] != told["poisoned"][2]


def test_private_leaves_no_trace(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "private", tasks="simclr", private=True)
    for name in ("report.html", "report.json", "log.txt"):
        text = (tmp_path / "private" / name).read_text()
        assert "scan0" not in text, name
        assert "finding-" not in text, name
        assert str(folder) not in text, name


def test_half_of_a_time_is_trained_and_what_fits_is_judged(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tacit.commands.run.validation_cost", lambda *_, **__: lambda encoders: Cost(1.0, 30.0, 0.1))
    monkeypatch.setattr(splits, "PER_CLASS", (10,))
    monkeypatch.setattr(splits, "SHARES", (1.0,))
    count_steps(monkeypatch, 0.1)
    told = {"budget": "14s", "label_budgets": None, "primary_budget": None}
    report = run(folder, tmp_path / "timed", **told)
    trained = sum(arm.seconds for arm in report.arms if arm.kind == "pretrained")
    assert trained >= 0.45 * 14  # half of it, but for the steps that were timed
    assert {"10 per class", "100 %"} & {result.budget for result in report.results}
    assert "s of pretraining for 2 tasks" in capsys.readouterr().err
    plan = json.loads((tmp_path / "timed" / "plan.json").read_text())
    assert set(plan["steps"]) == set(plan["seconds"]) == {"simclr", "rotation"}
    again = run(folder, tmp_path / "timed", **told, resume=True)  # nothing is trained again
    assert [arm.steps for arm in again.arms] == [arm.steps for arm in report.arms]


def test_a_budget_under_which_nothing_fits_is_refused_at_once(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--budget 1\.0 s is too small: .* give --budget \d+s or more"):
        run(folder, tmp_path / "tiny", budget="1s")
    run(folder, tmp_path / "tiny", budget="2steps", tasks="simclr", labels=None)  # the folder is free


def test_without_labels_there_is_no_proof(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(folder, tmp_path / "unlabelled", labels=None, tasks="simclr")
    assert report.verdict.outcome == "none"
    assert "No labels, no proof" in capsys.readouterr().out
    assert "No labels, no proof" in (tmp_path / "unlabelled" / "report.html").read_text()


def test_a_finished_run_resumes_to_the_same(finished: Path, folder: Path) -> None:
    before = json.loads((finished / "report.json").read_text())
    again = run(folder, finished, resume=True)
    assert again.verdict.text == before["verdict"]["text"]
    with pytest.raises(UserError, match="seed 0, not 1"):
        run(folder, finished, resume=True, seed=1)


def test_steps_are_computed_as_asked(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"budget": "6steps", "batch_size": "auto", "out": str(tmp_path / "run")}
    how = {"accumulate": 2, "gradient_checkpointing": True, "profile": True, "skip_bad_steps": 1}
    trained = tacit.pretrain(str(folder / "images"), **asked, **how)
    planned = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert planned["batch_size"]["simclr"] in (32, 64)
    assert trained.steps == 6
    said = capsys.readouterr().err
    assert "examples per step fit into memory" in said
    assert "online probe" in said
    again = tacit.pretrain(str(folder / "images"), **asked, resume=True)  # computed in another way, the same run
    assert [row["loss"] for row in again.history] == [row["loss"] for row in trained.history]
    for mistake, said in (({"accumulate": 0}, "--accumulate 0"), ({"skip_bad_steps": 4}, "--skip-bad-steps 4")):
        with pytest.raises(UserError, match=said):
            tacit.pretrain(str(folder / "images"), budget="2steps", out=str(tmp_path / said), **mistake)


def test_every_task_collapsed_is_a_failure(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pulling all views together without pushing any apart is the classic way to collapse."""
    from tacit.tasks.simclr import SimCLR

    def only_pull(self: SimCLR, batch: tacit.Batch) -> tacit.Output:
        both = torch.cat([self.encoder(self.views(batch, view)).pooled for view in (0, 1)])
        unit = torch.nn.functional.normalize(both, dim=1)
        return tacit.Output((1 - unit @ unit.T).mean(), {}, {})

    monkeypatch.setattr(SimCLR, "forward", only_pull)
    with pytest.raises(RunFailed, match="every task collapsed"):
        run(folder, tmp_path / "collapsed", tasks="simclr", budget="80steps")
    report = json.loads((tmp_path / "collapsed" / "report.json").read_text())
    assert report["verdict"]["outcome"] == "collapsed"
    assert any(alarm["level"] == "FAIL" for alarm in report["arms"][0]["alarms"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": "0.001s"}, "--budget 0.0 s is too small: it takes about"),
        ({"group-column": "no_such"}, "no_such"),
        ({"labels": "nowhere.csv"}, "nowhere.csv"),
        ({"kind": "audio"}, "audio"),
    ],
)
def test_mistakes_end_with_a_line(
    folder: Path, tmp_path: Path, settings: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"out": str(tmp_path / "x"), "budget": "2steps", "labels": str(folder / "labels.csv"), **settings}
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(folder / "images"), *(f"--{name}={value}" for name, value in asked.items())])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
