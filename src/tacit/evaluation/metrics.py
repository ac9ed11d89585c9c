"""The metrics of verdicts, each with the jackknife influence values of the test units.

A metric takes predictions [... n] or [... n K], the truth [n] or [n L], and the unit (item or group) of each item. Its
influence values [... U] have the metric as their mean, and as their spread what another test set would have changed:
without a unit the metric is, to first order, the mean less (value - mean) / (U - 1).

Sources: Efron & Stein 1981, "The jackknife estimate of variance"; DeLong et al. 1988 and, for groups, Obuchowski 1997,
"Nonparametric analysis of clustered ROC curve data" (AUROC); Jaeckel 1972 (the infinitesimal jackknife, for AP).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.evaluation.statistics import influence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Influence = Callable[[NDArray[Any], NDArray[Any], Ints], Floats]


MARGIN = 0.01  # one point


class Metric(NamedTuple):
    """One metric; `low` and `high` bound it, `scores`: it needs scores, not only classes.

    Verdicts are about metrics of which more is better; `sign` is -1 for an error that is only reported. Differences up
    to `margin` are of no practical size.
    """

    name: str
    words: str
    influence: Influence
    low: float = 0.0
    high: float = 1.0
    scores: bool = False
    sign: int = 1
    discrete: bool = True  # made of hits and ranks, of which few test items have few; see `statistics.smoothing`
    margin: float = MARGIN
    in_units: bool = False  # in those of the labels; the others are fractions of 1
    by_item: Callable[[NDArray[Any], NDArray[Any]], Floats] | None = None  # as below, but quicker

    def of_items(self, predicted: NDArray[Any], truth: NDArray[Any]) -> Floats:
        """What each item [n] adds to the mean over seeds and draws of predictions [P S n ...]."""
        if self.by_item is not None:
            return self.by_item(predicted, truth)
        return np.asarray(self.influence(predicted, truth, np.arange(len(truth))).mean((0, 1)))

    def value(self, predicted: NDArray[Any], truth: NDArray[Any]) -> float:
        """Of predictions [n ...], every item a unit of its own."""
        return float(self.influence(predicted, truth, np.arange(len(truth))).mean())


def margin_of(points: float) -> float:
    """A margin of equivalence in points as a fraction; UserError for one that is none."""
    if not 0 < points <= 100:
        raise UserError(f"--margin {points:g}: give the points below which a difference does not matter, such as 1")
    return points / 100


def classes_of(predicted: NDArray[Any]) -> Ints:
    """Class numbers [... n] of predictions that are class numbers already, or scores [... n K]."""
    return np.asarray(predicted if predicted.dtype.kind in "iu" else predicted.argmax(axis=-1), np.int64)


# ---------------------------------------------------------------- classes


def balanced_accuracy(predicted: NDArray[Any], y: NDArray[Any], unit: Ints) -> Floats:
    """Mean over the classes of the share of their items that is recognised; each class in two units or more."""
    return influence(classes_of(predicted) == y, y, unit)


def recalled(predicted: NDArray[Any], y: NDArray[Any]) -> Floats:
    """What each item [n] adds to balanced accuracy, which is linear in hits: these are averaged first."""
    return influence((classes_of(predicted) == y).mean((0, 1)), y, np.arange(len(y)))


def accuracy(predicted: NDArray[Any], y: NDArray[Any], unit: Ints) -> Floats:
    """Share of the items that are predicted correctly."""
    return mean_by(classes_of(predicted) == y, unit)


def macro_f1(predicted: NDArray[Any], y: NDArray[Any], unit: Ints) -> Floats:
    """Mean over the true classes of 2 TP / (predicted + true); each unit left out in turn, exactly."""
    classes = classes_of(predicted)
    present = np.unique(y)
    k = int(max(classes.max(initial=0), y.max())) + 1
    true = _counts(y[None], unit, k)[0]  # [U K]
    flat = classes.reshape(-1, classes.shape[-1])
    rows = [_f1_without(_counts(np.where(row == y, row, -1)[None], unit, k)[0], _counts(row[None], unit, k)[0], true)
            for row in flat]  # fmt: skip
    found = np.stack([from_jackknife(whole[present].mean(), left[:, present].mean(axis=1)) for whole, left in rows])
    return found.reshape(*classes.shape[:-1], -1)


def _f1_without(hit: Floats, predicted: Floats, true: Floats) -> tuple[Floats, Floats]:
    """F1 of each class [K], and with each unit left out [U K]."""
    all_hit, size = hit.sum(axis=0), (predicted + true).sum(axis=0)
    rest = size - predicted - true
    return 2 * all_hit / np.maximum(size, 1), 2 * (all_hit - hit) / np.maximum(rest, 1)


def _counts(values: NDArray[Any], unit: Ints, k: int) -> Floats:
    """How many items of each unit have each value 0..k-1, negative ones left out: [B U k]."""
    n_units = int(unit.max()) + 1
    found = []
    for row in values:
        kept = row >= 0
        found.append(np.bincount(unit[kept] * k + row[kept], minlength=n_units * k).reshape(n_units, k))
    return np.stack(found).astype(np.float64)


def auroc(scores: NDArray[Any], y: NDArray[Any], unit: Ints) -> Floats:
    """Probability that an item of a class scores higher than one of another; mean over classes or labels.

    Scores [... n K] of classes y [n], or of labels y [n K] of which an item can have several; a label is left out where
    it, or its absence, is in fewer than two units.
    """
    return _over_labels(_auroc, scores, y, unit)


def average_precision(scores: NDArray[Any], y: NDArray[Any], unit: Ints) -> Floats:
    """Mean of the precision at each true item, ranked by score; mean over classes or labels as in `auroc`.

    Of two classes the rarer one's alone.
    """
    return _over_labels(_average_precision, scores, y, unit)


def label_f1(scores: NDArray[Any], y: NDArray[Any], unit: Ints) -> Floats:
    """Mean over labels of F1, a label being given where its probability is above one half."""

    def one(score: NDArray[Any], positive: NDArray[np.bool_], unit: Ints) -> Floats:
        given = score > 0.5
        flat = given.reshape(-1, given.shape[-1]).astype(np.int64)
        true = _counts(np.where(positive, 0, -1)[None], unit, 1)[0]
        found = []
        for row in flat:
            hit = _counts(np.where(positive & (row == 1), 0, -1)[None], unit, 1)[0]
            whole, left = _f1_without(hit, _counts(np.where(row == 1, 0, -1)[None], unit, 1)[0], true)
            found.append(from_jackknife(whole[0], left[:, 0]))
        return np.stack(found).reshape(*given.shape[:-1], -1)

    return _over_labels(one, scores, y, unit)


def label_accuracy(scores: NDArray[Any], y: NDArray[Any], unit: Ints) -> Floats:
    """Share of the labels that are rightly given or withheld, a label being given above one half."""
    return mean_by(np.asarray(((scores > 0.5) == (y > 0)).mean(axis=-1)), unit)


def testable(y: NDArray[Any], unit: Ints) -> NDArray[np.bool_]:
    """Which labels of y [n L] are, and are absent, in two units or more [L]."""
    n_units = int(unit.max()) + 1
    held = np.zeros((n_units, y.shape[1]), bool)
    lacked = np.zeros_like(held)
    np.logical_or.at(held, unit, y > 0)
    np.logical_or.at(lacked, unit, y == 0)
    return np.asarray((held.sum(axis=0) >= 2) & (lacked.sum(axis=0) >= 2))


def _over_labels(one: Influence, scores: NDArray[Any], y: NDArray[Any], unit: Ints) -> Floats:
    assert scores.dtype.kind == "f", "this metric needs scores"
    true = y if y.ndim == 2 else y[:, None] == np.arange(scores.shape[-1])
    labels = np.flatnonzero(testable(true, unit))
    if y.ndim == 1 and len(labels) == 2:  # the rarer one is what is looked for
        labels = labels[::-1][[true[:, labels[::-1]].sum(axis=0).argmin()]]
    assert len(labels), "no label can be tested"
    total = sum(one(scores[..., c], true[:, c] > 0, unit) for c in labels)
    return np.asarray(total / len(labels), np.float64)


def ranks(x: NDArray[Any]) -> Floats:
    """The ranks of x [..., n] along its last axis, from 1; equal values share the mean of theirs.

    As `scipy.stats.rankdata`, whose import takes 2 s.
    """
    order = np.argsort(x, axis=-1)
    ascending = np.take_along_axis(x, order, -1)
    first = np.concatenate([np.ones_like(ascending[..., :1], bool), ascending[..., 1:] != ascending[..., :-1]], -1)
    begins = np.flatnonzero(first.reshape(-1))
    counts = np.diff(begins, append=x.size)
    shared = np.repeat(begins % max(1, x.shape[-1]) + (counts + 1) / 2, counts).reshape(x.shape)
    found = np.empty(x.shape)
    np.put_along_axis(found, order, shared, -1)
    return found


def _auroc(score: NDArray[Any], positive: NDArray[np.bool_], unit: Ints) -> Floats:
    """From the components of DeLong: for each item, the share of the other class that it is ranked rightly against."""
    m, n = int(positive.sum()), int((~positive).sum())
    rank = ranks(score)
    right = np.empty(score.shape)
    right[..., positive] = (rank[..., positive] - ranks(score[..., positive])) / n
    right[..., ~positive] = 1 - (rank[..., ~positive] - ranks(score[..., ~positive])) / m
    area = right[..., positive].mean(-1, keepdims=True)
    drop = [
        sum_by_unit(np.where(which, right - area, 0.0), unit) / (which.sum() - np.bincount(unit, which))
        for which in (positive, ~positive)
    ]
    return np.asarray(area + _centred(unit.max() * (drop[0] + drop[1])))


def _average_precision(score: NDArray[Any], positive: NDArray[np.bool_], unit: Ints) -> Floats:
    """By the derivative of AP in the weight of each item."""
    flat = score.reshape(-1, score.shape[-1])
    total = int(positive.sum())
    slopes, values = np.empty(flat.shape), np.empty((len(flat), 1))
    for b, row in enumerate(flat):
        order = np.argsort(-row, kind="stable")
        ranked, true = row[order], positive[order]
        last = np.searchsorted(-ranked, -ranked, side="right") - 1  # of those that score the same
        above = last + 1.0  # how many are ranked as high or higher
        precision = np.cumsum(true)[last] / above
        first = np.searchsorted(-ranked, -ranked, side="left")
        # What one more item as high as this would do to the precision at every true item as high or lower.
        gain = np.where(true, (1 - precision) / above, 0.0)
        loss = np.where(true, precision / above, 0.0)
        gain, loss = (np.cumsum(part[::-1])[::-1][first] for part in (gain, loss))
        ap = float(precision[true].mean())
        slopes[b, order] = np.where(true, precision - ap + gain, -loss) / total
        values[b] = ap
    n_units = int(unit.max()) + 1
    found = values + _centred(n_units * sum_by_unit(slopes, unit))
    return np.asarray(found.reshape(*score.shape[:-1], -1))


# ---------------------------------------------------------------- numbers


def r2(predicted: NDArray[Any], y: NDArray[Any], unit: Ints) -> Floats:
    """1 - squared error / variance; each unit left out in turn, exactly."""
    error = sum_by_unit(np.square(predicted - y), unit)
    y = y - y.mean()  # squares of large numbers would leave no digits for their differences
    size, total, squares = (np.bincount(unit, w) for w in (np.ones(len(y)), y, np.square(y)))
    n, rest = size.sum(), size.sum() - size
    spread = squares.sum() - total.sum() ** 2 / n
    left = squares.sum() - squares - (total.sum() - total) ** 2 / np.maximum(rest, 1)
    whole = error.sum(axis=-1, keepdims=True)
    return from_jackknife(1 - whole / spread, 1 - (whole - error) / left)


def d2_absolute_error(predicted: NDArray[Any], y: NDArray[Any], unit: Ints) -> Floats:
    """1 - absolute error / that of the test set's median; each unit left out in turn, the median kept."""
    error = sum_by_unit(np.abs(predicted - y), unit)
    median = np.bincount(unit, np.abs(y - np.median(y)))
    whole = error.sum(axis=-1, keepdims=True)
    return from_jackknife(1 - whole / median.sum(), 1 - (whole - error) / (median.sum() - median))


