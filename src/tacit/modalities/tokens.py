"""Numbers that stand for something, such as the tokens of a text or the items of a shop: what hides them, who attends.

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
    """So many numbers, and the one that hides another."""

    @property
    def vocabulary(self) -> int: ...

    @property
    def mask(self) -> int: ...


@dataclass(frozen=True)
class Corruption:
    """What stands at hidden places: the mask, or with these shares a random token, or what was there."""

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
    """What is predicted of text and of items: the tokens themselves, [B N]."""
    return batch["tokens"]


class Attention(NamedTuple):
    """Who attends to whom, and where everybody stands; None where it is all to all, and 0 to N - 1."""

    mask: Tensor | None  # [B 1 1 N] or [B 1 N N]  True where the query (third) attends to the key (fourth)
    position: Tensor | None  # [B N]


def attended(valid: Tensor) -> Tensor:
    """Everybody attends to what is valid [B N]; in a row without any, to all, so that no number is undefined."""
    return (valid | ~valid.any(1, keepdim=True))[:, None, None, :]  # [B 1 1 N]


def bert_layers(model: BertModel, tokens: Tensor, attention: Attention) -> Sequence[Tensor]:
    """What `BertModel` says, its embedding first, without the look-ups of rows that are the same for all."""
    embeddings: Any = model.embeddings
    place = embeddings.position_embeddings.weight
    place = (
        place[: tokens.shape[1]] if attention.position is None else embeddings.position_embeddings(attention.position)
    )
    x = embeddings.word_embeddings(tokens) + (place + embeddings.token_type_embeddings.weight[0])  # [B N D]
    x = embeddings.dropout(embeddings.LayerNorm(x))
    said = [x]
    for layer in model.encoder.layer:
        x = layer(x, attention.mask)
        said.append(x)
    return said
