"""`tacit evaluate`: judge an encoder of any origin on labelled data, and report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tacit.callables import as_encoder, import_callable, is_callable_name
from tacit.choices import as_read_by, check_asked, fitted
from tacit.encoders import is_own, load_encoder
from tacit.errors import UserError
from tacit.evaluation import Arm, Report, Seal, count_read, evaluate
from tacit.leaks import tell_leaks
from tacit.picturing import publish
from tacit.progress import Log
from tacit.rejudging import as_the_run, events_held, run_has_seen, sealed_alike
from tacit.report import private_report
from tacit.starting import check_judging
from tacit.study import chosen_encoder, open_study
from tacit.workspace import report_folder


def evaluate_one(encoder: Any, data: Any, settings: dict[str, Any], options: dict[str, Any]) -> Report:
    """See `tacit.commands.evaluate`."""
    named = isinstance(encoder, str | Path) and not is_callable_name(encoder)
    if named:
        settings, options = as_the_run(Path(encoder), settings, options)
    check_asked(SimpleNamespace(**settings))
    out = report_folder(settings["out"], overwrite=settings["overwrite"])
    given = Seal.load(settings["seal"]) if settings["seal"] is not None else None
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
        architecture = fitted(found) if ours else chosen_encoder(None)
        read = as_read_by(found, options) if ours else options
        study = open_study(data, ask, read, log, encoder=architecture, seal=seal)
        labelled, sealed = study.split.labelled, study.split.seal
        if labelled is None or sealed is None:
            raise UserError(
                "evaluation needs labels; name them with --labels FILE, --labels folders or --label-column"
                if study.dataset.kind != "items"
                else "evaluation needs labels, or events that are held out; leave --holdout none out"
            )
        subject = study.suited(found) if ours else found
        candidate = Arm(name, "pretrained", (subject,), encoder=study.encoder.name)
        check_judging(study, [candidate])
        arms = [candidate, *study.baselines(), *study.public_arms()]
        leaks = tell_leaks(study) if own is not None else None  # else nobody knows what the encoder was pretrained on
        sealed = count_read(source) if source is not None else replace(sealed, reads=1)
        copied = leaks.positions if leaks else None
        report = evaluate(
            arms,
            labelled,
            primary=ask.primary_budget,
            budgets=ask.label_budgets,
            metric=ask.metric,
            seed=sealed.seed,
            copied=copied,
            train_everywhere=ask.train_every_budget,
        )
        found = {"test_copies": leaks.as_data(private=ask.private)} if leaks else {}
        report = report.with_data(seal_reads=sealed.reads, **found)
        print(private_report(report) if ask.private else report)
        if out is not None:
            report.keep(out, sealed)
            print(f"\nreport: {publish(study, report, {}, out, encoder=subject)}")
        return private_report(report) if ask.private else report


def _subject(encoder: Any, *, offline: bool) -> tuple[str, Any]:
    """What is judged, by its name: a saved encoder, or a function or object of the person's own."""
    if is_callable_name(encoder):
        return encoder, as_encoder(import_callable(encoder), encoder)
    if isinstance(encoder, str | Path):
        return Path(encoder).name, load_encoder(encoder, offline=offline)
    name = getattr(encoder, "name", None) or getattr(encoder, "__name__", type(encoder).__name__)
    return str(name), as_encoder(encoder, str(name))
