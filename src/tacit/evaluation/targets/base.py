"""What the protocol asks of a target; it knows no metric and no probe by name.

Shapes: S draws, n test items; predictions are [S n], or [S n K] where they are scores.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no types

from tacit.core import keys
from tacit.core.errors import UserError, nearest
from tacit.core.stages import stage
from tacit.evaluation.features import features_of
from tacit.evaluation.metrics import Metric
from tacit.evaluation.probes.linear import blocks
from tacit.evaluation.splits import Positions

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.evaluation.arms import Labelled, Part

SHOWN = 5  # classes that an error names

Values = NDArray[Any]
Floats = NDArray[np.float32]
Groups = NDArray[np.int64] | None
# A baseline without features: (training positions, their truth, test positions) -> predictions [n ...]
Rule = Callable[[Positions, Values, Positions], Values]


class Predictor(NamedTuple):
    """What a linear probe learned: of raw features X [N d] it predicts decide(X W + b), [N ...]."""

    W: NDArray[np.float64]  # [d K]
    b: NDArray[np.float64]  # [K]
    decide: Callable[[Values], Values]

    def __call__(self, X: Floats) -> Values:
        outputs = [np.asarray(X[rows], np.float64) @ self.W for rows in blocks(len(X))]
        return self.decide(np.concatenate(outputs) + self.b)


class Tested(NamedTuple):
    """Which test items count, what is true of them, and what was left out, with the reason."""

    counts: NDArray[np.bool_]  # [n]
    truth: Values  # of those that count
    left_out: list[str]


class Trainable(NamedTuple):
    """What training on the labels themselves needs."""

    outputs: int  # of the head
    truth: Values  # [n ...] that the loss is given
    loss: Callable[[Tensor, Tensor], Tensor]
    decide: Callable[[Values], Values]  # from the head's outputs [N outputs] to predictions


@dataclass(frozen=True)
class Target(ABC):
    """One kind of label."""

    n_classes: int  # classes, or labels of which an item can have several
    scores: bool = False  # predictions shall be probabilities, where classes would do

    name: ClassVar[str]
    metrics: ClassVar[Sequence[Metric]]  # that a verdict can be about, the usual one first
    within: ClassVar[Metric]  # of a part of the population, which may lack classes
    protocols: ClassVar[Mapping[str, str]]  # how features are read, in words
    by_class: ClassVar[bool] = False  # labels are counted per class
    needs_labels: ClassVar[bool] = True  # to learn from
    examples: ClassVar[str] = "items"  # what is tested
    groups: ClassVar[str] = "groups"  # what units are where they are not examples

    def read(self, encoder: Any, labelled: Labelled, rows: Positions) -> Mapping[str, Values]:
        """What an encoder says of these examples, [N ...] by representation: its features, unless another is wanted."""
        return features_of(encoder, labelled, rows)

    @abstractmethod
    def probe(
        self, part: Part, train: Values, test: Values, draws: Sequence[Positions], seed: int, *, first: int = 0
    ) -> Mapping[str, Values]:
        """Predictions [S n ...] of every protocol, from what was read of `part.train` and of `part.test`.

        `first` is the number of the first of these draws. Where nothing is learned from labels, `part.train` is not
        read, and `train` is empty.
        """

    @abstractmethod
    def validate(
        self, labelled: Labelled, features: Sequence[Values], pool: Positions, rounds: Any, metric: Metric, seed: int
    ) -> float:
        """The metric inside the labels of `pool`; `features` hold one table of the pool for every encoder.

        `rounds` are (positions learned from, positions held out); all are in `pool`.
        """

    @abstractmethod
    def glance(self, labelled: Labelled, positions: Positions, features: Floats, encoder: Any) -> float | None:
        """The usual metric inside the labels of these positions, quickly: what training is watched by.

        `features` [n D] are those of `encoder`, which may be asked for more. None where the labels cannot tell.
        """

    @abstractmethod
    def tested(self, labelled: Labelled, positions: Positions) -> Tested:
        """Raises `UserError` where too little can be tested."""

    def revealed(self, predicted: Values, labelled: Labelled, positions: Positions, tested: Tested) -> Values:
        """Predictions [P S n ...] of the items that count, in the form that the metrics read."""
        return np.asarray(predicted[:, :, tested.counts])

    def units(self, labelled: Labelled, positions: Positions) -> NDArray[np.int64]:
        """What varies independently, as numbers [n] of these positions: see `Labelled.unit`."""
        return labelled.unit[positions]

    def among(self, predicted: Values, keep: NDArray[np.bool_]) -> Values:
        """Predictions [P S n ...] where only some of the test items are left."""
        return np.asarray(predicted[:, :, keep])

    def steady(self, truth: Values, unit: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these test items [n] can still be tested when only they are left."""
        return np.ones(len(truth), bool)

    def smoothing(self, truth: Values, unit: NDArray[np.int64]) -> float:
        """What discreteness adds to se^2; see `statistics.smoothing`."""
        return 0.0

    def trainable(self, truth: Values) -> Trainable | None:
        """How to train on these labels; None where this target has no such thing."""
        return None

    def asides(self, labelled: Labelled) -> Sequence[Metric]:
        """Metrics that are only reported."""
        return ()

    def parts(self, labelled: Labelled, positions: Positions) -> Mapping[str, NDArray[np.bool_]]:
        """Parts of these test examples, masks [n], that are always looked at apart."""
        return {}

    def rules(self, labelled: Labelled) -> Mapping[str, Rule]:
        """Baselines that need no features."""
        return {}

    def metric(self, name: str | None) -> Metric:
        """The metric of this name, or the usual one. Raises `UserError` where it is none of this target's."""
        names = {metric.name: metric for metric in self.metrics}
        if name is None:
            return self.metrics[0]
        if name not in names:
            raise UserError(f"no metric {name!r} for {self.name}{nearest(name, names)}; choose from {', '.join(names)}")
        return names[name]


