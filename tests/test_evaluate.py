"""The whole protocol on small problems whose truth is known: who wins, what is hidden, what is reported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.core.types import Batch, Features
from tacit.evaluation import Arm, Labelled, Report, Selection, evaluate, protocol, select
from tacit.evaluation.judgement import Predicted
from tests import few

pytestmark = pytest.mark.usefixtures("few_strengths")

N_CLASSES = 3
PRIMARY = ("linear", "10 per class")
BUDGETS = (2, 5, 10)
DRAWS = 4  # enough to see a clear gain; each costs a probe per arm and budget


class Slice:
    """An encoder that shows some columns of the raw vectors; its depths show others."""

    def __init__(self, columns: slice, depths: Sequence[slice] = ()) -> None:
        self.columns, self.depths, self.n_depths = columns, depths, len(depths)
        self.dim = columns.stop - columns.start

    def __call__(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        x = batch["image"].flatten(1)
        pooled = x[:, self.columns]
        return Features(pooled[:, None], pooled, depths=tuple(x[:, self.depths[d]] for d in depths))


SIGNAL, NOISE = slice(0, 8), slice(8, 38)


def problem(
    n: int = 600, *, seed: int = 0, groups: int | None = None, n_test: int = 300, transductive: bool = False
) -> Labelled:
    """Vectors whose first 8 columns tell the class, and 30 that tell nothing."""
    rng = np.random.default_rng(seed)
    group = np.arange(n) if groups is None else rng.integers(0, groups, n)
    y = rng.permutation(np.arange(n) % N_CLASSES)
    centres = rng.normal(0, 0.9, (N_CLASSES, 8))
    x = np.concatenate([centres[y] + rng.normal(0, 1, (n, 8)), rng.normal(0, 1, (n, 30))], axis=1)
    images = torch.tensor(x.reshape(n, 1, 1, -1), dtype=torch.float32)
    tested = np.arange(n) < n_test if groups is None else group < groups * n_test // n

    def fetch(positions: NDArray[np.int64]) -> Batch:
        return {"image": images[torch.as_tensor(positions)], "index": torch.as_tensor(positions)}

    return Labelled(
        fetch, y, ("ant", "bee", "cat"), group, np.flatnonzero(~tested), np.flatnonzero(tested), transductive
    )


def arm(name: str, encoder: Any, kind: Any = "pretrained", /, **more: Any) -> Arm:
    return Arm(name, kind, encoder if isinstance(encoder, tuple) else (encoder,), **more)


GOOD = arm("good", Slice(SIGNAL), task="simclr", encoder="slice", steps=10, seconds=1.5, examples_per_second=99.0)
USELESS = arm("useless", Slice(slice(8, 12)))
RAW = arm("raw", Slice(slice(5, 25)), "baseline")
RANDOM = arm("random", (Slice(slice(8, 11)), Slice(slice(11, 14)), Slice(slice(14, 17))), "baseline")


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluate([GOOD, USELESS, RAW, RANDOM], problem(), budgets=BUDGETS, draws=5)


def test_the_better_encoder_transfers(report: Report) -> None:
    verdict = report.verdict
    assert (verdict.outcome, verdict.arm, verdict.baseline) == ("transfers", "good", "raw")
    assert (verdict.budget, verdict.protocol, verdict.claim) == ("10 per class", "linear", "checkpoint")
    assert verdict.gain is not None
    assert verdict.low is not None
    assert 0 < verdict.low < verdict.gain < 0.3
    assert verdict in report.verdicts


def test_noise_harms(report: Report) -> None:
    [verdict] = [v for v in report.verdicts if (v.arm, v.protocol, v.budget) == ("useless", "linear", "10 per class")]
    assert (verdict.outcome, verdict.baseline) == ("harms", "raw")


def test_every_combination_is_reported(report: Report) -> None:
    assert {(v.arm, v.protocol, v.budget) for v in report.verdicts} == {
        (a, p, f"{b} per class") for a in ("good", "useless") for p in ("linear", "knn") for b in BUDGETS
    }
    keys = [(r.arm, r.protocol, r.metric, r.budget) for r in report.results]
    assert len(set(keys)) == len(keys) == 4 * 2 * (3 + 2)  # what is no verdict's metric, at the primary budget
    for r in report.results:
        assert 0 <= r.low <= r.mean <= r.high <= 1
        assert (r.draws, r.n_test, r.n_groups) == (5, 300, 300)
        assert r.seeds == (3 if r.arm == "random" else 1)


def test_schema(report: Report) -> None:
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert list(content) == ["schema", "data", "arms", "results", "verdict", "verdicts", "labels_saved", "gains"]
    assert content["schema"] == 1
    assert list(content["arms"][0]) == (
        ["name", "kind", "task", "encoder", "steps", "seconds", "examples_per_second", "alarms", "own", "own_encoder"]
    )
    assert content["arms"][0] == {
        "name": "good",
        "kind": "pretrained",
        "task": "simclr",
        "encoder": "slice",
        "steps": 10,
        "seconds": 1.5,
        "examples_per_second": 99.0,
        "alarms": [],
        "own": False,
        "own_encoder": False,
    }
    assert " ".join(content["results"][0]) == (
        "arm protocol metric budget labels_per_class labels_total mean low high draws seeds n_test n_groups"
    )
    assert " ".join(content["verdict"]) == (
        "outcome claim protocol arm baseline budget gain low high transductive text circumstances margin"
    )


def test_report_round_trip(report: Report, tmp_path: Path) -> None:
    told = report.with_data(seal_reads=2)
    assert told.save(tmp_path) == tmp_path / "report.json"
    assert Report.load(tmp_path).to_json() == json.loads(json.dumps(told.to_json()))
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    with pytest.raises(UserError, match="no report in"):
        Report.load(tmp_path / "none")
    (tmp_path / "report.json").write_text('{"schema": 2}')
    with pytest.raises(UserError, match="report schema 2 is not 1"):
        Report.load(tmp_path)


def test_report_reads_well(report: Report) -> None:
    lines = str(report.with_data(seal_reads=2)).splitlines()
    assert lines[0] == report.verdict.text
    assert lines[2].split() == ["%", "2", "per", "class", "5", "per", "class", "10", "per", "class"]
    assert lines[3].startswith("good")
    assert any(line.startswith("labels saved: raw needs at least 30 labels") for line in lines)
    assert lines[-1] == "the sealed test labels have been read 2 times"
    assert max(map(len, lines[2:])) < 120
    escaped = replace(report, verdict=replace(report.verdict, text="a < b"))
    assert "<b>a &lt; b</b>" in escaped._repr_html_()


def test_reports_open_without_torch() -> None:
    code = "import sys, tacit.evaluation as e; e.Report; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_same_again_in_any_order(report: Report) -> None:
    again = evaluate([RANDOM, RAW, USELESS, GOOD], problem(), budgets=BUDGETS, draws=5)
    assert again.verdict == report.verdict
    assert set(again.results) == set(report.results)


@pytest.mark.parametrize("groups", [None, 12])
def test_the_order_of_rows_changes_nothing(groups: int | None) -> None:
    """Draws, folds and figures, of all labels too; to the digits that another order of sums leaves."""
    plain = problem(240, groups=groups, n_test=120)
    content = np.array([number.to_bytes(16, "big") for number in range(240)], "V16")
    reports = []
    for order in (np.arange(240), np.random.default_rng(1).permutation(240)):
        sides = (np.flatnonzero(np.isin(order, side)) for side in (plain.train, plain.test))
        labelled = Labelled(
            *(partial(lambda order, positions: plain.fetch(order[positions]), order), plain.y[order], plain.classes),
            *(plain.group[order], *sides),
            content=content[order],
        )
        reports.append(evaluate([GOOD, USELESS, RAW], labelled, budgets=[5, 1.0], draws=2, primary=5))
    for one, other in zip(*(report.gains for report in reports), strict=True):
        assert [one[key] for key in ("gain", "low", "high")] == pytest.approx(
            [other[key] for key in ("gain", "low", "high")], abs=1e-9
        )


def test_copies_are_one_unit() -> None:
    """Five copies of every example, without a group column, do not make the interval narrower than one of each."""
    plain = problem(240, n_test=120)
    of = np.repeat(np.arange(240), 5)
    content = np.array([int(number).to_bytes(16, "big") for number in range(240)], "V16")
    copied = Labelled(
        *(lambda positions: plain.fetch(of[positions]), plain.y[of], plain.classes, np.arange(1200)),
        *(np.flatnonzero(of >= 120), np.flatnonzero(of < 120)),
        content=content[of],
    )
    once, five = (
        evaluate([GOOD, RAW], labelled, budgets=[5], draws=DRAWS)
        for labelled in (replace(plain, content=content), copied)
    )
    assert "600 test items in 120 groups" in five.verdict.text
    assert five.gains[0]["high"] - five.gains[0]["low"] > 0.7 * (once.gains[0]["high"] - once.gains[0]["low"])


def test_test_labels_are_read_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every test label poisoned, choice and predictions stay the same bit for bit."""
    seen: list[Predicted] = []
    judge: Callable[[Predicted], Report] = protocol.judge_predictions
    monkeypatch.setattr(protocol, "judge_predictions", lambda predicted: [seen.append(predicted), judge(predicted)][1])
    candidates = [GOOD, RAW, arm("deep", Slice(slice(8, 12), [SIGNAL]))]
    clean = problem()
    poisoned = replace(clean, y=clean.y.copy())
    poisoned.y[clean.test] = (clean.y[clean.test] + 1) % N_CLASSES
    reports = [evaluate(candidates, labelled, budgets=[10], draws=DRAWS) for labelled in (clean, poisoned)]
    assert reports[0].verdict.outcome != reports[1].verdict.outcome
    a, b = seen
    assert a.selection == b.selection
    for name in a.predictions:
        for key in a.predictions[name]:
            assert (a.predictions[name][key] == b.predictions[name][key]).all()


