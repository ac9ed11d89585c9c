"""What a recipe is, whatever the kind of data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tacit.tasks.base import Task
from tacit.tasks.mixture import Sum
from tacit.training.optim import Optim


@dataclass(frozen=True)
class Recipe:
    """A task ready to train, how, and on how many examples at a time.

    `packed`: examples may be rows filled with one document after the other, where the kind of data has such rows.
    """

    task: Task
    optim: Optim
    batch_size: int
    packed: bool = False


def mixed(tasks: Mapping[str, Task], weights: Mapping[str, float]) -> Task:
    """One task as it is; several, on one encoder, as their weighted sum."""
    return next(iter(tasks.values())) if len(tasks) == 1 else Sum(tasks, weights)
