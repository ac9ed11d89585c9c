"""Graded similarity: does the cosine of two items rise with the score that people gave the pair?

Every item belongs to a pair (`Labelled.pair`), and both items of it have the pair's score. A pair counts once, where
both items are there. Nothing is learned from scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.core.columns import codes_of, first_of
from tacit.core.errors import UserError
from tacit.evaluation import metrics
from tacit.evaluation.metrics import Metric
from tacit.evaluation.splits import Positions
from tacit.evaluation.targets.base import Answers, Candidates, Known, LabelTexts, Tested, Values, varied
from tacit.evaluation.targets.compared import Alike, Compared
from tacit.evaluation.targets.regression import number_of, range_of, read_numbers, spread_of
from tacit.evaluation.targets.retrieval import partnered

if TYPE_CHECKING:
    from tacit.evaluation.arms import Labelled

SPEARMAN = Metric("spearman/cosine", "Spearman correlation with the scores", metrics.spearman, low=-1, discrete=False)
PEARSON = Metric("pearson/cosine", "Pearson correlation with the scores", metrics.pearson, low=-1, discrete=False)


@dataclass(frozen=True)
class Similarity(Compared):
    """How alike each item and the other one of its pair are, [n]; NaN where that is not there."""

    name: ClassVar[str] = "similarity"
    metrics: ClassVar[Sequence[Metric]] = (SPEARMAN,)
    beside: ClassVar[Sequence[Metric]] = (PEARSON,)
    within: ClassVar[Metric] = SPEARMAN
    protocols: ClassVar[Mapping[str, str]] = {"paired": "cosine of each pair"}

    takes: ClassVar[tuple[str, ...]] = ("pair",)
    shared: ClassVar[bool] = False

    def candidates(
        self, text: pa.Array, *, group: pa.Array | None, side: pa.Array | None, pair: pa.Array | None
    ) -> Candidates:
        """The scores, and the names of the pairs that both have one, null elsewhere."""
        pair = group if pair is None else pair
        if pair is None:
            raise UserError(
                "--target similarity needs to know what a score compares: name the two columns of a row (--text-column "
                "ONE --text-column OTHER) or, where each row is one example, the column of their pairs (--group-column)"
            )
        if text.null_count == len(text):
            raise UserError(
                "--target similarity needs the scores of some pairs, and there are none: name their column with "
                "--label-column"
            )
        named, unpaired = partnered(pc.if_else(text.is_valid(), pair, None), None)
        counts = pc.value_counts(named.drop_null())
        many = sorted(of["values"] for of in counts.to_pylist() if of["counts"] > 2)
        if many:
            raise UserError(
                f"pair {first_of(many)} has more than two examples, of which a score says nothing: name each two apart"
            )
        return Candidates(pc.if_else(named.is_valid(), text, None), named, unpaired)

    def read_labels(self, texts: LabelTexts) -> Answers:
        everyone = np.ones(len(texts.text), bool)
        found = read_numbers(replace(texts, training=everyone), self.name, "in pairs")
        refuse_two_scores(found.truth, texts.pair)
        return found

    def counted(self, known: Known, n: int, *, private: bool) -> str:
        return f"{n // 2:,} pairs scored" + ("" if private else range_of(known))

    def name_of(self, known: Known, row: int) -> str:
        return number_of(known, row)

    def spread(self, labelled: Labelled, *, private: bool) -> str:
        return spread_of(labelled, private=private)

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


def refuse_two_scores(truth: Any, pair: pa.Array) -> None:
    """UserError where the two of a pair have different scores."""
    encoded = pair.dictionary_encode()
    codes = codes_of(encoded)
    known = codes >= 0
    low, high = np.full(len(encoded.dictionary), np.inf), np.full(len(encoded.dictionary), -np.inf)
    np.minimum.at(low, codes[known], truth[known])
    np.maximum.at(high, codes[known], truth[known])
    if (low < high).any():
        names = sorted(encoded.dictionary[int(code)].as_py() for code in np.flatnonzero(low < high))
        raise UserError(f"the two examples of pair {first_of(names)} have different scores: give both the same")