def test_selection_never_receives_test_labels() -> None:
    labelled = problem(260, n_test=200)
    poisoned = replace(labelled, y=np.where(np.isin(np.arange(260), labelled.test), 0, labelled.y))
    assert select([GOOD, USELESS, RAW], labelled) == select([GOOD, USELESS, RAW], poisoned)


@pytest.mark.parametrize("n_test", [30, 0])
def test_whatever_is_tested_is_hidden(n_test: int) -> None:
    """Every part, the folds of cross-fitting too, knows the labels of its training side and no others."""
    labelled = problem(90, n_test=n_test)
    parts = protocol.parts_of(labelled, 0)
    assert len(parts) == (1 if n_test else 5)
    assert sorted(np.concatenate([part.test for part in parts])) == list(range(n_test or 90))
    for part in parts:
        assert not len(np.intersect1d(part.train, part.test))
        assert (part.labelled.y[part.test] == -1).all()
        assert (part.labelled.y[part.train] == labelled.y[part.train]).all()


def test_the_depth_is_chosen_inside_the_training_labels() -> None:
    candidates = [
        arm("shallow", Slice(slice(8, 12), [slice(12, 16), SIGNAL])),
        arm("raw", Slice(slice(5, 25), [NOISE]), "baseline"),
    ]
    selection = select(candidates, problem())
    assert selection.arm == "shallow"
    assert dict(selection.representation) == {"shallow": "depth1", "raw": "pooled"}
    report = evaluate(candidates, problem(), budgets=[10], draws=DRAWS, selection=selection)
    assert report.verdict.outcome == "transfers"
    assert report.data["representation"] == {"shallow": "depth1", "raw": "pooled"}
    forced = Selection("shallow", {"shallow": "pooled", "raw": "pooled"})
    assert evaluate(candidates, problem(), budgets=[10], draws=DRAWS, selection=forced).verdict.outcome == "harms"


