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
    from tacit.commands.clean import clean
    from tacit.commands.compare import compare
    from tacit.commands.doctor import doctor
    from tacit.commands.embed import embed
    from tacit.commands.evaluate import evaluate
    from tacit.commands.export import export
    from tacit.commands.fill_mask import fill_mask
    from tacit.commands.inspect import inspect
    from tacit.commands.next_labels import next_labels
    from tacit.commands.opening import load_encoder, open_dataset
    from tacit.commands.predict import predict
    from tacit.commands.pretrain import pretrain
    from tacit.commands.recommend import recommend
    from tacit.commands.run import run
    from tacit.commands.search import search
    from tacit.core.errors import Interrupted, RunFailed, UserError
    from tacit.core.types import Batch, Encoder, Features, Output
    from tacit.encoders import wrap
    from tacit.evaluation import Report
    from tacit.tasks.base import Task

_HOME = {
    "run": "commands.run",
    "inspect": "commands.inspect",
    "pretrain": "commands.pretrain",
    "evaluate": "commands.evaluate",
    "compare": "commands.compare",
    "predict": "commands.predict",
    "next_labels": "commands.next_labels",
    "embed": "commands.embed",
    "export": "commands.export",
    "fill_mask": "commands.fill_mask",
    "recommend": "commands.recommend",
    "search": "commands.search",
    "doctor": "commands.doctor",
    "clean": "commands.clean",
    "load_encoder": "commands.opening",
    "open_dataset": "commands.opening",
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
    "search",
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
