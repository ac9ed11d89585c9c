"""SigLIP: for every image and every caption of a batch, say whether they belong together.

Zhai, Mustafa, Kolesnikov & Beyer 2023, "Sigmoid loss for language image pre-training", arXiv:2303.15343. With x_i and
y_j unit embeddings, z_ij = 1 where i = j and else -1, the learned scale s and bias b, the loss of image i is

    - sum_j log sigmoid(z_ij (s x_i . y_j + b)),

averaged over all images. The captions are those of all ranks. It starts at s = 10, b = -10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tacit.core import gathering
from tacit.core.types import Batch, Encoder, Output, TwoSided, ViewMaker
from tacit.tasks.base import Task, preview_of
from tacit.tasks.clip import STEEPEST, metrics_of


class SigLIP(Task):
    """A sigmoid for every two sides of a batch, for any two modalities."""

    needs = frozenset({"sides"})
    fewest = 2

    def __init__(
        self, encoder: TwoSided, sides: Mapping[str, ViewMaker], *, temperature: float = 0.1, bias: float = -10.0
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.sides = dict(sides)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.bias = nn.Parameter(torch.tensor(bias))

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        return self.compared(self.embed(batch))

    def embed(self, batch: Batch) -> Tensor:
        """Both sides [B 2 D+1], scaled and with the bias beside 1, so that inner products are those of the loss."""
        z = torch.stack([self.encoder.embed(side, view(batch, 0)) for side, view in self.sides.items()], 1)
        beside = torch.stack([self.bias, torch.ones_like(self.bias)])[:, None].expand(len(z), 2, 1)
        return torch.cat([z * (self.log_scale / 2).exp(), beside.to(z)], 2)

    def compared(self, embeddings: Tensor) -> Output:
        """The loss of this rank's first sides [B D] with the second ones of all; figures as those of CLIP."""
        captions = gathering.gather(embeddings[:, 1].contiguous())  # [W*B D]
        mine = torch.arange(len(embeddings), device=embeddings.device) + len(embeddings) * gathering.rank()
        similarity = embeddings[:, 0] @ captions.T  # [B W*B]
        belongs = nn.functional.one_hot(mine, len(captions)).to(similarity) * 2 - 1
        loss = -nn.functional.logsigmoid(belongs * similarity).sum(1).mean()
        n = len(captions)
        guessing = math.log(n) + (n - 1) * math.log(n / (n - 1)) if n > 1 else 1.0  # where all are equally likely
        return Output(loss, metrics_of(similarity, mine, loss, guessing), {})

    @torch.no_grad()
    def after_step(self, carry: Mapping[str, Tensor]) -> None:
        self.log_scale.clamp_(0.0, math.log(STEEPEST))

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {side: preview_of(view(batch, 0)) for side, view in self.sides.items()}