def test_a_collapsed_arm_is_not_chosen_and_not_praised() -> None:
    collapsed = arm("good", Slice(SIGNAL), alarms=({"level": "FAIL", "name": "spread"},))
    assert select([collapsed, USELESS, RAW], problem(), primary=10).arm == "useless"
    report = evaluate([collapsed, RAW], problem(), budgets=[10], draws=DRAWS)
    assert (report.verdict.outcome, report.verdict.arm) == ("collapsed", "good")
    assert report.to_json()["arms"][0]["alarms"] == [{"level": "FAIL", "name": "spread"}]


def test_cross_fitting_below_100_labels() -> None:
    report = evaluate([GOOD, RANDOM], problem(96, n_test=0), budgets=[5, 1.0], draws=DRAWS)
    assert report.data["cross_fitting_folds"] == 5
    assert "by 5-fold cross-fitting" in report.verdict.text
    assert report.verdict.outcome == "transfers"
    assert {r.n_test for r in report.results} == {96}
    assert {r.labels_total for r in report.results if r.budget == "100 %"} == {75}


def test_cross_fitting_judges_the_choice_of_each_fold() -> None:
    """Three equal arms: the best of them over all folds is a matter of luck, which must not count as a gain."""
    labelled = problem(90, n_test=0)
    twins = [arm(f"twin {i}", Slice(slice(8 + 5 * i, 13 + 5 * i))) for i in range(3)]
    candidates = [*twins, arm("base", Slice(slice(23, 28)), "baseline")]
    selection = select(candidates, labelled, primary=5)
    report = evaluate(candidates, labelled, budgets=[5], draws=DRAWS, selection=selection)
    chosen = [choice.arm for choice in selection.folds]
    assert len(set(chosen)) > 1
    assert report.verdict.outcome != "transfers"
    of_arm = [v for v in report.verdicts if (v.arm, v.protocol) == (report.verdict.arm, "linear")]
    assert report.verdict.gain != of_arm[0].gain


