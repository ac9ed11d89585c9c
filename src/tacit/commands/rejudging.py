"""What a run brings along when it is judged again: its target, its seal, and whether it has seen what is tested."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.core.errors import UserError
from tacit.core.types import Batch, Output
from tacit.data.asked import target_named, target_settings
from tacit.dataset import open_dataset
from tacit.encoders import load_encoder
from tacit.evaluation import Report, Seal
from tacit.evaluation.sealing import EVENT_SEALS
from tacit.experiment.folder import JUDGING, is_run, settings_of
from tacit.experiment.heads import remembered
from tacit.experiment.split import has_seen
from tacit.modalities.events.store import HELD
from tacit.tasks.base import Task
from tacit.training.loop import Run, read_history

if TYPE_CHECKING:
    from torch import Tensor


def as_the_run(run: Path, settings: dict[str, Any], options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """With the target and the metric that a run was judged by, where no other target is named."""
    if not is_run(run):
        return settings, options
    asked = settings_of(run)
    cut_down = ("k_core", "item_table") if asked.trusted else ("k_core",)  # a stranger names no file
    core = {name: asked[name] for name in cut_down if asked.get(name) and options.get(name) is None}
    options = {**options, **core}
    target = target_settings(options, asked)
    if target_named(**target) != target_named(**target_settings(asked)):
        return settings, options
    metric = settings["metric"] if settings["metric"] is not None else asked.get("metric")
    if options.get("holdout") is None and asked.get("holdout") in EVENT_SEALS:
        options = {**options, "holdout": asked["holdout"]}
    return {**settings, "metric": metric}, {**options, **target}


def as_remembered(
    run: Path, settings: dict[str, Any], options: dict[str, Any]
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The data of a run, and how it read and judged them, where nothing else is said.

    UserError where the data were objects in Python, or are named by a folder that was not made here.
    """
    parameters = inspect.signature(open_dataset).parameters
    usual = {name: of.default for name, of in parameters.items() if name not in ("data", "progress")}
    asked = settings_of(run, trust=settings["trust"])
    given = {name: value for name, value in options.items() if value is not None and value != usual.get(name)}
    alike = target_named(**target_settings(given, asked)) == target_named(**target_settings(asked))
    judged = {name: asked[name] for name in JUDGING if alike and not settings.get(name) and asked.get(name)}
    judged.pop("against", None)  # which leads out of the folder: see `untold`
    private = bool(settings["private"] or asked.get("private"))
    told = remembered(run, asked, given, ("data", *usual), {"data": "name the data, tacit evaluate RUN DATA"})
    if "data" not in told:
        raise UserError(f"{run} does not say what its data were: name them, tacit evaluate RUN DATA")
    return told.pop("data"), {**settings, **judged, "private": private}, told


def kept_runs(run: Path, *, offline: bool) -> dict[str, list[Run]]:
    """All that a run has pretrained, of each task by its seeds: what its report judged, where there is one.

    UserError where a task lacks some of its seeds.
    """
    seeds = settings_of(run).get("seeds", 1)
    judged = Report.load(run).arms if (run / "report.json").exists() else ()
    speeds = {arm.name: arm.examples_per_second for arm in judged}
    rows = list(read_history(run / "metrics.jsonl"))
    runs: dict[str, list[Run]] = {}
    folders = {path.name: path for path in sorted((run / "encoders").glob("*")) if path.is_dir()}
    trained = list(dict.fromkeys(row["task"] for row in rows))  # in their order, which decides between equals
    first = [name for name in folders if re.search(r"\.[0-9]+$", name) is None and (name in speeds or not judged)]
    first.sort(key=lambda name: trained.index(name) if name in trained else len(trained))
    for task in first or [settings_of(run).get("task") or (run.name)]:
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


def untold(run: Path, settings: dict[str, Any]) -> str:
    """What the run itself was compared with and its folder does not hold, in a line; empty where that is nothing."""
    asked = settings_of(run)
    others = [*(asked.get("against") or ()), *([asked["init"]] if asked.get("init") else [])]
    missing = [name for name in others if name not in (settings["against"] or ())]
    if not missing:
        return ""
    names = f"{len(missing)} further encoders" if settings["private"] else ", ".join(missing)
    return f"the run was compared with {names} too, which its folder does not hold: name them by --against"


class Kept(Task):
    """What is left of a pretext task when its training is over: the encoder."""

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
    """The source of the seal that judges histories by what comes next; None where labels do, or nothing."""
    return None if options.get("labels") is not None else EVENT_SEALS.get(options.get("holdout") or HELD[0])


def sealed_alike(run: Path, events: str | None) -> bool:
    """Whether a run has a seal for what is judged now: events by `events_held`, or else examples."""
    if not (run / "seal.json").exists():
        return False
    source = Seal.load(run).source
    return source == events if events else source not in EVENT_SEALS.values()


def run_has_seen(run: Path, seal: Seal | None, data: Any, options: dict[str, Any], events: str | None = None) -> bool:
    """Whether a run may have pretrained on what is tested now; of what is no run nothing is known."""
    if not is_run(run):
        return False
    asked = settings_of(run)
    if asked.get("transductive"):
        return True
    if not sealed_alike(run, events):  # pretrained without such labels, on all but a test split that was given
        if events and (asked.get("holdout") or HELD[0]) == (options.get("holdout") or HELD[0]):
            return False  # whoever is judged, the same events are held out of all
        kept_out = [name for name in ("split_column", "test") if asked.get(name) is not None]
        return asked["data"] == str(data) and not any(asked[name] == options.get(name) for name in kept_out)
    if seal is None or (not seal.items and asked["data"] != str(data)):
        return False
    return has_seen(seal, Seal.load(run))
