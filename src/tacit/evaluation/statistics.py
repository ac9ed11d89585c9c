"""Inference on a paired difference between two encoders.

Shapes: P seeds of the pretrained encoder, S draws of the labels, n items of the test set, K classes, and U units: the
items or, where items come in groups, the groups, which then are what varies.

The tensor of values [P S U] holds, for every seed, draw and test unit, the jackknife influence value of that unit on
the metric: the mean over units is the metric itself (or a difference of two), and their spread is what another test
set would have changed. Draws and units are crossed: every draw is tested on every unit. The grand mean has variance

    se^2 = Var_p / P  +  Var_s * (1/S + f / (1 - f))  +  Var_u / U

with Satterthwaite degrees of freedom. Var_u is the variance of the units' means over draws; Var_s the variance
component of the draws, that is, the variance of the draws' means less what units and draws leave unexplained, which
Var_u holds already; Var_p the variance of the seeds' means, for a claim about the recipe. f is the share of the
labelled pool that one draw takes. Draws from a small pool overlap, so their spread shows only 1 - f of what drawing
afresh would; to first order (Hoeffding 1948, "A class of statistics with asymptotically normal distribution") dividing
by 1 - f restores it, and a share f of it is common to all draws and does not average out. At f = 0 this is Var_s / S.
Where labels come in groups, f is the share of the groups, and a pool of G of them knows Var_s no better than G - 1
degrees of freedom do, however many draws there are.

Var_u is the sum of what the units of each class add to it, each with the degrees of freedom of its class (Welch 1947):
of five rare cases among a thousand items not a thousand degrees are known, but four. A baseline of several untrained
encoders adds the variance of their means, and where units are alike in a second way (queries of one class, and of one
patient) so does the variance by that one, less what both have counted (Cameron, Gelbach & Miller 2011).

Sources: Satterthwaite 1946, "An approximate distribution of estimates of variance components"; Efron & Stein 1981, "The
jackknife estimate of variance"; Schuirmann 1987 (two one-sided tests); Holm 1979; Agresti & Min 2005, "Simple improved
confidence intervals for comparing matched proportions".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
POWER = 0.80

# What `detectable_difference` assumes before anything was measured. Probes of two untrained encoders and of principal
# components on Fashion-MNIST, 10 classes: Var_u was 0.03 to 0.15, and the draws' standard deviation close to
# 0.15 / sqrt(labels) between 10 and 500 labels in all.
ASSUMED_UNIT_VARIANCE = 0.125
ASSUMED_DRAW_DEVIATION = 0.15

ENDLESS = 1e9  # degrees of freedom beyond which a t distribution is a normal one


class Component(NamedTuple):
    """A component of variance, and how well it is known."""

    value: float
    df: float


@dataclass(frozen=True)
class Estimate:
    """A mean with the uncertainty of its draws, test units and (for a recipe) seeds; fractions of 1."""

    mean: float
    se: float
    df: float
    unit_variance: float  # Var_u: falls as 1/U
    fixed_variance: float  # the rest of se^2: more test units do not lower it
    seeds: int
    draws: int
    units: int
    covers_draws: bool  # False where there was a single draw, without an estimate of the variance between draws
    most: float = math.inf  # how far from 0 it can lie at all: a difference of shares by 1

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The two-sided confidence interval, as far as it is possible."""
        half = float(stdtrit(self.df, 0.5 + level / 2)) * self.se
        return max(self.mean - half, -self.most), min(self.mean + half, self.most)

    def below(self, value: float) -> float:
        """The probability of a mean at least this low if the truth were `value` (one-sided p)."""
        if self.se == 0:
            return 0.0 if self.mean < value else 1.0
        return float(stdtr(self.df, (self.mean - value) / self.se))

    def above(self, value: float) -> float:
        """The probability of a mean at least this high if the truth were `value` (one-sided p)."""
        if self.se == 0:
            return 0.0 if self.mean > value else 1.0
        return float(stdtr(self.df, (value - self.mean) / self.se))

    def equivalent(self, margin: float) -> float:
        """The p-value of two one-sided tests that the truth lies within +- `margin` of 0."""
        return max(self.above(-margin), self.below(margin))

    def detectable(self) -> float:
        """The true difference that a test like this one shows with 80 % power at two-sided 95 %."""
        return _power_factor(self.df) * self.se

    def units_needed(self, gain: float) -> int | None:
        """Test units at which a true difference of `gain` is found with 80 % power; None if no number is enough."""
        room = (gain / _power_factor(self.df)) ** 2 - self.fixed_variance
        return math.ceil(self.unit_variance / room) if room > 0 else None


def _power_factor(df: float) -> float:
    return float(stdtrit(df, 0.5 + LEVEL / 2) + stdtrit(df, POWER))


