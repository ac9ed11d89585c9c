"""The linear probe of numbers: ridge regression, the penalty and the scaling chosen inside the labelled draw.

    |y - Xw - b|^2 + alpha |w|^2        on features with one deviation for all, or one for each

as in scikit-learn's `Ridge`. Both scalings and every alpha are scored by the squared error of grouped cross-validation,
as the classes' probe is. On the principal axes of the features every alpha is solved at once.

Shapes: n labelled examples, d features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tacit.core.stages import beat
from tacit.evaluation.probes.linear import assign_folds, blocks, deviation, draw_enough, principal_axes

ALPHAS = tuple(10.0**power for power in range(-4, 8))
_BEYOND = 4  # decades by which the best alpha may lie outside

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Ridge:
    """A fitted linear function of raw features."""

    w: Floats  # [d]
    b: float
    alpha: float | None  # None for the mean alone

    def predict(self, X: ArrayLike) -> Floats:
        """[N]."""
        X = np.asarray(X)
        return np.concatenate([np.asarray(X[rows], np.float64) @ self.w for rows in blocks(len(X))]) + self.b


def fit_ridge(
    X: ArrayLike, y: Floats, *, groups: Ints | None = None, seed: int, alphas: Sequence[float] = ALPHAS
) -> Ridge:
    """Fit to X [n d] and numbers y [n]; their mean where nothing can be held out."""
    X = np.asarray(X)
    seen = draw_enough(len(y), seed)
    fold = assign_folds(np.zeros(len(seen), np.int64), None if groups is None else groups[seen], seed=seed)
    if fold is None or not np.ptp(y):
        return Ridge(np.zeros(X.shape[1]), float(y.mean()), None)
    grid = sorted(alphas)
    grid = [*(grid[0] / 10.0**i for i in range(_BEYOND, 0, -1)), *grid]
    grid += [grid[-1] * 10.0**i for i in range(1, _BEYOND + 1)]
    best: tuple[float, float, bool] = (np.inf, grid[-1], False)
    for per_feature in (False, True):
        errors = np.zeros(len(grid))
        for f in np.unique(fold):
            beat()
            rest, held = seen[fold != f], seen[fold == f]
            path = _Path(X[rest], y[rest], per_feature)
            errors += [float(np.square(path.at(alpha).predict(X[held]) - y[held]).sum()) for alpha in grid]
        at = int(errors.argmin())
        best = min(best, (float(errors[at]), grid[at], per_feature))
    _, alpha, per_feature = best
    return _Path(X, y, per_feature).at(alpha)


class _Path:
    """The solutions for every alpha."""

    def __init__(self, X: Floats, y: Floats, per_feature: bool) -> None:
        self.mean, self.offset = X.mean(axis=0, dtype=np.float64), float(y.mean())
        self.scale = deviation(X, per_feature)
        self.rotation = principal_axes(X, self.mean, self.scale) / self.scale[:, None]  # [d r]
        r = self.rotation.shape[1]
        self.squares, self.seen = np.zeros(r), np.zeros(r)
        for rows in blocks(len(X)):
            Z = (X[rows] - self.mean) @ self.rotation
            self.squares += np.square(Z).sum(axis=0)
            self.seen += Z.T @ (y[rows] - self.offset)

    def at(self, alpha: float) -> Ridge:
        w = self.rotation @ (self.seen / (self.squares + alpha))
        return Ridge(w, self.offset - float(self.mean @ w), alpha)
