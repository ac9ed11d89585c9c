"""Several labels per example, or none: findings in a scan, tags of a photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from tacit.core.columns import LISTED, by_name, codes_of, few_of
from tacit.core.errors import UserError
from tacit.core.naming import plain
from tacit.evaluation import metrics
from tacit.evaluation.metrics import Metric, testable
from tacit.evaluation.probes.knn import knn_average
from tacit.evaluation.probes.linear import fit_probe
from tacit.evaluation.splits import Positions
from tacit.evaluation.statistics import rarest, smoothing
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
    in_short,
    score_columns,
    sizes_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.evaluation.arms import Labelled


MOST_LABELS = 1000  # of which an example can have several: each gets a probe of its own
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
    link: ClassVar[Literal["sigmoid"]] = "sigmoid"
    lists: ClassVar[bool] = True

    def read_labels(self, texts: LabelTexts) -> Answers:
        """A label needs two examples to train on, and one that lacks it; strata are each example's rarest label."""
        encoded = texts.text.dictionary_encode()
        codes = codes_of(encoded)
        cells = _cells(encoded.dictionary.to_pylist(), texts.separator, texts.missing)
        names = sorted(set().union(*cells), key=by_name)
        trained = codes[texts.training & (codes >= 0)]
        uses = np.bincount(trained, minlength=len(cells))  # of each cell
        counts = dict.fromkeys(names, 0)
        for cell, times in zip(cells, uses.tolist(), strict=True):
            for name in cell:
                counts[name] += times
        number = np.array([counts[name] for name in names], np.int64)
        few_or_all = (number == 1) | ((number > 0) & (number == len(trained)))
        kept = [name for name, out in zip(names, few_or_all | (number == 0), strict=True) if not out]
        if not kept:
            raise UserError(
                "labels need at least one that two examples to train on have and another lacks; there is none: check "
                "the labels, or leave them out"
            )
        if len(kept) > MOST_LABELS:
            raise UserError(
                f"{len(kept):,} labels are too many for a probe each, {MOST_LABELS:,} at most: leave the rare ones "
                "out, or check the separator"
            )
        place = {name: i for i, name in enumerate(kept)}
        table = np.zeros((len(cells) + 1, len(kept)))
        table[-1] = np.nan  # serves code -1
        stratum = np.full(len(cells) + 1, len(kept), np.int64)
        stratum[-1] = -1
        for row, cell in enumerate(cells):
            here = [place[name] for name in cell if name in place]
            table[row, here] = 1
            stratum[row] = min(here, key=lambda i: (counts[kept[i]], i), default=len(kept))
        return Answers(
            stratum[codes],
            tuple(kept),
            table[codes],
            dropped_labels=few_of(names, few_or_all),
            untrained_classes=few_of(names, number == 0),
        )

    def counted(self, known: Known, n: int, *, private: bool) -> str:
        assert known.truth is not None
        each = np.nansum(known.truth) / n
        return f"{n:,} labelled with {len(known.classes):,} labels, {each:.1f} each on average"

    def name_of(self, known: Known, row: int) -> str:
        assert known.truth is not None
        return ", ".join(known.classes[i] for i in np.flatnonzero(known.truth[row])) or "none"

    def spread(self, labelled: Labelled, *, private: bool) -> str:
        truth = labelled.truth
        assert truth is not None
        none = int((truth.sum(axis=1) == 0).sum())
        sizes = truth.sum(axis=0).astype(np.int64)
        return f"had by: {sizes_of(labelled.classes, sizes, private=private)}; none of them {none:,}"

    def fit(self, X: Floats, truth: Values, groups: Groups, seed: int) -> Predictor:
        known = truth.astype(np.int64)
        W = np.zeros((X.shape[1], self.n_classes))
        b = np.where(known[0] > 0, np.inf, -np.inf)  # of labels that all have, or none
        for c in np.flatnonzero(np.ptp(known, axis=0)):
            probe = fit_probe(X, known[:, c], n_classes=2, groups=groups, seed=seed)
            W[:, c], b[c] = probe.W[:, 1] - probe.W[:, 0], probe.b[1] - probe.b[0]
        return Predictor(W, b, self.decide)

    def decide(self, outputs: Values) -> Values:
        """The probability of each label from a linear function's outputs, [N L]."""
        return np.asarray(expit(outputs))

    def columns(self, predicted: Values, names: Sequence[str], separator: str) -> dict[str, Values]:
        cells = [separator.join(names[c] for c in np.flatnonzero(row > 0.5).tolist()) for row in predicted]
        return {"labels": np.array(cells, np.str_), **score_columns(predicted, names)}

    def near(self, X: Floats, truth: Values, test: Floats) -> Values:
        return knn_average(X, truth, test).astype(np.float32)

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
        unit = np.unique(self.units(labelled, positions), return_inverse=True)[1]
        trained = np.nansum(labelled.answers[labelled.train], axis=0) > 0
        enough = testable(truth, unit)
        noun = "groups" if labelled.grouped and not labelled.one_group else "items"
        left_out = [
            f"{name}: no training labels" if not trained[c] else f"{name}: present or absent in fewer than two {noun}"
            for c, name in enumerate(labelled.classes)
            if not (trained[c] and enough[c])
        ]
        if not (trained & enough).any():
            raise UserError(f"no label can be tested ({in_short(left_out)}): label more examples")
        return Tested(np.ones(len(truth), bool), np.where(trained, truth, 0.0), left_out)

    def steady(self, truth: Values, unit: NDArray[np.int64]) -> NDArray[np.bool_]:
        if not testable(truth, np.unique(unit, return_inverse=True)[1]).any():
            raise UserError("no label can be tested in both: judge both on the same data")
        return np.ones(len(truth), bool)

    def strata(self, truth: Values, unit: NDArray[np.int64]) -> NDArray[np.int64]:
        item, label = np.nonzero(truth[:, testable(truth, unit)] > 0)
        return rarest(unit[item], label, int(unit.max()) + 1)

    def smoothing(self, truth: Values, unit: NDArray[np.int64], alike: float) -> float:
        labels = np.flatnonzero(testable(truth, unit))
        each = [smoothing(truth[:, c].astype(np.int64), unit, alike) for c in labels]
        return float(np.mean(each) / len(labels) ** 2)

    def trainable(self, truth: Values) -> Trainable:
        from torch.nn import functional

        def loss(outputs: Tensor, target: Tensor) -> Tensor:
            return functional.binary_cross_entropy_with_logits(outputs, target)

        return Trainable(self.n_classes, truth.astype(np.float32), loss, self.decide)


def _cells(texts: Sequence[str], separator: str | None, missing: Callable[[str], bool]) -> list[set[str]]:
    """The labels that each cell names, without words that say that there is none."""
    listed = any(LISTED in text for text in texts)
    if separator is None and not listed and texts:
        raise UserError(
            "--target multilabel: say how the labels of a cell are parted, such as --multilabel '|', or give a column "
            "of lists"
        )
    if separator is not None and not listed and texts and not any(separator in text for text in texts):
        raise UserError(
            f"--multilabel {separator!r}: no label holds it (first: {texts[0]!r}); name the sign that parts the labels "
            "of a cell"
        )
    parts = (text.split(LISTED if LISTED in text else separator) for text in texts)
    found = ({plain(name) for name in part} for part in parts)
    return [{name for name in part if not missing(name)} for part in found]
