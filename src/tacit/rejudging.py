"""What a run brings along when it is judged again: its target, its seal, and whether it has seen what is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tacit.data.asked import target_named, target_settings
from tacit.data.histories import HELD
from tacit.evaluation import Seal
from tacit.evaluation.sealing import EVENT_SEALS
from tacit.split import has_seen
from tacit.workspace import is_run, settings_of


def as_the_run(run: Path, settings: dict[str, Any], options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """With the target and the metric that a run was judged by, where no other target is named."""
    if not is_run(run):
        return settings, options
    asked = settings_of(run)
    target = target_settings(options, asked)
    if target_named(**target) != target_named(**target_settings(asked)):
        return settings, options
    metric = settings["metric"] if settings["metric"] is not None else asked.get("metric")
    if options.get("holdout") is None and asked.get("holdout") in EVENT_SEALS:
        options = {**options, "holdout": asked["holdout"]}
    return {**settings, "metric": metric}, {**options, **target}


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
