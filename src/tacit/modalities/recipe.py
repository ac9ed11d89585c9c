"""How to pretrain: a task made of a modality's ingredients, its optimiser and its batch size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tacit.core.masks import MaskSchedule
from tacit.tasks import TASKS, needs, task_class
from tacit.tasks.base import Task
from tacit.tasks.mixture import Sum
from tacit.training.optim import Optim

if TYPE_CHECKING:
    from tacit.modalities.base import Modality


@dataclass(frozen=True)
class Recipe:
    """A task ready to train, its optimiser and its batch size.

    `packed`: a row may hold several documents, one after the other, where the modality supports it.
    """

    task: Task
    optim: Optim
    batch_size: int
    packed: bool = False


def make_task(modality: Modality[Any, Any], name: str, encoder: Any, hiding: MaskSchedule | None = None) -> Task:
    """Make a task from the modality's ingredients, with the settings that were measured to train well."""
    found: Any = task_class(name)
    using = TASKS[name].using
    has = modality.ingredients(encoder, name, hiding)
    wanted = sorted(found.needs | (found.takes & has.offered()))
    parts = {need: has.take(using.get(need, need)) for need in wanted}
    made: Task = found(encoder, **parts, **modality.measured(name, encoder))
    return made


def make_recipe(
    modality: Modality[Any, Any],
    weights: Mapping[str, float],
    encoder: Any,
    *,
    examples: int,
    batch_size: int | None = None,
    accelerated: bool = False,
    hiding: MaskSchedule | None = None,
) -> Recipe:
    """The recipe of a task, or of a weighted sum of tasks; a step takes at most a quarter of the examples."""
    tasks = {name: modality.task(name, encoder, hiding) for name in weights}
    task = next(iter(tasks.values())) if len(tasks) == 1 else Sum(tasks, weights)
    most = max(2, min(modality.batch_size(encoder, weights, accelerated), examples // 4))
    return Recipe(
        task,
        modality.optim(encoder),
        batch_size or 1 << (most.bit_length() - 1),
        packed=modality.packs(encoder, weights),
    )


def compares(tasks: Iterable[str]) -> bool:
    """Whether all of these tasks only compare views."""
    return all(needs(name) == {"views"} for name in tasks)


def hides(name: str) -> bool:
    """Whether a task masks tokens."""
    return bool(needs(name) & {"masks", "blocks", "generator"})
