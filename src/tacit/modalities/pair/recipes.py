"""The ingredients of pretext tasks on pairs, and the settings that were measured to train well.

The numbers were chosen by measurement; docs/experiments.md keeps the tables, also of what failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.modalities import modality_named
from tacit.modalities.pair.encoder import Towers
from tacit.modalities.pair.store import of_side
from tacit.tasks.base import Task
from tacit.tasks.ingredients import Ingredients
from tacit.training.optim import Optim


@dataclass(frozen=True)
class OfSide:
    """Draws a view of one side of each pair, as the batch of that side."""

    side: str
    views: ViewMaker

    def __call__(self, batch: Batch, view: int) -> Batch:
        return self.views(of_side(batch, self.side), view)


@dataclass(frozen=True)
class PairIngredients(Ingredients[Towers]):
    def sides(self) -> Mapping[str, ViewMaker]:
        """Weakly augmented views of both sides: what a caption says must still be seen."""
        found = {}
        for side, tower in self.encoder.parts.items():
            found[side] = OfSide(side, modality_named(side).ingredients(tower, self.task).whole())
        return found


class OnSide(Task):
    """A task on one tower, as a part of a sum: SLIP, Mu et al. 2021, arXiv:2112.12750."""

    needs = frozenset()

    def __init__(self, encoder: Towers, side: str, task: Task) -> None:
        super().__init__()
        self.encoder, self.side, self.task = encoder, side, task
        self.fewest, self.fewest_in_part = task.fewest, task.fewest_in_part

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        self.task.progress.copy_(self.progress)
        found: Output = self.task(of_side(batch, self.side))
        return found

    def after_step(self, carry: Mapping[str, Tensor]) -> None:
        self.task.after_step(carry)

    def vain(self, batch: Batch) -> str:
        return self.task.vain(of_side(batch, self.side))

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return self.task.preview(of_side(batch, self.side))


def measured(task: str, encoder: Towers) -> dict[str, Any]:
    """Settings of a task that were measured to train pairs well."""
    return {}


def optim_of(encoder: Towers) -> Optim:
    """AdamW for both towers."""
    return Optim("adamw", lr=4e-3, weight_decay=0.05, warmup=0.1, betas=(0.9, 0.98), clip=1.0)