def test_folds_are_pieced_together_whatever_is_predicted() -> None:
    """Of two classes probabilities are kept: another axis, the same verdict as of classes."""
    plain = problem(90, n_test=0)
    two = replace(plain, y=plain.y % 2, classes=("ant", "bee"))
    twins = [arm(f"twin {i}", Slice(slice(8 + 5 * i, 13 + 5 * i))) for i in range(3)]
    candidates = [*twins, arm("base", Slice(slice(23, 28)), "baseline")]
    selection = select(candidates, two, primary=5)
    assert len({choice.arm for choice in selection.folds}) > 1
    with_scores = evaluate(candidates, two, budgets=[5], draws=DRAWS, selection=selection)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "MOST_SCORES", 0)
        without = evaluate(candidates, two, budgets=[5], draws=DRAWS, selection=selection)
    assert with_scores.verdict.gain == pytest.approx(without.verdict.gain)


@pytest.mark.parametrize(("asked", "total"), [("25 per class", 75), ("30 in all", 30), ("7 %", 21)])
def test_any_budget_that_can_be_filled_can_be_the_primary_one(asked: str, total: int) -> None:
    report = evaluate([GOOD, RAW], problem(), primary=asked, draws=2)
    assert report.verdict.budget == asked
    assert {r.labels_total for r in report.results if r.budget == asked} == {total}


