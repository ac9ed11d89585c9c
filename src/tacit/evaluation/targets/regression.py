"""Numbers: ages, volumes, prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from tacit.core.columns import codes_of
from tacit.core.errors import UserError
from tacit.evaluation import metrics
from tacit.evaluation.metrics import Metric
from tacit.evaluation.probes.knn import knn_average
from tacit.evaluation.probes.ridge import fit_ridge
from tacit.evaluation.splits import Positions
from tacit.evaluation.targets.base import (
    Answers,
    Floats,
    Groups,
    Known,
    LabelTexts,
    Predictor,
    Rule,
    Supervised,
    Tested,
    Trainable,
    Values,
    varied,
)

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.evaluation.arms import Labelled

MAE = Metric("mae", "mean absolute error", metrics.mae, high=np.inf, sign=-1, discrete=False, in_units=True)
BINS = 5  # of numbers, balanced by draws and folds as classes are
FEWEST = 4


@dataclass(frozen=True)
class Regression(Supervised):
    """A number per example."""

    name: ClassVar[str] = "regression"
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("r2", "R2", metrics.r2, low=-np.inf, discrete=False),
        Metric("d2_absolute_error", "D2 of the absolute error", metrics.d2_absolute_error, low=-np.inf, discrete=False),
    )
    beside: ClassVar[Sequence[Metric]] = (MAE,)
    within: ClassVar[Metric] = MAE  # variances differ between parts of a population, and R2 with them
    protocols: ClassVar[Mapping[str, str]] = {"linear": "ridge regression", "knn": "nearest neighbours"}
    link: ClassVar[Literal["identity"]] = "identity"
    shared: ClassVar[bool] = False

    def read_labels(self, texts: LabelTexts) -> Answers:
        return read_numbers(texts, self.name, "to train on")

    def counted(self, known: Known, n: int, *, private: bool) -> str:
        return f"{n:,} labelled with numbers" + ("" if private else range_of(known))

    def name_of(self, known: Known, row: int) -> str:
        return number_of(known, row)

    def spread(self, labelled: Labelled, *, private: bool) -> str:
        return spread_of(labelled, private=private)

    def fit(self, X: Floats, truth: Values, groups: Groups, seed: int) -> Predictor:
        found = fit_ridge(X, truth, groups=groups, seed=seed)
        return Predictor(found.w[:, None], np.array([found.b]), lambda outputs: np.asarray(outputs[:, 0]))

    def columns(self, predicted: Values, names: Sequence[str], separator: str) -> dict[str, Values]:
        return {"prediction": predicted}

    def near(self, X: Floats, truth: Values, test: Floats) -> Values:
        return np.asarray(knn_average(X, truth[:, None] - truth.mean(), test)[:, 0] + truth.mean())

    def learnable(self, truth: Values) -> bool:
        return bool(np.ptp(truth))

    def tested(self, labelled: Labelled, positions: Positions) -> Tested:
        truth = labelled.answers[positions]
        missing = int((~np.isfinite(truth)).sum())
        if missing:
            raise UserError(f"{missing} test examples have no number: leave them out of the test positions")
        if not varied(truth, self.units(labelled, positions)):
            raise UserError("the numbers to be tested are too few, or all but the same: label more examples")
        return Tested(np.ones(len(truth), bool), truth, [])

    def trainable(self, truth: Values) -> Trainable:
        from torch.nn import functional

        mean, scale = truth.mean(), truth.std() or 1.0

        def loss(outputs: Tensor, target: Tensor) -> Tensor:
            return functional.mse_loss(outputs[:, 0], target)

        def decide(outputs: NDArray[Any]) -> Values:
            return np.asarray(outputs[:, 0] * scale + mean, np.float64)

        return Trainable(1, ((truth - mean) / scale).astype(np.float32), loss, decide)

    def rules(self, labelled: Labelled) -> Mapping[str, Rule]:
        return {"mean": _mean}


def _mean(train: Positions, truth: Values, test: Positions) -> Values:
    return np.full(len(test), truth.mean())


# ---------------------------------------------------------------- labels that are numbers


def read_numbers(texts: LabelTexts, target: str, which: str) -> Answers:
    """Strata are up to five parts of equal size, ordered by number; `which` describes `texts.training`."""
    encoded = texts.text.dictionary_encode()
    values = np.array([*(_number(cell, target) for cell in encoded.dictionary.to_pylist()), np.nan])
    truth = values[codes_of(encoded)]  # the last serves code -1
    known = np.isfinite(truth)
    have = np.sort(truth[known & texts.training])
    if len(have) < FEWEST:
        raise UserError(
            f"--target {target} needs {FEWEST} labelled examples {which}; there are {len(have)}: label more"
        )
    if have[0] == have[-1]:
        raise UserError(
            f"all {len(have):,} labels {which} are the number {have[0]:g}: there is nothing to predict; check the "
            "column"
        )
    middle = (np.searchsorted(have, truth[known]) + np.searchsorted(have, truth[known], side="right")) / 2
    label = np.full(len(truth), -1, np.int64)
    label[known] = np.unique(np.minimum(BINS * middle // len(have), BINS - 1), return_inverse=True)[1]
    return Answers(label, truth=np.where(known, truth, np.nan))


def range_of(known: Known) -> str:
    """` from 1 to 5`. The least and the largest are somebody's: nothing for a private report."""
    assert known.truth is not None
    return f" from {np.nanmin(known.truth):,.6g} to {np.nanmax(known.truth):,.6g}"


def number_of(known: Known, row: int) -> str:
    assert known.truth is not None
    return f"{known.truth[row]:.6g}"


def spread_of(labelled: Labelled, *, private: bool) -> str:
    if private:  # each of these is the label of somebody
        return "numbers: left out under --private"
    assert labelled.truth is not None
    low, middle, high = np.quantile(labelled.truth, [0.25, 0.5, 0.75])
    return f"numbers: median {middle:,.6g}, half of them from {low:,.6g} to {high:,.6g}"


def _number(text: str, target: str) -> float:
    """NaN where it says so. UserError for what is no finite number."""
    try:
        number = float(text)
    except ValueError:
        number = np.inf
    if np.isinf(number):
        raise UserError(
            f"--target {target}: the label {text!r} is no finite number; correct it, leave it empty, or name it with "
            "--ignore-label"
        )
    return number
