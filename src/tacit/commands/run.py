"""`tacit run`: read, seal, pretrain each task, judge, report."""

from __future__ import annotations

from typing import Any

from tacit.commands.command import command
from tacit.core import ranks
from tacit.core.budget import NEVER, Deadline, command_began, parse_budget
from tacit.core.errors import RunFailed
from tacit.core.wording import Ours
from tacit.evaluation import Report
from tacit.experiment.figures import publish
from tacit.experiment.leakage import tell_leaks
from tacit.experiment.pacing import TooFew
from tacit.experiment.pipeline import (
    REPORT_SECONDS,
    SOON,
    beside,
    keep_encoder,
    keep_seal,
    log_of,
    nothing,
    open_run,
    share_out,
    tell_what_to_hand_on,
    too_small,
    train_task,
    training_name,
    workspace,
)
from tacit.experiment.plan import FEWEST_SEEDS, check_asked, mixtures_of
from tacit.experiment.settings import RunSettings, settings_of
from tacit.experiment.starting import check_start
from tacit.experiment.validate import failed, judge, plan_judging, tell_without_labels
from tacit.report import private_report
from tacit.training.engine import all_processes
from tacit.training.loop import Run


@command(RunSettings)
def run(data: Any, settings: RunSettings) -> Report:
    """Pretrain by several tasks, choose, prove the transfer, and report.

    Every task trains the same encoder from the same start under the same budget; the choice is made inside the training
    labels; the sealed test labels are read once, for the report. Without labels the report holds the label-free
    diagnosis and says what labels would add.

    Started by torchrun or srun, all processes train together; then the first judges, and the others end.

    Args:
        data: A folder of images or of texts, a table (Parquet, CSV, JSONL), arrays (.npy, .npz), or the built-in
            `digits`.
    """
    began = command_began()
    ask = settings_of(settings)
    budget = parse_budget(ask.budget)
    check_asked(ask)
    together = all_processes(device=ask.device, timeout=ask.timeout)
    with together, workspace(data, settings) as space, log_of(space, ask) as log:
        with ranks.leader_first():
            for setting in space.judged_anew:
                log(Ours(f"--{setting.replace('_', '-')} differs: what was trained is kept, and judged anew"))
            study = open_run(data, ask, settings.options(), log, space)
            mixtures = mixtures_of(settings.tasks, study)
            check_start(study, mixtures, space.path, seeds=ask.seeds)
            keep_seal(study, space)
            leaks = tell_leaks(study) if ranks.leader() else None
            labelled = study.split.labelled is not None
            judging = plan_judging(study) if labelled else nothing
        shares, plan, scratch = share_out(budget, began, judging, list(mixtures), ask.seeds, space, log)
        runs: dict[str, list[Run]] = {}
        while (name := shares.begin()) is not None:
            try:
                for number in range(1, ask.seeds + 1):
                    trained = train_task(study, space, name, mixtures[name], budget, shares, number)
                    keep_encoder(study, name, trained, space.path / "encoders" / training_name(name, number))
                    runs.setdefault(name, []).append(trained)
            except TooFew as short:
                if not runs:
                    raise too_small(budget, study, short) from None
                shares.leave_out(name, str(short))
        ranks.leave_to_leader()
        ends = Deadline(began + budget.amount) if budget.unit == "seconds" else NEVER
        hurried = ends.left < plan.least + REPORT_SECONDS
        reporting = SOON if hurried else REPORT_SECONDS
        report = (
            judge(study, space, runs, plan, leaks, ends.earlier(reporting), scratch=scratch)
            if labelled
            else tell_without_labels(study, runs)
        )
        report = report.with_data(left_out=shares.left_out)
        if report.predictions is not None:
            report.predictions.save(space.path)
        chosen = report.data["selected_arm"]
        keep_encoder(study, chosen, runs[chosen][0], space.path / "encoder")
        report = report.with_data(**beside(study, runs, chosen))
        page = publish(study, report, runs, space.path, hurried=hurried)
        report = private_report(report) if ask.private else report
        print(report if labelled else report.verdict.text)
        if labelled and ask.seeds == 1:
            print(f"about this checkpoint, not the recipe: --seeds {FEWEST_SEEDS} or more judges the recipe")
        print(f"\nreport: {page}\nencoder: {space.path / 'encoder'}")
        tell_what_to_hand_on(study, space.path)
        if all(failed(arm) for arm in report.arms if arm.kind == "pretrained"):
            raise RunFailed(f"every task collapsed; the report shows how: {page}")
        return report
