"""SimSiam: predict another view's projection, which no gradient reaches; no negatives, no teacher.

Chen & He 2021, "Exploring Simple Siamese Representation Learning", arXiv:2011.10566. With f the encoder, g the
projector, q the predictor, v, v' two views and sg the stopped gradient, the loss of an example is

    - cos(q(g(f(v))), sg(g(f(v')))) / 2 - the same with v and v' exchanged / 2

averaged over the batch. Without the predictor or the stopped gradient it collapses.

Departures: batch norm sees both views at once; the projector is never wider than 1,024.
"""

from __future__ import annotations

from torch import nn
from torch.nn.functional import normalize

from tacit.core.nn import expander, mlp
from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Viewing


class SimSiam(Viewing):
    """Siamese prediction for any modality that has views.

    `width` is the projector's; the predictor narrows to a quarter of it. `spread` is that of unit projections, 1 where
    they cover the sphere and 0 where all are the same.
    """

    def __init__(self, encoder: Encoder, views: ViewMaker, *, width: int | None = None) -> None:
        super().__init__(encoder, views)
        projector = expander(encoder.dim, width)
        last = projector[-1]
        assert isinstance(last, nn.Linear)
        width = last.out_features
        self.projector = nn.Sequential(*projector, nn.BatchNorm1d(width, affine=False))
        self.predictor = mlp(width, max(1, width // 4), width)

    def forward(self, batch: Batch) -> Output:
        z = self.projector(self.encoder(self.two_views(batch)).pooled)  # [2B D]
        predicted = normalize(self.predictor(z).float(), dim=1)
        wanted = normalize(z.detach().float(), dim=1)
        agreement = (predicted * wanted.roll(len(wanted) // 2, 0)).sum(1).mean()
        spread = wanted.var(0).sum().sqrt()
        return Output(-agreement, {"agreement": agreement.detach(), "spread": spread}, {})
