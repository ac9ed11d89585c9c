"""BYOL: predict a slowly moving teacher's projection of another view, without negatives.

Grill et al. 2020, "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", arXiv:2006.07733. With f the
encoder, g the projector and q the predictor, f' and g' exponential moving averages of f and g that no gradient reaches,
and v, v' two views, the loss of an example is

    |u(q(g(f(v)))) - u(g'(f'(v')))|^2 + the same with v and v' exchanged,      u(x) = x / |x|

averaged over the batch. For sound: Niizumi et al. 2021, "BYOL for Audio", arXiv:2103.06695; what differs is the views.

Departure: batch norm sees both views at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tacit.core.nn import mlp
from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Teacher, Viewing


class BYOL(Viewing):
    """Self-prediction for any modality that has views.

    `hidden` and `out` are the widths of projector and predictor, which are thrown away afterwards; `momentum` is the
    teacher's at the start.
    """

    def __init__(
        self,
        encoder: Encoder,
        views: ViewMaker,
        *,
        hidden: int = 4096,
        out: int = 256,
        momentum: float = 0.996,
    ) -> None:
        super().__init__(encoder, views)
        self.head = mlp(encoder.dim, hidden, out)
        self.predictor = mlp(out, hidden, out)
        self.teacher = Teacher(self._taught(), momentum)

    def _taught(self) -> dict[str, nn.Module]:
        assert isinstance(self.encoder, nn.Module)
        return {"encoder": self.encoder, "head": self.head}

    def forward(self, batch: Batch) -> Output:
        both = self.two_views(batch)  # [2B ...]
        predicted = self.predictor(self.head(self.encoder(both).pooled))  # [2B D]
        with torch.no_grad():
            wanted = self.teacher["head"](self.teacher["encoder"](both).pooled)  # [2B D]
        loss, metrics = self.compare(predicted.float(), wanted.float())
        return Output(loss, metrics, {})

    @staticmethod
    def compare(predicted: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss between predicted and wanted projections of first views, then of second ones, [2B D] each.

        Metrics: the cosine of both, and the spread of the wanted ones, 1 if they cover the sphere and 0 if all are the
        same.
        """
        predicted, wanted = normalize(predicted, dim=1), normalize(wanted, dim=1)
        agreement = (predicted * wanted.roll(len(wanted) // 2, 0)).sum(1).mean()
        spread = wanted.var(0).sum().sqrt()
        return 4 - 4 * agreement, {"agreement": agreement.detach(), "spread": spread}

    def after_step(self, carry: Mapping[str, Tensor]) -> None:
        self.teacher.follow(self._taught(), self.progress)
