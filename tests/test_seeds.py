"""Several pretraining seeds for a claim about the recipe; what is watched while each trains. Tiny runs on digits."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import tacit
from tacit import cli
from tacit.commands.evaluate_encoder import run_has_seen
from tacit.core.errors import Interrupted
from tacit.evaluation import Report, Seal, splits
from tacit.evaluation.probes import finetune
from tacit.evaluation.spectrum import METRICS, Alarm, Diagnosis
from tacit.experiment import pacing, pretraining
from tacit.experiment.architecture import chosen_encoder, open_split
from tacit.experiment.baselines import baselines
from tacit.experiment.log import Log
from tacit.experiment.pacing import no_cost
from tacit.experiment.settings import Settings
from tacit.experiment.split import has_seen
from tacit.experiment.validate import first_fall, validation_cost, worst_alarms
from tests.tiny import digit_labels, digits

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_fits")]

LABELLED, FEW, ALL = 110, 60, 130


@pytest.fixture(scope="module", autouse=True)
def _brief() -> Iterator[None]:
    """One label budget is judged, and training from scratch, which nothing here looks at, takes 3 steps, not 200."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tacit.commands.run.training_cost", lambda *_, **__: no_cost)
        patch.setattr(splits, "PER_CLASS", (2,))
        patch.setattr(splits, "SHARES", ())
        patch.setattr(finetune, "train_on_labels", partial(finetune.train_on_labels, steps=3))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """130 digits as files, 110 of them labelled in one file and 60 in another."""
    root, target = tmp_path_factory.mktemp("digits"), digit_labels()
    (root / "images").mkdir()
    for row in range(ALL):
        Image.fromarray(digits()[row, 0].numpy()).save(root / "images" / f"scan{row:04d}.png")
    for name, count in (("labels", LABELLED), ("few", FEW)):
        lines = [f"scan{row:04d}.png,finding-{target[row] % 3}\n" for row in range(count)]
        (root / f"{name}.csv").write_text("file,label\n" + "".join(lines))
    return root


def run(folder: Path, out: Path, **settings: Any) -> Report:
    told = {"labels": str(folder / "labels.csv"), "tasks": "simclr", "budget": "6steps", "primary_budget": 2}
    return tacit.run(str(folder / "images"), **{**told, "out": str(out), **settings})


