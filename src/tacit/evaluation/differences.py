"""Predictions beside the truth: the one table behind every figure and every difference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.evaluation.arms import Arm, Labelled
from tacit.evaluation.labels_saved import Gap
from tacit.evaluation.metrics import Metric
from tacit.evaluation.selection import Selection
from tacit.evaluation.splits import Budget, Plan, Positions
from tacit.evaluation.statistics import (
    Component,
    Estimate,
    crossed,
    design_effect,
    draw_variance,
    second_way,
    smoothing,
    spread_of_seeds,
)
from tacit.evaluation.targets.base import Target
from tacit.evaluation.verdict import Comparison

Key = tuple[str, str]  # protocol, budget

# Protocols that no target names: the first and the last are compared under every other one.
SCRATCH = "scratch"
TUNED = "finetune"
RULE = "rule"
MOST_KEPT = 2**22  # numbers that were measured and are kept to be compared again: 32 MB
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
class Measured:
    """One arm under one protocol at one budget, by a metric."""

    values: NDArray[np.float64]  # influence values [P S U]
    by_item: NDArray[np.float64] | None = None  # what each item [n] adds, where it is not a unit of its own

    def less(self, other: Measured) -> Measured:
        """The paired difference, on the draws that both have; the other one's seeds are averaged."""
        draws = min(self.values.shape[1], other.values.shape[1])
        by_item = None if self.by_item is None or other.by_item is None else self.by_item - other.by_item
        return Measured(self.values[:, :draws] - other.values[:, :draws].mean(0, keepdims=True), by_item)

    def averaged(self) -> Measured:
        """Its seeds as one: about these checkpoints."""
        return Measured(self.values.mean(0, keepdims=True), self.by_item)

    def repeated(self, draws: int) -> Measured:
        """Its single draw beside each of so many."""
        return Measured(np.repeat(self.values, draws, axis=1), self.by_item)

    def alike(self) -> float | None:
        """How many times fewer units its items are worth than they are, as they come in groups."""
        return 1.0 if self.by_item is None else design_effect(self.by_item, self.values.mean((0, 1)))


@dataclass(frozen=True)
class Sheet:
    """Every arm's predictions for the test items that count, beside the truth."""

    target: Target
    truth: NDArray[Any]  # [n ...]
    unit: NDArray[np.int64]  # [n]
    predicted: Mapping[str, Mapping[Key, NDArray[Any]]]  # arm -> (protocol, budget) -> [P S n ...]
    second: NDArray[np.int64] | None = None  # [n] see `Target.second_units`
    part: bool = False  # of the population, which may lack classes: all items are of one

    @cached_property
    def _known(self) -> dict[tuple[str, ...], Measured]:
        """What was measured before: a baseline is compared with every arm."""
        return {}

    @cached_property
    def _strata(self) -> NDArray[np.int64]:
        if self.part:
            return np.zeros(int(self.unit.max()) + 1, np.int64)
        return self.target.strata(self.truth, self.unit)

    @cached_property
    def _smoothing(self) -> Callable[[float], float]:
        if self.part:
            return cache(partial(smoothing, np.zeros(len(self.unit), np.int64), self.unit))
        return cache(partial(self.target.smoothing, self.truth, self.unit))

    def measured(self, metric: Metric, arm: str, protocol: str, budget: Budget) -> Measured | None:
        """An arm under a protocol; scratch and rules stand under each."""
        of_arm = self.predicted[arm]
        at = next((key for p in (protocol, SCRATCH, RULE) if (key := (p, budget.name)) in of_arm), None)
        if at is None:
            return None
        name = metric.name, arm, *at
        if name not in self._known:
            values, by_item = metric.influence(of_arm[at], self.truth, self.unit), None
            if (metric.discrete or self.second is not None) and len(self.unit) > values.shape[-1]:
                by_item = metric.of_items(of_arm[at], self.truth)
            found = Measured(values, by_item)
            if sum(of.values.size for of in self._known.values()) > MOST_KEPT:
                self._known.clear()
            self._known[name] = found
        return self._known[name]

    def estimate(
        self,
        metric: Metric,
        of: Measured,
        budget: Budget,
        draw: Component | None,
        among: Sequence[Measured] = (),
        more: Sequence[Component] = (),
    ) -> Estimate:
        """The mean of what was measured, or of the difference of two (`among`), with its error.

        `more` are components that only the caller knows.
        """
        extra = 0.0
        if metric.discrete:
            alike = of.alike()
            if alike is None:  # no item tells the two apart
                alike = max((effect for each in among if (effect := each.alike()) is not None), default=math.inf)
            extra = self._smoothing(max(1.0, alike))
        if self.second is not None and of.by_item is not None:
            more = [*more, *second_way(of.by_item, self.unit, self.second)]
        found = crossed(
            of.values,
            pool_share=budget.pool_share,
            draw=draw,
            extra=extra,
            stratum=self._strata,
            more=more,
        )
        return replace(found, most=metric.high - metric.low)

    def only(self, items: NDArray[np.bool_]) -> Sheet:
        """The same for some of the items; if all are of one group, they are the units themselves."""
        unit = np.unique(self.unit[items], return_inverse=True)[1]
        unit = unit if unit.max() else np.arange(len(unit))
        predicted = {arm: {key: p[:, :, items] for key, p in of.items()} for arm, of in self.predicted.items()}
        second = None if self.second is None else self.second[items]
        return replace(self, truth=self.truth[items], unit=unit, predicted=predicted, second=second, part=True)


