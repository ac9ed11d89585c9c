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
the Hessian's diagonal, starts from the solution at ten times the penalty. All folds are solved together, in single
precision, which is enough to choose by.

Shapes: n labelled examples, d features, r <= min(n, d) rotated features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

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
_FAR = 1e30  # below all others is the logit of a class without a label

Matrix = NDArray[np.float64]
Rough = NDArray[np.floating[Any]]  # in single precision while C is searched for
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
    best: tuple[float, float, bool] = (-np.inf, 0.0, False)
    known: dict[bool, Axes] = {}
    if fold is not None:
        held_out = _HeldOut(X[seen], y[seen], fold, n_classes, scalings)
        for scaling, per_feature in enumerate(held_out.scalings):
            best = max(best, (*_search(partial(held_out.score, scaling), grid, beyond), per_feature))
        known = held_out.axes if len(seen) == len(y) else {}  # the axes of all examples
        del held_out
    score, C, per_feature = best
    if np.isneginf(score):
        W, b = _nearest_centroid(X, y, n_classes)
        return Probe(W, b, None, False, float("nan"))
    axes = known.get(per_feature) or Axes.of(X, deviation(X, per_feature))
    W, b = _fit(X, y, C, n_classes, axes, _FINE)
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
    return _fit(X, y, C, n_classes, Axes.of(X, np.ones(X.shape[1])), tolerance)


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


def _search(held_out: Callable[[float], float], grid: Sequence[float], beyond: int) -> tuple[float, float]:
    """The best held-out score, and its C."""
    best, at, idle = -np.inf, grid[0], 0
    for C in [*grid, *(grid[-1] * 10.0**i for i in range(1, beyond + 1))]:
        score = held_out(C)
        best, at, idle = (score, C, 0) if score > best else (best, at, idle + 1)
        if idle == _PATIENCE:
            break
    if at == grid[0]:
        for C in (grid[0] / 10.0**i for i in range(1, beyond + 1)):
            score = held_out(C)
            if score <= best:
                break
            best, at = score, C
    return best, at


class _HeldOut:
    """The log-likelihood of every fold under a probe of the others, as a function of C, for several scalings.

    Where the examples of every fold span all features, folds share scaling and axes, those of all examples. Where they
    do not, each has its own: a deviation that knows the held-out examples would favour one for each feature, and on
    axes of others a rough solution would keep what no example speaks of.
    """

    def __init__(self, X: Matrix, y: Ints, fold: Ints, n_classes: int, scalings: Sequence[bool]) -> None:
        self.trains: list[NDArray[np.bool_]] = []
        self.tests: list[NDArray[np.bool_]] = []
        for f in range(fold.max() + 1):
            train = fold != f
            known = np.unique(y[train])
            test = (fold == f) & np.isin(y, known)  # a class that was not trained on says nothing about C
            if len(known) > 1 and test.any():
                self.trains.append(train)
                self.tests.append(test)
        self.n = int(np.sum(self.tests))
        self.scalings = scalings if self.n else ()
        self.fits: list[_Fits] = []
        self.held: list[list[tuple[Rough, Ints]]] = []
        self.axes: dict[bool, Axes] = {}  # those that folds share, by scaling
        for per_feature in self.scalings:
            if min(train.sum() for train in self.trains) > X.shape[1]:
                self.axes[per_feature] = Axes.of(X, deviation(X, per_feature))
                Z = self.axes[per_feature].rotate(X, np.float32)
                self.fits.append(_Fits(Z[None], y[None], np.stack(self.trains, 1)[None], n_classes))
                self.held.append([])
            else:
                self._apart(X, y, n_classes, per_feature)

    def _apart(self, X: Matrix, y: Ints, n_classes: int, per_feature: bool) -> None:
        """Each fold on the axes of its own examples, padded to the size of the largest."""
        most = max(int(train.sum()) for train in self.trains)
        widest = 1 + min(most, X.shape[1])
        Z = np.zeros((len(self.trains), most, widest), np.float32)
        labels, there = np.zeros((len(self.trains), most), np.int64), np.zeros((len(self.trains), most, 1), bool)
        held = []
        for at, (train, test) in enumerate(zip(self.trains, self.tests, strict=True)):
            axes, n = Axes.of(X[train], deviation(X[train], per_feature)), int(train.sum())
            places = [*range(axes.rotation.shape[1]), widest - 1]  # the last for the intercept
            Z[at, :n, places] = axes.rotate(X[train], np.float32).T
            labels[at, :n], there[at, :n] = y[train], True
            tested = np.zeros((int(test.sum()), widest), np.float32)
            tested[:, places] = axes.rotate(X[test], np.float32)
            held.append((tested, y[test]))
        self.fits.append(_Fits(Z, labels, there, n_classes))
        self.held.append(held)

    def score(self, scaling: int, C: float) -> float:
        fits, held = self.fits[scaling], self.held[scaling]
        V = fits.solve(C, _ROUGH)
        if not held:
            surprise = fits.surprise[0].T  # [F n]
            return -sum(float(of[test].sum()) for of, test in zip(surprise, self.tests, strict=True)) / self.n
        total = 0.0
        for (Z, label), of, barred in zip(held, V, fits.barred, strict=True):
            logits = _log_softmax(Z @ of[:, 0] + barred[0])
            total += float(logits[np.arange(len(label)), label].sum(dtype=np.float64))
        return total / self.n


