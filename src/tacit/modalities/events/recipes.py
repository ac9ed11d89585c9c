"""Which settings pretrain histories of items well: plain functions that return everything a run needs.

The numbers were chosen by measurement; docs/experiments.md keeps the tables, also of what failed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from torch import Tensor

from tacit.core.errors import UserError
from tacit.modalities.events.encoder import ItemEncoder
from tacit.modalities.events.spec import ItemSpec
from tacit.modalities.events.views import AttributeLoss, ItemMask, ItemViews, SampledSoftmax
from tacit.modalities.recipe import Recipe, mixed
from tacit.modalities.tokens import Corruption, own_tokens
from tacit.tasks.base import Task
from tacit.tasks.masked import Masked
from tacit.tasks.next import Next
from tacit.tasks.simclr import SimCLR
from tacit.training.optim import Optim

SAMPLED_FROM = 50_000  # items from which on they are compared with a sample, not with all others
NEGATIVES = 4096  # items in it
MASKED_SHARE, LAST_SHARE = 0.3, 0.2  # of the events; of the histories of which only the last event is hidden
CONTRAST = {"simclr", "simcse"}


def default_encoder(spec: ItemSpec, tasks: Collection[str]) -> str:
    """One that sees what came before alone, which all tasks can learn but the one that fills in."""
    return "bert4rec_nano" if "masked" in tasks else "sasrec_nano"


def recipe(
    weights: Mapping[str, float],
    encoder: ItemEncoder,
    *,
    examples: int,
    batch_size: int | None = None,
    accelerated: bool = False,
) -> Recipe:
    """The recipe of a task, or of a weighted sum of tasks, for this encoder and so many histories."""
    task = mixed({name: make_task(name, encoder) for name in weights}, weights)
    batch_size = batch_size or default_batch_size(examples, accelerated=accelerated)
    return Recipe(task, default_optim(encoder), batch_size)


def make_task(name: str, encoder: ItemEncoder) -> Task:
    """One task with its defaults for items."""
    spec = encoder.spec
    views, loss = default_views(spec, name), catalogue_loss(encoder)
    if name in CONTRAST:
        if name == "simcse" and not encoder.options.get("dropout"):
            raise UserError(f"the task 'simcse' needs dropout, and {encoder.name} has none; choose another task")
        return SimCLR(encoder, views, hidden=0, temperature=0.2)
    if name == "attributes":
        return Next(encoder, views, own_tokens, width=spec.vocabulary, loss=AttributeLoss(spec, encoder.dim))
    if name == "next":
        return Next(encoder, views, own_tokens, width=spec.vocabulary, decoder=encoder.logits, loss=loss)
    assert name == "masked", name
    if encoder.causal:
        raise UserError(
            f"the encoder {encoder.name} sees only what came before an item, and the task 'masked' fills in from both "
            "sides; choose --encoder bert4rec_nano"
        )
    masks, corrupt = ItemMask(MASKED_SHARE, LAST_SHARE), Corruption(spec)
    return Masked(
        encoder,
        views,
        masks,
        own_tokens,
        width=spec.vocabulary,
        corrupt=corrupt,
        decoder=encoder.logits,
        loss=loss,
    )


def catalogue_loss(encoder: ItemEncoder) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Cross-entropy estimated from a sample where the catalogue is large; None where all items are compared."""
    if encoder.spec.items < SAMPLED_FROM:
        return None
    return SampledSoftmax(lambda: encoder.table, encoder.spec, NEGATIVES, encoder.comparable)


def default_views(spec: ItemSpec, task: str) -> ItemViews:
    """The views that suit the pretext `task`, or "scratch": changed in one of three ways for contrast, or a window."""
    views = ItemViews(spec, spec.length)
    return replace(views, ways=("crop", "mask", "reorder")) if task == "simclr" else views


def default_optim(encoder: ItemEncoder) -> Optim:
    """AdamW without decay, which cost half a point: the embeddings of items are most of the weights."""
    return Optim("adamw", lr=8e-3, weight_decay=0.0, warmup=0.05, betas=(0.9, 0.98), clip=1.0)


def default_batch_size(examples: int, *, accelerated: bool = False) -> int:
    """64, 256 where an accelerator would idle; at most a quarter of the histories."""
    most = max(2, min(256 if accelerated else 64, examples // 4))
    return 1 << (most.bit_length() - 1)
