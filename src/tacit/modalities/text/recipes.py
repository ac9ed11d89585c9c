"""The ingredients of pretext tasks for text, and the settings that trained well in measurements.

The numbers were chosen by measurement; docs/experiments.md has the tables, also of what failed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from tacit.core.masks import MaskSchedule
from tacit.core.types import ViewMaker
from tacit.modalities.recipe import compares
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.text.views import TextViews, TokenMask
from tacit.modalities.tokens import Corruption, own_tokens
from tacit.tasks.ingredients import Ingredients, MaskMaker, Target, Vocabulary
from tacit.tasks.masked import Masked
from tacit.training.optim import Optim

PACKING = {"masked", "electra"}  # tasks that learn from single tokens, so that rows may hold several documents
DROPOUT = 0.1  # of an encoder whose dropout makes the two views of a text
HIDDEN = MaskSchedule(0.3)
LEFT_OUT = 0.6  # of the words of a text that is to be rebuilt
SMALLER = {"tiny": "nano", "small": "tiny", "base": "small"}


def default_encoder(spec: TextSpec, tasks: Collection[str]) -> str:
    """A mean of embeddings for contrast of crops: nothing else learned as much within minutes on a CPU.

    Other tasks need layers: two with norms first, since layers with norms last did not learn.
    """
    return "bert_bag" if compares(tasks) else "modernbert_nano"


@dataclass(frozen=True)
class TextIngredients(Ingredients[TextEncoder]):
    def views(self) -> ViewMaker:
        return compared_views(self.encoder.spec)

    def dropout(self) -> ViewMaker:
        self.encoder.set_dropout(DROPOUT)
        return self.whole()

    def whole(self) -> TextViews:
        return whole_views(self.encoder.spec)

    def noisy(self) -> TextViews:
        return replace(self.whole(), delete=LEFT_OUT)

    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.encoder.spec.vocabulary, self.encoder.spec.length)

    def masks(self) -> MaskMaker:
        return TokenMask(self.encoder.spec, self.hiding or HIDDEN)

    def corrupt(self) -> Corruption:
        """Replace every hidden token by the mask."""
        return Corruption(self.encoder.spec)

    def target(self) -> Target:
        self.encoder.train_head()
        return Target(own_tokens, self.encoder.spec.vocabulary, decoder=self.encoder.logits)

    def generator(self) -> Masked:
        """A smaller encoder of the same family with new weights."""
        from tacit.modalities.text.bert import Bert
        from tacit.modalities.text.modernbert import ModernBert

        family, _, size = self.encoder.name.partition("_")
        build = {"modernbert": ModernBert}.get(family, Bert)
        smaller = SMALLER.get(size, "nano") if family in ("bert", "modernbert") else "nano"
        name = f"{family if build is ModernBert else 'bert'}_{smaller}"
        has = replace(self, encoder=build(name, self.encoder.spec))
        return Masked(has.encoder, has.whole(), has.masks(), has.target(), corrupt=has.corrupt())


def whole_views(spec: TextSpec) -> TextViews:
    """A whole window of a document."""
    return TextViews(spec, spec.length)


def compared_views(spec: TextSpec) -> TextViews:
    """Thinned runs of a document."""
    return replace(whole_views(spec), crop=(0.1, 0.3), least=24, most=64, delete=0.5)


def measured(task: str, encoder: TextEncoder) -> dict[str, Any]:
    """The settings of a task that trained well on text in measurements."""
    if task == "simclr":  # features themselves are contrasted: a projection head cost 3 points
        return {"hidden": 0, "temperature": 0.2}
    if task == "byol":
        return {"hidden": 2 * encoder.dim, "out": 128, "momentum": 0.99}
    return {"hidden": 2 * encoder.dim, "out": 128, "temperature": 0.05} if task == "simcse" else {}


def default_optim(encoder: TextEncoder) -> Optim:
    """AdamW, gradients clipped; embeddings alone take twice the rate of layers."""
    rate = 8e-3 if encoder.n_depths == 1 else 4e-3
    return Optim("adamw", lr=rate, weight_decay=0.05, warmup=0.06, betas=(0.9, 0.98), clip=1.0)


def batch_size(tasks: Collection[str], accelerated: bool) -> int:
    """128 for contrast, 64 for rows of tokens, 256 to keep an accelerator busy."""
    return 256 if accelerated else 128 if compares(tasks) else 64
