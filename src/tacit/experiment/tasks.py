"""The tasks of each modality: those whose ingredients it has."""

from __future__ import annotations

from collections.abc import Iterable

from tacit.core.errors import UserError
from tacit.modalities import MODALITIES, combinator, modality_named, sides
from tacit.tasks import TASKS, needs


def tasks_of(modality: str) -> list[str]:
    """The tasks whose ingredients a modality has."""
    offered = modality_named(modality).ingredients.offered()
    return [name for name in TASKS if needs(name) <= offered]


def check_kind(names: Iterable[str], modality: str) -> None:
    """UserError where a modality lacks what one of these tasks needs."""
    for name in names:
        side, _, task = name.rpartition(":")
        if side and (modality != combinator() or side not in sides()):
            remedy = f"write {task}" if modality != combinator() else f"choose from {', '.join(sides())}"
            raise UserError(f"the task {name!r} names a side, {side}, that the data do not have; {remedy}")
        if task not in (fit := tasks_of(side or modality)):
            raise UserError(
                f"the task {name!r} has no recipe for data of kind {side or modality}; choose from {', '.join(fit)}"
            )


def listing() -> str:
    """The table of tasks as text."""
    having = {modality: tasks_of(modality) for modality in MODALITIES}
    lines = []
    for name, entry in TASKS.items():
        fit = ", ".join(modality for modality, tasks in having.items() if name in tasks)
        lines += [f"{name:<10} {entry.family:<15} {fit}", f"{'':<10} {entry.pretext}", f"{'':<10} {entry.paper}"]
    more = "of pairs also on one side: siglip+0.5*image:simclr"
    return "\n".join([*lines, "a weighted sum of several on one encoder: simclr+0.4*rotation", more])
