"""Replaced-token detection: a small generator fills in hidden tokens, and the encoder detects which were replaced.

Clark, Luong, Le & Manning 2020, "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators",
arXiv:2003.10555. With x the tokens, m the hidden places and x' the tokens with samples of the generator at m, the loss
is

    L_generator(x, m) + weight * mean over places t of BCE(D(x', t), [x'_t != x_t])

No gradient flows through the samples. A sample that happens to be the original counts as original. Only the encoder,
the discriminator, is kept.

Departure: the two share no embeddings, so that they may differ in width and the generator can be thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tacit.core import keys
from tacit.core.types import Batch, Encoder, Output
from tacit.tasks.base import Task, mean_of_all
from tacit.tasks.masked import Masked


class Electra(Task):
    """Replaced-token detection; `generator` is masked prediction over identities, on an encoder of its own."""

    needs = frozenset({"generator"})

    def __init__(self, encoder: Encoder, generator: Masked, *, weight: float = 50.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.generator = generator
        self.weight = weight
        self.head = nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.GELU(), nn.Linear(encoder.dim, 1))

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        seen = self.generator.views(batch, 0)
        mask = self.generator.masks(seen, self.progress)  # [B N]
        logits = self.generator.answer(seen, mask)  # [M V]
        truth = self.generator.target(seen)[mask]  # [M]
        learned = mean_of_all(nn.functional.cross_entropy(logits, truth, reduction="none"))
        shown = self.replaced(seen, mask, logits.detach())
        features = self.encoder(shown)
        places = features.valid if features.valid is not None else torch.ones_like(mask)
        score = self.head(features.tokens[places])[:, 0].float()  # [P]
        replaced = (shown["tokens"] != seen["tokens"])[places].float()
        detected = mean_of_all(nn.functional.binary_cross_entropy_with_logits(score, replaced, reduction="none"))
        found = ((score.detach() > 0) == replaced.bool()).float().mean()
        metrics = {"generator": learned.detach(), "accuracy": found, "replaced": replaced.mean()}
        return Output(learned + self.weight * detected, metrics, {})

    @staticmethod
    def replaced(batch: Batch, mask: Tensor, logits: Tensor) -> Batch:
        """The batch with a sample of each hidden token's distribution, from `logits` [M V], in its place."""
        chance = keys.uniform(batch["key"], "sample", mask.shape[1])[mask]  # [M], by inversion: one number each
        reached = logits.softmax(1).cumsum(1)  # [M V]
        drawn = torch.searchsorted(reached, (chance * reached[:, -1])[:, None], right=True)[:, 0]
        tokens = batch["tokens"].clone()
        tokens[mask] = drawn.clamp(max=logits.shape[1] - 1)
        return {**batch, "tokens": tokens}

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        seen = self.generator.views(batch, 0)
        mask = self.generator.masks(seen, self.progress)
        return {
            "input": seen["tokens"],
            "shown": self.replaced(seen, mask, self.generator.answer(seen, mask))["tokens"],
        }