def _fit(X: Matrix, y: Ints, C: float, n_classes: int, axes: Axes, tolerance: float) -> tuple[Matrix, Matrix]:
    """The solution in terms of the raw features."""
    fits = _Fits(axes.rotate(X)[None], y[None], np.ones((1, len(X), 1), bool), n_classes)
    V, known = fits.solve(C, tolerance)[0, :, 0], fits.known[0, 0]  # [r+1 K]
    W, b = np.zeros((X.shape[1], n_classes)), np.full(n_classes, -np.inf)
    W[:, known] = axes.rotation @ V[:-1, known]
    b[known] = V[-1, known] - axes.mean @ W[:, known]
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


@dataclass(frozen=True)
class Axes:
    """The principal axes of scaled features."""

    mean: Matrix  # [d]
    rotation: Matrix  # [d r], of centred raw features

    @classmethod
    def of(cls, X: Matrix, scale: Matrix) -> Axes:
        mean = X.mean(axis=0, dtype=np.float64)
        return cls(mean, principal_axes(X, mean, scale) / scale[:, None])

    def rotate(self, X: Matrix, dtype: type[np.floating[Any]] = np.float64) -> Rough:
        """[n r+1], the last column ones for the intercept."""
        Z = np.ones((len(X), self.rotation.shape[1] + 1), dtype)
        for rows in blocks(len(X)):
            Z[rows, :-1] = (X[rows] - self.mean) @ self.rotation
        return Z


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


