"""Graded similarity: does the cosine of two items rise with the score that people gave the pair?

Every item belongs to a pair (`Labelled.pair`), and both items of it have the pair's score. A pair counts once, where
both items are there. Nothing is learned from scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.evaluation import metrics
from tacit.evaluation.metrics import Metric
from tacit.evaluation.splits import Positions
from tacit.evaluation.targets.base import Tested, Values, varied
from tacit.evaluation.targets.compared import Alike, Compared

if TYPE_CHECKING:
    from tacit.evaluation.arms import Labelled

SPEARMAN = Metric("spearman/cosine", "Spearman correlation with the scores", metrics.spearman, low=-1, discrete=False)
PEARSON = Metric("pearson/cosine", "Pearson correlation with the scores", metrics.pearson, low=-1, discrete=False)


@dataclass(frozen=True)
class Similarity(Compared):
    """How alike each item and the other one of its pair are, [n]; NaN where that is not there."""

    name: ClassVar[str] = "similarity"
    metrics: ClassVar[Sequence[Metric]] = (SPEARMAN,)
    within: ClassVar[Metric] = SPEARMAN
    protocols: ClassVar[Mapping[str, str]] = {"paired": "cosine of each pair"}

    def asides(self, labelled: Labelled) -> Sequence[Metric]:
        return (PEARSON,)

    def answers(self, labelled: Labelled, positions: Positions, alike: Alike) -> Values:
        partner = self.partners(labelled, positions)
        paired = np.flatnonzero(partner >= 0)
        found = np.full(len(positions), np.nan)
        found[paired] = alike.to_each(paired, partner[paired])
        found[paired] = (found[paired] + found[partner[paired]]) / 2  # what seeks need not find what finds it
        return found

    def partners(self, labelled: Labelled, positions: Positions) -> NDArray[np.int64]:
        """The place [n] of the other item of each one's pair among these positions, -1 where it is not among them."""
        if labelled.pair is None:
            raise UserError("similarity is that of pairs: say which examples are one (pair)")
        pair = labelled.pair[positions]
        order = np.argsort(pair, kind="stable")
        here = np.flatnonzero((pair[order[1:]] == pair[order[:-1]]) & (pair[order[1:]] >= 0))
        partner = np.full(len(pair), -1, np.int64)
        partner[order[here]], partner[order[here + 1]] = order[here + 1], order[here]
        return partner

    def comparable(self, labelled: Labelled, positions: Positions) -> bool:
        counts = self.partners(labelled, positions) > np.arange(len(positions))
        return varied(labelled.answers[positions][counts], self.units(labelled, positions[counts]))

    def tested(self, labelled: Labelled, positions: Positions) -> Tested:
        partner = self.partners(labelled, positions)
        counts = partner > np.arange(len(positions))
        if not self.comparable(labelled, positions):
            raise UserError("the pairs to be tested are too few, or their scores all but the same: score more pairs")
        alone = int((partner < 0).sum())
        left_out = [f"{alone} items: the other one of the pair is not there"] if alone else []
        return Tested(counts, labelled.answers[positions][counts], left_out)
