"""The linear probe: how much of the target can be read off fixed features with n labels.

Multinomial logistic regression with an L2 penalty, the objective of scikit-learn's `LogisticRegression`:

    C * sum_i -log softmax(W'x_i + b)[y_i]  +  1/2 |W|^2        (two classes: |W_1 - W_0|^2 instead, as there)

Penalty and scaling are chosen by cross-validation inside the labelled draw: C by the held-out log-likelihood, which at
few labels is steadier than accuracy, and the scaling between one deviation per feature and one for all. Neither suits
every arm: on digits with 2 labels per class one per feature costs raw pixels 5 points, one for all costs a random
encoder 6, so that fixing either would weaken a baseline. At one label per class nothing can be held out: nearest
centroid, one deviation for all.

A report fits thousands of probes, so the solver matters. Features are rotated to their principal axes, which is exact
under an L2 penalty and leaves min(n, d) dimensions; there Newton's method with conjugate gradients, preconditioned by
the Hessian's diagonal, starts from the solution at ten times the penalty.

Shapes: n labelled examples, d features, r <= min(n, d) rotated features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tacit.core import keys
from tacit.core.stages import beat

GRID = tuple(10.0**power for power in range(-5, 2))
FOLDS = 3
ENOUGH = 10_000  # examples to choose C and the scaling by
_BLOCK = 8192  # rows that are held in double precision at once
_KEPT = 2**23  # numbers of which a transpose and squares are kept too
_PATIENCE = 2  # steps without improvement that end the search
_ROUGH, _FINE = 3e-4, 1e-6  # how far from its minimum the objective may stay, in nats per example

Matrix = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Probe:
    """A fitted linear classifier of raw features. A class without a label has the intercept -inf."""

    W: Matrix  # [d K]
    b: Matrix  # [K]
    C: float | None  # None for the nearest centroid
    per_feature: bool  # scaled by one deviation per feature, else by one for all
    score: float  # mean held-out log-likelihood in nats; NaN where nothing could be held out

    def predict(self, X: ArrayLike) -> Ints:
        """The most likely class [N]."""
        return np.asarray(self._logits(X).argmax(axis=1), np.int64)

    def probabilities(self, X: ArrayLike) -> Matrix:
        """Of every class [N K]."""
        return np.exp(_log_softmax(self._logits(X)))

    def _logits(self, X: ArrayLike) -> Matrix:
        X = np.asarray(X)
        return np.concatenate([np.asarray(X[rows], np.float64) @ self.W for rows in blocks(len(X))]) + self.b


def fit_probe(
    X: ArrayLike,
    y: Ints,
    *,
    n_classes: int,
    groups: Ints | None = None,
    seed: int,
    grid: Sequence[float] = GRID,
    scalings: Sequence[bool] = (False, True),
    beyond: int = 3,
) -> Probe:
    """Fit to labelled examples X [n d], y [n] in 0..K-1, choosing C and scaling by grouped stratified cross-validation.

    The search for C goes from strong to weak through `grid` and `beyond` either end by up to as many decades, until two
    steps bring no improvement; of more than 10,000 examples it looks at as many, drawn at random. `seed` decides the
    folds, `scalings` are those to choose from: one deviation for all features, or one for each.
    """
    X = np.asarray(X)
    seen = draw_enough(len(y), seed)
    fold = assign_folds(y[seen], None if groups is None else groups[seen], seed=seed)
    best = (-np.inf, 0.0, False)
    if fold is not None:
        for per_feature in scalings:
            held_out = _HeldOut(X[seen], y[seen], fold, n_classes, per_feature)
            if held_out.n:
                best = max(best, (*_search(held_out, grid, beyond), per_feature))
            del held_out
    score, C, per_feature = best
    if np.isneginf(score):
        W, b = _nearest_centroid(X, y, n_classes)
        return Probe(W, b, None, False, float("nan"))
    W, b = _fit(X, y, C, n_classes, deviation(X, per_feature), _FINE)
    return Probe(W, b, C, per_feature, score)


def fit_counts(X: ArrayLike, y: Ints) -> tuple[Matrix, Matrix, float]:
    """W [d K], b [K] and C of a probe of features whose spreads say what they are worth, such as word counts.

    C is that of the objective above with features as they are; 1 where nothing could be held out.
    """
    X = np.asarray(X)
    probe = fit_probe(X, y, n_classes=int(y.max()) + 1, seed=0, scalings=(False,), beyond=0)
    return probe.W, probe.b, (probe.C or 1.0) / float(deviation(X, False).max()) ** 2


def fit_logistic(X: ArrayLike, y: Ints, C: float, n_classes: int, *, tolerance: float = 1e-12) -> tuple[Matrix, Matrix]:
    """W [d K] and b [K] that minimise the objective above, features as they are.

    `tolerance`: about how far the objective over C may stay from its minimum, in nats per example.
    """
    X = np.asarray(X)
    return _fit(X, y, C, n_classes, np.ones(X.shape[1]), tolerance)


def draw_enough(n: int, seed: int) -> Ints:
    """All of n rows, or 10,000 of more, by which penalty and scaling are chosen."""
    if n <= ENOUGH:
        return np.arange(n)
    return np.sort(np.random.default_rng(keys.fold(seed, "seen")).permutation(n)[:ENOUGH])


def assign_folds(y: Ints, groups: Ints | None, *, seed: int) -> Ints | None:
    """The fold [n] of each example: groups stay whole, classes are spread evenly; None where no class can be split.

    As many folds as the rarest class has groups, at most three; a class with a single group has no say in that. Groups
    go, largest first, to the fold that holds the least of their classes.
    """
    if groups is None or (groups == groups[0]).all():  # one group alone can only be validated on itself
        groups = np.arange(len(y))
    _, group = np.unique(groups, return_inverse=True)
    _, label = np.unique(y, return_inverse=True)
    counts = np.zeros((group.max() + 1, label.max() + 1))
    np.add.at(counts, (group, label), 1)
    spread = (counts > 0).sum(axis=0)
    if spread.max() < 2:
        return None
    n_folds = min(FOLDS, int(spread[spread > 1].min()))

    shuffled = np.random.default_rng(keys.fold(seed, "folds")).permutation(len(counts))
    order = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    share = counts / counts.sum(axis=0)
    held = np.zeros((n_folds, counts.shape[1]))
    size = np.zeros(n_folds)
    of_group = np.empty(len(counts), np.int64)
    for g in order:
        f = int(np.argmin(held @ share[g] + 1e-9 * size))  # even in size where classes leave a choice
        of_group[g] = f
        held[f] += share[g]
        size[f] += counts[g].sum()
    return of_group[group]


def _search(held_out: _HeldOut, grid: Sequence[float], beyond: int) -> tuple[float, float]:
    """The best held-out score, and its C."""
    best, at, idle = -np.inf, grid[0], 0
    for C in [*grid, *(grid[-1] * 10.0**i for i in range(1, beyond + 1))]:
        score = held_out.score(C)
        best, at, idle = (score, C, 0) if score > best else (best, at, idle + 1)
        if idle == _PATIENCE:
            break
    if at == grid[0]:
        for C in (grid[0] / 10.0**i for i in range(1, beyond + 1)):
            score = held_out.score(C)
            if score <= best:
                break
            best, at = score, C
    return best, at


class _HeldOut:
    """The log-likelihood of every fold under a probe of the others, as a function of C; what is costly done once."""

    def __init__(self, X: Matrix, y: Ints, fold: Ints, n_classes: int, per_feature: bool) -> None:
        self.folds = []
        self.n = 0
        for f in range(fold.max() + 1):
            train = fold != f
            known = np.unique(y[train])
            test = (fold == f) & np.isin(y, known)  # a class that was not trained on says nothing about C
            if len(known) > 1 and test.any():
                path = _Path(X[train], y[train], n_classes, deviation(X[train], per_feature))
                self.folds.append((path, path.rotate(X[test]), np.searchsorted(known, y[test])))
                self.n += int(test.sum())

    def score(self, C: float) -> float:
        total = 0.0
        for path, Z, label in self.folds:
            logits = _log_softmax(Z @ path.solve(C, _ROUGH))
            total += logits[np.arange(len(label)), label].sum()
        return float(total / self.n)


def _fit(X: Matrix, y: Ints, C: float, n_classes: int, scale: Matrix, tolerance: float) -> tuple[Matrix, Matrix]:
    """The solution in terms of the raw features."""
    path = _Path(X, y, n_classes, scale)
    V = path.solve(C, tolerance)
    W, b = np.zeros((X.shape[1], n_classes)), np.full(n_classes, -np.inf)
    W[:, path.classes] = path.rotation @ V[:-1]
    b[path.classes] = V[-1] - path.mean @ W[:, path.classes]
    return W, b


def _nearest_centroid(X: Matrix, y: Ints, n_classes: int) -> tuple[Matrix, Matrix]:
    """As a linear classifier: x is nearest to the centroid m with the largest m'x - |m|^2 / 2."""
    mean, scale = X.mean(axis=0), deviation(X, False)
    W, b = np.zeros((X.shape[1], n_classes)), np.full(n_classes, -np.inf)
    for c in np.unique(y):
        centroid = (X[y == c].mean(axis=0) - mean) / scale
        W[:, c] = centroid / scale
        b[c] = -centroid @ centroid / 2 - mean @ W[:, c]
    return W, b