def mae(predicted: NDArray[Any], y: NDArray[Any], unit: Ints) -> Floats:
    """Mean absolute error, in the target's own units; smaller is better."""
    return mean_by(np.abs(predicted - y), unit)


def pearson(predicted: NDArray[Any], y: NDArray[Any], unit: Ints) -> Floats:
    """Correlation, 0 where one side is constant; each unit left out in turn, exactly."""
    x, y = (np.asarray(of - of.mean(axis=-1, keepdims=True), np.float64) for of in (predicted, y))
    parts = np.stack([sum_by_unit(of, unit) for of in np.broadcast_arrays(np.ones(x.shape), x, y, x * x, y * y, x * y)])
    whole = parts.sum(axis=-1, keepdims=True)
    return from_jackknife(_correlation(*whole), _correlation(*(whole - parts)))


def _correlation(n: Floats, x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    """The correlation from the count and the sums."""
    spread = np.sqrt(np.maximum(xx - x * x / n, 0) * np.maximum(yy - y * y / n, 0))
    return np.asarray(np.divide(xy - x * y / n, spread, out=np.zeros(xy.shape), where=spread > 0))


def spearman(predicted: NDArray[Any], y: NDArray[Any], unit: Ints) -> Floats:
    """Correlation of the ranks, 0 where one side is constant; by its derivative in the weight of each item."""
    flat = predicted.reshape(-1, len(y))
    n_units = int(unit.max()) + 1
    found = np.zeros((len(flat), n_units))
    for row, x in zip(found, flat, strict=True):
        value, slope = _rank_correlation(x, y)
        row[:] = value + _centred(n_units * sum_by_unit((slope - slope.mean()) / len(y), unit))
    return found.reshape(*predicted.shape[:-1], n_units)


def _rank_correlation(x: NDArray[Any], y: NDArray[Any]) -> tuple[float, Floats]:
    """The correlation of the ranks of x and y [n], and n times its derivative in each one's weight."""
    n = len(x)
    f, g = ((ranks(of) - (n + 1) / 2) / n for of in (x, y))  # the share that is lower, less one half
    spread_f, spread_g = np.mean(f * f), np.mean(g * g)
    if not spread_f * spread_g:
        return 0.0, np.zeros(n)
    scale = np.sqrt(spread_f * spread_g)
    value = float(np.mean(f * g) / scale)
    # More weight counts the item itself more, and lifts the ranks of all above it.
    joint = f * g + _mean_above(x, g) + _mean_above(y, f)
    of_f, of_g = f * f + 2 * _mean_above(x, f), g * g + 2 * _mean_above(y, g)
    return value, joint / scale - value / 2 * (of_f / spread_f + of_g / spread_g)


def _mean_above(x: NDArray[Any], values: Floats) -> Floats:
    """For each of n items the sum of `values` over those of larger x, by half of equal x, divided by n."""
    place = np.unique(x, return_inverse=True)[1]
    sums = np.bincount(place, values)
    return np.asarray((np.cumsum(sums[::-1])[::-1] - sums / 2)[place] / len(x))


# ---------------------------------------------------------------- what they share


def mean_by(values: NDArray[Any], unit: Ints) -> Floats:
    """A mean over items, each unit left out in turn."""
    return influence(values, np.zeros(values.shape[-1], np.int64), unit)


def from_jackknife(whole: Any, left_out: Floats) -> Floats:
    """Influence values [... U] from a metric and the same with each unit left out."""
    drop = whole - left_out
    return np.asarray(whole + _centred((left_out.shape[-1] - 1) * drop))


def _centred(values: Floats) -> Floats:
    return np.asarray(values - values.mean(axis=-1, keepdims=True))


def sum_by_unit(values: Floats, unit: Ints) -> Floats:
    """Sums [... U] of values [... n]."""
    order = np.argsort(unit, kind="stable")
    starts = np.searchsorted(unit[order], np.arange(int(unit.max()) + 1))
    return np.asarray(np.add.reduceat(values[..., order], starts, axis=-1))
