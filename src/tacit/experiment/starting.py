"""What can be known before the first step is checked before it: the tasks, how they are judged, room on the disk.

Training takes hours, and whatever is wrong with its judging would come out after it.
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
from tacit.experiment.folder import JUDGING
from tacit.experiment.plan import checked_parts
from tacit.experiment.settings import Judging
from tacit.training.stepping import Comparing

if TYPE_CHECKING:
    from tacit.evaluation import Arm
    from tacit.experiment.experiment import Study

TRIED = 4  # examples that an encoder is tried on
MOMENTS = 2  # numbers that AdamW keeps of each weight
CHECKPOINTS = 2  # that are kept of a training, see `checkpoint.save`
FEWEST = 2  # examples that can be told apart


def check_start(study: Study, mixtures: Mapping[str, Mapping[str, float]], folder: Path, *, seeds: int = 1) -> None:
    """UserError for what would end a run later on: in pretraining, in judging, or for want of room."""
    check_room(folder, check_tasks(study, mixtures), seeds)
    if ranks.leader():  # who judges
        check_judging(study, [_planned(name, study) for name in mixtures])


def check_tasks(study: Study, mixtures: Mapping[str, Mapping[str, float]]) -> list[tuple[int, int]]:
    """UserError where a task cannot learn from these data in such steps.

    Each is built as for its training, so that the last one is known to be possible before the first one begins. The
    answer tells of each the bytes of its weights, and those of its encoder.
    """
    ask, rows, sizes = study.ask, study.split.pretrain, []
    asked = ask.batch_size if isinstance(ask.batch_size, int) else None
    if len(rows) < FEWEST:
        raise UserError(
            f"{len(rows)} examples of {study.dataset.name} may be pretrained on, and {FEWEST} are needed at least: "
            "leave fewer out for the test, or add examples without labels"
        )
    for name, weights in mixtures.items():
        plan = study.recipe(weights, copy.deepcopy(study.encoder), batch_size=asked)
        source = study.modality.batches(study.dataset.cache, rows, plan, 0)
        size, world, parts = plan.batch_size, gathering.world(), checked_parts(ask.accumulate)
        if size % world:
            raise UserError(f"a batch of {size} cannot be shared equally by {world} processes; choose --batch-size")
        if size // world % parts:
            raise UserError(
                f"--accumulate {parts}: {size // world} examples per process have no {parts} equal parts; choose "
                "another one, or --batch-size"
            )
        if size < FEWEST and _compares(plan.task):
            raise UserError(
                f"--batch-size {size}: {name} learns by telling examples of a step apart; give {FEWEST} at least"
            )
        if len(source.among) < FEWEST and _compares(plan.task):
            raise UserError(f"{name} learns by telling examples apart, and there is one of {study.dataset.name}")
        sizes.append((_bytes(plan.task), _bytes(study.encoder)))
    return sizes


def _compares(task: nn.Module) -> bool:
    """Whether a task learns nothing from one example alone; also where it is normalised over its batch."""
    return any(isinstance(part, Comparing | nn.BatchNorm1d) for part in task.modules())


def _bytes(module: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


def check_room(folder: Path, sizes: Sequence[tuple[int, int]], seeds: int = 1) -> None:
    """UserError where the disk has no room for the checkpoints and encoders of these tasks, see `check_tasks`.

    What lies in the folder already, of a run that is continued, is room as well.
    """
    checkpoints = [(1 + MOMENTS) * task for task, _ in sizes]
    needed = max(checkpoints) + max(encoder for _, encoder in sizes)  # one more of each while it is written
    needed += seeds * sum(CHECKPOINTS * each + encoder for each, (_, encoder) in zip(checkpoints, sizes, strict=True))
    free = shutil.disk_usage(folder).free + sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if free < needed:
        raise UserError(
            f"the disk has {free / 1e9:,.2f} GB free at {folder}, and checkpoints and encoders take about "
            f"{needed / 1e9:,.2f} GB: free some space, choose another --out, or a smaller --encoder"
        )


def check_judging(study: Study, candidates: Sequence[Arm]) -> None:
    """UserError where these encoders could not be judged in the end, whatever they turn out to be.

    That is: a metric, label budgets and a split that suit the labels, names that differ, and baselines that open and
    answer. A few examples are embedded to see that they do.
    """
    from tacit.evaluation.arms import as_arms, parts_of, target_of
    from tacit.evaluation.protocol import check_testable, plan_for

    ask, labelled, seal = study.ask, study.split.labelled, study.split.seal
    if labelled is None or seal is None:
        check_unlabelled(ask, study.dataset.kind)
        return
    target_of(labelled).metric(ask.metric)
    plan_for(labelled, parts_of(labelled, seal.seed), ask.label_budgets, ask.primary_budget)
    check_testable(labelled)
    public = study.public_arms()
    as_arms([*candidates, *study.baselines(), *public])
    few = np.sort(labelled.tested[:TRIED])
    for arm in public:
        for encoder in arm.encoders:
            _try(arm.name, encoder, study, few)
    study.rest()


def _try(name: str, encoder: Any, study: Study, few: Any) -> None:
    """Ask an encoder for a few examples. UserError where it cannot answer, whatever it raises."""
    from tacit.evaluation.arms import target_of

    assert study.split.labelled is not None
    try:
        target_of(study.split.labelled).read(encoder, study.split.labelled, few)
    except (UserError, RunFailed):
        raise
    except Exception as error:  # of a person's own function, or a model that was not made for such data
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{name} cannot read these data: {said}") from error


def check_unlabelled(asked: Judging, kind: str) -> None:
    """UserError where something was asked of judging, which cannot be without labels."""
    given = [name for name in JUDGING if getattr(asked, name, None)]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        remedy = "leave --holdout none out" if kind == "items" else "name them with --labels FILE or --label-column"
        raise UserError(f"{flags}: nothing is judged without labels; {remedy}, or leave out what asks for it")


def _planned(name: str, study: Study) -> Arm:
    from tacit.evaluation import Arm

    return Arm(name, "pretrained", (study.encoder,))
