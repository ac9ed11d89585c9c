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

_ENDLESS = 1e9  # degrees of freedom beyond which a t distribution is a normal one


class DrawVariance(NamedTuple):
    """How much the metric would vary between sets of labels drawn afresh, and how well that is known."""

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

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The two-sided confidence interval."""
        half = float(stdtrit(self.df, 0.5 + level / 2)) * self.se
        return self.mean - half, self.mean + half

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


def smoothing(y: NDArray[np.int64], unit: NDArray[np.int64]) -> float:
    """What one more pair of discordant test units, shared by the classes, would add to se^2.

    Accuracies are discrete: on a small test set two encoders can agree by luck on every unit, and a variance of 0 would
    claim certainty. Half a pseudo-observation on either side (Agresti & Min 2005) prevents it, and is next to nothing
    beside Var_u / U once there are hundreds of units.
    """
    pairs = np.unique(np.stack([y, unit]), axis=1)
    units_per_class = np.unique(pairs[0], return_counts=True)[1]
    return float((1.0 / units_per_class**2).sum() / len(units_per_class) ** 3)


def draw_variance(values: NDArray[np.float64], pool_share: float = 0.0) -> DrawVariance | None:
    """The variance between labels drawn afresh, from values [P S U]; None where one draw cannot tell."""
    table = values.mean(0)  # [S U]
    draws, units = table.shape
    if draws < 2 or pool_share >= 1:
        return None
    by_draw, by_unit = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    residual = ((table - by_draw - by_unit + table.mean()) ** 2).sum() / ((draws - 1) * (units - 1))
    component = max(0.0, float(by_draw.var(ddof=1) - residual / units))
    return DrawVariance(component / (1 - pool_share), draws - 1)


def crossed(
    values: NDArray[np.float64], *, pool_share: float = 0.0, draw: DrawVariance | None = None, extra: float = 0.0
) -> Estimate:
    """The mean of values [P S U] with its standard error and degrees of freedom, as the module's formula has it.

    P = 1 makes a claim about this checkpoint, P >= 3 one about the recipe. `draw` stands in for the variance between
    draws where the values cannot show it (a budget that takes the whole pool); `extra` is added to se^2 (see
    `smoothing`).
    """
    seeds, draws, units = values.shape
    assert units >= 2
    assert 0 <= pool_share <= 1
    draw = draw or draw_variance(values, pool_share)
    unit_variance = float(values.mean((0, 1)).var(ddof=1)) + extra * units
    parts = [(unit_variance / units, units - 1.0)]
    if draw is not None:
        parts.append((draw.value * ((1 - pool_share) / draws + pool_share), draw.df))
    if seeds > 1:
        parts.append((float(values.mean((1, 2)).var(ddof=1)) / seeds, seeds - 1.0))
    variance = sum(value for value, _ in parts)
    doubt = sum(value**2 / df for value, df in parts)
    return Estimate(
        mean=float(values.mean()),
        se=math.sqrt(variance),
        df=min(variance**2 / doubt, _ENDLESS) if doubt > 0 else _ENDLESS,
        unit_variance=unit_variance,
        fixed_variance=variance - parts[0][0],
        seeds=seeds,
        draws=draws,
        units=units,
        covers_draws=draw is not None,
    )


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
    return min(1.0, _power_factor(_ENDLESS) * math.sqrt(of_units + of_draws))
