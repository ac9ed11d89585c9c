"""Classes: each example has one. Also tokens, each an example of its own whose group is the text it stands in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from tacit.core.columns import by_name, codes_of, few_of
from tacit.core.errors import UserError
from tacit.core.naming import two_ways
from tacit.evaluation import metrics
from tacit.evaluation.metrics import Metric
from tacit.evaluation.probes.knn import knn_leave_one_out, knn_votes
from tacit.evaluation.probes.linear import fit_probe
from tacit.evaluation.splits import Positions, class_units
from tacit.evaluation.statistics import rarest, smoothing
from tacit.evaluation.targets.base import (
    Answers,
    Candidates,
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
    in_short,
    score_columns,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from tacit.evaluation.arms import Labelled

CONTINUOUS = 20  # more distinct fractional numbers than this are no classes
NUMBER = {2: "two", 3: "three"}
SMOOTHING = 0.1  # of the labels in training: a few hundred examples are learned by heart within seconds

BALANCED = Metric("balanced_accuracy", "balanced accuracy", metrics.balanced_accuracy, by_item=metrics.recalled)
ACCURACY = Metric("accuracy", "accuracy", metrics.accuracy)
MACRO_F1 = Metric("macro_f1", "macro F1", metrics.macro_f1, by_item=metrics.recalled)
AUROC = Metric("auroc", "AUROC", metrics.auroc, scores=True)
AVERAGE_PRECISION = Metric("average_precision", "average precision", metrics.average_precision, scores=True)


@dataclass(frozen=True)
class Classification(Supervised):
    """One class per example: class numbers, or probabilities with `scores`."""

    name: ClassVar[str] = "classification"
    metrics: ClassVar[Sequence[Metric]] = (BALANCED, ACCURACY, MACRO_F1, AUROC, AVERAGE_PRECISION)
    within: ClassVar[Metric] = ACCURACY
    by_class: ClassVar[bool] = True
    powered: ClassVar[bool] = True
    link: ClassVar[Literal["softmax"]] = "softmax"

    def read_labels(self, texts: LabelTexts) -> Answers:
        encoded = texts.text.dictionary_encode()
        refuse_numbers(encoded.dictionary.to_pylist(), len(encoded) - encoded.null_count)
        return read_classes(texts, by_name)

    def fit(self, X: Floats, truth: Values, groups: Groups, seed: int) -> Predictor:
        probe = fit_probe(X, truth, n_classes=self.n_classes, groups=groups, seed=seed)
        return Predictor(probe.W, probe.b, self.decide)

    def decide(self, outputs: Values) -> Values:
        """Class numbers [N], or probabilities [N K], from a linear function's outputs [N K]."""
        if not self.scores:
            return np.asarray(outputs.argmax(axis=1), np.int32)
        # In the outputs' own precision: a strong penalty leaves classes apart by less than single precision tells.
        odds = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def columns(self, predicted: Values, names: Sequence[str], separator: str) -> dict[str, Values]:
        return {"class": np.array(names)[predicted.argmax(axis=1)], **score_columns(predicted, names)}

    def near(self, X: Floats, truth: Values, test: Floats) -> Values:
        votes = knn_votes(X, truth, test, self.n_classes)
        return votes if self.scores else votes.argmax(axis=1).astype(np.int32)

    def glance(self, labelled: Labelled, positions: Positions, features: Floats, encoder: Any) -> float | None:
        y, group = labelled.y[positions], labelled.group[positions]
        if not np.ptp(group):
            return None
        return knn_leave_one_out(features, y, self.n_classes, groups=group)

    def metric(self, name: str | None) -> Metric:
        """By default AUROC where one of two classes is rare: recall at one threshold then says little of an encoder."""
        return AUROC if name is None and self.rare and AUROC in self.metrics else super().metric(name)

    def learnable(self, truth: Values) -> bool:
        return len(np.unique(truth)) > 1

    def score(self, predicted: Values, truth: Values, metric: Metric) -> float:
        if metric.name != BALANCED.name:
            return super().score(predicted, truth, metric)
        right = metrics.classes_of(predicted) == truth  # in a small fold a class may have one item alone
        return float(np.mean([right[truth == c].mean() for c in np.unique(truth)]))

    def tested(self, labelled: Labelled, positions: Positions) -> Tested:
        y = labelled.y[positions]
        if len(y) and y.min() < 0:
            raise UserError(f"{(y < 0).sum()} test examples have no label: leave them out of the test positions")
        units = self._test_units(labelled, positions)
        trained = np.bincount(labelled.y[labelled.train], minlength=self.n_classes)
        noun = "groups" if labelled.grouped and not labelled.one_group else "items"
        left_out = []
        for c, name in enumerate(labelled.classes):
            if trained[c] == 0 and units[c] == 0:
                continue
            if trained[c] == 0:
                left_out.append(f"{name}: no training labels")
            elif units[c] < 2:
                left_out.append(f"{name}: {units[c]} test {noun}")
        counts = (trained > 0) & (units >= 2)
        if counts.sum() < 2:
            raise UserError(f"fewer than two classes can be tested ({in_short(left_out)}): label more examples")
        return Tested(counts[y], y[counts[y]], left_out)

    def _test_units(self, labelled: Labelled, positions: Positions) -> NDArray[np.int64]:
        """How many units of each class [K] can be tested on."""
        return class_units(labelled.y[positions], self.units(labelled, positions), self.n_classes)

    def filling(self, labelled: Labelled) -> NDArray[np.bool_]:
        tested = labelled.tested[labelled.y[labelled.tested] >= 0]
        enough = self._test_units(labelled, tested) >= 2
        return enough if enough.sum() > 1 else np.ones(self.n_classes, bool)

    def steady(self, truth: Values, unit: NDArray[np.int64]) -> NDArray[np.bool_]:
        steady: NDArray[np.bool_] = (class_units(truth, unit, int(truth.max(initial=0)) + 1) >= 2)[truth]
        if len(np.unique(truth[steady])) < 2:
            raise UserError("fewer than two classes were tested in both: judge both on the same data")
        return steady

    def strata(self, truth: Values, unit: NDArray[np.int64]) -> NDArray[np.int64]:
        return rarest(unit, truth, int(unit.max()) + 1)

    def smoothing(self, truth: Values, unit: NDArray[np.int64], alike: float) -> float:
        return smoothing(truth, unit, alike)

    def trainable(self, truth: Values) -> Trainable:
        from torch.nn import functional

        def loss(outputs: Tensor, target: Tensor) -> Tensor:
            return functional.cross_entropy(outputs, target, label_smoothing=SMOOTHING)

        return Trainable(self.n_classes, truth, loss, self.decide)


