"""What pairs must be matched better than: a linear map from counts of captions to plain features of examples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tacit.data.split import Split
from tacit.evaluation import Arm
from tacit.evaluation.arms import target_of
from tacit.evaluation.probes.knn import unit_rows
from tacit.evaluation.splits import Positions
from tacit.evaluation.targets.matching import Matching
from tacit.modalities import modality_named
from tacit.modalities.pair.store import Pairs

MOST = 20_000  # pairs that the map is fitted on
PENALTY = 1.0

Floats = NDArray[np.float64]


def mapped(store: Pairs, split: Split, seed: int) -> list[Arm]:
    """Ridge regression from the plain features of the second side to those of the first, on the pretraining pairs.

    Where classes are recognised by their names, it answers the commonest.
    """
    labelled = split.labelled
    assert labelled is not None
    target = target_of(labelled)
    assert isinstance(target, Matching)
    rows = np.sort(np.random.default_rng(seed).permutation(split.pretrain)[:MOST])
    first, second = store.sides
    plain = {
        side: modality_named(side).plain(of.store, store.only(side, rows), seed) for side, of in store.sides.items()
    }
    seen, answers = plain[first], plain[second]
    if seen is None or answers is None:
        return []

    known = labelled.y[labelled.train]  # of those that are chosen by
    commonest = float(np.bincount(known).argmax()) if len(known) else -1.0

    def rule(train: Positions, truth: object, test: Positions) -> NDArray[np.int32]:
        from sklearn.linear_model import Ridge

        examples = np.asarray(seen(store.only(first, rows)), np.float64)
        middle, spread = examples.mean(0), examples.std(0) + 1e-9
        model = Ridge(alpha=PENALTY).fit(answers(store.only(second, rows)), (examples - middle) / spread)
        tested = split.rows[test]
        one = unit_rows((np.asarray(seen(store.only(first, tested)), np.float64) - middle) / spread)
        other = unit_rows(model.predict(answers(store.only(second, tested))))
        table = np.concatenate([one, other, np.full((len(test), 1), commonest)], axis=1)
        return target.found(labelled, test, table)

    return [Arm("counts", "baseline", rule=rule, encoder="ridge from plain to plain features of the sides", own=True)]
