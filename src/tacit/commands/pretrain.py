"""`tacit pretrain`: one task, without evaluation."""

from __future__ import annotations

from typing import Any

from tacit.commands.command import command
from tacit.core import ranks
from tacit.core.budget import command_began, parse_budget
from tacit.core.errors import RunFailed
from tacit.experiment.pacing import TooFew
from tacit.experiment.pipeline import (
    keep_encoder,
    keep_seal,
    log_of,
    nothing,
    open_run,
    share_out,
    tell_what_to_hand_on,
    too_small,
    train_task,
    workspace,
)
from tacit.experiment.plan import check_asked
from tacit.experiment.settings import PretrainSettings, settings_of
from tacit.experiment.starting import check_room, check_tasks
from tacit.experiment.tasks import check_kind
from tacit.experiment.validate import diagnoses, failed
from tacit.tasks import parse_mixture
from tacit.training.engine import all_processes
from tacit.training.loop import Run


@command(PretrainSettings)
def pretrain(data: Any, settings: PretrainSettings) -> Run:
    """Pretrain by one task, without evaluation.

    Labels, where given, serve the online probe and keep the test examples out. Started by torchrun or srun, all
    processes train together; then the first keeps the encoder, and the others end.

    Args:
        data: A folder of images or of texts, a table, arrays, or the built-in `digits`.
    """
    began = command_began()
    ask = settings_of(settings, tasks=settings.task)
    check_asked(ask)
    budget, weights = parse_budget(ask.budget), parse_mixture(settings.task)
    together = all_processes(device=ask.device, timeout=ask.timeout)
    with together, workspace(data, settings) as space, log_of(space, ask) as log:
        with ranks.leader_first():
            study = open_run(data, ask, settings.options(), log, space)
            check_kind(weights, study.dataset.kind)
            check_room(space.path, check_tasks(study, {settings.task: weights}))
            keep_seal(study, space)
        shares, *_ = share_out(budget, began, nothing, [settings.task], 1, space, log)
        shares.begin()
        try:
            run = train_task(study, space, settings.task, weights, budget, shares)
        except TooFew as short:
            raise too_small(budget, study, short) from None
        ranks.leave_to_leader()
        keep_encoder(study, settings.task, run, space.path / "encoder")
        print(f"encoder: {space.path / 'encoder'}")
        tell_what_to_hand_on(study, space.path)
        if failed(diagnoses(study, {settings.task: [run]})[settings.task][0]):
            raise RunFailed(f"the task {settings.task} collapsed: its features carry next to nothing; see log.txt")
        return run
