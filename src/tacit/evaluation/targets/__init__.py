"""The table of targets, the types of labels: to add one, write a file here and a line below."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from tacit.core.errors import UserError, nearest
from tacit.evaluation.metrics import Metric
from tacit.evaluation.targets.base import Rule, Supervised, Target, Tested, Trainable

# Loaded on first use. The first is the default; a name that begins with "_" is not offered.
TARGETS: Mapping[str, str] = {
    "classification": "tacit.evaluation.targets.classification:Classification",
    "multilabel": "tacit.evaluation.targets.multilabel:Multilabel",
    "ordinal": "tacit.evaluation.targets.ordinal:Ordinal",
    "regression": "tacit.evaluation.targets.regression:Regression",
    "retrieval": "tacit.evaluation.targets.retrieval:Retrieval",
    "pairs": "tacit.evaluation.targets.retrieval:Pairs",
    "similarity": "tacit.evaluation.targets.similarity:Similarity",
    "tokens": "tacit.evaluation.targets.classification:Tokens",
    "matching": "tacit.evaluation.targets.matching:Matching",
    "recommendation": "tacit.evaluation.targets.recommendation:Recommendation",
    "repeats": "tacit.evaluation.targets.recommendation:Repeats",
    "_texts": "tacit.evaluation.targets.retrieval:Texts",
}
USUAL = next(iter(TARGETS))
OFFERED = tuple(name for name in TARGETS if not name.startswith("_"))

__all__ = [
    "OFFERED",
    "TARGETS",
    "USUAL",
    "Metric",
    "Rule",
    "Supervised",
    "Target",
    "Tested",
    "Trainable",
    "check_metric",
    "make_target",
    "metrics",
    "protocols",
]


def make_target(name: str, n_classes: int = 0) -> Target:
    """The target of this name. Raises `UserError` where there is none."""
    if name not in TARGETS:
        raise UserError(f"no target named {name!r}{nearest(name, OFFERED)}; choose from {', '.join(OFFERED)}")
    module, of = TARGETS[name].split(":")
    found: Target = getattr(import_module(module), of)(n_classes)
    return found


@cache
def metrics() -> Mapping[str, Metric]:
    """The metrics of all targets, by name, those first that a verdict can be about."""
    targets = [make_target(name) for name in OFFERED]
    every = [metric for of in targets for metric in of.metrics]
    every += [metric for of in targets for metric in (*of.beside, of.within)]
    return {metric.name: metric for metric in reversed(every)}


@cache
def protocols() -> Mapping[str, str]:
    """How features are read, in words, for all targets; where they differ, the first target's words."""
    return {name: words for of in reversed(OFFERED) for name, words in make_target(of).protocols.items()}


def check_metric(name: str) -> None:
    """Raises `UserError` where no target has a metric of this name."""
    names = list(dict.fromkeys(metric.name for of in OFFERED for metric in make_target(of).metrics))
    if name not in names:
        raise UserError(f"no metric named {name!r}{nearest(name, names)}; choose from {', '.join(names)}")
