"""The linear probe of numbers: ridge regression, the penalty and the scaling chosen inside the labelled draw.

    |y - Xw - b|^2 + alpha |w|^2        on features with one deviation for all, or one for each

as in scikit-learn's `Ridge`. Both scalings and every alpha are scored by the squared error of grouped cross-validation,
as the classes' probe is. One decomposition of the features serves every alpha.

Shapes: n labelled examples, d features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tacit.evaluation.linear import assign_folds, deviation

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
        return np.asarray(np.asarray(X, np.float64) @ self.w + self.b)


def fit_ridge(
    X: ArrayLike, y: Floats, *, groups: Ints | None = None, seed: int, alphas: Sequence[float] = ALPHAS
) -> Ridge:
    """Fit to X [n d] and numbers y [n]; their mean where nothing can be held out."""
    X = np.asarray(X, np.float64)
    fold = assign_folds(np.zeros(len(y), np.int64), groups, seed=seed)
    if fold is None or not np.ptp(y):
        return Ridge(np.zeros(X.shape[1]), float(y.mean()), None)
    grid = sorted(alphas)
    grid = [*(grid[0] / 10.0**i for i in range(_BEYOND, 0, -1)), *grid]
    grid += [grid[-1] * 10.0**i for i in range(1, _BEYOND + 1)]
    best: tuple[float, float, bool] = (np.inf, grid[-1], False)
    for per_feature in (False, True):
        errors = np.zeros(len(grid))
        for f in np.unique(fold):
            held = fold == f
            path = _Path(X[~held], y[~held], per_feature)
            errors += [float(np.square(path.at(alpha).predict(X[held]) - y[held]).sum()) for alpha in grid]
        at = int(errors.argmin())
        best = min(best, (float(errors[at]), grid[at], per_feature))
    _, alpha, per_feature = best
    return _Path(X, y, per_feature).at(alpha)


class _Path:
    """The solutions for every alpha."""

    def __init__(self, X: Floats, y: Floats, per_feature: bool) -> None:
        self.mean, self.offset = X.mean(axis=0), float(y.mean())
        self.scale = deviation(X, per_feature)
        Z = (X - self.mean) / self.scale
        self.dual = len(Z) <= Z.shape[1]
        squares, self.axes = np.linalg.eigh(Z @ Z.T if self.dual else Z.T @ Z)
        self.squares: Floats = np.maximum(squares, 0.0)
        self.Z = Z
        self.seen: NDArray[Any] = self.axes.T @ (y - self.offset if self.dual else Z.T @ (y - self.offset))

    def at(self, alpha: float) -> Ridge:
        solved = self.axes @ (self.seen / (self.squares + alpha))
        w = (self.Z.T @ solved if self.dual else solved) / self.scale
        return Ridge(w, self.offset - float(self.mean @ w), alpha)