def influence(
    hits: NDArray[np.floating] | NDArray[np.bool_], y: NDArray[np.int64], unit: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Jackknife influence values of balanced accuracy, [... U], centred on the metric itself.

    `hits [... n]` says how right the prediction of each test item is (0 or 1, an average, or a difference), `y [n]` its
    class, `unit [n]` its group; each class must occur in at least two units. With a single class this is plain
    accuracy. Leaving a unit out changes a class's recall from H/N to (H - h)/(N - m), where the unit holds m of its N
    items and h of H hits.
    """
    units, unit = np.unique(unit, return_inverse=True)
    classes, y = np.unique(y, return_inverse=True)
    n_units, n_classes = len(units), len(classes)
    cells, cell = np.unique(unit * n_classes + y, return_inverse=True)  # the (unit, class) pairs that occur, by unit
    in_order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[in_order], np.arange(len(cells)))
    cell_hits = np.add.reduceat(np.asarray(hits, np.float64)[..., in_order], starts, axis=-1)  # [... cells]
    cell_size = np.bincount(cell).astype(np.float64)
    cell_unit, cell_class = np.divmod(cells, n_classes)

    class_size = np.bincount(y).astype(np.float64)
    left = class_size[cell_class] - cell_size
    assert left.min() > 0, "a class lies in one test unit only: leave it out first"
    by_class = np.argsort(cell_class, kind="stable")
    class_starts = np.searchsorted(cell_class[by_class], np.arange(n_classes))
    recall = np.add.reduceat(cell_hits[..., by_class], class_starts, axis=-1) / class_size  # [... K]

    drop = (cell_hits - cell_size * recall[..., cell_class]) / left / n_classes  # recall lost with the unit, per cell
    unit_starts = np.searchsorted(cell_unit, np.arange(n_units))
    values = (n_units - 1) * np.add.reduceat(drop, unit_starts, axis=-1)  # [... U]
    return values - values.mean(-1, keepdims=True) + recall.mean(-1)[..., None]  # type: ignore[no-any-return]


def smoothing(y: NDArray[np.int64], unit: NDArray[np.int64], alike: float = math.inf) -> float:
    """What one more pair of discordant test units, shared by the classes, would add to se^2.

    Accuracies are discrete: on a small test set two encoders can agree by luck on every unit, and a variance of 0 would
    claim certainty. Half a pseudo-observation on either side (Agresti & Min 2005) prevents it, and is next to nothing
    beside Var_u / U once there are hundreds of units. Groups of items count as many units as their items are worth,
    which is `alike` times fewer than they are (see `design_effect`), and never fewer than there are groups.
    """
    n_units = int(unit.max()) + 1
    units_per_class = np.unique(np.unique(y * n_units + unit) // n_units, return_counts=True)[1]
    worth = np.maximum(units_per_class, np.unique(y, return_counts=True)[1] / alike)
    return float((1.0 / worth**2).sum() / len(worth) ** 3)


def rarest(unit: NDArray[np.int64], of_class: NDArray[np.int64], n_units: int) -> NDArray[np.int64]:
    """The class [U] of each unit, of several the one in the fewest units, from pairs of a unit and a class it holds.

    Units that hold none are of one more class.
    """
    n_classes = int(of_class.max(initial=-1)) + 1
    held_by, of_class = np.divmod(np.unique(unit * n_classes + of_class), max(1, n_classes))
    units = np.bincount(of_class, minlength=n_classes)  # that hold each class
    order = np.lexsort((of_class, units[of_class], held_by))
    holding, first = np.unique(held_by[order], return_index=True)
    found = np.full(n_units, n_classes, np.int64)
    found[holding] = of_class[order[first]]
    return found


def design_effect(by_item: NDArray[np.float64], by_unit: NDArray[np.float64]) -> float | None:
    """How many times the variance of a mean grows because items come in units, by what each item [n] and each unit [U]
    adds to it; None where all items add the same.
    """
    alone = by_item.var(ddof=1) / len(by_item)
    return float(by_unit.var(ddof=1) / len(by_unit) / alone) if alone > 0 else None


def draw_variance(values: NDArray[np.float64], pool_share: float = 0.0, pool_df: float = ENDLESS) -> Component | None:
    """The variance between labels drawn afresh, from values [P S U]; None where one draw cannot tell."""
    table = values.mean(0)  # [S U]
    draws, units = table.shape
    if draws < 2 or pool_share >= 1:
        return None
    by_draw, by_unit = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    residual = ((table - by_draw - by_unit + table.mean()) ** 2).sum() / ((draws - 1) * (units - 1))
    component = max(0.0, float(by_draw.var(ddof=1) - residual / units))
    return Component(component / (1 - pool_share), 1 / (1 / (draws - 1) + 1 / pool_df))


def crossed(
    values: NDArray[np.float64],
    *,
    pool_share: float = 0.0,
    draw: Component | None = None,
    extra: float = 0.0,
    stratum: NDArray[np.int64] | None = None,
    more: Sequence[Component] = (),
) -> Estimate:
    """The mean of values [P S U] with its standard error and degrees of freedom, as the module's formula has it.

    P = 1 makes a claim about this checkpoint, P >= 3 one about the recipe. `draw` stands in for the variance between
    draws where the values cannot show it (a budget that takes the whole pool); `extra` is added to se^2 (see
    `smoothing`); `stratum` [U] parts the units by class, and `more` are further parts of se^2.
    """
    seeds, draws, units = values.shape
    assert units >= 2
    assert 0 <= pool_share <= 1
    draw = draw or draw_variance(values, pool_share)
    of_units = _unit_parts(values.mean((0, 1)), np.zeros(units, np.int64) if stratum is None else stratum, extra)
    of_unit = sum(value for value, _ in of_units)
    parts = [*of_units, *more]
    if draw is not None:
        parts.append(Component(draw.value * ((1 - pool_share) / draws + pool_share), draw.df))
    if seeds > 1:
        parts.append(Component(float(values.mean((1, 2)).var(ddof=1)) / seeds, seeds - 1.0))
    variance = sum(value for value, _ in parts)
    doubt = sum(value**2 / df for value, df in parts)
    return Estimate(
        mean=float(values.mean()),
        se=math.sqrt(variance),
        df=min(variance**2 / doubt, ENDLESS) if doubt > 0 else ENDLESS,
        unit_variance=of_unit * units,
        fixed_variance=variance - of_unit,
        seeds=seeds,
        draws=draws,
        units=units,
        covers_draws=draw is not None,
    )


def _unit_parts(values: NDArray[np.float64], stratum: NDArray[np.int64], extra: float) -> list[Component]:
    """What the units of each stratum add to se^2, `extra` shared out by how much one of them weighs."""
    units = len(values)
    size = np.bincount(stratum)
    squares = np.bincount(stratum, np.square(values - values.mean()))[size > 0] / (units * (units - 1))
    size = size[size > 0]
    weight = 1.0 / size**2
    variances = squares + extra * weight / weight.sum()
    return [Component(value, max(n - 1.0, 1.0)) for value, n in zip(variances.tolist(), size.tolist(), strict=True)]


def spread_of_seeds(values: NDArray[np.float64]) -> list[Component]:
    """What another choice of the seeds of values [P S U] would change in their mean; nothing where there is one."""
    seeds = len(values)
    return [Component(float(values.mean((1, 2)).var(ddof=1)) / seeds, seeds - 1.0)] if seeds > 1 else []


def second_way(values: NDArray[np.float64], unit: NDArray[np.int64], second: NDArray[np.int64]) -> list[Component]:
    """What a second way of being alike adds to se^2 of a mean over items [n], beyond that of their units."""

    def clustered(of: NDArray[np.int64]) -> tuple[float, int]:
        sums = np.bincount(np.unique(of, return_inverse=True)[1], values - values.mean())
        return float(np.square(sums).sum()) / len(values) ** 2 * len(sums) / max(1, len(sums) - 1), len(sums)

    (alone, n), (both, _) = clustered(second), clustered(unit * (int(second.max()) + 1) + second)
    return [Component(max(0.0, alone - both), max(n - 1.0, 1.0))]


def holm(p: Sequence[float]) -> NDArray[np.float64]:
    """Holm's step-down adjustment: compare with the level as if there had been one test."""
    order = np.argsort(p)
    stepped = np.asarray(p, np.float64)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def detectable_difference(
    test_units: Sequence[int], *, labels_total: int, draws: int, pool_share: float = 0.0
) -> float:
    """The gain in balanced accuracy that a test of this size shows with 80 % power, guessed before any training.

    `test_units` counts the test items (or groups) of each class. 2.8 standard errors, from

        se^2 = 0.125 / K^2 * sum_c 1/n_c  +  0.15^2 / labels * ((1 - f)/draws + f)

    The two constants are typical of paired probes (see the module); the report prints what the data really allowed.
    """
    units = np.asarray(test_units, np.float64)
    assert min(units.min(), labels_total, draws) > 0
    of_units = ASSUMED_UNIT_VARIANCE * (1 / units).sum() / len(units) ** 2
    of_draws = ASSUMED_DRAW_DEVIATION**2 / labels_total * ((1 - pool_share) / draws + pool_share)
    return min(1.0, _power_factor(ENDLESS) * math.sqrt(of_units + of_draws))
