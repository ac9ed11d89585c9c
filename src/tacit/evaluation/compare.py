"""Two evaluations on one sealed test set, compared item by item on the draws of labels that both probed.

The arms that the two verdicts are about are paired, each chosen inside its own training labels, so that no choice was
made on what they are compared on. The statistics are those of `judgement`: differences of hits, jackknife influence
values, draws crossed with test units. Where an arm has several pretraining seeds they are averaged, and the claim is
about these checkpoints, not about their recipes.

No label is read: `Predictions` hold those that the judgements read. What a comparison can wear out is the test set's
power to surprise, by people who choose what does best on it; `CAUTION` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tacit.core.errors import UserError
from tacit.evaluation.differences import Sheet, draw_variance_of
from tacit.evaluation.predictions import Predictions
from tacit.evaluation.splits import Budget, Positions
from tacit.evaluation.statistics import LEVEL, Component, Estimate, holm
from tacit.evaluation.targets import make_target
from tacit.evaluation.verdict import exactly, in_points, interval_in_points, labels_in_words, what_it_would_take

CAUTION = "who picks the better one by these figures should have it judged on a test set that nothing was picked on"

Outcome = Literal["better", "worse", "equivalent", "underpowered"]


@dataclass(frozen=True)
class Paired:
    """The paired difference of two evaluations at one budget: the first one's metric minus the second one's."""

    budget: Budget
    estimate: Estimate
    n_test: int
    unit: str  # items or groups
    margin: float  # of equivalence


def pair(one: Predictions, other: Predictions, *, protocol: str | None = None) -> tuple[list[Paired], list[str]]:
    """The paired differences at every budget that both were probed at on the same draws; and why not at the others.

    `protocol` is by default the target's first.

    Raises `UserError` where the two know different labels of the same items, or have too few test items in common.
    """
    if one.judged < 0 or other.judged < 0:
        raise UserError("only baselines were judged: nothing was chosen that could be compared")
    if (one.target, one.metric) != (other.target, other.metric):
        raise UserError(
            f"one was judged on {one.target} by {one.metric}, the other on {other.target} by {other.metric}: judge "
            "both alike, with the same --target and --metric"
        )
    here, there = _common(one, other)
    target = make_target(one.target, 0)
    metric = target.metric(one.metric)
    unit = np.unique(one.unit[here], return_inverse=True)[1]
    noun = target.examples if len(np.unique(unit)) == len(unit) else "groups"
    theirs_at = {budget.name: budget for budget in other.budgets}
    protocol = protocol or next(iter(target.protocols))
    found: list[Paired] = []
    reasons: list[str] = []
    smaller: Component | None = None
    for budget in one.budgets:
        ours = one.predicted[one.judged].get((protocol, budget.name))
        theirs = other.predicted[other.judged].get((protocol, budget.name))
        if ours is None or theirs is None or budget.name not in theirs_at:
            reasons.append(f"{budget.name}: judged in one of them only")
            continue
        _, s, t = np.intersect1d(one.draws[budget.name], other.draws[budget.name], return_indices=True)
        if not len(s):
            reasons.append(f"{budget.name}: probed on other draws of the labels")
            continue
        key = protocol, budget.name
        sheet = Sheet(target, one.truth[here], unit, {"": {key: ours[:, s][:, :, here]}})
        other_sheet = Sheet(target, other.truth[there], unit, {"": {key: theirs[:, t][:, :, there]}})
        first, second = (of.measured(metric, "", protocol, budget) for of in (sheet, other_sheet))
        assert first is not None
        assert second is not None
        gain = first.averaged().less(second)
        smaller = draw_variance_of(target, gain.values, budget, smaller)
        estimate = sheet.estimate(metric, gain, budget, smaller, (first, second))
        found.append(Paired(budget, estimate, len(here), noun, metric.margin))
    return found, reasons


def _common(one: Predictions, other: Predictions) -> tuple[Positions, Positions]:
    """Where the test items that count in both stand in each."""
    _, here, there = np.intersect1d(one.item, other.item, return_indices=True)
    differing = int((one.name[here] != other.name[there]).sum())
    if differing:
        raise UserError(
            f"{differing} of {len(here)} test items have another label in each: judge both with the same labels"
        )
    if len(here) < 2:
        raise UserError("fewer than two test items are tested in both: judge both on the same data")
    enough = make_target(one.target, 0).steady(one.truth[here], one.unit[here])
    here, there = here[enough], there[enough]
    return here.astype(np.int64), there.astype(np.int64)


def decide(pairs: Sequence[Paired]) -> list[Outcome]:
    """The outcome of each comparison, corrected together (Holm) at 95 %."""
    different = holm([2 * min(p.estimate.below(0), p.estimate.above(0)) for p in pairs])
    same = holm([p.estimate.equivalent(p.margin) for p in pairs])
    return [_outcome(p.estimate, float(d), float(s)) for p, d, s in zip(pairs, different, same, strict=True)]


def _outcome(estimate: Estimate, different: float, same: float) -> Outcome:
    if estimate.covers_draws and different < 1 - LEVEL:
        return "better" if estimate.mean > 0 else "worse"
    if estimate.covers_draws and same < 1 - LEVEL:
        return "equivalent"
    return "underpowered"


def in_words(one: str, other: str, paired: Paired, outcome: Outcome, measure: str) -> str:
    """The verdict's sentence; `measure` names metric and protocol."""
    estimate, budget = paired.estimate, paired.budget
    at = f"at {labels_in_words(budget)}"
    figures = f"gain {in_points(estimate.mean)} {interval_in_points(estimate)}"
    sentence = {
        "better": f"BETTER: {at} {one} beat {other}; {figures}",
        "worse": f"WORSE: {at} {one} did worse than {other}; {figures}",
        "equivalent": (
            f"NO EVIDENCE, equivalent: {at} {one} and {other} differ by less than {exactly(paired.margin)}; {figures}"
        ),
        "underpowered": (
            f"NO EVIDENCE, underpowered: {at} {one} and {other} were not shown to differ; {figures}; "
            f"{what_it_would_take(replace(estimate, mean=abs(estimate.mean)), paired.unit, paired.margin)}"
        ),
    }[outcome]
    grouped = paired.unit == "groups"
    tested = f"{paired.n_test:,} test {'items' if grouped else paired.unit}"
    tested += f" in {estimate.units:,} groups" if grouped else ""
    draws = f"{estimate.draws} draw{'s' * (estimate.draws != 1)}"
    return f"{sentence}; {measure}, {draws}, {tested}; about these checkpoints, not their recipes"
