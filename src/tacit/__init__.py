"""Tacit: self-supervised learning that proves whether its representations transfer.

    import tacit

    report = tacit.run("scans/", labels="few.csv", budget="10m", out="runs/scans")
    print(report.verdict.text)
    encoder = tacit.load_encoder("runs/scans")

Names are loaded on first use, so importing this module costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacit.commands import (
        clean,
        compare,
        doctor,
        embed,
        evaluate,
        export,
        fill_mask,
        inspect,
        load_encoder,
        next_labels,
        open_dataset,
        predict,
        pretrain,
        recommend,
        run,
    )
    from tacit.core.errors import Interrupted, RunFailed, UserError
    from tacit.core.types import Batch, Encoder, Features, Output
    from tacit.encoders import wrap
    from tacit.evaluation import Report
    from tacit.tasks.base import Task

_HOME = {
    "run": "commands",
    "inspect": "commands",
    "pretrain": "commands",
    "evaluate": "commands",
    "compare": "commands",
    "predict": "commands",
    "next_labels": "commands",
    "embed": "commands",
    "export": "commands",
    "fill_mask": "commands",
    "recommend": "commands",
    "doctor": "commands",
    "clean": "commands",
    "load_encoder": "commands",
    "open_dataset": "commands",
    "wrap": "encoders",
    "UserError": "core.errors",
    "RunFailed": "core.errors",
    "Interrupted": "core.errors",
    "Report": "evaluation",
    "Task": "tasks.base",
    "Batch": "core.types",
    "Encoder": "core.types",
    "Features": "core.types",
    "Output": "core.types",
}

__all__ = [  # noqa: RUF022  (the order in which one meets them)
    "run",
    "inspect",
    "pretrain",
    "evaluate",
    "compare",
    "predict",
    "next_labels",
    "embed",
    "export",
    "fill_mask",
    "recommend",
    "doctor",
    "clean",
    "load_encoder",
    "open_dataset",
    "wrap",
    "Report",
    "Task",
    "Encoder",
    "Batch",
    "Features",
    "Output",
    "UserError",
    "RunFailed",
    "Interrupted",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tacit' has no attribute {name!r}")
    return getattr(import_module(f"tacit.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