def deviation(X: Matrix, per_feature: bool) -> Matrix:
    """Standard deviations [d], of each feature or of all together; 1 where a feature is constant but for rounding."""
    mean = X.mean(axis=0, dtype=np.float64)
    variance: Matrix = np.sum([np.square(X[rows] - mean).sum(axis=0) for rows in blocks(len(X))], axis=0) / len(X)
    constant = variance <= 1e-12 * (variance + np.square(mean))
    if not per_feature:
        variance = np.full_like(variance, variance.mean())
    return np.where(constant | (variance == 0), 1.0, np.sqrt(variance))


class _Path:
    """Solutions for one C after another on the principal axes of the scaled features, each starting from the last."""

    def __init__(self, X: Matrix, y: Ints, n_classes: int, scale: Matrix) -> None:
        self.mean = X.mean(axis=0, dtype=np.float64)
        self.rotation = principal_axes(X, self.mean, scale) / scale[:, None]  # [d r]
        self.classes = np.flatnonzero(np.bincount(y, minlength=n_classes))
        self.target = (y[:, None] == self.classes).astype(np.float64)  # [n K]
        self.Z = self.rotate(X)
        self.V = np.zeros((self.Z.shape[1], len(self.classes)))

    def rotate(self, X: Matrix) -> Matrix:
        """[n r+1], the last column ones for the intercept."""
        Z = np.ones((len(X), self.rotation.shape[1] + 1))
        for rows in blocks(len(X)):
            Z[rows, :-1] = (X[rows] - self.mean) @ self.rotation
        return Z

    def solve(self, C: float, tolerance: float) -> Matrix:
        """V [r+1 K] of the rotated features and the intercept."""
        penalty = np.full((len(self.V), 1), 2.0 / C if len(self.classes) == 2 else 1.0 / C)
        penalty[-1] = 0.0
        self.V = _newton(self.Z, self.target, penalty, self.V, tolerance)
        return self.V


