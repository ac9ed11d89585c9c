"""Barlow Twins: make the cross-correlation of two views' features the identity.

Zbontar, Jing, Misra, LeCun & Deny 2021, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
arXiv:2103.03230. With Z, Z' [N D] what a projector makes of first and second views, every feature standardised over the
global batch, and C = Z^T Z' / N, the loss is

    sum over i of (1 - C_ii)^2 + lambda sum over i != j of C_ij^2

The first term brings views together, the second lets no two features say the same. There are no negatives and no
teacher.

Departures: the projector is never wider than 1,024; the loss is divided by its number of features, so that one learning
rate suits all widths.
"""

from __future__ import annotations

from torch import Tensor

from tacit.core import gathering
from tacit.core.nn import expander
from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Viewing, by_example


class BarlowTwins(Viewing):
    """Redundancy reduction for any modality that has views; `width` is the projector's, thrown away afterwards.

    `agreement` is the mean correlation of a feature over both views, 1 where views do not matter.
    """

    def __init__(
        self, encoder: Encoder, views: ViewMaker, *, width: int | None = None, redundancy: float = 5e-3
    ) -> None:
        super().__init__(encoder, views)
        self.redundancy = redundancy
        self.projector = expander(encoder.dim, width)

    def forward(self, batch: Batch) -> Output:
        return self.compared(self.embed(batch))

    def embed(self, batch: Batch) -> Tensor:
        """Projections of both views, [B 2 D]."""
        z: Tensor = self.projector(self.encoder(self.two_views(batch)).pooled)
        return by_example(z.float())

    def compared(self, embeddings: Tensor) -> Output:
        """The loss of all ranks' rows, of which these [B 2 D] are this rank's."""
        z = gathering.gather(embeddings)  # [W*B 2 D]
        z = z - z.mean(0)
        z = z / (z.square().mean(0) + 1e-5).sqrt()
        correlation = z[:, 0].T @ z[:, 1] / len(z)  # [D D]
        same = correlation.diagonal()
        apart = (1 - same).square().sum()
        alike = correlation.square().sum() - same.square().sum()
        loss = (apart + self.redundancy * alike) / len(same)
        metrics = {"agreement": same.mean(), "redundancy": alike / len(same)}
        return Output(loss, {name: value.detach() for name, value in metrics.items()}, {})
