"""TSDAE: rebuild an example from one vector of a damaged copy.

Wang, Reimers & Gurevych 2021, "TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised
Sentence Embedding Learning", arXiv:2104.06979. The encoder sees the example with six in ten of its tokens left out. A
decoder that sees nothing but the pooled features, and the tokens up to n, predicts token n + 1 of the whole example;
the loss is the mean cross-entropy over all tokens. All that is known must pass through one vector, which is therefore
what is learned.

Departure: the decoder has weights of its own, its embedding serves as its last layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Task, mean_of_all, preview_of
from tacit.tasks.ingredients import Vocabulary

HEADS = 4


class TSDAE(Task):
    """Denoising through a bottleneck, for any modality whose tokens have identities; `width` is the decoder's.

    `accuracy` is the share of tokens that are predicted rightly.
    """

    needs = frozenset({"whole", "noisy", "vocabulary"})

    def __init__(
        self, encoder: Encoder, whole: ViewMaker, noisy: ViewMaker, vocabulary: Vocabulary, *, width: int = 128
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.whole, self.noisy = whole, noisy
        self.embedding = nn.Embedding(vocabulary.size, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.position = nn.Parameter(0.02 * torch.randn(vocabulary.longest, width))
        self.enter = nn.Linear(encoder.dim, width)
        self.decoder = nn.TransformerDecoderLayer(
            width, HEADS, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(width)

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        seen = self.whole(batch, 0)
        pooled = self.encoder(self.noisy(batch, 0)).pooled  # [B D]
        tokens, valid = seen["tokens"], seen["valid"]
        states = self.rebuild(pooled, tokens[:, :-1])  # [B N-1 W]
        there = valid[:, 1:]
        logits = (states[there] @ self.embedding.weight.T.to(states.dtype)).float()  # [M V]
        truth = tokens[:, 1:][there]
        losses = nn.functional.cross_entropy(logits, truth, reduction="none")
        accuracy = (logits.detach().argmax(1) == truth).float().mean()
        return Output(mean_of_all(losses), {"accuracy": accuracy}, {})

    def rebuild(self, pooled: Tensor, tokens: Tensor) -> Tensor:
        """The decoder's states [B N W] after each of the tokens [B N], given the pooled features [B D]."""
        x = self.embedding(tokens) + self.position[: tokens.shape[1]]
        later = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=x.device, dtype=x.dtype)
        states: Tensor = self.norm(self.decoder(x, self.enter(pooled)[:, None].to(x.dtype), tgt_mask=later))
        return states

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {"input": preview_of(self.whole(batch, 0)), "shown": preview_of(self.noisy(batch, 0))}
