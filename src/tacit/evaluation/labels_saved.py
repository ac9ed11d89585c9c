"""Labels saved: how many labels the best baseline needs to match the arm.

Each learning curve is made to rise by isotonic regression (Barlow & Brunk 1972), weighted by draws, and read linearly
in log n between its budgets. Beyond its last budget nothing is extrapolated: "at least N".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.evaluation.statistics import Estimate


class Point(NamedTuple):
    """One budget of a learning curve."""

    labels: int
    mean: float
    draws: int


class Curve:
    """A rising learning curve over log n."""

    def __init__(self, points: Sequence[Point]) -> None:
        from scipy.optimize import isotonic_regression

        labels = np.array([p.labels for p in points], np.float64)
        weight = np.array([p.draws for p in points], np.float64)
        self.labels, at = np.unique(labels, return_inverse=True)
        weights = np.bincount(at, weight)
        means = np.bincount(at, weight * np.array([p.mean for p in points])) / weights
        self.means: NDArray[np.float64] = isotonic_regression(means, weights=weights).x

    def at(self, labels: float) -> float:
        """The metric at this many labels."""
        return float(np.interp(np.log(labels), np.log(self.labels), self.means))

    def needed(self, target: float) -> tuple[float, bool]:
        """The fewest labels that reach `target`; True with it where even the most measured do not."""
        reached = np.flatnonzero(self.means >= target - 1e-12)
        if not len(reached):
            return float(self.labels[-1]), True
        i = int(reached[0])
        if i == 0:
            return float(self.labels[0]), False
        low, high = self.means[i - 1], self.means[i]
        part = (target - low) / (high - low)
        return float(np.exp(np.log(self.labels[i - 1]) * (1 - part) + np.log(self.labels[i]) * part)), False


def labels_saved(
    arm: str, labels: int, curves: Mapping[str, Sequence[Point]], gains: Mapping[str, Estimate], protocol: str
) -> dict[str, Any]:
    """The labels that `arm` saves at `labels` labels against each baseline, the best baseline first.

    `curves` holds the learning curves of the arm and the baselines, `gains` the paired differences at `labels`. The
    interval comes from the gain's: the labels at which the baseline gains its lower and its upper bound. Empty where
    no baseline has a curve of two budgets or more.
    """
    target = Curve(curves[arm]).at(labels)
    rows: list[dict[str, Any]] = []
    for name, gain in gains.items():
        if len(curves.get(name, ())) < 2:
            continue
        curve = Curve(curves[name])
        needed, at_least = curve.needed(target)
        low, high = (curve.needed(curve.at(labels) + bound) for bound in gain.interval())
        rows.append(
            {
                "baseline": name,
                "baseline_labels": round(needed),
                "at_least": at_least,
                "low": round(low[0]),
                "low_at_least": low[1],
                "high": round(high[0]),
                "high_at_least": high[1],
            }
        )
    if not rows:
        return {}
    rows.sort(key=lambda row: (row["at_least"], row["baseline_labels"]))
    best = rows[0]
    return {
        "arm": arm,
        "protocol": protocol,
        "labels": labels,
        **best,
        "saved": best["baseline_labels"] - labels,
        "text": _text(arm, labels, best),
        "baselines": rows,
    }


def _text(arm: str, labels: int, best: Mapping[str, Any]) -> str:
    needed = f"{'at least' if best['at_least'] else 'about'} {best['baseline_labels']:,}"
    low, high = (f"{'at least ' * best[f'{end}_at_least']}{best[end]:,}" for end in ("low", "high"))
    interval = f"[{low}, {high}]" if low != high else f"[{low}]"
    if best["baseline_labels"] <= labels and not best["at_least"]:
        return f"labels saved: none; {best['baseline']} does with {needed} {interval} what {arm} does with {labels:,}"
    return f"labels saved: {best['baseline']} needs {needed} labels {interval} to do what {arm} does with {labels:,}"
