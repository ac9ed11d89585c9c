"""SIGReg (LeJEPA): bring views together while embeddings stay an isotropic Gaussian; no teacher, no stopped gradient.

Balestriero & LeCun 2025, "LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics",
arXiv:2511.08544. With z_v the projection of view v of an example and m the mean over its whole views, the loss is

    (1 - lambda) mean over views |z_v - m|^2 / D + lambda S

where S, the mean over views and random directions a, tests whether a . z is a standard normal (Epps & Pulley 1983):

    S = N integral over t of |mean of exp(i t a . z) - exp(-t^2 / 2)|^2 exp(-t^2 / 2)

with N the global batch. Directions are drawn anew at every step. Where a modality has `parts` (small crops), they are
views too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tacit.core import gathering, keys
from tacit.core.nn import expander, together
from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Viewing

KNOTS, FURTHEST = 17, 3.0  # where the integral is read: from 0, since it is symmetric


class SIGReg(Viewing):
    """Prediction between views under a Gaussian, for any modality that has views; it has the one `weight` lambda.

    `width` and `out` are the projector's, `directions` how many are tested in a step, `crops` how many small crops are
    seen beside the two whole views, where there are any. `normality` is S: about 1 for a Gaussian, and of the order of
    the batch after a collapse.
    """

    takes = frozenset({"parts"})

    def __init__(
        self,
        encoder: Encoder,
        views: ViewMaker,
        *,
        parts: ViewMaker | None = None,
        crops: int = 4,
        width: int | None = None,
        out: int = 64,
        directions: int = 256,
        weight: float = 0.05,
    ) -> None:
        super().__init__(encoder, views)
        self.parts, self.crops = parts, crops if parts is not None else 0
        self.directions, self.weight = directions, weight
        self.projector = expander(encoder.dim, width, out)

    def forward(self, batch: Batch) -> Output:
        return self.compared(self.embed(batch))

    def embed(self, batch: Batch) -> Tensor:
        """Projections of all views, the two whole ones first, [B V D]."""
        z = self.projector(self.encoder(self.two_views(batch)).pooled)  # [2B D]
        if self.parts is not None and self.crops:
            crops = together([self.parts(batch, 2 + number) for number in range(self.crops)])
            z = torch.cat([z, self.projector(self.encoder(crops).pooled)])
        views: Tensor = z.float().view(2 + self.crops, -1, z.shape[1]).transpose(0, 1)
        return views

    def compared(self, embeddings: Tensor) -> Output:
        """The loss of this rank's projections [B V D] among those of all ranks."""
        centre = embeddings[:, :2].mean(1, keepdim=True)
        apart = (embeddings - centre).square().mean()
        gaussian = self.normality(embeddings)
        loss = (1 - self.weight) * apart + self.weight * gaussian
        return Output(loss, {"apart": apart.detach(), "normality": gaussian.detach()}, {})

    def normality(self, embeddings: Tensor) -> Tensor:
        """The statistic S of the projections of all ranks, of which these [B V D] are this rank's."""
        with torch.autocast(embeddings.device.type, enabled=False):
            along = embeddings @ self._directions(embeddings)  # [B V A]
            t = torch.linspace(0, FURTHEST, KNOTS, device=along.device)
            angle = along[..., None] * t  # [B V A T]
            n = len(embeddings) * gathering.world()
            waves = gathering.total(torch.stack([angle.cos().sum(0), angle.sin().sum(0)])) / n  # [2 V A T]
        bell = (-t.square() / 2).exp()
        distance = (waves[0] - bell).square() + waves[1].square()  # [V A T]
        statistic: Tensor = 2 * n * torch.trapezoid(distance * bell, dx=FURTHEST / (KNOTS - 1), dim=-1).mean()
        return statistic

    def _directions(self, embeddings: Tensor) -> Tensor:
        """Random unit directions [D A], the same on all ranks and drawn anew at every step."""
        dim = embeddings.shape[2]
        step = torch.tensor([keys.fold(round(float(self.progress) * 2**24), "directions")], device=embeddings.device)
        drawn = keys.normal(step, "directions", dim * self.directions).view(dim, self.directions)
        directions: Tensor = drawn / drawn.norm(dim=0).clamp(min=math.sqrt(torch.finfo(drawn.dtype).tiny))
        return directions
