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

from collections.abc import Generator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tacit.core import keys
from tacit.core.stages import beat

GRID = tuple(10.0**power for power in range(-5, 2))
FOLDS = 3
ENOUGH = 10_000  # examples to choose C and the scaling by
_BLOCK = 8192  # rows that are held in double precision at once
_KEPT = 2**24  # numbers of which a transpose and squares are kept too
_LIGHT = 2**17  # numbers of which a step costs no more than to call for it
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
    known: dict[bool, Turned] = {}
    near: Rough | None = None
    if fold is not None:
        held_out = _HeldOut(X[seen], y[seen], fold, n_classes, scalings)
        chosen = zip(held_out.best(grid, beyond), held_out.scalings, strict=True)
        best = max([best, *((*of, per_feature) for of, per_feature in chosen)])
        if len(seen) == len(y):
            known, near = held_out.turned, held_out.near.get(best[1:])  # of all examples
            if held_out.products is not None and not best[2] and len(y) <= X.shape[1]:
                known = {False: held_out.products.turned()}
        del held_out
    score, C, per_feature = best
    if np.isneginf(score):
        W, b = _nearest_centroid(X, y, n_classes)
        return Probe(W, b, None, False, float("nan"))
    W, b = _fit(known.get(per_feature) or turned(X, deviation(X, per_feature)), y, C, n_classes, _FINE, near)
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
    return _fit(turned(X, np.ones(X.shape[1])), y, C, n_classes, tolerance)


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


def _search(grid: Sequence[float], beyond: int) -> Generator[float, float, tuple[float, float]]:
    """Ask for the held-out score of one C after another; the best score, and its C."""
    best, at, idle = -np.inf, grid[0], 0
    for C in [*grid, *(grid[-1] * 10.0**i for i in range(1, beyond + 1))]:
        score = yield C
        best, at, idle = (score, C, 0) if score > best else (best, at, idle + 1)
        if idle == _PATIENCE:
            break
    if at == grid[0]:
        for C in (grid[0] / 10.0**i for i in range(1, beyond + 1)):
            score = yield C
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
        self.near: dict[tuple[float, bool], Rough] = {}  # [r+1 K] the mean solution of folds that share axes
        self.turned: dict[bool, Turned] = {}  # of all examples where folds share axes, by scaling
        self.held: list[list[tuple[Rough, Ints]]] = []  # by scaling, of folds with axes of their own
        self.known: dict[tuple[int, ...], _Fits] = {}  # of several scalings together
        self.products: Products | None = None
        if not self.n:
            return
        self.light = len(y) * min(len(y), X.shape[1]) <= _LIGHT
        if min(train.sum() for train in self.trains) > X.shape[1]:
            self.turned = {per_feature: turned(X, deviation(X, per_feature)) for per_feature in scalings}
            Z = _stacked([_with_ones(self.turned[per_feature].Z) for per_feature in scalings])
            subset = np.repeat(np.stack(self.trains, 1)[None], len(Z), 0)
            self._solve_by(Z, np.repeat(y[None], len(Z), 0), subset, n_classes)
            return
        self.products = Products(X) if False in scalings else None
        own: list[Rough] = []
        for per_feature in scalings:
            parts = [
                self._apart(X, train, test, per_feature) for train, test in zip(self.trains, self.tests, strict=True)
            ]
            own += [Z for Z, _ in parts]
            self.held.append([(Z, y[test]) for (_, Z), test in zip(parts, self.tests, strict=True)])
        Z = _stacked(own)
        labels, there = np.zeros(Z.shape[:2], np.int64), np.zeros((*Z.shape[:2], 1), bool)
        for at, train in enumerate([*self.trains] * len(scalings)):
            labels[at, : train.sum()], there[at, : train.sum()] = y[train], True
        self._solve_by(Z, labels, there, n_classes)

    def _solve_by(self, Z: Rough, labels: Ints, subset: NDArray[np.bool_], n_classes: int) -> None:
        """Keep what solves the folds of all scalings together where that is light, else of each by itself."""
        every = tuple(range(len(self.scalings)))
        for scalings in [every] if self.light else [(scaling,) for scaling in every]:
            rows = slice(scalings[0] * self.each, (scalings[-1] + 1) * self.each)
            self.known[scalings] = _Fits(Z[rows], labels[rows], subset[rows], n_classes)

    @property
    def each(self) -> int:
        """How many of the B sets of examples are of one scaling."""
        return len(self.trains) if self.held else 1

    def _apart(
        self, X: Matrix, train: NDArray[np.bool_], test: NDArray[np.bool_], per_feature: bool
    ) -> tuple[Rough, Rough]:
        """The examples of `train` on their own axes, and those of `test` on the same."""
        if self.products is not None and not per_feature:
            own, other = self.products.apart(train, test)
        else:
            found = turned(X[train], deviation(X[train], per_feature))
            own, other = found.Z, found.axes.turn(X[test])
        return _with_ones(own), _with_ones(other)

    def best(self, grid: Sequence[float], beyond: int) -> list[tuple[float, float]]:
        """The best score and its C for each scaling; several are solved together where that is light."""
        searches = [_search(grid, beyond) for _ in self.scalings]
        asked: dict[int, float] = {scaling: next(search) for scaling, search in enumerate(searches)}
        found = [(-np.inf, 0.0)] * len(searches)
        while asked:
            C = next(iter(asked.values()))
            together = tuple(scaling for scaling, of in asked.items() if of == C)
            together = together if self.light else together[:1]
            for scaling, score in zip(together, self._scores(together, C), strict=True):
                try:
                    asked[scaling] = searches[scaling].send(score)
                except StopIteration as end:
                    found[scaling] = end.value
                    del asked[scaling]
        return found

    def _scores(self, scalings: tuple[int, ...], C: float) -> list[float]:
        """For this C and each of these scalings."""
        if scalings not in self.known:  # others have ended their search
            rows = [scaling * self.each + at for scaling in scalings for at in range(self.each)]
            self.known[scalings] = next(iter(self.known.values())).only(rows)
        fits = self.known[scalings]
        V, scores = fits.solve(C, _ROUGH), []
        for place, scaling in enumerate(scalings):
            if not self.held:
                self.near[C, self.scalings[scaling]] = V[place].mean(axis=1)
                surprise = fits.surprise[place].T  # [F n]
                total = -sum(float(of[test].sum()) for of, test in zip(surprise, self.tests, strict=True))
            else:
                total = 0.0
                own = slice(place * self.each, (place + 1) * self.each)
                for (Z, label), of, barred in zip(self.held[scaling], V[own], fits.barred[own], strict=True):
                    logits = _log_softmax(Z[:, :-1] @ of[: Z.shape[1] - 1, 0] + of[-1, 0] + barred[0])
                    total += float(logits[np.arange(len(label)), label].sum(dtype=np.float64))
            scores.append(total / self.n)
        return scores


