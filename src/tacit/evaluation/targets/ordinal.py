"""Ordered classes: grades, stages, stars. A mistake counts by the square of how many classes it is off.

The order is that of the numbers in the labels (`0`, `2.5`, `grade 3`), or of `Labelled.classes` as they are given. What
is learned is a ridge regression on the ranks 0, 1, ..., rounded to the nearest class, and so are nearest neighbours and
training from scratch. The metric is Cohen's kappa with quadratic weights: 1 - D / E, where D is the sum of the squared
distances between what is predicted and what is true, and E the same if predictions were dealt out by chance.

Sources: Cohen 1968, "Weighted kappa"; Fleiss & Cohen 1973, "The equivalence of weighted kappa and the intraclass
correlation coefficient".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.evaluation import metrics
from tacit.evaluation.metrics import Metric
from tacit.evaluation.probes.knn import knn_average
from tacit.evaluation.probes.ridge import fit_ridge
from tacit.evaluation.splits import Positions
from tacit.evaluation.statistics import smoothing
from tacit.evaluation.targets.base import (
    Answers,
    Floats,
    Groups,
    Known,
    LabelTexts,
    Predictor,
    Supervised,
    Tested,
    Trainable,
    Values,
    sizes_of,
    varied,
)
from tacit.evaluation.targets.classification import read_classes

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.evaluation.arms import Labelled

MOST = 50  # classes; beyond, labels are numbers to be predicted


def weighted_kappa(predicted: NDArray[Any], y: NDArray[Any], unit: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cohen's kappa with quadratic weights, 0 where all are predicted alike; each unit left out in turn, exactly."""
    found = metrics.classes_of(predicted)
    parts = np.stack(
        [metrics.sum_by_unit(of, unit) for of in np.broadcast_arrays(1, found, y, found**2 + y**2, (found - y) ** 2)]
    )
    whole = parts.sum(axis=-1, keepdims=True)
    return metrics.from_jackknife(_kappa(*whole), _kappa(*(whole - parts)))


def _kappa(
    n: NDArray[np.float64],
    predicted: NDArray[np.float64],
    true: NDArray[np.float64],
    squares: NDArray[np.float64],
    off: NDArray[np.float64],
) -> NDArray[np.float64]:
    """From how many there are, and their sums."""
    chance = squares - 2 * predicted * true / n
    return np.where(chance > 0, 1 - off / np.where(chance > 0, chance, 1), 0.0)


def rank_error(predicted: NDArray[Any], y: NDArray[Any], unit: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many classes predictions are off, on average."""
    return metrics.mean_by(np.abs(metrics.classes_of(predicted) - y), unit)


MAE = Metric("mae", "mean absolute error", rank_error, high=np.inf, sign=-1, in_units=True)


@dataclass(frozen=True)
class Ordinal(Supervised):
    """One of ordered classes per example: class numbers, which are ranks."""

    name: ClassVar[str] = "ordinal"
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("quadratic_weighted_kappa", "quadratic weighted kappa", weighted_kappa, low=-1.0),
    )
    beside: ClassVar[Sequence[Metric]] = (MAE,)
    within: ClassVar[Metric] = MAE  # kappa depends on how often each class occurs, which differs between parts
    protocols: ClassVar[Mapping[str, str]] = {"linear": "ridge regression on ranks", "knn": "nearest neighbours"}
    link: ClassVar[Literal["identity"]] = "identity"
    by_class: ClassVar[bool] = True

    # ---------------------------------------------------------------- labels, and their words

    def read_labels(self, texts: LabelTexts) -> Answers:
        """A class needs two examples to train on, and there must be three."""
        place = _order(texts.text.unique().drop_null().to_pylist())
        return read_classes(texts, place.__getitem__, fewest=3)

    def counted(self, known: Known, n: int, *, private: bool) -> str:
        ends = "" if private else f", from {known.classes[0]} to {known.classes[-1]}"
        return f"{n:,} labelled in {len(known.classes):,} ordered classes{ends}"

    def spread(self, labelled: Labelled, *, private: bool) -> str:
        sizes = np.bincount(labelled.y, minlength=len(labelled.classes))
        return f"classes in their order: {sizes_of(labelled.classes, sizes, private=private)}"

    # ---------------------------------------------------------------- learning and scoring

    def fit(self, X: Floats, truth: Values, groups: Groups, seed: int) -> Predictor:
        found = fit_ridge(X, truth.astype(np.float64), groups=groups, seed=seed)
        return Predictor(found.w[:, None], np.array([found.b]), lambda outputs: self.nearest(outputs[:, 0]))

    def nearest(self, rank: Values) -> Values:
        """The class [N] nearest to each of these ranks [N]."""
        return np.clip(np.rint(rank), 0, self.n_classes - 1).astype(np.int32)

    def near(self, X: Floats, truth: Values, test: Floats) -> Values:
        return self.nearest(knn_average(X, truth[:, None].astype(np.float64), test)[:, 0])

    def columns(self, predicted: Values, names: Sequence[str], separator: str) -> dict[str, Values]:
        return {"class": np.array(names)[predicted]}

    def learnable(self, truth: Values) -> bool:
        return bool(np.ptp(truth))

    def tested(self, labelled: Labelled, positions: Positions) -> Tested:
        y = labelled.y[positions]
        if len(y) and y.min() < 0:
            raise UserError(f"{(y < 0).sum()} test examples have no label: leave them out of the test positions")
        if not varied(y, self.units(labelled, positions)):
            raise UserError("the classes to be tested are too few, or all but the same: label more examples")
        return Tested(np.ones(len(y), bool), y, [])

    def smoothing(self, truth: Values, unit: NDArray[np.int64], alike: float) -> float:
        return smoothing(np.zeros_like(truth), unit, alike)

    def trainable(self, truth: Values) -> Trainable:
        from torch.nn import functional

        mean, scale = truth.mean(), truth.std() or 1.0

        def loss(outputs: Tensor, target: Tensor) -> Tensor:
            return functional.mse_loss(outputs[:, 0], target)

        def decide(outputs: NDArray[Any]) -> Values:
            return self.nearest(outputs[:, 0] * scale + mean)

        return Trainable(1, ((truth - mean) / scale).astype(np.float32), loss, decide)


def _order(names: Sequence[str]) -> dict[str, float]:
    """The number of each label. UserError where a label has none, or two share one."""
    place: dict[str, float] = {}
    for name in names:
        try:
            number = float(name)
        except ValueError:
            found = re.findall(r"[0-9]+(?:\.[0-9]+)?", name)
            number = float(found[0]) if len(found) == 1 else np.nan
        if not np.isfinite(number):
            raise UserError(
                f"--target ordinal: the label {name!r} does not tell its place; write numbers, or one number in each "
                "label, such as '1 mild'; --ignore-label names those that mean none"
            )
        place[name] = number
    of = {number: name for name, number in place.items()}
    for name, number in place.items():
        if of[number] != name:
            raise UserError(
                f"--target ordinal: the labels {name!r} and {of[number]!r} have the same place, {number:g}: write each "
                "class in one way"
            )
    if len(place) > MOST:
        raise UserError(
            f"--target ordinal: {len(place):,} different labels are too many for classes, {MOST} at most: put them "
            "into bins, or say --target regression"
        )
    return place
