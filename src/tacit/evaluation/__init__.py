"""Evaluate any encoder: does it beat the baselines, by how much, and how certain is that?

A library of its own: it knows no task, no modality, no training loop. Names load what they need on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacit.evaluation.arms import Arm, Labelled
    from tacit.evaluation.compare import Paired, pair
    from tacit.evaluation.predictions import Predictions
    from tacit.evaluation.protocol import evaluate
    from tacit.evaluation.results import ArmRecord, Report, Result, Verdict
    from tacit.evaluation.sealing import Places, Seal, count_read, seal
    from tacit.evaluation.selection import Selection, select
    from tacit.evaluation.splits import Budget, Plan, plan_budgets, primary_budget
    from tacit.evaluation.statistics import detectable_difference

_HOME = {
    "evaluate": "protocol",
    "Paired": "compare",
    "pair": "compare",
    "Predictions": "predictions",
    "ArmRecord": "results",
    "Report": "results",
    "Result": "results",
    "Verdict": "results",
    "Places": "sealing",
    "Seal": "sealing",
    "count_read": "sealing",
    "seal": "sealing",
    "Selection": "selection",
    "select": "selection",
    "Budget": "splits",
    "Plan": "splits",
    "plan_budgets": "splits",
    "primary_budget": "splits",
    "detectable_difference": "statistics",
    "Arm": "arms",
    "Labelled": "arms",
}

__all__ = [  # noqa: RUF022  the order in which one meets them
    "evaluate",
    "select",
    "seal",
    "Seal",
    "Places",
    "count_read",
    "Labelled",
    "Arm",
    "Selection",
    "Report",
    "Verdict",
    "Result",
    "ArmRecord",
    "Budget",
    "Plan",
    "plan_budgets",
    "primary_budget",
    "detectable_difference",
    "pair",
    "Paired",
    "Predictions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
