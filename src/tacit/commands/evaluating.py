"""`tacit evaluate`: judge an encoder of any origin on labelled data, and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from tacit.commands.rejudging import (
    as_remembered,
    as_the_run,
    encoder_of,
    events_held,
    kept_runs,
    run_has_seen,
    sealed_alike,
    untold,
)
from tacit.core.budget import NEVER, Deadline, clock, command_began, judging_deadline, parse_budget
from tacit.core.errors import UserError
from tacit.core.wording import Ours
from tacit.encoders import is_own
from tacit.encoders.external import as_encoder, import_callable, is_callable_name
from tacit.evaluation import Arm, Report, Seal, count_read, evaluate
from tacit.evaluation.selection import ENOUGH
from tacit.experiment.experiment import Study, chosen_encoder, open_study
from tacit.experiment.figures import publish
from tacit.experiment.folder import mark_report, report_folder
from tacit.experiment.leakage import tell_leaks
from tacit.experiment.log import Log
from tacit.experiment.pacing import BEYOND, in_short, rounded_up
from tacit.experiment.pipeline import REPORT_SECONDS
from tacit.experiment.plan import as_judged, check_asked, fitted
from tacit.experiment.reading import open_encoder, overridden
from tacit.experiment.starting import check_judging
from tacit.experiment.validate import HURRIED, diagnoses, plan_judging, pretrained_arm
from tacit.report import private_report
from tacit.training.loop import Run


def evaluate_one(encoder: Any, data: Any, settings: dict[str, Any], options: dict[str, Any]) -> Report:
    """See `tacit.commands.evaluate`."""
    began = command_began()
    named = isinstance(encoder, str | Path) and not is_callable_name(encoder)
    runs: dict[str, list[Run]] = {}
    anew = data is None  # all of a run, on its own data
    if anew:
        data, settings, options = as_remembered(Path(encoder), settings, options)
    elif named:
        settings, options = as_the_run(Path(encoder), settings, options)
    check_asked(SimpleNamespace(**settings))
    ends = judging_deadline(settings["budget"], began)
    out = report_folder(settings["out"], overwrite=settings["overwrite"])
    given = Seal.load(settings["seal"]) if settings["seal"] is not None else None
    if anew:
        runs = kept_runs(Path(encoder), offline=settings["offline"])
        name, found = "", encoder_of(next(iter(runs.values()))[0])
    else:
        name, found = _subject(encoder, offline=settings["offline"])
    if settings["private"]:
        name = "judged"  # its own may be that of a folder
    ours = is_own(found)
    sealed_by = events_held(options) if ours and found.spec.kind == "items" else None
    own = Path(encoder) if named and sealed_alike(Path(encoder), sealed_by) else None
    source = settings["seal"] if given is not None else own
    seal = given if given is not None or own is None else Seal.load(own)
    transductive = named and run_has_seen(Path(encoder), seal, data, options, sealed_by)
    ask = SimpleNamespace(**settings, transductive=transductive, precision="32")
    with Log(private=ask.private) as log:
        if anew and (line := untold(Path(encoder), settings)):
            log(Ours(line) if ask.private else line)
        architecture = fitted(found) if ours else chosen_encoder(None)
        read = as_judged(found, options) if ours else options
        study = open_study(data, ask, read, log, encoder=architecture, seal=seal)
        for line in overridden(found, options) if ours else ():
            log(line)
        labelled, sealed = study.split.labelled, study.split.seal
        if labelled is None or sealed is None:
            raise UserError(
                "evaluation needs labels; name them with --labels FILE, --labels folders or --label-column"
                if study.dataset.kind != "items"
                else "evaluation needs labels, or events that are held out; leave --holdout none out"
            )
        subjects = _of_run(study, runs) if anew else [_alone(name, study.suited(found) if ours else found, study)]
        check_judging(study, subjects)
        arms = [*subjects, *study.baselines(), *study.public_arms()]
        time = _time_for(study, ends.earlier(0.0 if out is None else REPORT_SECONDS), subjects, ours=ours)
        leaks = tell_leaks(study) if own is not None else None  # else nobody knows what the encoder was pretrained on
        sealed = count_read(source) if source is not None else replace(sealed, reads=1)
        copied = leaks.positions if leaks else None
        with log.working("judging") as tell:
            report = evaluate(
                [arm for arm in arms if time.scratch or arm.build is None],
                labelled,
                primary=ask.primary_budget,
                budgets=ask.label_budgets,
                metric=ask.metric,
                seed=sealed.seed,
                copied=copied,
                train_everywhere=ask.train_every_budget,
                missing=() if time.scratch else ("training from scratch",),
                deadline=time.ends,
                scratch_seconds=time.training,
                enough=time.enough,
                progress=tell,
            )
        told = {"test_copies": leaks.as_data(private=ask.private)} if leaks else {}
        given_up = [*time.given_up, *report.data["given_up"]]
        report = report.with_data(seal_reads=sealed.reads, given_up=given_up, **told)
        print(private_report(report) if ask.private else report)
        if out is not None:
            chosen = next(arm for arm in subjects if arm.name == report.data["selected_arm"])
            mark_report(out)
            report.keep(out, sealed)
            print(f"\nreport: {publish(study, report, {}, out, encoder=chosen.encoders[0])}")
        return private_report(report) if ask.private else report


class TimeFor(NamedTuple):
    """What a judgement may take."""

    ends: Deadline = NEVER
    training: float = 0.0  # seconds that one training on the labels takes
    scratch: bool = True  # whether there is time to train from scratch
    enough: int = ENOUGH  # labels that depths are chosen by
    given_up: tuple[str, ...] = ()


def _time_for(study: Study, ends: Deadline, subjects: Sequence[Arm], *, ours: bool) -> TimeFor:
    """How to judge until then, estimated on a few examples. UserError where not even the least would fit."""
    if ends == NEVER:
        return TimeFor()
    encoders = [encoder for arm in subjects for encoder in arm.encoders]
    # The alarms are for encoders that were just pretrained; of a run they are known by now.
    plan = plan_judging(study, () if ours else encoders, diagnosing=False)(len(encoders))
    scratch = plan.least <= BEYOND * ends.left
    least = plan.least if scratch else plan.least - plan.scratch
    if least > BEYOND * ends.left:
        smallest = rounded_up(parse_budget(study.ask.budget).amount + least - ends.left)
        raise UserError(
            f"--budget {study.ask.budget} is too small: the least that gives a verdict takes about {clock(least)} "
            f"more; give --budget {in_short(smallest)}, or fewer examples"
        )
    enough = ENOUGH if ends.left > plan.whole else HURRIED
    given_up = () if scratch else (f"training from scratch (about {clock(plan.scratch)})",)
    return TimeFor(ends, plan.training, scratch, enough, given_up)


def _alone(name: str, encoder: Any, study: Study) -> Arm:
    return Arm(name, "pretrained", (encoder,), encoder=study.encoder.name)


def _of_run(study: Study, runs: Mapping[str, Sequence[Run]]) -> list[Arm]:
    """Every task of a run with its alarms, as the run itself judges it."""
    for of in runs.values():
        for run in of:
            study.fabric.to_device(encoder_of(run))
    found = diagnoses(study, runs)
    return [pretrained_arm(study, name, of, found[name]) for name, of in runs.items()]


def _subject(encoder: Any, *, offline: bool) -> tuple[str, Any]:
    """What is judged, by its name: a saved encoder, or a function or object of the person's own."""
    if is_callable_name(encoder):
        return encoder, as_encoder(import_callable(encoder), encoder)
    if isinstance(encoder, str | Path):
        return Path(encoder).name, open_encoder(encoder, offline=offline)
    name = getattr(encoder, "name", None) or getattr(encoder, "__name__", type(encoder).__name__)
    return str(name), as_encoder(encoder, str(name))
