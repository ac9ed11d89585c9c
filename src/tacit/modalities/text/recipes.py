"""Which settings pretrain text well: plain functions that return everything a run needs.

The numbers were chosen by measurement; docs/experiments.md keeps the tables, also of what failed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from tacit.core.masks import Hiding
from tacit.encoders import build_encoder
from tacit.modalities.recipe import Recipe, mixed
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.text.views import TextViews, TokenMask
from tacit.modalities.tokens import Corruption, own_tokens
from tacit.tasks.base import Task
from tacit.tasks.byol import BYOL
from tacit.tasks.electra import Electra
from tacit.tasks.masked import Masked
from tacit.tasks.simclr import SimCLR
from tacit.training.optim import Optim

PACKING = {"masked", "electra"}  # tasks that learn from single tokens, so that rows may hold several documents
CONTRAST = {"simclr", "byol"}  # tasks that an encoder without layers can learn
DROPOUT = 0.1  # of an encoder whose dropout makes the two views of a text
HIDDEN = Hiding(0.3)
SMALLER = {"tiny": "nano", "small": "tiny", "base": "small"}


def default_encoder(spec: TextSpec, tasks: Collection[str]) -> str:
    """A mean of embeddings where nothing but crops are contrasted: nothing learned as much within minutes of a CPU.

    Other tasks need layers: two of them, which norm first, since those that norm last stayed where they were.
    """
    return "bert_bag" if set(tasks) <= CONTRAST else "modernbert_nano"


def recipe(
    weights: Mapping[str, float],
    encoder: TextEncoder,
    *,
    examples: int,
    batch_size: int | None = None,
    accelerated: bool = False,
    hiding: Hiding | None = None,
) -> Recipe:
    """The recipe of a task, or of a weighted sum of tasks, for this encoder and so many documents."""
    task = mixed({name: make_task(name, encoder, hiding) for name in weights}, weights)
    contrast = weights.keys() <= CONTRAST
    batch_size = batch_size or default_batch_size(examples, contrast=contrast, accelerated=accelerated)
    return Recipe(task, default_optim(encoder), batch_size, packed=encoder.packs and weights.keys() <= PACKING)


def make_task(name: str, encoder: TextEncoder, hiding: Hiding | None = None) -> Task:
    """One task with its defaults for text."""
    views = default_views(encoder.spec, name)
    if name == "simclr":  # features themselves are contrasted: a projection head cost 3 points
        return SimCLR(encoder, views, hidden=0, temperature=0.2)
    if name == "byol":
        return BYOL(encoder, views, hidden=2 * encoder.dim, out=128, momentum=0.99)
    if name == "simcse":
        encoder.set_dropout(DROPOUT)
        return SimCLR(encoder, views, hidden=2 * encoder.dim, out=128, temperature=0.05)
    if name == "electra":
        return Electra(encoder, _masked(_generator(encoder), views, hiding or HIDDEN))
    assert name == "masked", name
    return _masked(encoder, views, hiding or HIDDEN)


def default_views(spec: TextSpec, task: str) -> TextViews:
    """The views that suit the pretext `task`: two thinned runs of a document for contrast, else a whole window."""
    views = TextViews(spec, spec.length)
    return replace(views, crop=(0.1, 0.3), least=24, most=64, delete=0.5) if task in CONTRAST else views


def _masked(encoder: TextEncoder, views: TextViews, hiding: Hiding) -> Masked:
    """Masked tokens, every hidden one behind the mask."""
    encoder.train_head()
    spec = encoder.spec
    masks, corrupt = TokenMask(spec, hiding), Corruption(spec)
    return Masked(encoder, views, masks, own_tokens, width=spec.vocabulary, corrupt=corrupt, decoder=encoder.logits)


def _generator(encoder: TextEncoder) -> TextEncoder:
    """A smaller encoder of the same kind with new weights."""
    family, _, size = encoder.name.partition("_")
    name = f"{family}_{SMALLER.get(size, 'nano')}" if family in ("bert", "modernbert") else "bert_nano"
    return build_encoder(name, encoder.spec)


def default_optim(encoder: TextEncoder) -> Optim:
    """AdamW, gradients clipped; embeddings alone take twice the rate of layers."""
    rate = 8e-3 if encoder.n_depths == 1 else 4e-3
    return Optim("adamw", lr=rate, weight_decay=0.05, warmup=0.06, betas=(0.9, 0.98), clip=1.0)


def default_batch_size(examples: int, *, contrast: bool, accelerated: bool = False) -> int:
    """128 to contrast, 64 rows of tokens, 256 where an accelerator would idle; at most a quarter of the documents."""
    most = max(2, min(256 if accelerated else 128 if contrast else 64, examples // 4))
    return 1 << (most.bit_length() - 1)
