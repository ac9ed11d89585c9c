"""Targets that nothing is learned for: what is judged is how alike items are, by whatever tells that of two of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse

from tacit.evaluation.metrics import Metric
from tacit.evaluation.probes.knn import unit_rows
from tacit.evaluation.splits import Positions
from tacit.evaluation.targets.base import Floats, Rule, Target, Values

if TYPE_CHECKING:
    from tacit.evaluation.arms import Labelled, Part


@dataclass(frozen=True, eq=False)
class Alike:
    """How alike n items are: the inner product of what the one seeks and what the other has, both [n d].

    Arrays of numpy, or sparse ones of scipy, which stay sparse.
    """

    seeks: Any
    has: Any

    def __len__(self) -> int:
        return int(self.seeks.shape[0])

    def to_all(self, places: Positions) -> NDArray[Any]:
        """From these [b] to every item [b n]."""
        found = self.seeks[places] @ self.has.T
        return np.asarray(found.toarray() if issparse(found) else found)

    def to_each(self, places: Positions, others: Positions) -> NDArray[Any]:
        """From these [b] to one other each [b]."""
        return np.asarray((self.seeks[places] * self.has[others]).sum(axis=1))


def cosine(features: ArrayLike) -> Alike:
    """Of features [n d]."""
    unit = unit_rows(features)
    return Alike(unit, unit)


class Compared(Target):
    """A target that reads features by comparing them."""

    needs_labels: ClassVar[bool] = False

    @abstractmethod
    def answers(self, labelled: Labelled, positions: Positions, alike: Alike) -> Values:
        """Predictions [n ...] of these positions from how alike their items are."""

    @abstractmethod
    def comparable(self, labelled: Labelled, positions: Positions) -> bool:
        """Whether these positions have anything to be compared."""

    def rule_of(self, labelled: Labelled, alike: Callable[[Positions], Alike]) -> Rule:
        return lambda train, truth, test: self.answers(labelled, test, alike(test))

    def probe(
        self, part: Part, train: Floats, test: Floats, draws: Sequence[Positions], seed: int, *, first: int = 0
    ) -> Mapping[str, Values]:
        [protocol] = self.protocols
        return {protocol: self.answers(part.labelled, part.test, cosine(test))[None]}

    def validate(
        self, labelled: Labelled, features: Sequence[Floats], pool: Positions, rounds: Any, metric: Metric, seed: int
    ) -> float:
        if not self.comparable(labelled, pool):
            return 0.0
        tested = self.tested(labelled, pool)
        predicted = np.stack([self.answers(labelled, pool, cosine(table)) for table in features])[:, None]
        revealed = self.revealed(predicted, labelled, pool, tested)
        return float(np.mean([metric.value(of[0], tested.truth) for of in revealed]))

    def glance(self, labelled: Labelled, positions: Positions, features: Floats, encoder: Any) -> float | None:
        if not self.comparable(labelled, positions):
            return None
        return self.validate(labelled, [features], positions, (), self.metrics[0], 0)
