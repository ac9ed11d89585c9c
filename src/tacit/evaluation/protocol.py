"""The protocol: every arm on the same draws of the same labels, judged once on test labels that nothing saw before.

1. Choose, inside the training labels, the arm to judge and the depth at which each encoder is read (`selection`).
2. Draw the labels of every budget, the same for all arms, and predict the test examples with every arm.
3. Only then read the test labels: figures, paired differences, verdicts, labels saved.

The code keeps that order by hiding labels: steps 1 and 2 get label numbers of -1 for whatever is tested.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.evaluation.features import extract
from tacit.evaluation.judgement import SCRATCH, TUNED, Predicted, judge_predictions
from tacit.evaluation.knn import knn_predict
from tacit.evaluation.linear import probe_draws
from tacit.evaluation.results import Report
from tacit.evaluation.selection import FINAL, Selection, select
from tacit.evaluation.splits import Budget, Positions, draw_labels, plan_for_pools, primary_budget
from tacit.evaluation.subject import Arm, Labelled, Part, as_arms, parts_of

if TYPE_CHECKING:
    from torch import nn

    from tacit.types import Batch

Progress = Callable[[float, str], None]
Draws = Mapping[str, list[Positions]]
Predictions = dict[tuple[str, str], NDArray[np.int32]]  # (protocol, budget) -> [P S n]


def evaluate(
    arms: Any,
    labelled: Labelled,
    *,
    primary: int | float | str | None = None,
    budgets: Sequence[int | float | str] | None = None,
    draws: int | None = None,
    seed: int = 0,
    selection: Selection | None = None,
    copied: Positions | None = None,
    scratch_draws: int = 3,
    scratch_seconds: float | None = None,
    missing: Sequence[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Judge whether pretrained arms beat the baselines beside them on the labelled examples.

    `arms` is a sequence of `Arm`, or one encoder or callable, which without baselines gets figures but no verdict.
    Budgets are labels per class (10), shares (0.1) or names ("10 per class", "10 %"); `primary` is the one that the
    verdict is about: unless given, 10 per class or the largest below that fits. `draws` overrides the number of draws
    per budget. Arms trained from scratch are measured at the primary budget, on `scratch_draws` draws of at most
    `scratch_seconds` each, and so is the chosen arm once more, fine-tuned: the same training from a better start, with
    a verdict of its own. `missing` are the mandatory baselines that cannot be had here, which the verdict then names.
    `copied` names the test positions that have a copy among what was pretrained on: the report then gives the verdict
    without them too, as `data["without_copies"]`. `progress` is told the fraction done and what is being worked on.
    Raises `UserError` where labels, groups or budgets cannot support a judgement.
    """
    arms = as_arms(arms)
    parts = parts_of(labelled, seed)
    plan = plan_for_pools(labelled.y, [part.train for part in parts], labelled.classes, budgets, draws)
    main = primary_budget(plan.budgets, primary)
    tell = progress or (lambda fraction, doing: None)

    tell(0.0, "choosing inside the training labels")
    selection = selection or select(arms, labelled, primary=main.name, seed=seed)
    choices = selection.folds or [selection] * len(parts)
    drawn = [draw_labels(p.labelled.y, labelled.group, p.train, plan.budgets, seed=seed) for p in parts]
    predictions: dict[str, Predictions] = {}
    shortened: list[str] = []
    views = next((arm.views for arm in arms if arm.build is not None), None)

    def train(arm: Arm, protocol: str, starts: Sequence[Callable[[int], nn.Module]]) -> None:
        """On the labels of the primary budget alone, or further on them; with the same views either way."""
        from tacit.evaluation.scratch import SCRATCH_RATE, STEPS, TUNING_RATE

        rate = SCRATCH_RATE if protocol == SCRATCH else TUNING_RATE
        found, steps = _trained(starts, rate, views, parts, drawn, main, scratch_draws, scratch_seconds, seed)
        predictions.setdefault(arm.name, {})[protocol, main.name] = found
        if steps < STEPS:
            who = arm.name if protocol == SCRATCH else f"{arm.name}, fine-tuned"
            shortened.append(f"{who}: {steps} of {STEPS} steps")

    for number, arm in enumerate(arms):
        tell((number + 1) / (len(arms) + 1), f"probing {arm.name}")
        if arm.build is None:
            depths = [choice.representation.get(arm.name, FINAL) for choice in choices]
            predictions[arm.name] = _probe(arm, parts, drawn, plan.budgets, depths, seed)
        else:
            train(arm, SCRATCH, [arm.build])
    for arm in arms:
        alone = all(choice.arm == arm.name for choice in choices)  # folds may choose differently: nothing is tuned then
        if alone and views is not None and _tunable(arm):
            tell(len(arms) / (len(arms) + 1), f"fine-tuning {arm.name}")
            train(arm, TUNED, [partial(_copied, encoder) for encoder in arm.encoders])

    # The test labels are read from here on, and nowhere above.
    report = judge_predictions(
        Predicted(
            arms=arms,
            labelled=labelled,
            tested=np.concatenate([part.test for part in parts]),
            sizes=[len(part.test) for part in parts],
            plan=plan,
            primary=main,
            predictions=predictions,
            drawn=drawn,
            selection=selection,
            missing=tuple(missing),
            copied=np.empty(0, np.int64) if copied is None else copied,
        )
    )
    tell(1.0, "judged")
    return report.with_data(shortened=shortened)


