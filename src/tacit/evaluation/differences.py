"""Predictions beside the truth: the one table behind every figure and every difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.evaluation.arms import Arm, Labelled
from tacit.evaluation.metrics import Metric
from tacit.evaluation.selection import Selection
from tacit.evaluation.splits import Budget, Plan, Positions
from tacit.evaluation.statistics import DrawVariance, crossed, draw_variance
from tacit.evaluation.targets.base import Target
from tacit.evaluation.verdict import Comparison

Key = tuple[str, str]  # protocol, budget

# Protocols that no target names: the first and the last are compared under every other one.
SCRATCH = "scratch"
TUNED = "finetune"
RULE = "rule"
CLEAR_SHARE = 0.5  # of the pool; draws that take more overlap too much to show their own variance


@dataclass(frozen=True)
class Predicted:
    """All inputs that are fixed before the test labels are read."""

    arms: Sequence[Arm]
    labelled: Labelled
    target: Target
    metric: Metric
    tested: Positions  # [n] the test positions, fold after fold
    sizes: Sequence[int]  # of the folds
    plan: Plan
    primary: Budget
    predictions: Mapping[str, Mapping[Key, NDArray[Any]]]  # arm -> (protocol, budget) -> [P S n ...]
    drawn: Sequence[Mapping[str, Sequence[Positions]]]  # of each fold, the draws of every budget
    selection: Selection
    missing: tuple[str, ...] = ()  # mandatory baselines that cannot be had here
    shortened: Mapping[Key, int] = field(default_factory=dict)  # (arm, protocol) -> steps, of what was cut short
    copied: Positions = field(default_factory=lambda: np.empty(0, np.int64))  # test positions, see `without_copies`


@dataclass(frozen=True)
class Sheet:
    """Every arm's predictions for the test items that count, beside the truth."""

    truth: NDArray[Any]  # [n ...]
    unit: NDArray[np.int64]  # [n]
    extra: float  # see statistics.smoothing
    predicted: Mapping[str, Mapping[Key, NDArray[Any]]]  # arm -> (protocol, budget) -> [P S n ...]

    def values(self, metric: Metric, arm: str, protocol: str, budget: Budget) -> NDArray[np.float64] | None:
        """Influence values [P S U] of an arm under a protocol; scratch and rules stand under each."""
        of_arm = self.predicted[arm]
        found = next((of_arm[key] for p in (protocol, SCRATCH, RULE) if (key := (p, budget.name)) in of_arm), None)
        return None if found is None else metric.influence(found, self.truth, self.unit)

    def only(self, items: NDArray[np.bool_], metric: Metric) -> Sheet:
        """The same for some of the items; if all are of one group, they are the units themselves."""
        unit = np.unique(self.unit[items], return_inverse=True)[1]
        unit = unit if unit.max() else np.arange(len(unit))
        predicted = {arm: {key: p[:, :, items] for key, p in of.items()} for arm, of in self.predicted.items()}
        return Sheet(self.truth[items], unit, 1.0 / (unit.max() + 1) ** 2 if metric.discrete else 0.0, predicted)


def compare(arm: str, protocol: str, predicted: Predicted, sheet: Sheet, metric: Metric) -> list[Comparison]:
    """Paired differences with every baseline at every budget where both were measured, on the draws both have."""
    comparisons = []
    for baseline in (other.name for other in predicted.arms if other.kind == "baseline"):
        draw: DrawVariance | None = None
        for budget in predicted.plan.budgets:
            ours, theirs = (sheet.values(metric, name, protocol, budget) for name in (arm, baseline))
            if ours is None or theirs is None:
                continue
            n_draws = min(ours.shape[1], theirs.shape[1])
            values = ours[:, :n_draws] - theirs[:, :n_draws].mean(0, keepdims=True)  # [P S U]
            draw = draw_variance_of(predicted.target, values, budget, draw)
            estimate = crossed(values, pool_share=budget.pool_share, draw=draw, extra=sheet.extra)
            cut = f"{steps} steps" if (steps := predicted.shortened.get((baseline, SCRATCH))) else ""
            comparisons.append(Comparison(baseline, budget, estimate, cut))
    return comparisons


def draw_variance_of(
    target: Target, values: NDArray[np.float64], budget: Budget, smaller: DrawVariance | None
) -> DrawVariance | None:
    """How much another draw of labels would change; from the next smaller budget where this one cannot tell.

    Draws that take most of the pool are nearly the same. The variance falls as labels grow, so that of a smaller
    budget is an upper bound. Where nothing is learned from labels, no draw changes anything.
    """
    if not target.needs_labels:
        return DrawVariance(0.0, math.inf)
    own = draw_variance(values, budget.pool_share)
    return own if budget.pool_share <= CLEAR_SHARE or smaller is None else smaller
