"""The tasks of each modality: those whose ingredients it has."""

from __future__ import annotations

from collections.abc import Iterable

from tacit.core.errors import UserError
from tacit.modalities import MODALITIES, modality_named
from tacit.tasks import TASKS, needs


def tasks_of(modality: str) -> list[str]:
    """The tasks whose ingredients a modality has."""
    offered = modality_named(modality).ingredients.offered()
    return [name for name in TASKS if needs(name) <= offered]


def check_kind(names: Iterable[str], modality: str) -> None:
    """UserError where a modality lacks what one of these tasks needs."""
    for name in names:
        if name not in (fit := tasks_of(modality)):
            raise UserError(
                f"the task {name!r} has no recipe for data of kind {modality}; choose from {', '.join(fit)}"
            )


def listing() -> str:
    """The table of tasks as text."""
    having = {modality: tasks_of(modality) for modality in MODALITIES}
    lines = []
    for name, entry in TASKS.items():
        fit = ", ".join(modality for modality, tasks in having.items() if name in tasks)
        lines += [f"{name:<10} {entry.family:<15} {fit}", f"{'':<10} {entry.pretext}", f"{'':<10} {entry.paper}"]
    return "\n".join([*lines, "a weighted sum of several on one encoder: simclr+0.4*rotation"])