def test_every_two_are_compared(report: Report) -> None:
    rows = {(row["one"], row["other"]): row for row in report.data["pairwise"]}
    assert len(rows) == 6  # of four arms
    gains = {(g["arm"], g["baseline"]): g for g in report.gains if (g["protocol"], g["budget"]) == PRIMARY}
    for pair, gain in gains.items():
        assert rows[pair]["gain"] == pytest.approx(gain["gain"])
        if pair[1] != "random":  # of which other seeds would do as well, against a baseline
            assert rows[pair]["low"] == pytest.approx(gain["low"])
    assert rows["good", "useless"]["outcome"] == "better"
    assert rows["good", "useless"]["gain"] > 0.2


def test_groups_are_what_varies() -> None:
    report = evaluate([GOOD, RAW], problem(groups=30), budgets=[5], draws=DRAWS)
    assert {r.n_groups for r in report.results} == {15}
    assert "groups" in report.verdict.text
    means = [row["mean"] for row in report.data["subgroups"]]
    assert 1 < len(means) <= 15
    assert means == sorted(means)
    for r in report.results:
        assert r.low <= r.mean <= r.high


def held_group(held: Sequence[int], groups: int = 6) -> Labelled:
    """The problem with these of its groups held out."""
    labelled = problem(groups=groups)
    out = np.isin(labelled.group, held)
    return replace(labelled, train=np.flatnonzero(~out), test=np.flatnonzero(out))


def test_one_test_group_is_judged_by_its_items() -> None:
    labelled = held_group([0])
    report = evaluate([GOOD, RAW], labelled, budgets=[10], draws=3)
    assert report.data["n_test_groups"] == report.data["n_test"] == len(labelled.test)
    assert report.data["one_test_group"]
    assert "subgroups" not in report.data  # of which each item would be one
    said = f"{len(labelled.test)} test items; all of one group, of which alone this speaks"
    assert said in report.verdict.text


def test_classes_that_lie_in_one_test_group_each_are_refused_before_anything_is_probed() -> None:
    labelled = held_group([0, 1])
    y = labelled.y.copy()
    y[labelled.group == 0], y[labelled.group == 1] = 0, 1

    def probed(*given: Any, **more: Any) -> Any:
        raise AssertionError("an encoder was asked")

    with pytest.raises(UserError, match=r"fewer than two classes can be tested \(ant: 1 test groups; bee: 1 test"):
        evaluate([arm("asked", probed)], replace(labelled, y=y), budgets=[10], draws=3)


def test_baseline_seeds_are_averaged() -> None:
    """The mean over a baseline's encoders is what it scores, paired item by item."""
    one_by_one = [arm(f"r{i}", encoder, "baseline") for i, encoder in enumerate(RANDOM.encoders)]
    report = evaluate([RANDOM, *one_by_one], problem(), budgets=[10], draws=DRAWS)
    mean = {r.arm: r.mean for r in report.results if (r.protocol, r.metric) == ("linear", "balanced_accuracy")}
    assert mean["random"] == pytest.approx(np.mean([mean["r0"], mean["r1"], mean["r2"]]))


def test_recipe_claims_need_three_seeds() -> None:
    three = arm("recipe", (Slice(SIGNAL), Slice(slice(0, 7)), Slice(slice(1, 8))))
    report = evaluate([three, replace(USELESS, kind="baseline")], problem(), budgets=[10], draws=DRAWS)
    assert (report.verdict.claim, report.verdict.outcome) == ("recipe", "transfers")
    assert "this recipe (recipe)" in report.verdict.text
    with pytest.raises(UserError, match="2 pretraining seeds: a claim about the recipe needs 3"):
        arm("recipe", (Slice(SIGNAL), Slice(SIGNAL)))


def test_one_encoder_alone() -> None:
    report = evaluate(Slice(SIGNAL), problem(), budgets=[5], draws=DRAWS)
    assert (report.verdict.outcome, report.verdict.arm) == ("none", "Slice")
    assert "no baseline was measured" in report.verdict.text
    assert report.labels_saved == {}