def in_short(lines: Sequence[str]) -> str:
    """The first of these lines in one, and how many more there are."""
    more = f"; {len(lines) - SHOWN:,} more" if len(lines) > SHOWN else ""
    return "; ".join(lines[:SHOWN]) + more


def varied(truth: Values, unit: NDArray[np.int64]) -> bool:
    """Whether numbers differ from the most of them in two units at least, of three or more."""
    if len(np.unique(unit)) < 3:
        return False
    return len(np.unique(unit[truth != np.median(truth)])) > 1


def whole(draw: Positions, n: int) -> Positions | slice:
    """The same rows as a slice where these are all of n: taken so, no copy of them is made."""
    return slice(None) if len(draw) == n else draw


class Supervised(Target):
    """A target that probes learn from labels: a linear one, and nearest neighbours."""

    protocols: ClassVar[Mapping[str, str]] = {"linear": "linear probe", "knn": "nearest neighbours"}
    link: ClassVar[Literal["softmax", "sigmoid", "identity"]]  # from a probe's outputs to scores, or to the number

    @abstractmethod
    def fit(self, X: Floats, truth: Values, groups: Groups, seed: int) -> Predictor:
        """A linear probe of features X [n d] whose truth is [n ...]."""

    @abstractmethod
    def columns(self, predicted: Values, names: Sequence[str], separator: str) -> dict[str, Values]:
        """Predictions [N ...], scores where there are any, as columns [N] of a table, the answer first.

        `names` are those of the classes or labels; several labels of one cell are parted by `separator`.
        """

    @abstractmethod
    def near(self, X: Floats, truth: Values, test: Floats) -> Values:
        """Predictions [n ...] of nearest neighbours by cosine."""

    @abstractmethod
    def learnable(self, truth: Values) -> bool:
        """Whether these labels differ at all."""

    def linear(
        self,
        X: Floats,
        truth: Values,
        draws: Sequence[Positions],
        test: Floats,
        *,
        groups: Groups = None,
        seed: int,
        first: int = 0,
        workers: int | None = None,
    ) -> Values:
        """Predictions [S n ...] of one linear probe per draw, the draws numbered from `first` on; a draw lists rows of
        X, truth and groups.

        Draws are shared out over threads (default: one per core), each with single-threaded BLAS, so that the result is
        the same bit for bit whatever their number.
        """

        def predict(s: int) -> Values:
            rows = whole(draws[s], len(X))
            inside = None if groups is None else groups[rows]
            found = self.fit(X[rows], truth[rows], inside, keys.fold(seed, first + s))(test)
            now.step()
            return found

        threads = ThreadPoolExecutor(workers or os.cpu_count() or 1)
        with threadpool_limits(1), stage("fitting", len(draws)) as now, threads as pool:
            # each in a context of its own, so that whoever watches is told from inside a fit too
            fits = [pool.submit(copy_context().run, predict, s) for s in range(len(draws))]
            return np.stack([fit.result() for fit in fits])

    def probe(
        self, part: Part, train: Floats, test: Floats, draws: Sequence[Positions], seed: int, *, first: int = 0
    ) -> Mapping[str, Values]:
        labelled = part.labelled
        taken = [np.searchsorted(part.train, draw) for draw in draws]
        truth = labelled.answers[part.train]
        groups = labelled.group[part.train] if labelled.grouped else None
        linear = self.linear(train, truth, taken, test, groups=groups, seed=seed, first=first)
        near = []
        with stage("asking neighbours", len(taken)) as now:
            for rows in (whole(draw, len(train)) for draw in taken):
                near.append(self.near(train[rows], truth[rows], test))
                now.step()
        return {"linear": linear, "knn": np.stack(near)}

    def validate(
        self, labelled: Labelled, features: Sequence[Floats], pool: Positions, rounds: Any, metric: Metric, seed: int
    ) -> float:
        predicted, truth = [], []
        for draw, fold in rounds:
            said = labelled.answers[draw]
            if not self.learnable(said):
                continue
            learned, held = np.searchsorted(pool, draw), np.searchsorted(pool, fold)
            groups = labelled.group[draw] if labelled.grouped else None
            for table in features:
                predicted.append(self.fit(table[learned], said, groups, keys.fold(seed, 0))(table[held]))
                truth.append(labelled.answers[fold])
        return self.score(np.concatenate(predicted), np.concatenate(truth), metric) if predicted else 0.0

    def glance(self, labelled: Labelled, positions: Positions, features: Floats, encoder: Any) -> float | None:
        half = np.unique(labelled.group[positions], return_inverse=True)[1] % 2 == 1
        truth = labelled.answers[positions]
        if min(half.sum(), (~half).sum()) < 2 or not (self.learnable(truth[half]) and self.learnable(truth[~half])):
            return None
        return self.score(self.near(features[half], truth[half], features[~half]), truth[~half], self.metrics[0])

    def score(self, predicted: Values, truth: Values, metric: Metric) -> float:
        """The metric of predictions [n ...], also where it is too little for an interval."""
        return metric.value(predicted, truth)


def score_columns(scores: Values, names: Sequence[str]) -> dict[str, Values]:
    """A column `p(NAME)` [N] for each of the K names, from probabilities [N K]."""
    return {f"p({name})": column for name, column in zip(names, scores.T, strict=True)}
