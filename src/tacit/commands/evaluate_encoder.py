"""`tacit evaluate ENCODER DATA`: evaluate any encoder on labelled data; `tacit evaluate RUN`: a run again.

A run provides its target, its seal, and whether it was pretrained on the test inputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tacit.core.budget import NEVER, Deadline, clock, command_began, judging_deadline, parse_budget
from tacit.core.errors import UserError
from tacit.core.types import Batch, Output
from tacit.core.wording import Ours
from tacit.data.label_spec import target_named, target_settings
from tacit.encoders import is_own, load_encoder
from tacit.encoders.external import as_encoder, import_callable, is_callable_name
from tacit.evaluation import Arm, Report, Seal, count_read, evaluate
from tacit.evaluation.sealing import EVENT_SEALS
from tacit.evaluation.selection import ENOUGH
from tacit.experiment.architecture import Architecture, adapted, as_judged, chosen_encoder, open_split
from tacit.experiment.baselines import baselines, open_public, suited
from tacit.experiment.folder import JUDGING, is_run, mark_report, report_folder
from tacit.experiment.folder import settings_of as settings_of_run
from tacit.experiment.heads import remembered
from tacit.experiment.leakage import log_leaks
from tacit.experiment.log import Log
from tacit.experiment.opening import Opened
from tacit.experiment.pacing import BEYOND, REPORT_SECONDS, Cost, in_short, rounded_up
from tacit.experiment.plan import check_settings
from tacit.experiment.publish import publish
from tacit.experiment.reading import open_encoder, overridden
from tacit.experiment.settings import (
    Device,
    EvaluateSettings,
    Folder,
    Judging,
    Seed,
    Transductive,
    settings_of,
)
from tacit.experiment.split import has_seen
from tacit.experiment.starting import check_judging
from tacit.experiment.validate import HURRIED, diagnoses, pretrained_arm, validation_cost
from tacit.modalities import DataOptions, next_up, those
from tacit.report import private_report
from tacit.tasks.base import Task
from tacit.training.loop import Run, read_history

if TYPE_CHECKING:
    from torch import Tensor

USUAL = next(iter(EVENT_SEALS))  # the default events that are held out


def evaluate_encoder(encoder: Any, data: Any, settings: EvaluateSettings) -> Report:
    """Evaluate an encoder on data or, without data, all of a run on its own; see `tacit evaluate`."""
    began = command_began()
    named = isinstance(encoder, str | Path) and not is_callable_name(encoder)
    runs: dict[str, list[Run]] = {}
    options = settings.options()
    anew = data is None  # all of a run, on its own data
    if anew:
        data, settings, options = as_remembered(Path(encoder), settings)
    elif named:
        settings, options = as_the_run(Path(encoder), settings)
    check_settings(settings_of(settings))
    ends = judging_deadline(settings.budget, began)
    out = report_folder(settings.out, overwrite=settings.overwrite)
    given = Seal.load(settings.seal) if settings.seal is not None else None
    if anew:
        runs = kept_runs(Path(encoder), offline=settings.offline)
        name, found = "", encoder_of(next(iter(runs.values()))[0])
    else:
        name, found = _subject(encoder, offline=settings.offline)
    if settings.private:
        name = "judged"  # its own name may be that of a folder
    ours = is_own(found)
    sealed_by = events_held(options) if ours and next_up(found.spec.kind) else None
    own = Path(encoder) if named and sealed_alike(Path(encoder), sealed_by) else None
    source = settings.seal if given is not None else own
    seal = given if given is not None or own is None else Seal.load(own)
    transductive = named and run_has_seen(Path(encoder), seal, data, options, sealed_by)
    resolved = settings_of(settings, transductive=transductive, precision="32")
    with Log(private=resolved.private) as log:
        if anew and (line := missing_comparisons(Path(encoder), settings)):
            log(Ours(line) if resolved.private else line)
        build = adapted(found) if ours else chosen_encoder(None)
        read = as_judged(found, options) if ours else options
        public = open_public(resolved.against, offline=resolved.offline, private=resolved.private)
        opened, architecture = open_split(data, read, build, resolved, log, seal=seal)
        for line in overridden(found, options) if ours else ():
            log(line)
        labelled, sealed = opened.split.labelled, opened.split.seal
        if labelled is None or sealed is None:
            raise UserError(
                "evaluation needs labels; name them with --labels FILE, --labels folders or --label-column"
                if next_up(opened.dataset.kind) is None
                else "evaluation needs labels, or events that are held out; leave --holdout none out"
            )
        if anew:
            subjects = _of_run(runs, opened, architecture)
        else:
            judged = suited(found, opened, architecture.fabric) if ours else found
            named = architecture.own
            subjects = [
                Arm(name, "pretrained", (judged,), encoder=architecture.name, own=settings.private, own_encoder=named)
            ]
        compared = baselines(opened, architecture, public)
        arms = [*subjects, *compared]
        check_judging(arms, opened, resolved)
        ends = ends.earlier(0.0 if out is None else REPORT_SECONDS)
        time = TimeFor()
        if ends != NEVER:
            encoders = [encoder for arm in subjects for encoder in arm.encoders]
            # The alarms are for encoders that were just pretrained; those of a run are known already.
            cost = validation_cost(
                *(opened, compared, resolved),
                architecture=architecture,
                others=() if ours else encoders,
                diagnosing=False,
            )
            time = _time_for(cost(len(encoders)), ends, settings.budget or "")
        # Of no run nobody knows what the encoder was pretrained on.
        leaks = log_leaks(opened, log) if own is not None else None
        sealed = count_read(source) if source is not None else replace(sealed, reads=1)
        copied = leaks.positions if leaks else None
        with log.working("judging") as tell:
            report = evaluate(
                [arm for arm in arms if time.scratch or arm.build is None],
                labelled,
                primary=resolved.primary_budget,
                budgets=resolved.label_budgets,
                metric=resolved.metric,
                margin=resolved.margin,
                seed=sealed.seed,
                copied=copied,
                train_everywhere=resolved.train_every_budget,
                missing=() if time.scratch else ("training from scratch",),
                deadline=time.ends,
                scratch_seconds=time.training,
                enough=time.enough,
                progress=tell,
            )
        test_copies = {"test_copies": leaks.as_data(private=resolved.private)} if leaks else {}
        given_up = [*time.given_up, *report.data["given_up"]]
        report = report.with_data(seal_reads=sealed.reads, given_up=given_up, **test_copies)
        print(private_report(report) if resolved.private else report)
        if out is not None:
            chosen = next(arm for arm in subjects if arm.name == report.data["selected_arm"])
            mark_report(out)
            report.keep(out, sealed)
            concerns = (Seed, Transductive, Judging, Device, Folder)
            shown = {field.name: getattr(resolved, field.name) for concern in concerns for field in fields(concern)}
            shown["worst_group"] = options.get("worst_group")
            page = publish(report, {}, opened, architecture, out, shown, encoder=chosen.encoders[0])
            print(f"\nreport: {page}")
        return private_report(report) if resolved.private else report


class TimeFor(NamedTuple):
    """The time limits of an evaluation."""

    ends: Deadline = NEVER
    training: float = 0.0  # seconds of one training on the labels
    scratch: bool = True  # whether there is time to train from scratch
    enough: int = ENOUGH  # labels by which depths are chosen
    given_up: tuple[str, ...] = ()


def _time_for(cost: Cost, ends: Deadline, budget: str) -> TimeFor:
    """Plan the evaluation up to `ends`. UserError where not even the least would fit."""
    scratch = cost.least <= BEYOND * ends.left
    least = cost.least if scratch else cost.least - cost.scratch
    if least > BEYOND * ends.left:
        smallest = rounded_up(parse_budget(budget).amount + least - ends.left)
        raise UserError(
            f"--budget {budget} is too small: the least that gives a verdict takes about {clock(least)} "
            f"more; give --budget {in_short(smallest)}, or fewer examples"
        )
    enough = ENOUGH if ends.left > cost.whole else HURRIED
    given_up = () if scratch else (f"training from scratch (about {clock(cost.scratch)})",)
    return TimeFor(ends, cost.training, scratch, enough, given_up)


def _of_run(runs: Mapping[str, Sequence[Run]], opened: Opened, architecture: Architecture) -> list[Arm]:
    """Every task of a run with its alarms, as the run itself evaluates it."""
    for of in runs.values():
        for run in of:
            architecture.fabric.to_device(encoder_of(run))
    found = diagnoses(runs, opened, architecture)
    return [pretrained_arm(name, of, found[name], architecture) for name, of in runs.items()]


def _subject(encoder: Any, *, offline: bool) -> tuple[str, Any]:
    """The encoder to evaluate, with its name: a saved one, or the user's own function or object."""
    if is_callable_name(encoder):
        return encoder, as_encoder(import_callable(encoder), encoder)
    if isinstance(encoder, str | Path):
        return Path(encoder).name, open_encoder(encoder, offline=offline)
    name = getattr(encoder, "name", None) or getattr(encoder, "__name__", type(encoder).__name__)
    return str(name), as_encoder(encoder, str(name))


