"""Recommendation: what does a person use next, among everything that there is? Nothing is learned from labels.

An example is a sequence, its truth the number of the item that came next. Encoders are not probed but called for
scores of the whole catalogue; the first hundred items are what is predicted, so that none knows what came before all
have answered. Histories count alike, however long: they are what varies, and each one's gain is a value of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.evaluation import ranked
from tacit.evaluation.metrics import Influence, Metric, ranks
from tacit.evaluation.splits import Positions
from tacit.evaluation.targets.base import Floats, Target, Tested, Values
from tacit.evaluation.targets.ranking import rank

if TYPE_CHECKING:
    from tacit.evaluation.arms import Labelled, Part

SHOWN = 10  # items that people are thought to look at
SHORT, LONG = 5, 20  # events of a history
RARE = 5  # uses below which an item is cold
MARGIN = 0.002  # of equivalence: of a whole catalogue the best find one item in ten or twenty


COVERAGE = Metric("coverage@10", "share of the catalogue recommended to anyone", ranked.coverage(1))
BIAS = Metric(
    "popularity_bias@10",
    "popularity beyond what came",
    ranked.popularity_bias(np.zeros(1)),
    low=-1.0,
    discrete=False,
)


def _metrics(how: str) -> tuple[Metric, ...]:
    def metric(name: str, words: str, influence: Influence) -> Metric:
        return Metric(f"{name}/full/{how}", words, influence, margin=MARGIN)

    return (
        *(metric(f"ndcg@{k}", f"nDCG@{k}", ranked.next_ndcg_at(k)) for k in (10, 5, 20)),
        *(metric(f"hr@{k}", f"hit rate@{k}", ranked.hit_rate_at(k)) for k in (1, 5, 10, 20)),
        metric("mrr@100", "MRR@100", ranked.reciprocal_rank_at(100)),
    )


@dataclass(frozen=True)
class Recommendation(Target):
    """Numbers [n 100] of the items ranked first; what a history holds is not recommended again."""

    name: ClassVar[str] = "recommendation"
    metrics: ClassVar[Sequence[Metric]] = _metrics("seen-filtered")
    beside: ClassVar[Sequence[Metric]] = (COVERAGE, BIAS)
    within: ClassVar[Metric] = metrics[0]
    asks_next: ClassVar[bool] = True
    protocols: ClassVar[Mapping[str, str]] = {"ranking": "full ranking of what was not seen"}
    needs_labels: ClassVar[bool] = False
    examples: ClassVar[str] = "histories"
    again: ClassVar[bool] = False  # what was seen may be recommended

    def read(self, encoder: Any, labelled: Labelled, rows: Positions) -> Mapping[str, Values]:
        return {"pooled": rank(encoder, labelled.fetch, rows, len(popularity(labelled)), seen=self.again)}

    def probe(
        self, part: Part, train: Values, test: Values, draws: Sequence[Positions], seed: int, *, first: int = 0
    ) -> Mapping[str, Values]:
        return {next(iter(self.protocols)): test[None]}

    def validate(
        self, labelled: Labelled, features: Sequence[Values], pool: Positions, rounds: Any, metric: Metric, seed: int
    ) -> float:
        tested = self.tested(labelled, pool)
        found = self.revealed(np.stack(features)[:, None], labelled, pool, tested)
        return float(np.mean([metric.value(of[0], tested.truth) for of in found]))

    def glance(self, labelled: Labelled, positions: Positions, features: Floats, encoder: Any) -> float | None:
        if len(positions) < 2:
            return None
        found = self.read(encoder, labelled, positions)
        return self.validate(labelled, [found["pooled"]], positions, (), self.metrics[0], 0)

    def tested(self, labelled: Labelled, positions: Positions) -> Tested:
        came = labelled.answers[positions].astype(np.int64)
        if len(came) < 2:
            raise UserError("fewer than two histories are to be tested: give more people with two events or more")
        return Tested(np.ones(len(came), bool), came, [])

    def revealed(self, predicted: Values, labelled: Labelled, positions: Positions, tested: Tested) -> Values:
        """The place of what came, and the first ten [P S n 11]."""
        lists = predicted[:, :, tested.counts]
        hit = lists == tested.truth[:, None]
        place = np.where(hit.any(axis=-1), 1 + hit.argmax(axis=-1), 0)
        return np.concatenate([place[..., None], lists[..., :SHOWN]], axis=-1, dtype=np.int32)

    def smoothing(self, truth: Values, unit: NDArray[np.int64], alike: float) -> float:
        return 1.0 / len(truth) ** 2

    def asides(self, labelled: Labelled) -> Sequence[Metric]:
        uses = popularity(labelled)
        percentile = (ranks(uses) - 1) / max(1, len(uses) - 1)
        bias = ranked.popularity_bias(percentile)
        return COVERAGE._replace(influence=ranked.coverage(len(uses))), BIAS._replace(influence=bias)

    def parts(self, labelled: Labelled, positions: Positions) -> Mapping[str, NDArray[np.bool_]]:
        """Short and long histories, and those that go on with an item that hardly anybody used."""
        uses = popularity(labelled)[labelled.answers[positions].astype(np.int64)]
        found = {f"next item used less than {RARE} times": uses < RARE}
        if labelled.lengths is not None:
            length = labelled.lengths[positions]
            found[f"histories of less than {SHORT} events"] = length < SHORT
            found[f"histories of {SHORT} to {LONG} events"] = (length >= SHORT) & (length <= LONG)
            found[f"histories of more than {LONG} events"] = length > LONG
        return found


class Repeats(Recommendation):
    """The same where people come back to what they know: nothing is left out of the ranking."""

    name: ClassVar[str] = "repeats"
    metrics: ClassVar[Sequence[Metric]] = _metrics("seen-kept")
    within: ClassVar[Metric] = metrics[0]
    protocols: ClassVar[Mapping[str, str]] = {"ranking-again": "full ranking of everything"}
    again: ClassVar[bool] = True


def popularity(labelled: Labelled) -> NDArray[np.int64]:
    """How often each item of the catalogue was used."""
    if labelled.popularity is None:
        raise UserError("to judge recommendations, say how often each item of the catalogue was used: popularity=[...]")
    return labelled.popularity
