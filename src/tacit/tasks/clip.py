"""CLIP: tell which of a batch's captions belongs to an image, and which image to a caption.

Radford et al. 2021, "Learning transferable visual models from natural language supervision", arXiv:2103.00020. With x_i
and y_i the unit embeddings of the two sides of pair i, and the learned scale s, the loss is

    - log softmax_j(s x_i . y_j)[i]  and  - log softmax_j(s y_i . x_j)[i],

averaged over both and over all pairs. The batch is that of all ranks. The scale starts at 1 / 0.07 and is kept within 1
and 100.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tacit.core import gathering
from tacit.core.types import Batch, Encoder, Output, TwoSided, ViewMaker
from tacit.tasks.base import Task, preview_of

STEEPEST = 100.0  # the largest scale


class Clip(Task):
    """Softmax over the pairs of a batch, for any two modalities."""

    needs = frozenset({"sides"})
    fewest = 2

    def __init__(self, encoder: TwoSided, sides: Mapping[str, ViewMaker], *, temperature: float = 0.07) -> None:
        super().__init__()
        self.encoder = encoder
        self.sides = dict(sides)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        return self.compared(self.embed(batch))

    def embed(self, batch: Batch) -> Tensor:
        """Both sides [B 2 D], scaled so that their inner products are those of the loss."""
        z = torch.stack([self.encoder.embed(side, view(batch, 0)) for side, view in self.sides.items()], 1)
        return z * (self.log_scale / 2).exp()

    def compared(self, embeddings: Tensor) -> Output:
        """The loss of this rank's pairs [B 2 D] among those of all; `agreement` is the share that finds its partner."""
        everyone = gathering.gather(embeddings)  # [W*B 2 D]
        mine = torch.arange(len(embeddings), device=embeddings.device) + len(embeddings) * gathering.rank()
        there = embeddings[:, 0] @ everyone[:, 1].T  # [B W*B] from the first side to the second
        back = embeddings[:, 1] @ everyone[:, 0].T
        loss = (nn.functional.cross_entropy(there, mine) + nn.functional.cross_entropy(back, mine)) / 2
        return Output(loss, metrics_of(there, mine, loss, math.log(len(everyone))), {})

    @torch.no_grad()
    def after_step(self, carry: Mapping[str, Tensor]) -> None:
        self.log_scale.clamp_(0.0, math.log(STEEPEST))

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {side: preview_of(view(batch, 0)) for side, view in self.sides.items()}


def metrics_of(similarity: Tensor, mine: Tensor, loss: Tensor, guessing: float) -> dict[str, Tensor]:
    """Metrics: the share of pairs whose partner is nearest, and the loss as a share of that of guessing."""
    return {
        "agreement": (similarity.detach().argmax(1) == mine).float().mean(),
        "of_guessing": loss.detach() / guessing,
    }
