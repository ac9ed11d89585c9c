"""Choosing inside the training labels: which arm, and at which depth each encoder is read.

The training labels are split into folds of whole groups; probes learn from the primary budget's draws out of four of
them and are scored on the fifth. Sealed labels are hidden before anything here is computed, so that none can be used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.evaluate.features import extract
from tacit.evaluate.linear import probe_draws
from tacit.evaluate.splits import (
    Budget,
    Positions,
    draw_labels,
    make_folds,
    plan_budgets,
    primary_budget,
    unplanned,
)
from tacit.evaluate.subject import Arm, Labelled, as_arms, parts_of
from tacit.evaluate.verdict import is_failure

Table = dict[str, NDArray[np.float32]]  # representation -> features [N D]

FINAL = "pooled"  # the encoder's own output
DRAWS_PER_FOLD = 2
ENOUGH = 5_000  # examples beyond which validation gains nothing


@dataclass(frozen=True)
class Selection:
    """The arm to judge and the representation of every arm; in cross-fitting also those chosen without each fold."""

    arm: str
    representation: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # validation balanced accuracy
    folds: tuple[Selection, ...] = ()


def select(arms: Any, labelled: Labelled, *, primary: int | float | str | None = None, seed: int = 0) -> Selection:
    """Choose the pretrained arm and every arm's representation by validation inside the training labels.

    An arm whose alarms say FAIL is chosen only where all do. In cross-fitting the choice is made anew without each
    fold; what is returned on top is the choice by all labels, for use after the verdict.
    """
    arms = [arm for arm in as_arms(arms) if arm.encoders]
    parts = parts_of(labelled, seed)
    hidden = labelled.without(labelled.test)
    pool = _enough(labelled.train, seed)
    features = {arm.name: [extract(encoder, labelled.fetch, pool) for encoder in arm.encoders] for arm in arms}
    overall = _choose(arms, features, hidden, pool, pool, primary, seed)
    if len(labelled.test):
        return overall
    folds = [_choose(arms, features, p.labelled, pool, np.intersect1d(p.train, pool), primary, seed) for p in parts]
    return Selection(overall.arm, overall.representation, overall.scores, tuple(folds))


def _enough(train: Positions, seed: int) -> Positions:
    if len(train) <= ENOUGH:
        return train
    return np.sort(np.random.default_rng(seed).choice(train, ENOUGH, replace=False))


def _choose(
    arms: Sequence[Arm],
    features: Mapping[str, Sequence[Table]],
    labelled: Labelled,
    extracted: Positions,
    pool: Positions,
    primary: int | float | str | None,
    seed: int,
) -> Selection:
    """The selection that the labels of `pool` make; `features` hold the rows of `extracted`, a superset."""
    candidates = [arm for arm in arms if arm.kind == "pretrained"]
    sound = [arm for arm in candidates if not any(map(is_failure, arm.alarms))] or candidates
    if primary is None:
        primary = primary_budget(plan_budgets(labelled.y[pool], labelled.classes).budgets).name
    rounds = _rounds(labelled, pool, unplanned(primary, DRAWS_PER_FOLD), seed)
    scores: dict[str, dict[str, float]] = {}
    for arm in arms:
        tables = features[arm.name]
        contested = len(tables[0]) > 1 or (len(sound) > 1 and arm in sound)
        names = sorted(tables[0], key=lambda name: name != FINAL)  # the final one first: it wins ties
        scores[arm.name] = {
            name: _score([table[name] for table in tables], labelled, extracted, rounds, seed) if contested else np.nan
            for name in names
        }
    best = {name: max(of, key=lambda r: np.nan_to_num(of[r])) for name, of in scores.items()}
    chosen = max(sound, key=lambda arm: np.nan_to_num(scores[arm.name][best[arm.name]])).name if sound else ""
    measured = {name: of for name, of in scores.items() if not np.isnan(list(of.values())).any()}
    return Selection(chosen, best, measured)


def _rounds(
    labelled: Labelled, pool: Positions, budget: Budget, seed: int
) -> list[tuple[Positions, list[Positions], Positions]]:
    """(training positions, draws out of them, validation positions) of each fold."""
    y, group = labelled.y, labelled.group
    if len(np.unique(group[pool])) < 2:
        group = np.arange(len(group))  # a single group can only be validated on itself
    rounds = []
    for fold in make_folds(y, group, pool, seed=seed + 1):
        train = np.setdiff1d(pool, fold)
        draws = draw_labels(y, group, train, [budget], seed=seed + 1)[budget.name]
        rounds.append((train, [d for d in draws if len(np.unique(y[d])) > 1], fold))
    return [r for r in rounds if r[1]]


def _score(
    encoders: Sequence[NDArray[np.float32]],
    labelled: Labelled,
    extracted: Positions,
    rounds: Sequence[tuple[Positions, list[Positions], Positions]],
    seed: int,
) -> float:
    """Balanced accuracy over all folds, averaged over draws and encoders."""
    hits, truth = [], []
    for train, draws, fold in rounds:
        rows, held = np.searchsorted(extracted, train), np.searchsorted(extracted, fold)
        for features in encoders:
            predicted = probe_draws(
                features[rows],
                labelled.y[train],
                [np.searchsorted(train, draw) for draw in draws],
                features[held],
                n_classes=len(labelled.classes),
                groups=labelled.group[train] if labelled.grouped else None,
                seed=seed,
            )
            hits.append((predicted == labelled.y[fold]).ravel())
            truth.append(np.broadcast_to(labelled.y[fold], predicted.shape).ravel())
    if not hits:
        return 0.0
    right, of = np.concatenate(hits), np.concatenate(truth)
    per_class = np.bincount(of)
    seen = per_class > 0
    return float((np.bincount(of, right, minlength=len(per_class))[seen] / per_class[seen]).mean())
