"""What labels can say, one file each: how it is learned from features, measured, and trained from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from tacit.core.errors import UserError, nearest
from tacit.evaluation.metrics import Metric
from tacit.evaluation.targets.base import Rule, Supervised, Target, Tested, Trainable

# Loaded on first use: only what is judged is imported.
_HOME: Mapping[str, tuple[str, str]] = {
    "classification": ("classification", "Classification"),
    "tokens": ("classification", "Tokens"),
    "multilabel": ("multilabel", "Multilabel"),
    "regression": ("regression", "Regression"),
    "retrieval": ("retrieval", "Retrieval"),
    "pairs": ("retrieval", "Pairs"),
    "similarity": ("similarity", "Similarity"),
    "recommendation": ("recommendation", "Recommendation"),
    "repeats": ("recommendation", "Repeats"),
}

__all__ = ["Metric", "Rule", "Supervised", "Target", "Tested", "Trainable", "check_metric", "make_target"]


def check_metric(name: str) -> None:
    """Raises `UserError` where no target has a metric of this name."""
    names = [metric.name for target in _HOME for metric in make_target(target, 2).metrics]
    if name not in names:
        known = ", ".join(dict.fromkeys(names))
        raise UserError(f"no metric named {name!r}{nearest(name, names)}; choose from {known}")


def make_target(name: str, n_classes: int) -> Target:
    """The target of this name. Raises `UserError` where there is none."""
    if name not in _HOME:
        raise UserError(f"no target named {name!r}{nearest(name, _HOME)}; choose from {', '.join(_HOME)}")
    module, of = _HOME[name]
    found: Target = getattr(import_module(f"{__name__}.{module}"), of)(n_classes)
    return found
