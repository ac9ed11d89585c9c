"""Search: does an item find its like, or its partner, among the other test items? Nothing is learned from labels.

Every test item is a query, the other test items are searched, by cosine. Relevant is what has the query's label; a
query's own group is not searched, lest a person find only themselves. Of pairs the partner alone is relevant, and where
pairs have two sides (picture and caption) the other side alone is searched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.core.stages import beat
from tacit.evaluation import ranked
from tacit.evaluation.metrics import Metric
from tacit.evaluation.splits import Positions
from tacit.evaluation.targets.base import Rule, Tested, Values
from tacit.evaluation.targets.compared import Alike, Compared, cosine

if TYPE_CHECKING:
    from tacit.evaluation.arms import Labelled

DEEP = 10  # results of a search that are looked at
_CHUNK = 2**22  # similarities held at once


@dataclass(frozen=True)
class Retrieval(Compared):
    """The first ten of every search, as places [n 10] among the test items."""

    name: ClassVar[str] = "retrieval"
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("ndcg@10/test-gallery", "nDCG@10 among the test items", ranked.ndcg_at(10)),
        *(
            Metric(f"recall@{k}/test-gallery", f"recall@{k} among the test items", ranked.recall_at(k))
            for k in (1, 5, 10)
        ),
    )
    within: ClassVar[Metric] = metrics[1]
    protocols: ClassVar[Mapping[str, str]] = {"cosine": "search by cosine"}
    groups: ClassVar[str] = "classes"

    def answers(self, labelled: Labelled, positions: Positions, alike: Alike) -> NDArray[np.int32]:
        """For each of these items the places [n 10] of those most like it; -1 where fewer may be searched."""
        n, allowed = len(alike), self.allowed(labelled, positions)
        found = np.full((n, DEEP), -1, np.int32)
        rows, deep = max(1, _CHUNK // n), min(DEEP, n - 1)
        for start in range(0, n, rows):
            beat()
            part = np.arange(start, min(start + rows, n))
            similarity = np.where(allowed(part), alike.to_all(part), -np.inf)
            first = np.argpartition(-similarity, deep - 1, axis=1)[:, :deep]
            order = np.argsort(-np.take_along_axis(similarity, first, axis=1), axis=1, kind="stable")
            ranked = np.take_along_axis(first, order, axis=1)
            lost = np.isneginf(np.take_along_axis(similarity, ranked, axis=1))
            found[part, :deep] = np.where(lost, -1, ranked)
        return found

    def comparable(self, labelled: Labelled, positions: Positions) -> bool:
        return bool(self.expected(labelled, positions).any())

    def allowed(self, labelled: Labelled, positions: Positions) -> Any:
        """Which items [b n] may be searched for the queries at these places [b]."""
        group = labelled.group[positions]
        return lambda places: group[places, None] != group

    def tested(self, labelled: Labelled, positions: Positions) -> Tested:
        """The truth is the number of relevant items; queries without any do not count."""
        expected = self.expected(labelled, positions)
        counts = expected > 0
        if len(np.unique(labelled.y[positions[counts]])) < 2:
            raise UserError(
                f"test items of fewer than two {self.groups} have another one to be found: label more examples that "
                "belong together"
            )
        left = int((~counts).sum())
        return Tested(counts, expected[counts], [f"{left} items: nothing relevant to be found"] if left else [])

    def expected(self, labelled: Labelled, positions: Positions) -> NDArray[np.int64]:
        """How many relevant items [n] each of these queries could find among the others."""
        y, allowed = labelled.y[positions], self.allowed(labelled, positions)
        found = [
            (allowed(places) & (y[places, None] == y)).sum(axis=1)
            for places in np.array_split(np.arange(len(y)), 1 + len(y) ** 2 // _CHUNK)
        ]
        return np.where(y >= 0, np.concatenate(found), 0)

    def units(self, labelled: Labelled, positions: Positions) -> NDArray[np.int64]:
        """Classes: queries of one share what they seek, so that one item more or less changes them all."""
        return labelled.y[positions]

    def revealed(self, predicted: Values, labelled: Labelled, positions: Positions, tested: Tested) -> Values:
        """Whether each result is relevant [P S n 10]."""
        y = labelled.y[positions]
        relevant = (y[predicted] == y[:, None]) & (predicted >= 0)
        return np.asarray(relevant[:, :, tested.counts])

    def among(self, predicted: Values, keep: NDArray[np.bool_]) -> Values:
        number = np.cumsum(keep) - 1
        found = predicted[:, :, keep]
        found = np.where((found >= 0) & keep[found], number[found], -1)
        order = np.argsort(found < 0, axis=-1, kind="stable")  # what comes after one that is gone moves up
        return np.take_along_axis(found, order, axis=-1)

    def smoothing(self, truth: Values, unit: NDArray[np.int64]) -> float:
        return 1.0 / len(truth) ** 2

    def rules(self, labelled: Labelled) -> Mapping[str, Rule]:
        def chance(train: Positions, truth: Values, test: Positions) -> Values:
            return self.answers(labelled, test, cosine(np.random.default_rng(0).normal(size=(len(test), 64))))

        return {"chance": chance}


class Pairs(Retrieval):
    """The partner alone is relevant; the group, which holds a pair together, is searched too."""

    name: ClassVar[str] = "pairs"
    groups: ClassVar[str] = "pairs"

    def allowed(self, labelled: Labelled, positions: Positions) -> Any:
        side = None if labelled.side is None else labelled.side[positions]
        everyone = np.arange(len(positions))
        if side is None:
            return lambda places: places[:, None] != everyone
        return lambda places: side[places, None] != side
