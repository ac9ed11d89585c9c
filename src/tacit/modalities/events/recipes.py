"""Ingredients of pretext tasks for histories of items, and default settings.

The numbers were chosen by measurement; docs/experiments.md has the tables, also of what failed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from tacit.core.errors import UserError
from tacit.core.types import ViewMaker
from tacit.modalities.events.encoder import ItemEncoder
from tacit.modalities.events.spec import ItemSpec
from tacit.modalities.events.views import AttributeLoss, ItemMask, ItemViews, SampledSoftmax
from tacit.modalities.recipe import hides
from tacit.modalities.tokens import Corruption, own_tokens
from tacit.tasks.ingredients import Ingredients, MaskMaker, Target
from tacit.training.optim import Optim

SAMPLED_FROM = 50_000  # items from which on softmax is over a sample, not all items
NEGATIVES = 4096  # items in it
MASKED_SHARE, LAST_SHARE = 0.3, 0.2  # of events; of histories in which only the last event is masked


def default_encoder(spec: ItemSpec, tasks: Collection[str]) -> str:
    """A causal encoder, which all tasks can train but those that hide items."""
    return "bert4rec_nano" if any(hides(task) for task in tasks) else "sasrec_nano"


@dataclass(frozen=True)
class EventIngredients(Ingredients[ItemEncoder]):
    def views(self) -> ViewMaker:
        return compared_views(self.encoder.spec)

    def dropout(self) -> ViewMaker:
        if not self.encoder.options.get("dropout"):
            raise UserError(
                f"the task {self.task!r} needs dropout, and {self.encoder.name} has none; choose another task"
            )
        return self.whole()

    def whole(self) -> ItemViews:
        return whole_views(self.encoder.spec)

    def masks(self) -> MaskMaker:
        if self.hiding is not None:
            raise UserError("--mask: of items masked prediction hides a share of its own; leave it out")
        if self.encoder.causal:
            raise UserError(
                f"the encoder {self.encoder.name} sees only what came before an item, and the task {self.task!r} fills "
                "in from both sides; choose --encoder bert4rec_nano"
            )
        return ItemMask(MASKED_SHARE, LAST_SHARE)

    def corrupt(self) -> Corruption:
        return Corruption(self.encoder.spec)

    def target(self) -> Target:
        encoder = self.encoder
        return Target(own_tokens, encoder.spec.vocabulary, decoder=encoder.logits, loss=catalogue_loss(encoder))

    def attributes(self) -> Target:
        spec = self.encoder.spec
        return Target(own_tokens, spec.vocabulary, loss=AttributeLoss(spec, self.encoder.dim))

    def ahead(self) -> int:
        return 1


def catalogue_loss(encoder: ItemEncoder) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Sampled softmax where the catalogue is large; None for the full softmax."""
    if encoder.spec.items < SAMPLED_FROM:
        return None
    return SampledSoftmax(lambda: encoder.table, encoder.spec, NEGATIVES, encoder.comparable)


def whole_views(spec: ItemSpec) -> ItemViews:
    """Unchanged windows of histories."""
    return ItemViews(spec, spec.length)


def compared_views(spec: ItemSpec) -> ItemViews:
    """Windows augmented in one of three ways."""
    return replace(whole_views(spec), ways=("crop", "mask", "reorder"))


def measured(task: str, encoder: ItemEncoder) -> dict[str, Any]:
    """Settings of a task that were measured to work well."""
    return {"hidden": 0, "temperature": 0.2} if task in ("simclr", "simcse") else {}


def default_optim(encoder: ItemEncoder) -> Optim:
    """AdamW without weight decay, which cost half a point: most weights are embeddings of items."""
    return Optim("adamw", lr=8e-3, weight_decay=0.0, warmup=0.05, betas=(0.9, 0.98), clip=1.0)