class _Fits:
    """B times F probes, solved together for one C after another, each from the last.

    F subsets of the same examples share what takes long, to read the examples; B sets of examples share what each step
    costs, however few they are. Shapes B n r F K as above; classes that a subset lacks keep weights of 0 and are never
    likely.
    """

    def __init__(self, Z: Rough, y: Ints, subset: NDArray[np.bool_], n_classes: int) -> None:
        self.Z = Z  # [B n r+1]
        kept = Z.size <= _KEPT
        self.Zt = np.ascontiguousarray(Z.transpose(0, 2, 1)) if kept else Z.transpose(0, 2, 1)
        self.squares = self.Zt * self.Zt if kept else None
        self.subset = None if subset.all() else subset  # [B n F]
        self.counts = subset.sum(axis=1)  # [B F]
        label = y[..., None] == np.arange(n_classes)  # [B n K]
        self.known = (subset[..., None] & label[:, :, None]).any(axis=1)  # [B F K]
        self.barred = np.where(self.known, 0.0, -_FAR).astype(Z.dtype)
        self.target = label[:, :, None].astype(Z.dtype)  # [B n 1 K]
        self.weight = None if self.subset is None else subset[..., None].astype(Z.dtype)  # [B n F 1]
        self.V = np.zeros((len(Z), Z.shape[2], *self.known.shape[1:]), Z.dtype)  # [B r+1 F K]
        self.surprise = np.zeros(subset.shape)  # [B n F] negative log-likelihood of each example under each solution

    def solve(self, C: float, tolerance: float) -> Rough:
        """Minimise every objective, by one step at least; V [B r+1 F K] of the rotated features and the intercept.

        Newton's method; the decrement, estimated with the preconditioner, tells how far a minimum is, which may be
        `tolerance` nats per example.
        """
        two = self.known.sum(axis=2, keepdims=True) == 2  # [B F 1]
        penalty = np.where(two, 2.0 / C, 1.0 / C).astype(self.V.dtype)[:, None]
        penalty = penalty.repeat(self.V.shape[1], axis=1)  # [B r+1 F 1]
        penalty[:, -1] = 0.0
        enough = tolerance * self.counts
        loss, P = self._loss(self.V, penalty)
        active = np.ones(enough.shape, bool)  # [B F]
        for taken in range(100):
            beat()
            gradient = self._back(self._weighted(P - self.target)) + penalty * self.V
            inverse = 1.0 / (self._curvature(self._weighted(P * (1.0 - P))) + penalty + 1e-12)  # the Hessian's diagonal
            if taken:
                active = _dots(gradient, inverse * gradient) / 2 >= enough
            if not active.any():
                break
            step = self._step(P, penalty, gradient, inverse, active)
            slope = _dots(gradient, step)
            length = active.astype(self.V.dtype)
            while True:
                trial, P = self._loss(self.V + length[:, None, :, None] * step, penalty)
                worse = trial > loss + 1e-4 * length * slope + _rounding(self.V.dtype) * np.abs(loss)
                if not (worse := worse & (length >= 1e-6)).any():
                    break
                length = np.where(worse, length / 2, length)
            self.V, loss = self.V + length[:, None, :, None] * step, trial
        return self.V

    def _loss(self, V: Rough, penalty: Rough) -> tuple[Rough, Rough]:
        """The objectives [B F], and the probabilities [B n F K] there; keeps the surprise of every example."""
        logits = self._forward(V)
        logits += self.barred[:, None]
        logits -= logits.max(axis=3, keepdims=True)
        own = (logits * self.target).sum(axis=3)  # [B n F]
        P = np.exp(logits, out=logits)
        total = P.sum(axis=3)
        P /= total[..., None]
        self.surprise = np.log(total) - own
        inside = self.surprise if self.subset is None else np.where(self.subset, self.surprise, 0.0)
        return inside.sum(axis=1, dtype=np.float64) + _dots(penalty * V, V) / 2, P

    def _forward(self, V: Rough) -> Rough:
        """Z times [B r+1 F K]: [B n F K]."""
        return np.asarray((self.Z @ V.reshape(*V.shape[:2], -1)).reshape(*self.Z.shape[:2], *V.shape[2:]))

    def _back(self, of: Rough) -> Rough:
        """The transpose of Z times [B n F K]: [B r+1 F K]."""
        return np.asarray((self.Zt @ of.reshape(*of.shape[:2], -1)).reshape(self.V.shape))

    def _weighted(self, of: Rough) -> Rough:
        """[B n F K], 0 outside the subsets; in place."""
        if self.weight is not None:
            of *= self.weight
        return of

    def _curvature(self, of: Rough) -> Rough:
        """Z squared, times [B n F K]: [B r+1 F K]."""
        flat = of.reshape(*of.shape[:2], -1)
        if self.squares is not None:
            found = self.squares @ flat
        else:
            parts = blocks(flat.shape[1])
            found = np.sum([np.square(self.Z[:, i]).transpose(0, 2, 1) @ flat[:, i] for i in parts], axis=0)
        return np.asarray(found.reshape(self.V.shape))

    def _step(self, P: Rough, penalty: Rough, gradient: Rough, inverse: Rough, active: NDArray[np.bool_]) -> Rough:
        """Solve Hessian * step = -gradient by preconditioned conjugate gradients, the closer the smaller the gradient.

        To add the same to all classes changes nothing, so that a Hessian is singular there: all vectors are kept at a
        mean of 0 over the classes, or what rounding leaves in that direction would grow without bound.
        """
        step = np.zeros_like(gradient)
        residual = self._centred(-gradient)
        direction = self._centred(inverse * residual)
        norm = np.where(active, _dots(residual, direction), 0.0)  # [B F]; nothing is learned where nothing varies
        enough = norm * np.minimum(0.25, np.sqrt(np.sqrt(norm))) ** 2
        active = norm > 0
        for _ in range(200):
            if not active.any():
                break
            U = P * self._forward(direction)
            U -= P * U.sum(axis=3, keepdims=True)
            bent = self._back(self._weighted(U)) + penalty * direction
            curved = _dots(direction, bent)
            active &= (curved > 0) & (curved < np.inf)  # else classes that are parted by all that precision can tell
            length = _ratio(norm, curved, active, step.dtype)
            step += length * direction
            residual -= length * bent
            scaled = self._centred(inverse * residual)
            last, norm = norm, np.where(active, _dots(residual, scaled), norm)
            active &= norm >= enough
            direction = scaled + _ratio(norm, last, last > 0, step.dtype) * direction
        return step

    def _centred(self, V: Rough) -> Rough:
        """V [B r+1 F K] with a mean of 0 over the classes of each subset, and 0 for the others."""
        if self.known.all():
            return np.asarray(V - V.mean(axis=3, keepdims=True))
        known = self.known[:, None]
        inside = np.where(known, V, 0.0)
        return np.asarray(
            np.where(known, inside - inside.sum(axis=3, keepdims=True) / known.sum(axis=3)[..., None], 0.0), V.dtype
        )


def _dots(one: Rough, other: Rough) -> Rough:
    """The inner products [B F] of [B r F K] and [B r F K]."""
    return np.asarray((one * other).sum(axis=(1, 3), dtype=np.float64))


def _ratio(of: Rough, over: Rough, where: NDArray[np.bool_], dtype: np.dtype[np.floating[Any]]) -> Rough:
    """of / over, 0 elsewhere, [B F] as [B 1 F 1]."""
    return np.divide(of, over, out=np.zeros_like(of), where=where).astype(dtype)[:, None, :, None]


def _rounding(dtype: np.dtype[np.floating[Any]]) -> float:
    """The relative error of a sum of losses, with room."""
    return 450 * float(np.finfo(dtype).eps)


def blocks(n: int) -> list[slice]:
    """All of n rows, some thousands at a time."""
    return [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]


def _log_softmax(logits: Rough) -> Rough:
    logits = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
