"""`tacit pretrain`: one task, without evaluation."""

from __future__ import annotations

from typing import Any

from tacit.commands.command import command
from tacit.core import ranks
from tacit.core.budget import command_began, parse_budget
from tacit.core.errors import RunFailed
from tacit.experiment.output import keep_encoder, keep_seal, log_of, open_run, tell_what_to_hand_on, workspace
from tacit.experiment.pacing import TooFew, no_cost, share_out, too_small
from tacit.experiment.plan import check_settings, mask_schedule_of, mixtures_of
from tacit.experiment.pretraining import Pretraining, train_task
from tacit.experiment.settings import PretrainSettings, settings_of
from tacit.experiment.starting import check_room, check_tasks
from tacit.experiment.validate import diagnoses, failed
from tacit.training.engine import all_processes
from tacit.training.loop import Run


@command(PretrainSettings)
def pretrain(data: Any, settings: PretrainSettings) -> Run:
    """Pretrain by one task, without evaluation.

    Labels, if given, are for the online probe, and keep the test examples out of pretraining. Started by
    torchrun or srun, all processes train one model; process 0 writes the encoder.

    Args:
        data: A folder, a table, arrays, hf:NAME, or the built-in `digits`.
    """
    began = command_began()
    resolved = settings_of(settings, tasks=settings.task)
    check_settings(resolved)
    budget, task = parse_budget(resolved.budget), settings.task
    together = all_processes(device=resolved.device, timeout=resolved.timeout)
    with together, workspace(data, settings) as space, log_of(space, resolved) as log:
        with ranks.leader_first():
            opened, architecture = open_run(data, resolved, settings.options(), log, space)
            [weights] = mixtures_of(task, opened.dataset.kind).values()
            pretraining = Pretraining(
                opened, architecture, resolved, mask_schedule_of(resolved.mask), profile=resolved.profile
            )
            check_room(space.path, check_tasks(pretraining, {task: weights}))
            keep_seal(opened, space)
        shares, *_ = share_out(budget, began, no_cost, [task], 1, space, log)
        shares.begin()
        try:
            run = train_task(pretraining, task, weights, budget, shares, space, log)
        except TooFew as short:
            raise too_small(budget, architecture.name, short) from None
        ranks.leave_to_leader()
        keep_encoder(opened, task, run, space.path / "encoder")
        print(f"encoder: {space.path / 'encoder'}")
        tell_what_to_hand_on(opened, architecture)
        if failed(diagnoses({task: [run]}, opened, architecture)[task][0]):
            raise RunFailed(f"the task {task} collapsed: its features carry next to nothing; see log.txt")
        return run
