"""Several labels per example, or none: findings in a scan, tags of a photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tacit.errors import UserError
from tacit.evaluation import metrics
from tacit.evaluation.knn import knn_average
from tacit.evaluation.linear import fit_probe
from tacit.evaluation.metrics import Metric, testable
from tacit.evaluation.splits import Positions
from tacit.evaluation.statistics import smoothing
from tacit.evaluation.targets.base import Floats, Groups, Predictor, Supervised, Tested, Trainable, Values

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.evaluation.subject import Labelled


RIGHT = Metric("label_accuracy", "share of labels right", metrics.label_accuracy, scores=True)


@dataclass(frozen=True)
class Multilabel(Supervised):
    """The probability of every label [L]; one probe for each."""

    name: ClassVar[str] = "multilabel"
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("auroc", "AUROC", metrics.auroc, scores=True),
        Metric("average_precision", "average precision", metrics.average_precision, scores=True),
        Metric("macro_f1", "macro F1", metrics.label_f1, scores=True),
    )
    # A part of the population may lack most labels, so that it has no AUROC.
    within: ClassVar[Metric] = RIGHT

    def fit(self, X: Floats, truth: Values, groups: Groups, seed: int) -> Predictor:
        known = truth.astype(np.int64)
        probes = {
            c: fit_probe(X, known[:, c], n_classes=2, groups=groups, seed=seed)
            for c in range(self.n_classes)
            if np.ptp(known[:, c])
        }

        def predict(test: Floats) -> Values:
            found = np.tile(known[0].astype(np.float32), (len(test), 1))  # of labels that all have, or none
            for c, probe in probes.items():
                found[:, c] = probe.probabilities(test)[:, 1]
            return found

        return predict

    def near(self, X: Floats, truth: Values, test: Floats) -> Values:
        return knn_average(X, truth, test)

    def score(self, predicted: Values, truth: Values, metric: Metric) -> float:
        enough = testable(truth, np.arange(len(truth))).any()
        return super().score(predicted, truth, metric) if enough else 0.0

    def learnable(self, truth: Values) -> bool:
        return bool((truth.min(axis=0) < truth.max(axis=0)).any())

    def tested(self, labelled: Labelled, positions: Positions) -> Tested:
        truth = labelled.answers[positions]
        missing = int((~np.isfinite(truth)).any(axis=1).sum())
        if missing:
            raise UserError(f"{missing} test examples have no labels: leave them out of the test positions")
        unit = np.unique(labelled.group[positions], return_inverse=True)[1]
        trained = np.nansum(labelled.answers[labelled.train], axis=0) > 0
        enough = testable(truth, unit)
        noun = "groups" if labelled.grouped else "items"
        left_out = [
            f"{name}: no training labels" if not trained[c] else f"{name}: present or absent in fewer than two {noun}"
            for c, name in enumerate(labelled.classes)
            if not (trained[c] and enough[c])
        ]
        if not (trained & enough).any():
            raise UserError(f"no label can be tested ({'; '.join(left_out)}): label more examples")
        return Tested(np.ones(len(truth), bool), np.where(trained, truth, 0.0), left_out)

    def smoothing(self, truth: Values, unit: NDArray[np.int64]) -> float:
        labels = np.flatnonzero(testable(truth, unit))
        return float(np.mean([smoothing(truth[:, c].astype(np.int64), unit) for c in labels]) / len(labels) ** 2)

    def trainable(self, truth: Values) -> Trainable:
        from torch.nn import functional

        def loss(outputs: Tensor, target: Tensor) -> Tensor:
            return functional.binary_cross_entropy_with_logits(outputs, target)

        def decide(outputs: NDArray[Any]) -> Values:
            return np.asarray(1 / (1 + np.exp(-outputs)), np.float32)

        return Trainable(self.n_classes, truth.astype(np.float32), loss, decide)