def _stacked(parts: Sequence[Rough]) -> Rough:
    """Examples on several axes [B n r+1]: smaller ones are filled up with zeros, the intercept stays last."""
    Z = np.zeros((len(parts), max(map(len, parts)), max(of.shape[1] for of in parts)), np.float32)
    for at, of in enumerate(parts):
        Z[at, : len(of), : of.shape[1] - 1], Z[at, : len(of), -1] = of[:, :-1], of[:, -1]
    return Z


def _fit(
    found: Turned, y: Ints, C: float, n_classes: int, tolerance: float, near: Rough | None = None
) -> tuple[Matrix, Matrix]:
    """The solution in terms of the raw features; `near` [r+1 K] is one nearby, to start from."""
    axes, Z = found
    fits = _Fits(_with_ones(Z, np.float64)[None], y[None], np.ones((1, len(Z), 1), bool), n_classes)
    if near is not None:
        r = fits.V.shape[1] - 1
        fits.V[0, :r, 0], fits.V[0, r, 0] = near[:r], near[-1]
    V, known = fits.solve(C, tolerance)[0, :, 0], fits.known[0, 0]  # [r+1 K]
    W, b = np.zeros((len(axes.mean), n_classes)), np.full(n_classes, -np.inf)
    W[:, known] = axes.back(np.asarray(V[:-1, known], np.float64))
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
    """The principal axes of scaled features, where examples are fewer than features by way of these."""

    mean: Matrix  # [d]
    basis: Matrix  # [d m] of centred raw features: the axes themselves, or m examples
    of_basis: Matrix | None = None  # [m r], the axes in terms of the examples

    def turn(self, X: Matrix) -> Matrix:
        """[N r]."""
        found = np.concatenate([(X[rows] - self.mean) @ self.basis for rows in blocks(len(X))])
        return found if self.of_basis is None else found @ self.of_basis

    def back(self, V: Matrix) -> Matrix:
        """Weights [r K] of the axes as weights [d K] of raw features."""
        return np.asarray(self.basis @ (V if self.of_basis is None else self.of_basis @ V))


