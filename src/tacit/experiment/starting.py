"""Checks before the first step: the tasks, their evaluation, room on the disk.

Training takes hours, and an error in the evaluation would otherwise appear after it.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from tacit.core import gathering, ranks
from tacit.core.errors import RunFailed, UserError
from tacit.evaluation import Arm
from tacit.experiment.folder import JUDGING
from tacit.experiment.plan import checked_parts
from tacit.experiment.settings import Judging
from tacit.modalities import next_up
from tacit.training.stepping import Comparing

if TYPE_CHECKING:
    from tacit.evaluation import Labelled
    from tacit.experiment.opening import Opened
    from tacit.experiment.pretraining import Pretraining

TRIED = 4  # examples on which an encoder is tried
MOMENTS = 2  # numbers that AdamW keeps of each weight
CHECKPOINTS = 2  # that are kept of a training, see `checkpoint.save`
FEWEST = 2  # distinct examples


def check_start(
    pretraining: Pretraining,
    mixtures: Mapping[str, Mapping[str, float]],
    baselines: Sequence[Arm],
    settings: Judging,
    folder: Path,
    *,
    seeds: int = 1,
) -> None:
    """UserError for anything that would end a run later: in pretraining, in the evaluation, or for lack of room."""
    check_room(folder, check_tasks(pretraining, mixtures), seeds)
    if ranks.is_leader():  # who judges
        encoder = pretraining.architecture.encoder
        candidates = [Arm(name, "pretrained", (encoder,)) for name in mixtures]
        check_judging([*candidates, *baselines], pretraining.opened, settings)


def check_tasks(pretraining: Pretraining, mixtures: Mapping[str, Mapping[str, float]]) -> list[tuple[int, int]]:
    """UserError where a task cannot learn from these data with these steps.

    Each is built as for its training, so that the last one is known to work before the first begins. Returns for each
    task the bytes of its weights and of its encoder.
    """
    dataset, encoder, sizes = pretraining.opened.dataset, pretraining.architecture.encoder, []
    rows, steps = pretraining.opened.split.pretrain, pretraining.steps
    wished = steps.batch_size if isinstance(steps.batch_size, int) else None
    if len(rows) < FEWEST:
        raise UserError(
            f"{len(rows)} examples of {dataset.name} may be pretrained on, and {FEWEST} are needed at least: "
            "leave fewer out for the test, or add examples without labels"
        )
    for name, weights in mixtures.items():
        recipe = pretraining.recipe(weights, copy.deepcopy(encoder), wished)
        source = pretraining.batches(recipe, 0)
        size, world, parts = recipe.batch_size, gathering.world(), checked_parts(steps.accumulate)
        if size % world:
            raise UserError(f"a batch of {size} cannot be shared equally by {world} processes; choose --batch-size")
        if size // world % parts:
            raise UserError(
                f"--accumulate {parts}: {size // world} examples per process have no {parts} equal parts; choose "
                "another one, or --batch-size"
            )
        if size < FEWEST and _compares(recipe.task):
            raise UserError(
                f"--batch-size {size}: {name} learns by telling examples of a step apart; give {FEWEST} at least"
            )
        if len(source.among) < FEWEST and _compares(recipe.task):
            raise UserError(f"{name} learns by telling examples apart, and there is one of {dataset.name}")
        sizes.append((_bytes(recipe.task), _bytes(encoder)))
    return sizes


def _compares(task: nn.Module) -> bool:
    """Whether a task learns nothing from one example alone; also where it is normalised over its batch."""
    return any(isinstance(part, Comparing | nn.BatchNorm1d) for part in task.modules())


def _bytes(module: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


def check_room(folder: Path, sizes: Sequence[tuple[int, int]], seeds: int = 1) -> None:
    """UserError where the disk has no room for the checkpoints and encoders of these tasks, see `check_tasks`.

    Files of the resumed run that are in the folder already count as room.
    """
    checkpoints = [(1 + MOMENTS) * task for task, _ in sizes]
    needed = max(checkpoints) + max(encoder for _, encoder in sizes)  # one more of each while it is written
    needed += seeds * sum(CHECKPOINTS * each + encoder for each, (_, encoder) in zip(checkpoints, sizes, strict=True))
    free = shutil.disk_usage(folder).free + sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if free < needed:
        raise UserError(
            f"the disk has {free / 1e6:,.1f} MB free at {folder}, and checkpoints and encoders take about "
            f"{needed / 1e6:,.1f} MB: free some space, choose another --out, or a smaller --encoder"
        )


def check_judging(arms: Sequence[Arm], opened: Opened, settings: Judging) -> None:
    """UserError where these encoders could not be evaluated in the end, whatever their features.

    That is: a metric, label budgets and a split that suit the labels, names that differ, and baselines that open and
    answer. A few examples are embedded to see that they do.
    """
    from tacit.evaluation.arms import as_arms, parts_of, target_of
    from tacit.evaluation.protocol import check_testable, plan_for

    labelled, seal = opened.split.labelled, opened.split.seal
    if labelled is None or seal is None:
        check_unlabelled(settings, opened.dataset.kind)
        return
    target_of(labelled).metric(settings.metric)
    plan_for(labelled, parts_of(labelled, seal.seed), settings.label_budgets, settings.primary_budget)
    check_testable(labelled)
    few = np.sort(labelled.tested[:TRIED])
    for arm in as_arms(arms):
        for encoder in arm.encoders if arm.public is not False else ():
            _try(arm.name, encoder, labelled, few)


def _try(name: str, encoder: Any, labelled: Labelled, few: Any) -> None:
    """Embed a few examples. UserError where the encoder fails, whatever it raises."""
    from tacit.evaluation.arms import target_of

    try:
        target_of(labelled).read(encoder, labelled, few)
    except (UserError, RunFailed):
        raise
    except Exception as error:  # of a user's own function, or of a model that does not fit the data
        message = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{name} cannot read these data: {message}") from error


def check_unlabelled(settings: Judging, kind: str) -> None:
    """UserError for settings of the evaluation, which is impossible without labels."""
    given = [name for name in JUDGING if getattr(settings, name, None)]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        remedy = "leave --holdout none out" if next_up(kind) else "name them with --labels FILE or --label-column"
        raise UserError(f"{flags}: nothing is judged without labels; {remedy}, or leave out what asks for it")
