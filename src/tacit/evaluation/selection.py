"""Choosing inside the training labels: which arm, and at which depth each encoder is read.

The training labels are split into folds of whole groups; a probe learns from one draw of the primary budget out of
four of them, of 1,000 labels at most, and is scored on the fifth, in turn. Sealed labels are hidden before anything
here is computed, so that none can be used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.stages import stage
from tacit.evaluation.arms import Arm, Labelled, as_arms, in_one_order, parts_of, scoring, sorted_by_content, target_of
from tacit.evaluation.metrics import Metric
from tacit.evaluation.splits import (
    Budget,
    Positions,
    draw_labels,
    make_folds,
    plan_budgets,
    primary_budget,
    unplanned,
)
from tacit.evaluation.targets.base import Target
from tacit.evaluation.verdict import is_failure

Table = Mapping[str, NDArray[Any]]  # representation -> features [N D], or whatever else the target reads

FINAL = "pooled"  # the encoder's own output
ENOUGH = 5_000  # examples beyond which validation gains nothing
LEARNED_FROM = 1_000  # labels beyond which the best representation hardly changes


@dataclass(frozen=True)
class Selection:
    """The arm to judge and the representation of every arm; in cross-fitting also those chosen without each fold."""

    arm: str
    representation: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of the metric, in validation
    folds: tuple[Selection, ...] = ()


def select(
    arms: Any,
    labelled: Labelled,
    *,
    primary: int | float | str | None = None,
    metric: str | None = None,
    seed: int = 0,
    enough: int = ENOUGH,
) -> Selection:
    """Choose the pretrained arm and every arm's representation by validation inside the training labels.

    `metric` is what they are chosen by, one of the target's; by default its first. Of more than `enough` training
    labels as many are looked at, drawn at random.

    An arm whose alarms say FAIL is chosen only where all do. In cross-fitting the choice is made anew without each
    fold; what is returned on top is the choice by all labels, for use after the verdict.
    """
    arms, labelled = [arm for arm in as_arms(arms) if arm.encoders], in_one_order(labelled)
    by = target_of(labelled).metric(metric)
    target = scoring(target_of(labelled), by)
    parts = parts_of(labelled, seed)
    hidden = labelled.without(labelled.test)
    if not (target.needs_labels or (len(labelled.test) and len(labelled.train))):  # there are no labels to choose by
        return _unchosen(arms)
    pool = _enough(sorted_by_content(labelled, labelled.train), seed, enough)
    features = {arm.name: [target.read(encoder, hidden, pool) for encoder in arm.encoders] for arm in arms}

    def choose(labelled: Labelled, pool_: Positions) -> Selection:
        return _choose(arms, features, labelled, pool, pool_, target, by, primary, seed)

    overall = choose(hidden, pool)
    if len(labelled.test):
        return overall
    folds = [choose(part.labelled, np.intersect1d(part.train, pool)) for part in parts]
    return Selection(overall.arm, overall.representation, overall.scores, tuple(folds))


def _unchosen(arms: Sequence[Arm]) -> Selection:
    """The first pretrained arm that did not fail, every encoder read at its own output."""
    candidates = [arm for arm in arms if arm.kind == "pretrained"]
    sound = [arm.name for arm in candidates if not any(map(is_failure, arm.alarms))]
    return Selection((sound or [arm.name for arm in candidates] or [""])[0], {arm.name: FINAL for arm in arms})


def _enough(train: Positions, seed: int, enough: int) -> Positions:
    if len(train) <= enough:
        return np.sort(train)
    return np.sort(np.random.default_rng(seed).choice(train, enough, replace=False))


def _choose(
    arms: Sequence[Arm],
    features: Mapping[str, Sequence[Table]],
    labelled: Labelled,
    extracted: Positions,
    pool: Positions,
    target: Target,
    metric: Metric,
    primary: int | float | str | None,
    seed: int,
) -> Selection:
    """The selection that the labels of `pool` make; `features` hold the rows of `extracted`, a superset."""
    candidates = [arm for arm in arms if arm.kind == "pretrained"]
    sound = [arm for arm in candidates if not any(map(is_failure, arm.alarms))] or candidates
    rounds: list[tuple[Positions, Positions]] = []
    if target.needs_labels:
        by_class = target.by_class
        if primary is None:
            plan = plan_budgets(labelled.y[pool], labelled.classes, by_class=by_class, group=labelled.group[pool])
            primary = primary_budget(plan.budgets).name
        rounds = _rounds(labelled, pool, unplanned(primary, draws=1, by_class=by_class), seed)
    inside = np.searchsorted(extracted, pool)
    scores: dict[str, dict[str, float]] = {}
    with stage("weighing", len(arms)) as now:
        for arm in arms:
            tables = features[arm.name]
            contested = len(tables[0]) > 1 or (len(sound) > 1 and arm in sound)
            names = sorted(tables[0], key=lambda name: name != FINAL)  # the final one first: it wins ties
            scores[arm.name] = {
                name: target.validate(labelled, [t[name][inside] for t in tables], pool, rounds, metric, seed)
                if contested
                else np.nan
                for name in names
            }
            now.step()
    best = {name: max(of, key=lambda r: np.nan_to_num(of[r])) for name, of in scores.items()}
    chosen = max(sound, key=lambda arm: np.nan_to_num(scores[arm.name][best[arm.name]])).name if sound else ""
    measured = {name: of for name, of in scores.items() if not np.isnan(list(of.values())).any()}
    return Selection(chosen, best, measured)


def _rounds(labelled: Labelled, pool: Positions, budget: Budget, seed: int) -> list[tuple[Positions, Positions]]:
    """(the draw from all other folds, validation positions) of each fold."""
    y, group = labelled.y, labelled.group
    if len(np.unique(group[pool])) < 2:
        group = np.arange(len(group))  # a single group can only be validated on itself
    rounds = []
    for fold in make_folds(y, group, pool, seed=seed + 1):
        rest = sorted_by_content(labelled, np.setdiff1d(pool, fold))
        [draw] = draw_labels(y, group, rest, [budget], seed=seed + 1)[budget.name]
        some = np.random.default_rng(seed).permutation(draw)[:LEARNED_FROM]
        rounds.append((some, fold))
    return rounds
