"""What a checkpoint holds: the task's state, the optimiser's and how far the run is; put back on any number of ranks.

A tensor is stored under the first of its names. One that is cut into pieces is stored in pieces, see `checkpoint`, and
put back in whatever pieces it is in then.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacit.core import gathering
from tacit.core.errors import UserError
from tacit.tasks.base import Task
from tacit.training import checkpoint
from tacit.training.sharding import alike, cuts, here


@dataclass(frozen=True)
class Saved:
    """Where a run goes on, and what a person should know of it."""

    step: int
    spent: float = 0.0  # seconds
    skipped: tuple[int, ...] = ()  # steps that were bad
    recent: tuple[float, ...] = ()  # losses
    notes: tuple[str, ...] = ()


def save(folder: Path, saved: Saved, task: Task, optimizer: torch.optim.Optimizer, *, steps: int, seed: int) -> None:
    """Write a checkpoint under `folder`; every process must call it."""
    tensors = {f"task/{name}": value for name, value in _named(task).items()}
    for number, fields in optimizer.state_dict()["state"].items():
        tensors |= {f"optim/{number}/{name}": value for name, value in fields.items() if isinstance(value, Tensor)}
    run = {"spent": saved.spent, "skipped": saved.skipped, "recent": saved.recent}
    checkpoint.save(folder, saved.step, tensors, {"steps": steps, "seed": seed, **run, "build": _build()})


def restore(folder: Path, task: Task, optimizer: torch.optim.Optimizer, *, steps: int, seed: int) -> Saved | None:
    """Put the newest whole checkpoint under `folder` back, where there is one; every process must call it."""
    saved = checkpoint.load(folder)
    if saved is None:
        return None
    for key, value in (("steps", steps), ("seed", seed)):
        if saved.state[key] != value:
            raise UserError(
                f"the checkpoint in {folder} was made with {key} {saved.state[key]}, not {value}; "
                "resume with the same settings or choose another --out"
            )
    with torch.no_grad():
        for name, tensor in _named(task).items():
            here(tensor).copy_(_piece(saved.tensors, f"task/{name}", tensor))
    _restore_optimizer(saved.tensors, optimizer)
    notes = [f"passed over a damaged checkpoint ({fault})" for fault in saved.damaged]
    before: dict[str, Any] = saved.state["build"]
    notes += [
        f"resumed with {what} {now} where the checkpoint had {before[what]}: results may differ in the last digits"
        for what, now in _build().items()
        if before[what] != now
    ]
    skipped, recent = tuple(saved.state.get("skipped", ())), tuple(saved.state.get("recent", ()))
    return Saved(saved.step, float(saved.state["spent"]), skipped, recent, tuple(notes))


def _restore_optimizer(tensors: checkpoint.Tensors, optimizer: torch.optim.Optimizer) -> None:
    parameters = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    states: dict[int, dict[str, Tensor]] = {}
    for name in tensors:
        if name.startswith("optim/"):
            _, number, field = name.split("/", 2)
            model = parameters[int(number)]
            cut = tensors.shape(name) == model.shape  # as the parameter is; a count of steps is not
            value = alike(_piece(tensors, name, model), model) if cut else tensors[name]
            states.setdefault(int(number), {})[field] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _named(task: Task) -> dict[str, Tensor]:
    """The task's tensors, each once: the tasks of a sum share their encoder."""
    first: dict[int, str] = {}
    state = task.state_dict(keep_vars=True)
    return {name: value.detach() for name, value in state.items() if first.setdefault(id(value), name) == name}


def _piece(tensors: checkpoint.Tensors, name: str, model: Tensor) -> Tensor:
    """Of a stored tensor what this process holds of `model`, which is of the same shape."""
    assert tensors.shape(name) == model.shape, name
    rows = cuts(model)
    return tensors[name] if rows is None else tensors.rows(name, *rows[gathering.rank()])


def _build() -> dict[str, Any]:
    """What must not change for a resumed run to be bit-identical."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processes": gathering.world(),
        "processor": platform.processor() or platform.machine(),
    }
