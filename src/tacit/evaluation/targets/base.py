"""The interface of targets: how labels are read, learned, scored, worded and shown. No metric or probe is named here.

Shapes: S draws, n test items; predictions are [S n], or [S n K] where they are scores.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # it has no types

from tacit.core import keys
from tacit.core.columns import Codes, Few
from tacit.core.errors import UserError, nearest
from tacit.core.stages import stage
from tacit.evaluation.features import features_of
from tacit.evaluation.metrics import Metric
from tacit.evaluation.probes.linear import blocks
from tacit.evaluation.splits import Positions

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from tacit.evaluation.arms import Labelled, Part
    from tacit.evaluation.targets.compared import Alike

One = TypeVar("One")

SHOWN = 5  # classes that an error names
COUNTED = 20  # classes or labels whose sizes are listed

Values = NDArray[Any]
Floats = NDArray[np.float32]
Groups = NDArray[np.int64] | None
# A baseline without features: (training positions, their truth, test positions) -> predictions [n ...]
Rule = Callable[[Positions, Values, Positions], Values]


@dataclass(frozen=True)
class LabelTexts:
    """The labels of N examples as texts, with the settings to read them."""

    text: pa.Array  # string [N], null where unlabelled
    training: NDArray[np.bool_]  # [N] outside the test split; these alone say which classes and labels there are
    separator: str | None = None  # between the labels of one cell
    missing: Callable[[str], bool] = lambda name: False  # whether a label means that there is none
    pair: pa.Array | None = None  # string [N], the pair of each example


class Candidates(NamedTuple):
    """Labels that can count, as texts [N]; the pair of each example, where there are pairs; how many lack a partner."""

    text: pa.Array
    pair: pa.Array | None = None
    unpaired: int = 0


@dataclass(frozen=True)
class Answers:
    """The prediction targets of N examples, and the labels that were left out."""

    label: Codes  # [N] class numbers, or strata of targets without classes; -1 where unlabelled
    classes: tuple[str, ...] = ()  # names of the classes, or of the labels of which an example can have several
    truth: NDArray[np.float64] | None = None  # [N] numbers, or [N L] 0 and 1; NaN where unlabelled
    dropped_classes: Few = field(default_factory=Few)  # with one example to train on
    dropped_rows: int = 0  # labels lost with those classes
    dropped_labels: Few = field(default_factory=Few)  # of several per example: had by one to train on, or by all
    untrained_classes: Few = field(default_factory=Few)  # classes or labels that occur in the test split only


class Known(Protocol):
    """The resolved labels of N examples, with the fields of `Answers`."""

    @property
    def label(self) -> Codes: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def truth(self) -> NDArray[np.float64] | None: ...


class Predictor(NamedTuple):
    """A fitted linear probe: from raw features X [N d] it predicts decide(X W + b), [N ...]."""

    W: NDArray[np.float64]  # [d K]
    b: NDArray[np.float64]  # [K]
    decide: Callable[[Values], Values]

    def __call__(self, X: Floats) -> Values:
        outputs = [np.asarray(X[rows], np.float64) @ self.W for rows in blocks(len(X))]
        return self.decide(np.concatenate(outputs) + self.b)


class Tested(NamedTuple):
    """Which test items count, their truth, and the items left out, with the reason."""

    counts: NDArray[np.bool_]  # [n]
    truth: Values  # of those that count
    left_out: list[str]


class Trainable(NamedTuple):
    """The parts for training on the labels themselves."""

    outputs: int  # of the head
    truth: Values  # [n ...] that the loss is given
    loss: Callable[[Tensor, Tensor], Tensor]
    decide: Callable[[Values], Values]  # from the head's outputs [N outputs] to predictions


@dataclass(frozen=True)
class Target(ABC):
    """One type of label."""

    n_classes: int  # classes, or labels of which an item can have several
    scores: bool = False  # predictions shall be probabilities, where classes would do
    rare: bool = False  # one of two classes is rare

    name: ClassVar[str]
    metrics: ClassVar[Sequence[Metric]]  # that a verdict can be about, the usual one first
    beside: ClassVar[Sequence[Metric]] = ()  # that are only reported
    within: ClassVar[Metric]  # of a part of the population, which may lack classes
    protocols: ClassVar[Mapping[str, str]]  # how features are read, in words
    by_class: ClassVar[bool] = False  # labels are counted per class
    needs_labels: ClassVar[bool] = True  # to learn from
    examples: ClassVar[str] = "items"  # what is tested
    groups: ClassVar[str] = "groups"  # what units are where they are not examples
    takes: ClassVar[tuple[str, ...]] = ()  # further columns that are read where they are there
    lists: ClassVar[bool] = False  # whether a label may be a list of them
    shared: ClassVar[bool] = True  # whether examples can have the same label, as numbers hardly do
    by_itself: ClassVar[bool] = False  # an example is judged alone, so that parts of one recording are kept together
    powered: ClassVar[bool] = False  # whether the detectable gain of a test can be estimated beforehand
    of_parts: ClassVar[bool] = False  # labels are those of words or frames
    asks_next: ClassVar[bool] = False  # the next event is the answer: no label is read
    matches: ClassVar[bool] = False  # both sides of pairs are embedded, and sought by one another
    unseen: ClassVar[bool] = False  # what is chosen by must be as new to an encoder as what is tested

    # ---------------------------------------------------------------- labels

    def candidates(
        self, text: pa.Array, *, group: pa.Array | None, side: pa.Array | None, pair: pa.Array | None
    ) -> Candidates:
        """The labels that can count, before a split is made. UserError where a column is needed and missing."""
        return Candidates(text)

    def read_labels(self, texts: LabelTexts) -> Answers:
        """Read the labels. UserError where they do not suit the target."""
        raise NotImplementedError(self.name)

    def balanced(self, label: Codes) -> Codes:
        """The strata [N] by which a sealed test set is balanced, negative where unlabelled."""
        return label

    def held_whole(self, known: Known) -> NDArray[np.str_] | None:
        """Names [N] of units that a seal must not split where there are no groups; None: it may split all."""
        return None

    # ---------------------------------------------------------------- words

    def describe(self, known: Known, *, private: bool = False) -> str:
        """`1,200 labelled in 10 classes`; `private` names no label."""
        n = int((known.label >= 0).sum())
        return self.counted(known, n, private=private) if n else "no labels"

    def counted(self, known: Known, n: int, *, private: bool) -> str:
        """The same of `n` labelled examples, one at least."""
        return f"{n:,} labelled in {len(known.classes):,} classes"

    def names_of(self, known: Known, rows: Iterable[int]) -> list[str]:
        """The label of each of these rows in words, empty where it has none."""
        return ["" if known.label[row] < 0 else self.name_of(known, int(row)) for row in rows]

    def name_of(self, known: Known, row: int) -> str:
        """The label of a labelled row in words."""
        return str(known.classes[known.label[row]])

    def spread(self, labelled: Labelled, *, private: bool) -> str:
        """Describe the labels, one by one or by their spread."""
        sizes = np.bincount(labelled.y, minlength=len(labelled.classes))
        return f"classes: {sizes_of(labelled.classes, sizes, private=private)}"

    @property
    def watched(self) -> str:
        """The value of `glance`, in words."""
        return f"{self.metrics[0].words}, {list(self.protocols.values())[-1]}"

    # ---------------------------------------------------------------- learning and scoring

    def read(self, encoder: Any, labelled: Labelled, rows: Positions) -> Mapping[str, Values]:
        """The encoder's outputs for these examples, [N ...] by representation: its features by default."""
        return features_of(encoder, labelled, rows)

    @abstractmethod
    def probe(
        self, part: Part, train: Values, test: Values, draws: Sequence[Positions], seed: int, *, first: int = 0
    ) -> Mapping[str, Values]:
        """Predictions [S n ...] of every protocol, from the outputs for `part.train` and for `part.test`.

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
        """A quick estimate of the usual metric inside the labels of these positions, for the online probe.

        `features` [n D] are those of `encoder`, which may be called for more. None where the labels do not suffice.
        """

    @abstractmethod
    def tested(self, labelled: Labelled, positions: Positions) -> Tested:
        """Raises `UserError` where too little can be tested."""

    def filling(self, labelled: Labelled) -> NDArray[np.bool_]:
        """The classes [K] that a budget must have labels of: those that can be tested."""
        return np.ones(max(1, len(labelled.classes)), bool)

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

    def second_units(self, labelled: Labelled, positions: Positions) -> NDArray[np.int64] | None:
        """A second way [n] in which these positions are alike, beside `units`; None where there is none."""
        return None

    def strata(self, truth: Values, unit: NDArray[np.int64]) -> NDArray[np.int64]:
        """The part of the test set [U] whose degrees of freedom each unit 0..U-1 belongs to, such as its class."""
        return np.zeros(int(unit.max()) + 1, np.int64)

    def smoothing(self, truth: Values, unit: NDArray[np.int64], alike: float) -> float:
        """What discreteness adds to se^2; see `statistics.smoothing`."""
        return 0.0

    def trainable(self, truth: Values) -> Trainable | None:
        """How to train on these labels; None where this target has no such thing."""
        return None

    def asides(self, labelled: Labelled) -> Sequence[Metric]:
        """The metrics that are only reported."""
        return self.beside

    def parts(self, labelled: Labelled, positions: Positions) -> Mapping[str, NDArray[np.bool_]]:
        """Parts of these test examples, masks [n], that are always evaluated separately."""
        return {}

    def rules(self, labelled: Labelled) -> Mapping[str, Rule]:
        """Baselines that need no features."""
        return {}

    def rule_of(self, labelled: Labelled, alike: Callable[[Positions], Alike]) -> Rule | None:
        """A baseline that compares examples by `alike` of their positions; None where this target compares none."""
        return None

    def rehearse(self, X: Floats, truth: Values) -> bool:
        """Fit once, as on the first draw, to estimate the time; False: nothing can be learned."""
        return False

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


def sizes_of(names: Sequence[str], sizes: NDArray[np.int64], *, private: bool) -> str:
    """`cat 12, dog 7`, the first of them; under `private` the sizes alone."""
    parts = [("" if private else f"{name} ") + f"{size:,}" for name, size in zip(names, sizes.tolist(), strict=True)]
    return ", ".join(parts[:COUNTED]) + (", ..." if len(names) > COUNTED else "")


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
    by_itself: ClassVar[bool] = True
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

        with stage("fitting", len(draws)) as now:
            return np.stack(_in_threads(predict, range(len(draws)), workers))

    def probe(
        self, part: Part, train: Floats, test: Floats, draws: Sequence[Positions], seed: int, *, first: int = 0
    ) -> Mapping[str, Values]:
        labelled = part.labelled
        taken = [np.searchsorted(part.train, draw) for draw in draws]
        truth = labelled.answers[part.train]
        groups = labelled.group[part.train] if labelled.numbered else None
        linear = self.linear(train, truth, taken, test, groups=groups, seed=seed, first=first)
        near = []
        with stage("asking neighbours", len(taken)) as now:
            for rows in (whole(draw, len(train)) for draw in taken):
                near.append(self.near(train[rows], truth[rows], test))
                now.step()
        return {"linear": linear, "knn": np.stack(near)}

    def rehearse(self, X: Floats, truth: Values) -> bool:
        if not self.learnable(truth):
            return False
        self.linear(X, truth, [np.arange(len(truth))], X, seed=0)
        return True

    def validate(
        self, labelled: Labelled, features: Sequence[Floats], pool: Positions, rounds: Any, metric: Metric, seed: int
    ) -> float:
        def predict(one: tuple[Positions, Positions, Floats]) -> Values:
            draw, fold, table = one
            learned, held = np.searchsorted(pool, draw), np.searchsorted(pool, fold)
            groups = labelled.group[draw] if labelled.numbered else None
            return self.fit(table[learned], labelled.answers[draw], groups, keys.fold(seed, 0))(table[held])

        sound = [(draw, fold) for draw, fold in rounds if self.learnable(labelled.answers[draw])]
        if not sound:
            return 0.0
        predicted = _in_threads(predict, [(draw, fold, table) for draw, fold in sound for table in features])
        truth = [labelled.answers[fold] for _, fold in sound for _ in features]
        return self.score(np.concatenate(predicted), np.concatenate(truth), metric)

    def glance(self, labelled: Labelled, positions: Positions, features: Floats, encoder: Any) -> float | None:
        half = np.unique(labelled.group[positions], return_inverse=True)[1] % 2 == 1
        truth = labelled.answers[positions]
        if min(half.sum(), (~half).sum()) < 2 or not (self.learnable(truth[half]) and self.learnable(truth[~half])):
            return None
        return self.score(self.near(features[half], truth[half], features[~half]), truth[~half], self.metrics[0])

    def score(self, predicted: Values, truth: Values, metric: Metric) -> float:
        """The metric of predictions [n ...], also where it is too little for an interval."""
        return metric.value(predicted, truth)


def _in_threads(work: Callable[[One], Values], of: Iterable[One], workers: int | None = None) -> list[Values]:
    """Do it for each, shared out over threads, by default one per core, with single-threaded BLAS."""
    threads = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    with _libraries().limit(limits=1), threads as pool:
        # each in a context of its own, so that progress inside is reported too
        done = [pool.submit(copy_context().run, work, one) for one in of]
        return [one.result() for one in done]


@cache
def _libraries() -> Any:
    """The BLAS libraries that are loaded, NumPy's among them: looking for them takes as long as a few small probes."""
    return ThreadpoolController()


def score_columns(scores: Values, names: Sequence[str]) -> dict[str, Values]:
    """A column `p(NAME)` [N] for each of the K names, from probabilities [N K]."""
    return {f"p({name})": column for name, column in zip(names, scores.T, strict=True)}