def _probe(
    arm: Arm, parts: Sequence[Part], drawn: Sequence[Draws], budgets: Sequence[Budget], depths: Sequence[str], seed: int
) -> Predictions:
    """Linear probe and nearest neighbours on frozen features at every budget."""
    rows = np.unique(np.concatenate([positions for part in parts for positions in (part.train, part.test)]))
    by_encoder = []
    for encoder in arm.encoders:
        features = extract(encoder, parts[0].labelled.fetch, rows)
        features = {name: features[name] for name in set(depths)}
        by_part = []
        for part, draws, depth in zip(parts, drawn, depths, strict=True):
            by_part.append(_probe_part(features[depth], rows, part, draws, budgets, seed))
        by_encoder.append({key: np.concatenate([p[key] for p in by_part], axis=-1) for key in by_part[0]})
    return {key: np.stack([predicted[key] for predicted in by_encoder]) for key in by_encoder[0]}


def _probe_part(
    features: NDArray[np.float32], rows: Positions, part: Part, draws: Draws, budgets: Sequence[Budget], seed: int
) -> dict[tuple[str, str], NDArray[np.int32]]:
    """Predictions [S n] of one encoder on one split."""
    train, test = features[np.searchsorted(rows, part.train)], features[np.searchsorted(rows, part.test)]
    y, n_classes = part.labelled.y[part.train], len(part.labelled.classes)
    groups = part.labelled.group[part.train] if part.labelled.grouped else None
    predicted: dict[tuple[str, str], NDArray[np.int32]] = {}
    for budget in budgets:
        taken = [np.searchsorted(part.train, draw) for draw in draws[budget.name]]
        used = np.unique(np.concatenate(taken))  # the probe works in double precision: hand it no more than needed
        linear = probe_draws(
            train[used],
            y[used],
            [np.searchsorted(used, draw) for draw in taken],
            test,
            n_classes=n_classes,
            groups=None if groups is None else groups[used],
            seed=seed,
        )
        near = [knn_predict(train[draw], y[draw], test, n_classes) for draw in taken]
        predicted["linear", budget.name] = linear.astype(np.int32)
        predicted["knn", budget.name] = np.stack(near).astype(np.int32)
    return predicted


def _copied(encoder: nn.Module, seed: int) -> nn.Module:
    return copy.deepcopy(encoder)


def _tunable(arm: Arm) -> bool:
    """Whether an arm's encoders can learn further."""
    from torch import nn

    return all(
        isinstance(encoder, nn.Module) and any(p.requires_grad for p in encoder.parameters())
        for encoder in arm.encoders
    )


def _trained(
    starts: Sequence[Callable[[int], nn.Module]],
    lr: float,
    views: Callable[[Batch, int], Batch] | None,
    parts: Sequence[Part],
    drawn: Sequence[Draws],
    budget: Budget,
    n_draws: int,
    seconds: float | None,
    seed: int,
) -> tuple[NDArray[np.int32], int]:
    """Predictions [P S n] after training each start on the drawn labels; also the fewest steps there was time for."""
    from tacit.evaluation.scratch import train_classifier

    steps: list[int] = []

    def predict(start: Callable[[int], nn.Module], part: Part, draw: Positions, s: int) -> NDArray[np.int64]:
        model = train_classifier(
            start,
            part.labelled.fetch,
            draw,
            part.labelled.y[draw],
            n_classes=len(part.labelled.classes),
            seed=seed + s,
            views=views,
            seconds=seconds,
            lr=lr,
        )
        steps.append(model.steps)
        return model.predict(part.labelled.fetch, part.test)

    by_start = [
        np.concatenate(
            [
                np.stack([predict(start, part, draw, s) for s, draw in enumerate(draws[budget.name][:n_draws])])
                for part, draws in zip(parts, drawn, strict=True)
            ],
            axis=-1,
        )
        for start in starts
    ]
    return np.stack(by_start).astype(np.int32), min(steps)
