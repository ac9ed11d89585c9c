"""The input of an evaluation: arms and labelled examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.evaluation.splits import N_FOLDS, Positions, connected, in_order_of_appearance, is_rare, make_folds

if TYPE_CHECKING:
    from torch import nn

    from tacit.core.types import Batch, Encoder, Ranker
    from tacit.evaluation.metrics import Metric
    from tacit.evaluation.targets.base import Rule, Target

HIDDEN = -1  # a label that must not be known yet


@dataclass(frozen=True)
class Labelled:
    """N labelled examples, with their training and sealed test positions.

    With no `test` positions the examples in `train` are cross-fitted. Raises `UserError` where the parts contradict
    each other.
    """

    fetch: Callable[[NDArray[np.int64]], Batch]  # positions 0..N-1 -> their raw batch
    y: NDArray[np.int64]  # [N] class numbers; of targets without classes the strata that draws and folds balance
    classes: tuple[str, ...]  # names of the classes, or of the labels of which an example can have several
    group: NDArray[np.int64]  # [N]; each example alone when there is no group column
    train: Positions  # for draws and selection
    test: Positions  # sealed
    transductive: bool = False  # the sealed inputs were pretrained on
    content: NDArray[np.void] | None = None  # [N] hashes, by which evaluations of the same examples are paired
    target: str = "classification"  # see `targets`
    truth: NDArray[Any] | None = None  # [N] numbers (regression), [N L] 0 and 1 (multilabel); None: y says it all
    subgroup: NDArray[np.int64] | None = None  # [N] each one's part of the population, negative: none
    subgroups: tuple[str, ...] = ()  # their names
    tokens: NDArray[np.int64] | None = None  # [N 2] each one's example, as `fetch` numbers them, and its place in it
    types: NDArray[np.int64] | None = None  # [N] of a token, such as its word
    side: NDArray[np.int64] | None = None  # [N] of a pair, such as picture and caption: seeks partners on the other
    pair: NDArray[np.int64] | None = None  # [N] of each, where two are compared (similarity); negative: none
    popularity: NDArray[np.int64] | None = None  # [I] uses of each item that may be recommended, in what may be learned
    lengths: NDArray[np.int64] | None = None  # [N] of examples that are histories: their events
    captions: Callable[[], Sequence[str]] | None = None  # of what was pretrained on, where classes are told by names
    own: bool = False  # examples are made of what nobody else has, such as a shop's items: no public encoder reads them

    def __post_init__(self) -> None:
        if len(self.y) != len(self.group):
            raise UserError(f"{len(self.y)} labels but {len(self.group)} groups: give one group per label")
        if len(np.intersect1d(self.group[self.train], self.group[self.test])):
            raise UserError("a group lies both in training and in test: put each group on one side")
        known = self.y[np.concatenate([self.train, self.test])]
        if self.truth is not None and len(self.truth) != len(self.y):
            raise UserError(f"{len(self.truth)} values for {len(self.y)} examples: give one for each")
        if self.truth is None and len(known) and (known.min() < HIDDEN or known.max() >= len(self.classes)):
            raise UserError(f"labels run from {known.min()} to {known.max()} but there are {len(self.classes)} classes")

    @property
    def answers(self) -> NDArray[Any]:
        """The prediction targets, [N ...]."""
        return self.y if self.truth is None else self.truth

    @property
    def grouped(self) -> bool:
        """Whether some group holds more than one example."""
        return len(np.unique(self.group)) < len(self.group)

    @property
    def numbered(self) -> bool:
        """Whether the groups' numbers say something: which belong together, or an order of their own."""
        return self.content is not None or self.grouped

    @property
    def tested(self) -> Positions:
        """The sealed examples; in cross-fitting all, each in its fold."""
        return self.test if len(self.test) else self.train

    @property
    def one_group(self) -> bool:
        """Whether all tested examples are of one group out of several: the verdict then does not cover other groups."""
        return self.grouped and len(np.unique(self.group[self.tested])) == 1

    @property
    def unit(self) -> NDArray[np.int64]:
        """What varies independently, as numbers [N]: groups, or items where there are none or one alone is tested."""
        return self.group if self.grouped and not self.one_group else np.arange(len(self.group))

    @property
    def n_folds(self) -> int:
        """The number of folds in cross-fitting; 1 where a test set is sealed."""
        return 1 if len(self.test) else N_FOLDS

    def without(self, hidden: Positions) -> Labelled:
        """The same examples with these labels unknown."""
        y, truth = self.y.copy(), None if self.truth is None else self.truth.astype(np.float64)
        y[hidden] = HIDDEN
        if truth is not None:
            truth[hidden] = np.nan
        return replace(self, y=y, truth=truth)


