"""Labels saved: how many labels the best baseline needs to match the arm.

What a baseline lacks at each of its budgets, to the arm at its own, is a paired difference with an interval of its
own, which holds the error of both. These gaps are made to close by isotonic regression (Barlow & Brunk 1972),
weighted by draws, and read linearly in log n between the budgets; the labels at which the gap is closed have as their
interval those at which its upper and its lower bound are (Fieller 1954). Beyond the last budget nothing is
extrapolated: "at least N".
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


class Gap(NamedTuple):
    """A baseline at one of its budgets, less the arm at its own."""

    labels: int
    draws: int
    estimate: Estimate


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


def labels_saved(arm: str, labels: int, gaps: Mapping[str, Sequence[Gap]], protocol: str) -> dict[str, Any]:
    """The labels that `arm` saves at `labels` labels against each baseline, the best baseline first.

    `gaps` are those of every baseline. Those of one budget alone have no curve: where such a one is ahead at `labels`,
    the text says so. Empty where no baseline has two budgets or more.
    """
    rows: list[dict[str, Any]] = []
    for name, of in gaps.items():
        if len(of) < 2:
            continue
        bounds = [gap.estimate.interval() for gap in of]
        (needed, at_least), low, high = (
            Curve([Point(gap.labels, value, gap.draws) for gap, value in zip(of, values, strict=True)]).needed(0.0)
            for values in ([gap.estimate.mean for gap in of], [b[1] for b in bounds], [b[0] for b in bounds])
        )
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
    here = {name: gap.estimate.mean for name, of in gaps.items() for gap in of if gap.labels == labels}
    ahead = [name for name, of in gaps.items() if len(of) < 2 and here.get(name, -1) > here.get(best["baseline"], -1)]
    return {
        "arm": arm,
        "protocol": protocol,
        "labels": labels,
        **best,
        "saved": best["baseline_labels"] - labels,
        "text": _text(arm, labels, best)
        + (f"; {', '.join(ahead)} was nearer there, at one budget alone" * bool(ahead)),
        "baselines": rows,
    }


def _text(arm: str, labels: int, best: Mapping[str, Any]) -> str:
    needed = f"{'at least' if best['at_least'] else 'about'} {best['baseline_labels']:,}"
    low, high = (f"{'at least ' * best[f'{end}_at_least']}{best[end]:,}" for end in ("low", "high"))
    interval = f"[{low}, {high}]" if low != high else f"[{low}]"
    if best["baseline_labels"] <= labels and not best["at_least"]:
        return f"labels saved: none; {best['baseline']} does with {needed} {interval} what {arm} does with {labels:,}"
    return f"labels saved: {best['baseline']} needs {needed} labels {interval} to do what {arm} does with {labels:,}"