def principal_axes(X: Matrix, mean: Matrix, scale: Matrix) -> Matrix:
    """[d r], orthonormal, of X centred and scaled; directions below 1e-7 of the widest are dropped."""
    if len(X) <= X.shape[1]:
        X = (X - mean) / scale
        squares, U = np.linalg.eigh(X @ X.T)
        kept = squares > 1e-14 * squares[-1]
        return np.asarray(X.T @ (U[:, kept] / np.sqrt(squares[kept])))
    gram = np.zeros((X.shape[1], X.shape[1]))
    for rows in blocks(len(X)):
        part = (X[rows] - mean) / scale
        gram += part.T @ part
    squares, U = np.linalg.eigh(gram)
    return np.asarray(U[:, squares > 1e-14 * squares[-1]])


def _newton(Z: Matrix, target: Matrix, penalty: Matrix, V: Matrix, tolerance: float) -> Matrix:
    """Minimise the summed loss + penalty |V|^2 / 2 from V [r K], by one step at least.

    The Newton decrement, estimated with the preconditioner, tells how far the minimum is.
    """
    kept = Z.size <= _KEPT
    Zt = np.ascontiguousarray(Z.T) if kept else Z.T
    squares = Zt * Zt if kept else None
    loss, P = _loss(Z, target, penalty, V)
    for taken in range(100):
        beat()
        gradient = Zt @ (P - target) + penalty * V
        inverse = 1.0 / (_curvature(Z, squares, P * (1.0 - P)) + penalty + 1e-12)  # of the Hessian's diagonal
        if taken and np.vdot(gradient, inverse * gradient) / 2 < tolerance * len(Z):
            break
        step = _newton_step(Z, Zt, P, penalty, gradient, inverse)
        slope = np.vdot(gradient, step)
        length = 1.0
        while True:
            trial, P_trial = _loss(Z, target, penalty, V + length * step)
            if trial <= loss + 1e-4 * length * slope + 1e-13 * abs(loss) or length < 1e-6:
                break
            length /= 2
        V, loss, P = V + length * step, trial, P_trial
    return V


