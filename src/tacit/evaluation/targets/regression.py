"""Numbers: ages, volumes, prices."""

from __future__ import annotations

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
from tacit.evaluation.targets.base import Floats, Groups, Predictor, Rule, Supervised, Tested, Trainable, Values, varied

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.evaluation.arms import Labelled

MAE = Metric("mae", "mean absolute error", metrics.mae, high=np.inf, sign=-1, discrete=False)


@dataclass(frozen=True)
class Regression(Supervised):
    """A number per example."""

    name: ClassVar[str] = "regression"
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("r2", "R2", metrics.r2, low=-np.inf, discrete=False),
        Metric("d2_absolute_error", "D2 of the absolute error", metrics.d2_absolute_error, low=-np.inf, discrete=False),
    )
    within: ClassVar[Metric] = MAE  # variances differ between parts of a population, and R2 with them
    protocols: ClassVar[Mapping[str, str]] = {"linear": "ridge regression", "knn": "nearest neighbours"}
    link: ClassVar[Literal["identity"]] = "identity"

    def fit(self, X: Floats, truth: Values, groups: Groups, seed: int) -> Predictor:
        found = fit_ridge(X, truth, groups=groups, seed=seed)
        return Predictor(found.w[:, None], np.array([found.b]), lambda outputs: np.asarray(outputs[:, 0]))

    def columns(self, predicted: Values, names: Sequence[str], separator: str) -> dict[str, Values]:
        return {"prediction": predicted}

    def near(self, X: Floats, truth: Values, test: Floats) -> Values:
        return np.asarray(knn_average(X, truth[:, None] - truth.mean(), test)[:, 0] + truth.mean())

    def asides(self, labelled: Labelled) -> Sequence[Metric]:
        return (MAE,)

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
