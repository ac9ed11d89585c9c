"""What is judged where time is short: the least that gives a verdict always, the rest in order, by name."""

from __future__ import annotations

from typing import Any

import pytest

from tacit.core.budget import Deadline
from tacit.evaluation import Arm, Report, agenda, evaluate, splits
from tacit.evaluation.probes import finetune
from tests.test_evaluate import GOOD, RAW, USELESS, Learner, problem

pytestmark = pytest.mark.usefixtures("few_strengths")

SCRATCH = Arm("scratch", "baseline", build=Learner, views=lambda batch, view: batch)


@pytest.fixture(autouse=True)
def _three_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """And all labels."""
    monkeypatch.setattr(splits, "PER_CLASS", (1, 10, 50))
    monkeypatch.setattr(splits, "SHARES", (1.0,))


class Clock:
    """A clock that only what is measured moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Probing takes a second a draw for 1,000 labels, training on labels ten seconds."""
    found = Clock()
    monkeypatch.setattr("tacit.core.budget.time", found)
    monkeypatch.setattr(agenda, "time", found)
    monkeypatch.setattr(agenda.os, "cpu_count", lambda: 1)
    predict, train = agenda.Agenda._predict, finetune.train_on_labels

    def slowly(self: Any, arm: Arm, budget: Any, first: int, last: int) -> Any:
        found.now += budget.total / 1000 * (last - first)
        return predict(self, arm, budget, first, last)

    def trained(*given: Any, **more: Any) -> Any:
        found.now += 10.0
        return train(*given, **{**more, "steps": 3, "seconds": None})

    monkeypatch.setattr(agenda.Agenda, "_predict", slowly)
    monkeypatch.setattr(finetune, "train_on_labels", trained)
    monkeypatch.setattr(finetune, "STEPS", 3)
    return found


def judged(seconds: float, **more: Any) -> Report:
    return evaluate([GOOD, RAW, SCRATCH], problem(), deadline=Deadline.after(seconds), scratch_seconds=10.0, **more)


def budgets(report: Report, arm: str = "good", protocol: str = "linear") -> dict[str, int]:
    return {r.budget: r.draws for r in report.results if (r.arm, r.protocol) == (arm, protocol)}


def test_the_least_is_always_judged(clock: Clock) -> None:
    report = judged(-5.0)
    assert budgets(report) == {"10 per class": 2}
    assert budgets(report, "scratch", "scratch") == {}
    assert "not compared with training from scratch" in report.verdict.text
    assert any(line.startswith("scratch") for line in report.data["given_up"])
    report = judged(16.0)  # five seconds too few are no reason to leave it out
    assert budgets(report, "scratch", "scratch") == {"10 per class": 2}
    assert report.verdict.budget == "10 per class"
    assert report.verdict.outcome in {"transfers", "underpowered"}
    assert report.data["given_up"][0].startswith("100 %")  # what the person has comes first
    assert "given up to keep to the budget" in str(report)


def test_all_labels_come_before_the_small_budgets(clock: Clock) -> None:
    report = judged(21.0)
    assert set(budgets(report)) == {"10 per class", "100 %"}
    assert any(line.startswith("1 per class") for line in report.data["given_up"])


def test_what_is_left_of_the_time_is_used(clock: Clock) -> None:
    report = judged(1000.0)
    assert report.data["given_up"] == []
    assert budgets(report)["10 per class"] == 10
    assert budgets(report, "scratch", "scratch") == {"10 per class": agenda.MOST_TRAININGS}
    assert clock.now < 1000


@pytest.mark.parametrize("seconds", [0.0, 5.0, 25.0, 60.0])
def test_time_is_kept_to_but_for_the_least(clock: Clock, seconds: float) -> None:
    judged(seconds)
    assert clock.now <= max(1.0, seconds + 6.0)


def test_the_order_of_what_is_done_changes_no_figure(clock: Clock) -> None:
    hurried = evaluate([GOOD, RAW], problem(), deadline=Deadline.after(1e6))
    free = evaluate([GOOD, RAW], problem())
    assert hurried.results == free.results
    assert hurried.verdict == free.verdict


def test_a_slow_budget_is_given_up_while_it_is_judged(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """All labels take ten times what was expected, which the first arm shows: the others are spared."""
    predict = agenda.Agenda._predict

    def slower(self: Any, arm: Arm, budget: Any, first: int, last: int) -> Any:
        clock.now += 30.0 if budget.name == "100 %" else 0.0
        return predict(self, arm, budget, first, last)

    monkeypatch.setattr(agenda.Agenda, "_predict", slower)
    report = judged(60.0)
    assert "100 %" not in budgets(report)
    assert any(line.startswith("100 %") for line in report.data["given_up"])


def test_a_training_that_was_cut_short_cannot_be_beaten(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = finetune.train_on_labels

    def cut(*given: Any, **more: Any) -> Any:
        return fit(*given, **{**more, "steps": 6, "seconds": None})

    monkeypatch.setattr(finetune, "train_on_labels", cut)
    report = judged(20.0)
    assert report.data["shortened"] == ["scratch: 6 of 200 steps"]
    assert "not compared at this budget with scratch, whose training was cut short after 6 steps" in report.verdict.text
    assert report.verdict.outcome == "none"
    assert "but the training of scratch was cut short" in report.verdict.text
    assert {gain["baseline"] for gain in report.gains} == {"raw"}
    alone = evaluate([GOOD, SCRATCH], problem(), deadline=Deadline.after(20.0))
    assert alone.verdict.outcome == "none"
    assert "no baseline was trained to its end" in alone.verdict.text


def test_a_cut_baseline_that_is_ahead_still_harms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agenda, "SOME_TRAININGS", 3)
    monkeypatch.setattr(agenda, "MOST_TRAININGS", 3)
    fit = finetune.train_on_labels
    monkeypatch.setattr(
        finetune, "train_on_labels", lambda *given, **more: fit(*given, **{**more, "steps": 150, "seconds": None})
    )
    report = evaluate([USELESS, SCRATCH], problem(), deadline=Deadline.after(20.0))
    assert (report.verdict.outcome, report.verdict.baseline) == ("harms", "scratch")