@pytest.fixture(scope="module")
def three(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "three"
    run(folder, out, seeds=3)
    return out


def weights(run: Path, name: str) -> dict[str, np.ndarray]:
    [file] = (run / name).glob("*.safetensors")
    return load_file(file)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_three_seeds_judge_the_recipe(three: Path) -> None:
    report = Report.load(three)
    assert report.verdict.claim == "recipe"
    assert "this recipe (simclr)" in report.verdict.text
    assert {v.claim for v in report.verdicts} == {"recipe"}
    assert {r.seeds for r in report.results if r.arm == "simclr"} == {3}
    assert report.data["pretraining_seeds"] == 3
    page = (three / "report.html").read_text()
    assert "each was pretrained with 3 seeds" in page
    assert "judges the recipe" not in page
    assert json.loads((three / "plan.json").read_text())["steps"] == {"simclr": 6}


def test_seeds_differ_and_the_first_is_kept(three: Path) -> None:
    names = ("simclr", "simclr.2", "simclr.3")
    assert {path.name for path in (three / "checkpoints").iterdir()} == set(names)
    kept = [weights(three, f"encoders/{name}") for name in names]
    assert not any(same(kept[i], kept[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert same(weights(three, "encoder"), kept[0])


def test_the_first_seed_is_the_run_with_one(
    three: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(folder, tmp_path / "one")
    assert same(weights(tmp_path / "one", "encoder"), weights(three, "encoder"))
    assert report.verdict.claim == "checkpoint"
    said = "this checkpoint, not the recipe: --seeds 3 or more judges the recipe"
    assert said in capsys.readouterr().out
    assert said in re.sub("<[^>]+>", "", (tmp_path / "one" / "report.html").read_text())


def test_an_interrupted_run_of_seeds_resumes_to_the_same_bits(
    three: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Log, row: dict[str, Any], steps: int, *, batch_size: int) -> None:
        if (row["task"], row["step"]) == ("simclr.2", 4):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Log, "training", interrupt)
        with pytest.raises(Interrupted):
            run(folder, tmp_path / "cut", seeds=3)
    assert [path.name for path in (tmp_path / "cut" / "checkpoints" / "simclr.2").iterdir()] == ["step-00000004"]
    again = run(folder, tmp_path / "cut", seeds=3, resume=True)
    for name in ("simclr", "simclr.2", "simclr.3"):
        assert same(weights(tmp_path / "cut", f"encoders/{name}"), weights(three, f"encoders/{name}")), name
    before = Report.load(three)
    assert again.verdict == before.verdict
    assert again.data["proxies"] == before.data["proxies"]


def test_two_seeds_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(folder / "images"), "--seeds", "2", "--out", str(tmp_path / "x")])
    assert ended.value.code == 2
    assert "1 judges this checkpoint, 3 or more judge the recipe" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_judging_plans_for_the_encoders_of_all_seeds(folder: Path) -> None:
    ask = Settings(device="cpu", precision="32", offline=True, primary_budget=2)
    options = {"labels": str(folder / "labels.csv")}
    with Log(quiet=True) as log:
        opened, architecture = open_split(str(folder / "images"), options, chosen_encoder(None), ask, log)
    compared = baselines(opened, architecture)
    cost = validation_cost(opened, compared, ask, architecture=architecture)
    one, five = cost(2), cost(10)
    assert five.whole > one.whole
    assert one.least < one.whole


# ---------------------------------------------------------------- what is watched


def test_label_free_metrics_are_read_while_training(three: Path) -> None:
    rows = [json.loads(line) for line in (three / "metrics.jsonl").read_text().splitlines()]
    read = [row for row in rows if "probe" in row]
    assert {row["task"] for row in read} == {"simclr", "simclr.2", "simclr.3"}
    for row in read:
        assert set(METRICS) - {"alpha"} <= row.keys()
        assert 0 < row["alignment"] < 4
        assert row["lidar"] > 1


def test_the_diagnosis_has_two_views_and_the_untrained_encoder(three: Path) -> None:
    diagnosis = Report.load(three).data["diagnosis"]
    assert diagnosis.keys() == {"simclr", "random-init"}
    assert all({"lidar", "alignment", "rankme"} <= of.keys() for of in diagnosis.values())


def test_proxies_stand_in_the_report(three: Path) -> None:
    rows = Report.load(three).data["proxies"]
    assert {(row["scope"], row["arm"]) for row in rows} <= {("seeds", "simclr"), ("over time", "simclr")}  # 2 encoders
    assert {row["proxy"] for row in rows if row["scope"] == "seeds"} <= {"loss", *METRICS}
    assert all(row["n"] == 3 and row["smallest_p"] >= 1 / 3 - 1e-12 for row in rows if row["scope"] == "seeds")


def test_a_fall_of_the_rank_is_told_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "READINGS", 6)
    ranks = iter([10.0, 30.0, 20.0, 14.0, 13.0, 15.0])
    monkeypatch.setattr(pretraining, "online_probe", lambda *_: lambda task: {"rankme": next(ranks)})
    tacit.pretrain(str(folder / "images"), task="simclr", budget="6steps", out=str(tmp_path / "fell"))
    told = [line for line in (tmp_path / "fell" / "log.txt").read_text().splitlines() if "collapsing" in line]
    assert told == ["simclr, step 4: directions are collapsing: RankMe fell to 14.0, below half of its maximum 30.0"]


def test_a_fall_is_the_first_reading_below_half_of_those_before() -> None:
    def told(*ranks: float) -> bool:
        return bool(first_fall([{"loss": 1.0}, *({"rankme": rank} for rank in ranks)]))

    assert told(10, 4)
    assert not told(10, 4, 3)
    assert not told(10, 6, 5)
    assert not told(4, 10, 20)
    assert not told(10)


def test_an_arm_fails_where_one_of_its_seeds_does() -> None:
    def seed(*alarms: Alarm) -> Diagnosis:
        return Diagnosis(10, 4, 0, alarms=alarms)

    warning, mild = Alarm("WARN", "uniformity", -0.5, -1, "crowded"), Alarm("WARN", "uniformity", -0.9, -1, "crowded")
    failure = Alarm("FAIL", "uniformity", -0.1, -1, "crowded")
    found = worst_alarms([seed(mild), seed(warning), seed(failure), seed()])
    assert [(alarm.level, alarm.value) for alarm in found] == [("FAIL", -0.1)]
    assert found[0].text == "crowded (in 3 of 4 pretraining seeds)"
    assert [alarm.value for alarm in worst_alarms([seed(mild), seed(warning)])] == [-0.5]
    assert worst_alarms([seed(mild)])[0].text == "crowded"


# ---------------------------------------------------------------- cross-fitting


def test_cross_fitting_after_pretraining_is_transductive(folder: Path, tmp_path: Path) -> None:
    images = str(folder / "images")
    report = run(folder, tmp_path / "few", labels=str(folder / "few.csv"), budget="2steps")
    assert report.data["cross_fitting_folds"] == 5
    assert report.verdict.transductive
    assert "transductive: the test inputs were in the pretraining data" in report.verdict.text
    assert run_has_seen(tmp_path / "few", Seal.load(tmp_path / "few"), images, {})
    assert not run_has_seen(tmp_path / "few", Seal.load(tmp_path / "few"), "other images", {})


def test_what_was_kept_out_was_not_seen(three: Path) -> None:
    sealed, nothing = Seal.load(three), Seal(0, "cross-fitting", {})
    assert not has_seen(sealed, sealed)
    assert has_seen(nothing, nothing)
    assert has_seen(nothing, sealed)
    assert has_seen(sealed, nothing)
    assert not Report.load(three).verdict.transductive