class Turned(NamedTuple):
    """Examples on their own principal axes."""

    axes: Axes
    Z: Matrix  # [n r]


def turned(X: Matrix, scale: Matrix) -> Turned:
    """Find the principal axes of these examples, scaled."""
    mean = X.mean(axis=0, dtype=np.float64)
    if len(X) > X.shape[1]:
        axes = Axes(mean, principal_axes(X, mean, scale) / scale[:, None])
        return Turned(axes, axes.turn(X))
    rows = (X - mean) / scale
    of_rows, Z = _axes_of_products(rows @ rows.T)
    return Turned(Axes(mean, (rows / scale).T, of_rows), Z)


class Products:
    """The inner products of few examples of many features, from which those of subsets follow: one deviation for all.

    Features are read once, however many subsets there are.
    """

    def __init__(self, X: Matrix) -> None:
        self.mean = X.mean(axis=0, dtype=np.float64)
        self.rows = X - self.mean  # [n d]
        self.products = self.rows @ self.rows.T  # [n n]

    def turned(self) -> Turned:
        """All examples on their axes."""
        within, squared = self._scaled(self.products)
        of_rows, Z = _axes_of_products(within)
        return Turned(Axes(self.mean, self.rows.T / squared, of_rows), Z)

    def apart(self, train: NDArray[np.bool_], test: NDArray[np.bool_]) -> tuple[Matrix, Matrix]:
        """Those of `train` on their own axes, and those of `test` on the same."""
        within, across = self.products[np.ix_(train, train)], self.products[np.ix_(test, train)]
        mean, whole = within.mean(axis=0), within.mean()
        across = across - across.mean(axis=1, keepdims=True) - mean + whole
        within, squared = self._scaled(within - mean - mean[:, None] + whole)
        of_rows, Z = _axes_of_products(within)
        return Z, (across / squared) @ of_rows

    def _scaled(self, within: Matrix) -> tuple[Matrix, float]:
        """Products of centred examples over the variance of all their features, and that."""
        squared = max(float(np.trace(within)), 0.0) / (len(within) * self.rows.shape[1]) or 1.0
        return within / squared, squared


def _axes_of_products(products: Matrix) -> tuple[Matrix, Matrix]:
    """The axes [n r] in terms of n examples, from their inner products, and the examples [n r] on these."""
    squares, U = np.linalg.eigh(products)
    kept = squares > max(1e-14 * squares[-1], 0.0)
    length = np.sqrt(squares[kept])
    return U[:, kept] / length, U[:, kept] * length


def principal_axes(X: Matrix, mean: Matrix, scale: Matrix) -> Matrix:
    """[d r], orthonormal, of X centred and scaled; directions below 1e-7 of the widest are dropped."""
    if len(X) <= X.shape[1]:
        X = (X - mean) / scale
        return np.asarray(X.T @ _axes_of_products(X @ X.T)[0])
    gram = np.zeros((X.shape[1], X.shape[1]))
    for rows in blocks(len(X)):
        part = (X[rows] - mean) / scale
        gram += part.T @ part
    squares, U = np.linalg.eigh(gram)
    return np.asarray(U[:, squares > 1e-14 * squares[-1]])


def _with_ones(Z: Matrix, dtype: type[np.floating[Any]] = np.float32) -> Rough:
    """[n r+1], the last column for the intercept."""
    found = np.ones((len(Z), Z.shape[1] + 1), dtype)
    found[:, :-1] = Z
    return found


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

    def only(self, rows: Sequence[int]) -> _Fits:
        """These of the B sets alone, as far as they are solved."""
        found = copy(self)
        for name, of in vars(self).items():
            setattr(found, name, None if of is None else of[rows])
        return found

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