# ---------------------------------------------------------------- settings of a run


def as_the_run(run: Path, settings: EvaluateSettings) -> tuple[EvaluateSettings, dict[str, Any]]:
    """Fill in the target, the metric and its margin of a run, unless another target is named."""
    options = settings.options()
    if not is_run(run):
        return settings, options
    run_settings = settings_of_run(run)
    cut_down = [name for name in those("of_learning") if run_settings.trusted or name not in those("paths")]
    core = {name: run_settings[name] for name in cut_down if run_settings.get(name) and options.get(name) is None}
    options = {**options, **core}
    target = target_settings(options, run_settings)
    if target_named(**target) != target_named(**target_settings(run_settings)):
        return settings, options
    metric = settings.metric if settings.metric is not None else run_settings.get("metric")
    margin = settings.margin if settings.margin is not None else run_settings.get("margin")
    if options.get("holdout") is None and run_settings.get("holdout") in EVENT_SEALS:
        options = {**options, "holdout": run_settings["holdout"]}
    return replace(settings, metric=metric, margin=margin), {**options, **target}


def as_remembered(run: Path, settings: EvaluateSettings) -> tuple[Any, EvaluateSettings, dict[str, Any]]:
    """The data of a run, and its settings of reading and evaluation, unless overridden.

    UserError where the data were objects in Python, or the folder was not made on this machine.
    """
    run_settings = settings_of_run(run, trust=settings.trust)
    given = settings.reading()
    alike = target_named(**target_settings(given, run_settings)) == target_named(**target_settings(run_settings))
    known = {name for name in JUDGING if alike and hasattr(settings, name)}
    known -= {"against"}  # which leads out of the folder: see `missing_comparisons`
    judged = {name: run_settings[name] for name in known if not getattr(settings, name) and run_settings.get(name)}
    private = bool(settings.private or run_settings.get("private"))
    options = remembered(
        run, run_settings, given, ("data", *DataOptions.names()), {"data": "name the data, tacit evaluate RUN DATA"}
    )
    if "data" not in options:
        raise UserError(f"{run} does not say what its data were: name them, tacit evaluate RUN DATA")
    return options.pop("data"), replace(settings, **judged, private=private), options