def compare(arm: str, protocol: str, predicted: Predicted, sheet: Sheet, metric: Metric) -> list[Comparison]:
    """Paired differences with every baseline at every budget where both were measured, on the draws both have."""
    baselines = [other.name for other in predicted.arms if other.kind == "baseline"]
    draws: dict[str, Component | None] = dict.fromkeys(baselines)
    found: dict[str, list[Comparison]] = {name: [] for name in baselines}
    for budget in predicted.plan.budgets:
        ours = sheet.measured(metric, arm, protocol, budget)
        for baseline in baselines if ours is not None else ():
            theirs = sheet.measured(metric, baseline, protocol, budget)
            if ours is None or theirs is None:
                continue
            gain = ours.less(theirs)
            draws[baseline] = draw_variance_of(predicted.target, gain.values, budget, draws[baseline])
            of_seeds = spread_of_seeds(theirs.values)
            estimate = sheet.estimate(metric, gain, budget, draws[baseline], (ours, theirs), of_seeds)
            cut = f"{steps} steps" if (steps := predicted.shortened.get((baseline, SCRATCH))) else ""
            found[baseline].append(Comparison(baseline, budget, estimate, cut))
    return [comparison for of in found.values() for comparison in of]


def gaps_to(arm: str, baseline: str, protocol: str, predicted: Predicted, sheet: Sheet, metric: Metric) -> list[Gap]:
    """A baseline at every budget of the primary one's kind, and with all labels, less the arm at the primary one."""
    primary, gaps = predicted.primary, []
    ours = sheet.measured(metric, arm, protocol, primary)
    alone: Component | None = None  # how much other labels would change the baseline by itself
    draw: Component | None = None
    for budget in predicted.plan.budgets:
        theirs = sheet.measured(metric, baseline, protocol, budget)
        alike = (budget.per_class is None) == (primary.per_class is None) or budget.share == 1.0
        if ours is None or theirs is None or not alike or not budget.total:
            continue
        alone = draw_variance_of(predicted.target, theirs.values, budget, alone)
        more = [*spread_of_seeds(theirs.values), *spread_of_seeds(ours.values)]
        fuller = max(budget, primary, key=lambda of: of.pool_share)
        if theirs.values.shape[1] == 1 and ours.values.shape[1] > 1:  # one draw of the one beside all of the other
            theirs = theirs.repeated(ours.values.shape[1])
            fuller, more = primary, [*more, *([alone] if alone else [])]
        gap = theirs.averaged().less(ours)
        draw = draw_variance_of(predicted.target, gap.values, fuller, draw)
        estimate = sheet.estimate(metric, gap, fuller, draw, (ours, theirs), more)
        gaps.append(Gap(budget.total, budget.draws, estimate))
    return gaps


def draw_variance_of(
    target: Target, values: NDArray[np.float64], budget: Budget, smaller: Component | None
) -> Component | None:
    """How much another draw of labels would change; from the next smaller budget where this one cannot tell.

    Draws that take most of the pool are nearly the same. The variance falls as labels grow, so that of a smaller
    budget is an upper bound. Where nothing is learned from labels, no draw changes anything.
    """
    if not target.needs_labels:
        return Component(0.0, math.inf)
    own = draw_variance(values, budget.pool_share, budget.pool_df)
    return own if budget.pool_share <= CLEAR_SHARE or smaller is None else smaller