class Part(NamedTuple):
    """One split into training and test positions; the labels of the test side are hidden in `labelled`."""

    labelled: Labelled
    train: Positions
    test: Positions


def target_of(labelled: Labelled) -> Target:
    """The target of these labels."""
    from tacit.evaluation.targets import make_target

    made = make_target(labelled.target, len(labelled.classes))
    if made.by_class and made.n_classes == 2:
        y = labelled.y[labelled.train if len(labelled.train) else labelled.test]
        made = replace(made, rare=is_rare(np.bincount(y[y >= 0], minlength=2)))
    return made


def in_one_order(labelled: Labelled) -> Labelled:
    """The same examples, with groups numbered by content, so that nothing depends on the order of rows.

    Where examples are judged alone, those of equal content are of one group: copies say nothing more.
    """
    if labelled.content is None:
        return labelled
    group, content = labelled.group, np.unique(labelled.content, return_inverse=True)[1]
    if target_of(labelled).by_itself and int(content.max(initial=-1)) + 1 < len(content):
        together = connected(group, content)
        if not len(np.intersect1d(together[labelled.train], together[labelled.test])):  # as a given split may part them
            group = together
    order = np.argsort(content, kind="stable")
    number = np.empty(len(group), np.int64)
    number[order] = in_order_of_appearance(group[order])
    return replace(labelled, group=number)


def sorted_by_content(labelled: Labelled, positions: Positions) -> Positions:
    """The same positions in an order of their own, where contents are known."""
    if labelled.content is None:
        return positions
    return positions[np.argsort(labelled.content[positions], kind="stable")]


def scoring(target: Target, metric: Metric) -> Target:
    """The target, set to predict what this metric can read."""
    return replace(target, scores=target.scores or metric.scores)


def parts_of(labelled: Labelled, seed: int) -> list[Part]:
    """The sealed split as it is, or the folds of cross-fitting where nothing is sealed.

    Where nothing is learned from labels, everything is tested at once.
    """
    if len(labelled.test):
        return [Part(labelled.without(labelled.test), labelled.train, labelled.test)]
    if not target_of(labelled).needs_labels:
        return [Part(labelled.without(labelled.train), labelled.train, labelled.train)]
    folds = make_folds(labelled.y, labelled.group, labelled.train, seed=seed)
    return [Part(labelled.without(fold), np.setdiff1d(labelled.train, fold), fold) for fold in folds]


@dataclass(frozen=True)
class Arm:
    """One candidate or baseline: encoders to probe (or rankers, which recommend), a recipe for training from scratch on
    the labels themselves, or a rule that needs no features.

    Several encoders of a baseline are initialisation seeds, averaged; of a pretrained arm, pretraining seeds: one makes
    a claim about this checkpoint, three or more one about the recipe.
    """

    name: str
    kind: Literal["pretrained", "baseline"]
    encoders: tuple[Encoder | Ranker, ...] = ()
    build: Callable[[int], nn.Module] | None = None
    rule: Rule | None = None
    views: Callable[[Batch, int], Batch] | None = None
    task: str | None = None
    encoder: str = ""
    steps: int = 0
    seconds: float = 0.0
    examples_per_second: float = 0.0
    alarms: tuple[Any, ...] = ()
    public: bool | None = False  # an encoder that anyone could download, named by --against; None: not known
    own: bool = False  # whether the name is Tacit's, not a user's
    own_encoder: bool | None = None  # whether it has named its encoder; as `own` by default

    def __post_init__(self) -> None:
        kinds = [bool(self.encoders), self.build is not None, self.rule is not None]
        assert sum(kinds) == 1, f"{self.name}: either encoders, or from scratch, or a rule"
        if self.kind == "pretrained" and len(self.encoders) == 2:
            raise UserError(f"{self.name} has 2 pretraining seeds: a claim about the recipe needs 3, give 1 or 3")


def as_arms(subject: Any) -> list[Arm]:
    """Arms as given; or one encoder or callable as the single pretrained arm. Names must differ."""
    items: Sequence[Any] = subject if isinstance(subject, (list, tuple)) else [subject]
    arms = [item if isinstance(item, Arm) else Arm(_name(item), "pretrained", (item,)) for item in items]
    names = [arm.name for arm in arms]
    if not arms or len(set(names)) < len(names):
        raise UserError(f"arms need different names, got {', '.join(names) or 'no arm'}")
    return arms


def _name(encoder: Any) -> str:
    return str(getattr(encoder, "name", None) or getattr(encoder, "__name__", type(encoder).__name__))
