"""VICReg: bring two views together, while every feature keeps its spread and no two features say the same.

Bardes, Ponce & LeCun 2022, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning",
arXiv:2105.04906. With Z, Z' [N D] what an expander makes of the features of first and second views, and C(Z) their
covariance matrix, the loss is (Algorithm 1)

    25 mean (Z - Z')^2 + 25 (v(Z) + v(Z')) + c(Z) + c(Z')
    v(Z) = mean over features j of max(0, 1 - sqrt(C(Z)_jj + 0.0001)),    c(Z) = sum over i != j of C(Z)_ij^2 / D

There are no negatives and no teacher. The covariance is that of the global batch.

Departure: the expander is four times as wide as the features, as the paper's is on ResNet-50's 2,048, but never wider
than 1,024.
"""

from __future__ import annotations

from torch import Tensor

from tacit.core import gathering
from tacit.core.nn import expander
from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Viewing, by_example


class VICReg(Viewing):
    """Invariance without collapse for any modality that has views; `width` is the expander's, thrown away afterwards.

    `spread` is the mean deviation of a feature of the expander, 0 where all examples are the same.
    """

    def __init__(
        self,
        encoder: Encoder,
        views: ViewMaker,
        *,
        width: int | None = None,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ) -> None:
        super().__init__(encoder, views)
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.expander = expander(encoder.dim, width)

    def forward(self, batch: Batch) -> Output:
        return self.compared(self.embed(batch))

    def embed(self, batch: Batch) -> Tensor:
        """The expander's outputs for both views, [B 2 D]."""
        z: Tensor = self.expander(self.encoder(self.two_views(batch)).pooled)
        return by_example(z.float())

    def compared(self, embeddings: Tensor) -> Output:
        """The loss of this rank's rows [B 2 D], by the spread and covariance of those of all ranks."""
        apart = (embeddings[:, 0] - embeddings[:, 1]).square().mean()
        z = gathering.gather(embeddings)  # [W*B 2 D]
        z = (z - z.mean(0)).transpose(0, 1)  # [2 W*B D]
        covariance = z.mT @ z / (z.shape[1] - 1)  # [2 D D]
        variances = covariance.diagonal(dim1=1, dim2=2)  # [2 D]
        deviation = (variances + 1e-4).sqrt()
        narrow = (1 - deviation).relu().mean(1).sum()
        alike = (covariance.square().sum() - variances.square().sum()) / z.shape[2]
        loss = self.invariance * apart + self.variance * narrow + self.covariance * alike
        metrics = {"invariance": apart, "variance": narrow, "covariance": alike, "spread": deviation.mean()}
        return Output(loss, {name: value.detach() for name, value in metrics.items()}, {})