class Tokens(Classification):
    """Classes of words or frames, judged by macro F1: most are of one class."""

    name: ClassVar[str] = "tokens"
    metrics: ClassVar[Sequence[Metric]] = (MACRO_F1, BALANCED, ACCURACY)
    takes: ClassVar[tuple[str, ...]] = ("token",)
    by_itself: ClassVar[bool] = False
    of_parts: ClassVar[bool] = True

    def candidates(
        self, text: pa.Array, *, group: pa.Array | None, side: pa.Array | None, pair: pa.Array | None
    ) -> Candidates:
        if group is None:
            raise UserError(
                "--target tokens needs to know which tokens stand in one sentence or document, so that no split parts "
                "them: name that column with --group-column"
            )
        return Candidates(text)

    def counted(self, known: Known, n: int, *, private: bool) -> str:
        if (spans := getattr(known, "spans", None)) is not None:
            return f"{len(spans.row):,} stretches of {n:,} recordings labelled in {len(known.classes):,} classes"
        return f"{n:,} tokens labelled in {len(known.classes):,} classes"

    @property
    def watched(self) -> str:
        return f"{BALANCED.words}, {self.protocols['knn']}"

    def rules(self, labelled: Labelled) -> Mapping[str, Rule]:
        rules = {}
        if labelled.tokens is not None:
            rules["majority"] = majority_by_type(np.zeros(len(labelled.y), np.int64))
        if labelled.types is not None:
            rules["majority by type"] = majority_by_type(labelled.types)
        return rules


def majority_by_type(types: NDArray[np.int64]) -> Rule:
    """The commonest class of a token's type [N] in training; of a type not met there, the commonest of all."""

    def rule(train: Positions, truth: Values, test: Positions) -> Values:
        table = np.zeros((int(types.max()) + 1, int(truth.max()) + 1))
        np.add.at(table, (types[train], truth), 1)
        table += np.bincount(truth, minlength=table.shape[1]) * 1e-9  # decides ties, and what was never met
        return np.asarray(table.argmax(axis=1)[types[test]], np.int32)

    return rule


def read_classes(texts: LabelTexts, order: Callable[[str], Any], fewest: int = 2) -> Answers:
    """Classes numbered by `order` of their names; each needs two examples to train on, and there must be `fewest`."""
    encoded = texts.text.dictionary_encode()
    names, codes = encoded.dictionary.to_pylist(), codes_of(encoded)
    counts = np.bincount(codes[texts.training & (codes >= 0)], minlength=len(names))
    kept = sorted((name for name, count in zip(names, counts, strict=True) if count > 1), key=order)
    single = few_of(names, counts == 1)
    if len(kept) < fewest:
        there = {0: "is none", 1: f"is only {kept[0]!r}" if kept else ""}.get(len(kept), f"are {len(kept)}")
        dropped = f" ({single.count} with a single example were left out)" if single else ""
        raise UserError(
            f"labels need at least {NUMBER[fewest]} classes of two examples each to train on; there {there}{dropped}: "
            "check the labels, or leave them out"
        )
    number = {name: i for i, name in enumerate(kept)}
    label = np.array([*(number.get(name, -1) for name in names), -1], np.int64)[codes]  # the last serves code -1
    return Answers(
        label,
        tuple(kept),
        dropped_classes=single,
        dropped_rows=int(((codes >= 0) & (label < 0)).sum()),
        untrained_classes=few_of(names, counts == 0),
    )


def refuse_numbers(names: Sequence[str], labelled: int) -> None:
    """UserError where the labels are measurements, or one number is written in two ways."""
    if (found := two_ways(names)) is not None and found[0] in ("true", "false"):
        raise UserError(f"the labels {found[0]!r} and {found[1]!r} may be one: write every class in one way")
    numbers: dict[Decimal, str] = {}  # which are exact, as floats are not from 16 digits on
    for name in names:
        try:
            number = Decimal(name)
        except InvalidOperation:
            continue
        if number.is_snan():
            continue
        if number in numbers:
            raise UserError(
                f"the labels {numbers[number]!r} and {name!r} are one number written in two ways, as columns of mixed "
                "types have it: write every class in one way"
            )
        numbers[number] = name
    if len(numbers) < len(names) or not names:
        return
    fractional = sum(not number.is_nan() and number != number.to_integral_value() for number in numbers)
    if fractional > CONTINUOUS:
        shown = f"{fractional} distinct fractional numbers such as {names[0]}"
    elif len(names) > CONTINUOUS and labelled < 2 * len(names):
        shown = f"{len(names)} distinct numbers such as {names[0]} on {labelled} examples"
    else:
        return
    raise UserError(
        f"the labels look like measurements, not classes: {shown}; to predict the numbers say --target regression, or, "
        "where classes are meant, put the numbers into bins or give each example the name of a class"
    )
