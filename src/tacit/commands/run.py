"""`tacit run`: read, seal, pretrain each task, judge, report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tacit.commands.command import command
from tacit.core import ranks
from tacit.core.budget import NEVER, Deadline, command_began, parse_budget
from tacit.core.errors import RunFailed
from tacit.core.wording import Ours
from tacit.evaluation import Report
from tacit.experiment.baselines import baselines, on_device, open_public
from tacit.experiment.leakage import log_leaks
from tacit.experiment.output import keep_encoder, keep_seal, log_of, open_run, tell_what_to_hand_on, workspace
from tacit.experiment.pacing import REPORT_SECONDS, SOON, Cost, TooFew, no_cost, share_out, too_small
from tacit.experiment.plan import FEWEST_SEEDS, check_settings, mask_schedule_of, mixtures_of
from tacit.experiment.pretraining import Pretraining, train_task, training_name
from tacit.experiment.publish import publish
from tacit.experiment.settings import RunSettings, settings_of
from tacit.experiment.starting import check_start
from tacit.experiment.validate import (
    beside,
    failed,
    report_without_labels,
    training_cost,
    validate,
    validation_cost,
)
from tacit.report import private_report
from tacit.training.engine import all_processes
from tacit.training.loop import Run


@command(RunSettings)
def run(data: Any, settings: RunSettings) -> Report:
    """Pretrain by several tasks, choose one, test whether it transfers, and write a report.

    Every task trains the same encoder from the same initial weights under the same budget. The choice is made on the
    training labels; the sealed test labels are read once, for the report. Without labels the report holds the
    label-free diagnosis and says what labels would add.

    Started by torchrun or srun, all processes train one model; process 0 evaluates and writes.

    Args:
        data: A folder of images, texts or sounds, a table (Parquet, CSV, JSONL), arrays (.npy, .npz), hf:NAME, or the
            built-in `digits`.
    """
    began = command_began()
    resolved = settings_of(settings)
    budget = parse_budget(resolved.budget)
    check_settings(resolved)
    together = all_processes(device=resolved.device, timeout=resolved.timeout)
    with together, workspace(data, settings) as space, log_of(space, resolved) as log:
        with ranks.leader_first():
            for setting in space.judged_anew:
                log(Ours(f"--{setting.replace('_', '-')} differs: what was trained is kept, and judged anew"))
            public = (
                open_public(resolved.against, offline=resolved.offline, private=resolved.private)
                if ranks.is_leader()
                else ()
            )
            opened, architecture = open_run(data, resolved, settings.options(), log, space)
            labelled = opened.split.labelled is not None
            mixtures = mixtures_of(settings.tasks, opened.dataset.kind)
            pretraining = Pretraining(
                opened, architecture, resolved, mask_schedule_of(resolved.mask), profile=resolved.profile
            )
            compared = baselines(opened, architecture, public) if labelled else []
            check_start(pretraining, mixtures, compared, resolved, space.path, seeds=resolved.seeds)
            keep_seal(opened, space)
            leaks = log_leaks(opened, log) if ranks.is_leader() else None
            cost: Callable[[int], Cost] = no_cost
            if labelled and budget.unit == "seconds":
                cost = validation_cost(opened, compared, resolved, architecture=architecture)
            elif labelled:
                cost = training_cost(opened, architecture=architecture)
            on_device(compared, None)
        shares, plan, scratch = share_out(budget, began, cost, list(mixtures), resolved.seeds, space, log)
        runs: dict[str, list[Run]] = {}
        while (name := shares.begin()) is not None:
            try:
                for number in range(1, resolved.seeds + 1):
                    trained = train_task(pretraining, name, mixtures[name], budget, shares, space, log, number)
                    keep_encoder(opened, name, trained, space.path / "encoders" / training_name(name, number))
                    runs.setdefault(name, []).append(trained)
            except TooFew as short:
                if not runs:
                    raise too_small(budget, architecture.name, short) from None
                shares.leave_out(name, str(short))
        ranks.leave_to_leader()
        on_device(compared, architecture.fabric)
        ends = Deadline(began + budget.amount) if budget.unit == "seconds" else NEVER
        hurried = ends.left < plan.least + REPORT_SECONDS
        reporting = SOON if hurried else REPORT_SECONDS
        if labelled:
            report = validate(
                *(runs, opened, compared, resolved, plan, leaks, ends.earlier(reporting)),
                architecture=architecture,
                log=log,
                read_by=[space.path, *([resolved.seal] if resolved.seal is not None else [])],
                scratch=scratch,
            )
        else:
            report = report_without_labels(runs, opened, architecture, transductive=resolved.transductive)
        report = report.with_data(left_out=shares.left_out)
        report.keep(space.path)
        chosen = report.data["selected_arm"]
        keep_encoder(opened, chosen, runs[chosen][0], space.path / "encoder")
        report = report.with_data(**beside(runs, chosen, opened, architecture))
        shown = {**vars(resolved), "worst_group": settings.worst_group}
        page = publish(report, runs, opened, architecture, space.path, shown, hurried=hurried)
        report = private_report(report) if resolved.private else report
        print(report if labelled else report.verdict.text)
        if labelled and resolved.seeds == 1:
            print(f"about this checkpoint, not the recipe: --seeds {FEWEST_SEEDS} or more judges the recipe")
        print(f"\nreport: {page}\nencoder: {space.path / 'encoder'}")
        tell_what_to_hand_on(opened, architecture)
        if all(failed(arm) for arm in report.arms if arm.kind == "pretrained"):
            raise RunFailed(f"every task collapsed; the report shows how: {page}")
        return report