def _curvature(Z: Matrix, squares: Matrix | None, weight: Matrix) -> Matrix:
    """Z squared, times the weights: [r K]."""
    if squares is not None:
        return squares @ weight
    return np.asarray(np.sum([np.square(Z[rows]).T @ weight[rows] for rows in blocks(len(Z))], axis=0))


def _newton_step(Z: Matrix, Zt: Matrix, P: Matrix, penalty: Matrix, gradient: Matrix, inverse: Matrix) -> Matrix:
    """Solve Hessian * step = -gradient by preconditioned conjugate gradients, the closer the smaller the gradient.

    To add the same to all classes changes nothing, so that the Hessian is singular there: all vectors are kept at a
    mean of 0 over the classes, or what rounding leaves in that direction would grow without bound.
    """
    step = np.zeros_like(gradient)
    residual = _centred(-gradient)
    direction = _centred(inverse * residual)
    norm = float(np.vdot(residual, direction))
    enough = norm * min(0.25, norm**0.25) ** 2
    for _ in range(200 if norm else 0):  # where nothing varies, nothing is to be learned
        U = P * (Z @ direction)
        U -= P * U.sum(axis=1, keepdims=True)
        bent = Zt @ U + penalty * direction
        curved = float(np.vdot(direction, bent))
        if not 0 < curved < np.inf:  # classes that are parted by all that precision can tell
            break
        length = norm / curved
        step += length * direction
        residual -= length * bent
        scaled = _centred(inverse * residual)
        last, norm = norm, float(np.vdot(residual, scaled))
        if norm < enough:
            break
        direction = scaled + (norm / last) * direction
    return step


def _centred(V: Matrix) -> Matrix:
    """V [r K] with a mean of 0 over the classes."""
    return np.asarray(V - V.mean(axis=1, keepdims=True))


def _loss(Z: Matrix, target: Matrix, penalty: Matrix, V: Matrix) -> tuple[float, Matrix]:
    """The objective, and the probabilities [n K] there."""
    logits = Z @ V
    logits -= logits.max(axis=1, keepdims=True)
    P = np.exp(logits)
    total = P.sum(axis=1, keepdims=True)
    P /= total
    return float(np.vdot(penalty * V, V) / 2 + np.log(total).sum() - np.vdot(logits, target)), P


def blocks(n: int) -> list[slice]:
    """All of n rows, some thousands at a time."""
    return [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]


def _log_softmax(logits: Matrix) -> Matrix:
    logits = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
