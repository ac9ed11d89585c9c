"""The content of a checkpoint: the states of task, optimiser and run, restored on any number of ranks.

A tensor is stored under the first of its names. A sharded tensor is stored in pieces, see `checkpoint`, and restored
into the pieces of the current run.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacit.core import gathering
from tacit.core.errors import UserError
from tacit.core.records import reading
from tacit.tasks.base import Task
from tacit.training import checkpoint
from tacit.training.sharding import alike, cuts, here


@dataclass(frozen=True)
class Saved:
    """The state from which a run continues, with notes for the user."""

    step: int
    spent: float = 0.0  # seconds
    skipped: tuple[int, ...] = ()  # bad steps
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
    """Restore the newest whole checkpoint under `folder`, if there is one; every process must call it."""
    saved = checkpoint.load(folder)
    if saved is None:
        return None
    notes = [f"passed over a damaged checkpoint ({fault})" for fault in saved.damaged]
    with reading(saved.file, f"remove {saved.file.parent}, and the checkpoint before it is taken"):
        for key, value in (("steps", steps), ("seed", seed)):
            if saved.state[key] != value:
                raise UserError(
                    f"the checkpoint in {folder} was made with {key} {saved.state[key]!r:.40}, not {value}; "
                    "resume with the same settings or choose another --out"
                )
        before, spent, skipped, recent = _read_state(saved.state)
        with torch.no_grad():
            for name, tensor in _named(task).items():
                here(tensor).copy_(_piece(saved.tensors, f"task/{name}", tensor))
        _restore_optimizer(saved.tensors, optimizer)
    notes += [
        f"resumed with {what} {now} where the checkpoint had {before[what]}: results may differ in the last digits"
        for what, now in _build().items()
        if before[what] != now
    ]
    return Saved(saved.step, spent, skipped, recent, tuple(notes))


def _read_state(state: Mapping[str, Any]) -> tuple[dict[str, Any], float, tuple[int, ...], tuple[float, ...]]:
    """Read the state of a checkpoint besides its tensors. TypeError, ValueError or KeyError where it is invalid."""
    before, spent = state["build"], float(state["spent"])
    if not isinstance(before, dict) or not _build().keys() <= before.keys() or not spent >= 0:
        raise ValueError("it is no state of a training")
    skipped, recent = state.get("skipped", []), state.get("recent", [])
    if not isinstance(skipped, list) or not all(type(step) is int for step in skipped):
        raise ValueError(f"skipped is {skipped!r:.40}")
    return before, spent, tuple(skipped), tuple(map(float, recent))


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
    """The piece of a stored tensor that this process holds of `model`, which has the same shape."""
    assert tensors.shape(name) == model.shape, name
    rows = cuts(model)
    return tensors[name] if rows is None else tensors.rows(name, *rows[gathering.rank()])


def _build() -> dict[str, Any]:
    """The environment that must stay the same for a resumed run to be bit-identical."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processes": gathering.world(),
        "processor": platform.processor() or platform.machine(),
    }
