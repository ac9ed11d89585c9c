"""Token ids, such as those of a text or of the items of a shop: how they are masked, and attention over them.

Shapes: B rows, N tokens, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from tacit.core import keys
from tacit.core.types import Batch

if TYPE_CHECKING:
    from transformers.models.bert.modeling_bert import BertModel


class Vocabulary(Protocol):
    """The number of token ids, and the id of the mask token."""

    @property
    def vocabulary(self) -> int: ...

    @property
    def mask(self) -> int: ...


@dataclass(frozen=True)
class Corruption:
    """Puts the mask token at masked places, or with these shares a random token, or the token that was there."""

    spec: Vocabulary
    random: float = 0.0
    kept: float = 0.0

    def __call__(self, batch: Batch, mask: Tensor) -> Batch:
        tokens = batch["tokens"]
        hidden = torch.full_like(tokens, self.spec.mask)
        if self.random or self.kept:
            chance, other = keys.uniform(batch["key"], "corrupt", 2 * tokens.shape[1]).chunk(2, dim=1)  # [B N] each
            any_token = (other * self.spec.vocabulary).long().clamp(max=self.spec.vocabulary - 1)
            hidden = torch.where(chance < self.random, any_token, hidden)
            hidden = torch.where(chance >= 1.0 - self.kept, tokens, hidden)
        return {**batch, "tokens": torch.where(mask, hidden, tokens)}


def own_tokens(batch: Batch) -> Tensor:
    """The targets of masked prediction for texts and events: the tokens themselves, [B N]."""
    return batch["tokens"]


class Attention(NamedTuple):
    """Which tokens attend to which, and their positions; None for all to all, and for 0 to N - 1."""

    mask: Tensor | None  # [B 1 1 N] or [B 1 N N]  True where the query (third) attends to the key (fourth)
    position: Tensor | None  # [B N]


def attended(valid: Tensor) -> Tensor:
    """Every token attends to the valid ones [B N]; in a row without any, to all, so that the softmax is defined."""
    return (valid | ~valid.any(1, keepdim=True))[:, None, None, :]  # [B 1 1 N]


def bert_layers(model: BertModel, tokens: Tensor, attention: Attention) -> Sequence[Tensor]:
    """The outputs of the layers of `BertModel`, embeddings first, without looking up rows that all examples share."""
    embeddings: Any = model.embeddings
    place = embeddings.position_embeddings.weight
    place = (
        place[: tokens.shape[1]] if attention.position is None else embeddings.position_embeddings(attention.position)
    )
    x = embeddings.word_embeddings(tokens) + (place + embeddings.token_type_embeddings.weight[0])  # [B N D]
    x = embeddings.dropout(embeddings.LayerNorm(x))
    outputs = [x]
    for layer in model.encoder.layer:
        x = layer(x, attention.mask)
        outputs.append(x)
    return outputs
