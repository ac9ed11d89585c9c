"""The protocol: every arm on the same draws of the same labels, judged once on test labels that nothing saw before.

1. Choose, inside the training labels, the arm to judge and the depth at which each encoder is read (`selection`).
2. Draw the labels of every budget, the same for all arms, and predict the test examples with every arm.
3. Only then read the test labels: figures, paired differences, verdicts, labels saved.

The code keeps that order by hiding labels: steps 1 and 2 get label numbers of -1 for whatever is tested. Before all of
it test labels are counted, so that what cannot be judged is refused at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.evaluation.judgement import judge_predictions
from tacit.evaluation.metrics import Metric
from tacit.evaluation.results import Report
from tacit.evaluation.selection import FINAL, Selection, select
from tacit.evaluation.sheet import RULE, SCRATCH, TUNED, Predicted
from tacit.evaluation.splits import UNLABELLED, Budget, Plan, Positions, draw_labels, plan_for_pools, primary_budget
from tacit.evaluation.subject import Arm, Labelled, Part, as_arms, parts_of, scoring, target_of
from tacit.evaluation.targets.base import Rule, Target

if TYPE_CHECKING:
    from torch import nn

    from tacit.types import Batch

Progress = Callable[[float, str], None]
Draws = Mapping[str, list[Positions]]
Predictions = dict[tuple[str, str], NDArray[Any]]  # (protocol, budget) -> [P S n ...]

MOST_SCORES = 25_000_000  # numbers kept of all arms together


def evaluate(
    arms: Any,
    labelled: Labelled,
    *,
    primary: int | float | str | None = None,
    budgets: Sequence[int | float | str] | None = None,
    metric: str | None = None,
    draws: int | None = None,
    seed: int = 0,
    selection: Selection | None = None,
    copied: Positions | None = None,
    scratch_draws: int = 3,
    scratch_seconds: float | None = None,
    train_everywhere: bool = False,
    missing: Sequence[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Judge whether pretrained arms beat the baselines beside them on the labelled examples.

    `arms` is a sequence of `Arm`, or one encoder or callable, which without baselines gets figures but no verdict.
    Budgets are labels per class (10), shares (0.1) or names ("10 per class", "10 %", "100 in all"); a bare number is
    in all where labels have no classes. `primary` is the one that the verdict is about: unless given, 10 per class
    (100 in all) or the largest below that fits. `metric` is what it is about, by default the first of the target's
    (see `targets`). `draws` overrides the number of draws per budget. Arms trained from scratch are measured at the
    primary budget (with `train_everywhere` at each), on `scratch_draws` draws of at most `scratch_seconds` each, and
    so is the chosen arm once more, fine-tuned: the same training from a better start, with a verdict of its own.
    `missing` are the mandatory baselines that cannot be had here, which the verdict then names. `copied` names the
    test positions that have a copy among what was pretrained on: the report then gives the verdict without them too,
    as `data["without_copies"]`. `progress` is told the fraction done and what is being worked on.
    Raises `UserError` where labels, groups or budgets cannot support a judgement.
    """
    trainable = target_of(labelled).needs_labels and labelled.tokens is None  # scratch.py has no head for each token
    arms = [arm for arm in as_arms(arms) if arm.build is None or trainable]
    by = target_of(labelled).metric(metric)
    check_testable(labelled)
    parts = parts_of(labelled, seed)
    plan, main = plan_for(labelled, parts, budgets, primary, draws)
    drawn = [
        draw_labels(p.labelled.y, labelled.group, in_one_order(labelled, p.train), plan.budgets, seed=seed)
        if main is not UNLABELLED
        else {main.name: [np.empty(0, np.int64)]}
        for p in parts
    ]
    target = _scored(target_of(labelled), by, arms, parts, plan)
    tell = progress or (lambda fraction, doing: None)

    tell(0.0, "choosing inside the training labels")
    selection = selection or select(arms, labelled, primary=main.name, metric=by.name, seed=seed)
    choices = selection.folds or [selection] * len(parts)
    predictions: dict[str, Predictions] = {}
    shortened: list[str] = []
    views = next((arm.views for arm in arms if arm.build is not None), None)

    def train(arm: Arm, protocol: str, starts: Sequence[Callable[[int], nn.Module]]) -> None:
        """On the labels alone, or further on them; with the same views either way."""
        from tacit.evaluation.scratch import SCRATCH_RATE, STEPS, TUNING_RATE

        rate = SCRATCH_RATE if protocol == SCRATCH else TUNING_RATE
        fewest = STEPS
        for budget in plan.budgets if train_everywhere else [main]:
            limits = (budget, scratch_draws, scratch_seconds, seed)
            found, steps = _trained(starts, rate, views, target, parts, drawn, *limits)
            predictions.setdefault(arm.name, {})[protocol, budget.name] = found
            fewest = min(fewest, steps)
        if fewest < STEPS:
            who = arm.name if protocol == SCRATCH else f"{arm.name}, fine-tuned"
            shortened.append(f"{who}: {fewest} of {STEPS} steps")

    for number, arm in enumerate(arms):
        tell((number + 1) / (len(arms) + 1), f"probing {arm.name}")
        if arm.build is not None:
            train(arm, SCRATCH, [arm.build])
        elif arm.rule is not None:
            predictions[arm.name] = _apply(arm.rule, parts, drawn, plan.budgets)
        else:
            depths = [choice.representation.get(arm.name, FINAL) for choice in choices]
            predictions[arm.name] = _probe(arm, target, parts, drawn, plan.budgets, depths, seed)
    for arm in arms:
        alone = all(choice.arm == arm.name for choice in choices)  # folds may choose differently: nothing is tuned then
        if alone and views is not None and trainable and _tunable(arm):
            tell(len(arms) / (len(arms) + 1), f"fine-tuning {arm.name}")
            train(arm, TUNED, [partial(_copied, encoder) for encoder in arm.encoders])

    # The test labels are read from here on, and nowhere above.
    report = judge_predictions(
        Predicted(
            arms=arms,
            labelled=labelled,
            target=target,
            metric=by,
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


def check_testable(labelled: Labelled) -> None:
    """Raises `UserError` where too little can be tested, whatever will be predicted.

    Test labels are counted here, by class and group; what they are compared with is predicted later.
    """
    target_of(labelled).tested(labelled, labelled.tested)


def plan_for(
    labelled: Labelled,
    parts: Sequence[Part],
    wanted: Sequence[int | float | str] | None = None,
    primary: int | float | str | None = None,
    draws: int | None = None,
) -> tuple[Plan, Budget]:
    """The label budgets, and the primary one. Raises `UserError` where that cannot be filled."""
    target = target_of(labelled)
    if not target.needs_labels:
        return Plan([UNLABELLED], []), UNLABELLED
    plan = plan_for_pools(
        labelled.y,
        [part.train for part in parts],
        labelled.classes,
        wanted,
        draws,
        by_class=target.by_class,
        primary=primary,
    )
    return plan, primary_budget(plan.budgets, primary)


def in_one_order(labelled: Labelled, positions: Positions) -> Positions:
    """The same positions, ordered by content where that is known: draws then do not depend on how data were listed."""
    if labelled.content is None:
        return positions
    return positions[np.argsort(labelled.content[positions], kind="stable")]


def _scored(target: Target, by: Metric, arms: Sequence[Arm], parts: Sequence[Part], plan: Plan) -> Target:
    """With probabilities where the metric needs them, and for two classes, whose metrics then are few numbers more."""
    cells = sum(max(1, len(arm.encoders)) for arm in arms) * sum(len(part.test) for part in parts)
    cells *= 2 * sum(budget.draws for budget in plan.budgets) * len(target.protocols)
    if target.by_class and target.n_classes == 2 and cells <= MOST_SCORES:
        return replace(target, scores=True)
    return scoring(target, by)


def _apply(rule: Rule, parts: Sequence[Part], drawn: Sequence[Draws], budgets: Sequence[Budget]) -> Predictions:
    """What a rule says at every budget."""
    found: Predictions = {}
    for budget in budgets:
        by_part = [
            np.stack([rule(draw, p.labelled.answers[draw], p.test) for draw in draws[budget.name]])
            for p, draws in zip(parts, drawn, strict=True)
        ]
        found[RULE, budget.name] = np.concatenate(by_part, axis=1)[None]
    return found


def _probe(
    arm: Arm,
    target: Target,
    parts: Sequence[Part],
    drawn: Sequence[Draws],
    budgets: Sequence[Budget],
    depths: Sequence[str],
    seed: int,
) -> Predictions:
    """Every protocol on what frozen encoders say, at every budget."""
    learned = [part.train if target.needs_labels else part.train[:0] for part in parts]
    rows = np.unique(np.concatenate([*learned, *(part.test for part in parts)]))
    by_encoder = []
    for encoder in arm.encoders:
        said = target.read(encoder, parts[0].labelled, rows)
        said = {name: said[name] for name in set(depths)}
        by_part = []
        for part, train_on, draws, depth in zip(parts, learned, drawn, depths, strict=True):
            train, test = (said[depth][np.searchsorted(rows, at)] for at in (train_on, part.test))
            predicted: dict[tuple[str, str], NDArray[Any]] = {}
            for budget in budgets:
                for protocol, found in target.probe(part, train, test, draws[budget.name], seed).items():
                    predicted[protocol, budget.name] = found
            by_part.append(predicted)
        by_encoder.append({key: np.concatenate([p[key] for p in by_part], axis=1) for key in by_part[0]})
    return {key: np.stack([predicted[key] for predicted in by_encoder]) for key in by_encoder[0]}


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
    target: Target,
    parts: Sequence[Part],
    drawn: Sequence[Draws],
    budget: Budget,
    n_draws: int,
    seconds: float | None,
    seed: int,
) -> tuple[NDArray[Any], int]:
    """Predictions [P S n ...] after training each start on the drawn labels; the fewest steps there was time for."""
    from tacit.evaluation.scratch import train_on_labels

    steps: list[int] = []

    def predict(start: Callable[[int], nn.Module], part: Part, draw: Positions, s: int) -> NDArray[Any]:
        training = target.trainable(part.labelled.answers[draw])
        assert training is not None
        model = train_on_labels(
            start,
            part.labelled.fetch,
            draw,
            training,
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
            axis=1,
        )
        for start in starts
    ]
    return np.stack(by_start), min(steps)