def test_labels_are_saved_against_rules_too() -> None:
    def often(train: Any, truth: Any, test: Any) -> Any:
        return np.full(len(test), np.bincount(truth).argmax(), np.int32)

    rule = Arm("majority", "baseline", rule=often)
    report = evaluate([GOOD, RAW, rule], problem(), budgets=[5, 10], draws=DRAWS)
    assert {row["baseline"]: row["at_least"] for row in report.labels_saved["baselines"]}["majority"]


def test_baselines_alone() -> None:
    report = evaluate([RAW], problem(), budgets=[5], draws=DRAWS)
    assert (report.verdict.outcome, report.verdicts) == ("none", ())


def test_all_labels_at_once_borrow_the_variance_of_draws() -> None:
    report = evaluate([GOOD, RAW], problem(), budgets=[10, 1.0], draws=DRAWS, primary="100 %")
    assert (report.verdict.budget, report.verdict.outcome) == ("100 %", "transfers")
    assert "1 draw," in report.verdict.text
    alone = evaluate([GOOD, RAW], problem(), budgets=[1.0])
    assert alone.verdict.outcome == "underpowered"
    assert "one draw of the labels cannot tell" in alone.verdict.text
    assert report.verdict.low is not None
    assert alone.verdict.low is not None
    assert report.verdict.low <= alone.verdict.low


def test_public_encoders_are_named() -> None:
    public = replace(RAW, name="hf:some/encoder", public=True)
    assert "not compared with any public" not in evaluate([GOOD, public], problem(), budgets=[2], draws=2).verdict.text


class Learner(torch.nn.Module):
    """A linear layer over the raw vectors, to be trained from scratch."""

    dim, n_depths = 8, 0

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(38, 8)

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        pooled = self.layer(batch["image"].flatten(1))
        return Features(pooled[:, None], pooled)


def test_training_from_scratch_is_compared_on_its_own_draws() -> None:
    scratch = Arm("scratch", "baseline", build=Learner)
    report = evaluate([GOOD, scratch], problem(), budgets=[5, 10], draws=DRAWS, scratch_draws=1)
    [row] = [r for r in report.results if (r.arm, r.metric) == ("scratch", "balanced_accuracy")]
    assert (row.protocol, row.budget, row.draws) == ("scratch", "10 per class", 1)
    assert 0.4 < row.mean < 0.9
    by_budget = {v.budget: v for v in report.verdicts if v.protocol == "linear"}
    assert by_budget["10 per class"].baseline == "scratch"
    assert by_budget["5 per class"].outcome == "none"


def test_every_budget_can_be_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    few.brief(monkeypatch)
    tuned = arm("tuned", Learner(0), task="simclr")
    scratch = Arm("scratch", "baseline", build=Learner, views=lambda batch, view: batch)
    report = evaluate([tuned, scratch], problem(), budgets=BUDGETS, draws=2, scratch_draws=2, train_everywhere=True)
    for protocol_ in ("scratch", "finetune"):
        at = {r.budget for r in report.results if r.protocol == protocol_}
        assert at == {f"{n} per class" for n in BUDGETS}
    assert len([v for v in report.verdicts if v.protocol == "finetune"]) == len(BUDGETS)


def test_transductive_is_said() -> None:
    report = evaluate([GOOD, RAW], problem(transductive=True), budgets=[2], draws=2)
    assert report.verdict.transductive
    assert "transductive" in report.verdict.text


def test_the_verdict_without_copies_is_that_of_the_other_items(report: Report) -> None:
    """Left out afterwards or never tested: the same figures. All else in the report stays as it was."""
    labelled = problem()
    copied = labelled.test[::5]
    both = evaluate([GOOD, USELESS, RAW, RANDOM], labelled, budgets=BUDGETS, draws=5, copied=copied)
    fewer = replace(labelled, test=np.setdiff1d(labelled.test, copied))
    alone = evaluate([GOOD, USELESS, RAW, RANDOM], fewer, budgets=BUDGETS, draws=5)
    assert both.data["without_copies"] == {"left_out": len(copied), **alone.verdict.to_json()}
    assert replace(both, data=report.data) == report
    again = Report.from_json(json.loads(json.dumps(both.to_json())))
    assert again.data["without_copies"] == both.data["without_copies"]
    said = (
        f"without the {len(copied)} test items that have a copy or near-copy in the pretraining data: transfers, gain "
    )
    assert said in str(again)


