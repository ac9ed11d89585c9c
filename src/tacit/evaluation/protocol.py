"""The protocol: every arm on the same draws of the same labels, evaluated once on test labels that nothing has seen.

1. Choose, inside the training labels, the arm to judge and the depth at which each encoder is read (`selection`).
2. Draw the labels of every budget, the same for all arms, and predict the test examples with every arm.
3. Only then read the test labels: figures, paired differences, verdicts, labels saved.

The code enforces that order by hiding labels: steps 1 and 2 get label numbers of -1 for all tested examples. Before
them test labels are counted, so that an impossible evaluation is refused at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tacit.core.budget import NEVER, Deadline
from tacit.core.errors import UserError
from tacit.evaluation.agenda import Agenda
from tacit.evaluation.arms import (
    Arm,
    Labelled,
    Part,
    as_arms,
    in_one_order,
    parts_of,
    scoring,
    sorted_by_content,
    target_of,
)
from tacit.evaluation.differences import Predicted
from tacit.evaluation.judgement import judge_predictions
from tacit.evaluation.metrics import Metric, margin_of
from tacit.evaluation.results import Report
from tacit.evaluation.selection import ENOUGH, Selection, select
from tacit.evaluation.splits import UNLABELLED, Budget, Plan, Positions, draw_labels, plan_for_pools, primary_budget
from tacit.evaluation.targets.base import Target

Progress = Callable[[float, str], None]

MOST_SCORES = 25_000_000  # numbers kept of all arms together


def evaluate(
    arms: Any,
    labelled: Labelled,
    *,
    primary: int | float | str | None = None,
    budgets: Sequence[int | float | str] | None = None,
    metric: str | None = None,
    margin: float | None = None,
    draws: int | None = None,
    seed: int = 0,
    selection: Selection | None = None,
    copied: Positions | None = None,
    scratch_draws: int = 3,
    train_everywhere: bool = False,
    missing: Sequence[str] = (),
    deadline: Deadline = NEVER,
    scratch_seconds: float = 0.0,
    enough: int = ENOUGH,
    progress: Progress | None = None,
) -> Report:
    """Judge whether pretrained arms beat the baselines beside them on the labelled examples.

    `arms` is a sequence of `Arm`, or one encoder or callable, which without baselines gets figures but no verdict.
    Budgets are labels per class (10), shares (0.1) or names ("10 per class", "10 %", "100 in all"); a bare number is
    in all where labels have no classes. `primary` is the one that the verdict is about: unless given, 10 per class
    (100 in all) or the largest below that fits. `metric` is what it is about, by default the first of the target's
    (see `targets`), `margin` the points below which a difference is of no practical size. `draws` overrides the
    number of draws per budget. Arms trained from scratch are measured at the primary budget (with `train_everywhere`
    at each), on `scratch_draws` draws, and so is the chosen arm once more, fine-tuned: the same training from a
    better start, with a verdict of its own. `missing` are the mandatory baselines that cannot be had here, which the
    verdict then names. `copied` names the test positions that have a copy among what was pretrained on: the report
    then gives the verdict without them too, as `data["without_copies"]`.

    With a `deadline` the least that gives a verdict is judged in any case, all else as far as time allows, see
    `agenda`; `scratch_seconds` says about how long one training on the labels takes, `enough` by how many training
    labels at most depths are chosen. `progress` gets the fraction done and the current step. Raises
    `UserError` where labels, groups or budgets cannot support a judgement.
    """
    labelled = in_one_order(labelled)
    trainable = target_of(labelled).needs_labels and labelled.tokens is None  # scratch.py has no head for each token
    arms = [arm for arm in as_arms(arms) if arm.build is None or trainable]
    if seed < 0:
        raise UserError(f"the seed {seed} is negative: give a number from 0 on")
    by = target_of(labelled).metric(metric)
    if margin is not None:
        by = by._replace(margin=margin_of(margin))
    parts = parts_of(labelled, seed)
    plan, main = plan_for(labelled, parts, budgets, primary, draws)
    check_testable(labelled)
    drawn = [
        draw_labels(p.labelled.y, labelled.group, sorted_by_content(labelled, p.train), plan.budgets, seed=seed)
        if main is not UNLABELLED
        else {main.name: [np.empty(0, np.int64)]}
        for p in parts
    ]
    target = _scored(target_of(labelled), by, arms, parts, plan)
    tell = progress or (lambda fraction, doing: None)

    tell(0.0, "choosing inside the training labels")
    selection = selection or select(arms, labelled, primary=main.name, metric=by.name, seed=seed, enough=enough)
    work = Agenda(
        arms=arms,
        target=target,
        parts=parts,
        drawn=drawn,
        plan=plan,
        primary=main,
        selection=selection,
        seed=seed,
        deadline=deadline,
        scratch_draws=scratch_draws,
        scratch_seconds=scratch_seconds,
        train_everywhere=train_everywhere,
        tell=tell,
    )
    work.do(trainable)

    # The test labels are read from here on, and nowhere above.
    report = judge_predictions(
        Predicted(
            arms=arms,
            labelled=labelled,
            target=target,
            metric=by,
            tested=np.concatenate([part.test for part in parts]),
            sizes=[len(part.test) for part in parts],
            plan=work.judged(),
            primary=work.as_judged(main),
            predictions=work.predictions,
            drawn=work.drawn_in_fact(),
            selection=selection,
            missing=(*missing, *work.missing),
            copied=np.empty(0, np.int64) if copied is None else copied,
            shortened=work.shortened,
        )
    )
    tell(1.0, "judged")
    return report.with_data(
        shortened=work.shortened_in_words(),
        given_up=work.given_up,
    )


def check_testable(labelled: Labelled) -> None:
    """Raises `UserError` where too little can be tested, for any predictions.

    Test labels are counted here, by class and group; predictions are made later.
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
        group=labelled.group,
        filling=target.filling(labelled),
    )
    return plan, primary_budget(plan.budgets, primary)


def _scored(target: Target, by: Metric, arms: Sequence[Arm], parts: Sequence[Part], plan: Plan) -> Target:
    """With probabilities where the metric needs them, and for two classes, whose metrics then are few numbers more."""
    cells = sum(max(1, len(arm.encoders)) for arm in arms) * sum(len(part.test) for part in parts)
    cells *= 2 * sum(budget.draws for budget in plan.budgets) * len(target.protocols)
    if target.by_class and target.n_classes == 2 and cells <= MOST_SCORES:
        return replace(target, scores=True)
    return scoring(target, by)