def kept_runs(run: Path, *, offline: bool) -> dict[str, list[Run]]:
    """All encoders that a run has pretrained, by task and seed: those of its report, where there is one.

    UserError where a task lacks some of its seeds.
    """
    seeds = settings_of_run(run).get("seeds", 1)
    judged = Report.load(run).arms if (run / "report.json").exists() else ()
    speeds = {arm.name: arm.examples_per_second for arm in judged}
    rows = list(read_history(run / "metrics.jsonl"))
    runs: dict[str, list[Run]] = {}
    folders = {path.name: path for path in sorted((run / "encoders").glob("*")) if path.is_dir()}
    trained = list(dict.fromkeys(row["task"] for row in rows))  # in their order, which breaks ties
    first = [name for name in folders if re.search(r"\.[0-9]+$", name) is None and (name in speeds or not judged)]
    first.sort(key=lambda name: trained.index(name) if name in trained else len(trained))
    for task in first or [settings_of_run(run).get("task") or (run.name)]:
        names = [task, *(f"{task}.{number}" for number in range(2, seeds + 1))] if first else [task]
        if missing := [name for name in names if first and name not in folders]:
            raise UserError(f"{run} has not pretrained {missing[0]} yet: continue it with --resume")
        runs[task] = []
        for name in names:
            history = tuple(row for row in rows if row["task"] == name)
            last = history[-1] if history else {"step": 0, "seconds": 0.0}
            encoder = load_encoder(folders[name] if first else run, offline=offline)
            steps, seconds = int(last["step"]), float(last["seconds"])
            runs[task].append(Run(Kept(encoder), steps, seconds, speeds.get(task, 0.0), history))
    return runs


def encoder_of(run: Run) -> Any:
    return run.task.exported["encoder"]


def missing_comparisons(run: Path, settings: EvaluateSettings) -> str:
    """Name in a line the encoders that the run was compared with and its folder does not hold; empty if none."""
    run_settings = settings_of_run(run)
    others = [*(run_settings.get("against") or ()), *([run_settings["init"]] if run_settings.get("init") else [])]
    missing = [name for name in others if name not in (settings.against or ())]
    if not missing:
        return ""
    names = f"{len(missing)} further encoders" if settings.private else ", ".join(missing)
    return f"the run was compared with {names} too, which its folder does not hold: name them by --against"


class Kept(Task):
    """A pretext task after its training: the encoder alone."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def exported(self) -> Mapping[str, Any]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        raise NotImplementedError("its training is over")

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {}


def events_held(options: dict[str, Any]) -> str | None:
    """The source of a seal that tests sequences by their next event; None for labels, or no seal."""
    return None if options.get("labels") is not None else EVENT_SEALS.get(options.get("holdout") or USUAL)


def sealed_alike(run: Path, events: str | None) -> bool:
    """Whether a run has a seal of the type needed now: events by `events_held`, or else examples."""
    if not (run / "seal.json").exists():
        return False
    source = Seal.load(run).source
    return source == events if events else source not in EVENT_SEALS.values()


def run_has_seen(run: Path, seal: Seal | None, data: Any, options: dict[str, Any], events: str | None = None) -> bool:
    """Whether a run may have pretrained on the test inputs; False if `run` is no run, since nothing is known."""
    if not is_run(run):
        return False
    run_settings = settings_of_run(run)
    if run_settings.get("transductive"):
        return True
    if not sealed_alike(run, events):  # pretrained without such labels, on all but a given test split
        if events and (run_settings.get("holdout") or USUAL) == (options.get("holdout") or USUAL):
            return False  # the same events are held out for every encoder
        kept_out = [name for name in ("split_column", "test") if run_settings.get(name) is not None]
        return run_settings["data"] == str(data) and not any(
            run_settings[name] == options.get(name) for name in kept_out
        )
    if seal is None or (not seal.items and run_settings["data"] != str(data)):
        return False
    return has_seen(seal, Seal.load(run))