def test_copies_may_leave_nothing_to_judge() -> None:
    labelled = problem(300, n_test=60)
    report = evaluate([GOOD, RAW], labelled, budgets=[10], draws=DRAWS, copied=labelled.test)
    assert report.verdict.outcome != "none"
    again = report.data["without_copies"]
    assert (again["left_out"], again["outcome"], again["gain"]) == (60, "none", None)
    assert "pretraining data: NO VERDICT: too few test items are left" in str(report)


def test_no_copies_no_second_verdict() -> None:
    labelled = problem(300, n_test=60)
    for none in (None, np.empty(0, np.int64)):
        report = evaluate([GOOD, RAW], labelled, budgets=[10], draws=DRAWS, copied=none)
        assert "without_copies" not in report.data


def test_classes_that_cannot_be_tested_are_left_out_by_name() -> None:
    labelled = problem()
    y = labelled.y.copy()
    cats = labelled.test[y[labelled.test] == 2]
    y[cats[1:]] = 0
    report = evaluate([GOOD, RAW], replace(labelled, y=y), budgets=[2], draws=2)
    assert report.data["classes_left_out"] == ["cat: 1 test items"]
    assert "without the classes cat" in report.verdict.text
    assert {r.n_test for r in report.results} == {299}
    y[labelled.test] = 0
    with pytest.raises(UserError, match="fewer than two classes can be tested"):
        evaluate([RAW], replace(labelled, y=y), budgets=[2], draws=2)


def test_progress_is_told() -> None:
    told: list[float] = []
    evaluate([GOOD, RAW], problem(), budgets=[2], draws=2, progress=lambda fraction, doing: told.append(fraction))
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)


def test_bad_input() -> None:
    labelled = problem()
    with pytest.raises(UserError, match="arms need different names, got raw, raw"):
        evaluate([RAW, RAW], labelled)
    with pytest.raises(UserError, match="600 labels but 2 groups"):
        replace(labelled, group=np.arange(2))
    with pytest.raises(UserError, match="both in training and in test"):
        replace(labelled, group=np.zeros(600, np.int64))
    with pytest.raises(UserError, match="labels run from 0 to 2 but there are 2 classes"):
        replace(labelled, classes=("ant", "bee"))
    with pytest.raises(UserError, match="primary budget 500 cannot be filled"):
        evaluate([GOOD, RAW], labelled, budgets=[5], primary=500)
    assert asdict(Selection("a", {})) == {"arm": "a", "representation": {}, "scores": {}, "folds": ()}


def test_labelled_examples_are_judged_without_tasks_or_training() -> None:
    program = (
        "import sys, numpy as np, tacit\n"
        "from tacit.evaluation import Labelled\n"
        "from tacit.evaluation.features import Stored\n"
        "y = np.arange(300) % 3\n"
        "x = (np.eye(3)[y] + np.random.default_rng(0).normal(0, .3, (300, 3))).astype(np.float32)\n"
        "labelled = Labelled(None, y, ('a', 'b', 'c'), np.arange(300), np.arange(150), np.arange(150, 300))\n"
        "print(tacit.evaluate(Stored(x), labelled, primary_budget=5).verdict.budget)\n"
        "heavy = ('tacit.tasks', 'tacit.training.loop', 'tacit.experiment.pretraining', 'torch')\n"
        "print([m for m in sys.modules if m in heavy])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["5 per class", "[]"], done.stderr
