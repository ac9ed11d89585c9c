"""Every pair of evaluated encoders, compared on the same draws and test items."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from tacit.evaluation.compare import Paired, decide
from tacit.evaluation.differences import Predicted, Sheet, draw_variance_of
from tacit.evaluation.statistics import Component


def compare_all(predicted: Predicted, sheet: Sheet, protocol: str, unit: str) -> list[dict[str, Any]]:
    """A row for every two arms with features, at the primary budget: the gain of one over the other and its outcome.

    Each arm's seeds are averaged: this is about these checkpoints. Outcomes are after Holm over all the rows.
    """
    names = [arm.name for arm in predicted.arms if arm.encoders]
    found: dict[tuple[str, str], Paired] = {}
    for one, other in combinations(names, 2):
        draw: Component | None = None
        for budget in predicted.plan.budgets:
            ours, theirs = (sheet.measured(predicted.metric, name, protocol, budget) for name in (one, other))
            assert ours is not None
            assert theirs is not None
            gain = ours.averaged().less(theirs)
            draw = draw_variance_of(predicted.target, gain.values, budget, draw)
            if budget == predicted.primary:
                estimate = sheet.estimate(predicted.metric, gain, budget, draw, (ours, theirs))
                found[one, other] = Paired(budget, estimate, len(sheet.truth), unit, predicted.metric.margin)
                break
    rows = []
    for ((one, other), paired), outcome in zip(found.items(), decide(list(found.values())), strict=True):
        low, high = paired.estimate.interval()
        rows.append({"one": one, "other": other, "gain": paired.estimate.mean, "low": low, "high": high})
        rows[-1]["outcome"] = outcome
    return rows
