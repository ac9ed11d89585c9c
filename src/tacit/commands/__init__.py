"""What Tacit does, one function a command: the Python API and the command line have the same names and arguments.

Nothing heavy is imported before a function is called, so that help is instant.
"""

from tacit.commands.judging import compare, evaluate, predict
from tacit.commands.machine import clean, doctor, tasks
from tacit.commands.training import inspect, pretrain, run
from tacit.commands.using import embed, export, fill_mask, load_encoder, next_labels, open_dataset, recommend

__all__ = [  # noqa: RUF022  (the order in which one meets them)
    "run",
    "pretrain",
    "inspect",
    "evaluate",
    "compare",
    "predict",
    "next_labels",
    "embed",
    "export",
    "fill_mask",
    "recommend",
    "load_encoder",
    "open_dataset",
    "tasks",
    "doctor",
    "clean",
]
