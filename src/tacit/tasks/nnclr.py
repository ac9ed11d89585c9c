"""NNCLR: contrast with the nearest neighbour of a view among earlier examples, in place of the view itself.

Dwibedi, Aytar, Tompson, Sermanet & Zisserman 2021, "With a Little Help from My Friends: Nearest-Neighbor Contrastive
Learning of Visual Representations", arXiv:2104.14548. With z, z' the unit projections of two views, p' the unit
prediction for the second, NN(z) the nearest of a queue of earlier projections and t the temperature, the loss of
example i is

    - NN(z_i) . p'_i / t + log sum_j exp(NN(z_i) . p'_j / t)

and the same with the views exchanged, averaged; j goes over the global batch. The queue takes the first views'
projections after each step, the oldest make room.

Departure: the queue is short, since it must have turned over often in a short training.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tacit.core import gathering
from tacit.core.nn import mlp
from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Viewing, by_example, contrast, of_one_group


class NNCLR(Viewing):
    """Contrast with neighbours for any modality that has views.

    `hidden`, by default twice the features, and `out` are the widths of projector and predictor;
    `queue` is how many projections are remembered.
    """

    remembered: Tensor  # [Q D], the next place to be written first
    place: Tensor

    def __init__(
        self,
        encoder: Encoder,
        views: ViewMaker,
        *,
        hidden: int | None = None,
        out: int = 128,
        queue: int = 4096,
        temperature: float = 0.2,
    ) -> None:
        super().__init__(encoder, views)
        self.temperature = temperature
        hidden = hidden or 2 * encoder.dim
        self.head = mlp(encoder.dim, hidden, out)
        self.predictor = mlp(out, hidden, out)
        self.register_buffer("remembered", normalize(torch.randn(queue, out), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch) -> Output:
        z = self.head(self.encoder(self.two_views(batch)).pooled)  # [2B D]
        return self.compare(by_example(z.float()), by_example(self.predictor(z).float()), of_one_group(batch))

    def compare(self, projected: Tensor, predicted: Tensor, spared: Tensor | None = None) -> Output:
        """The loss of this rank's projections [B 2 D] among the predictions of all ranks, but for `spared` [B W*B].

        `agreement` is the share of neighbours that are nearest to the prediction of their own example.
        """
        projected = normalize(projected.detach(), dim=2)
        predicted = gathering.gather(normalize(predicted, dim=2))  # [W*B 2 D]
        neighbours = self.remembered[(projected @ self.remembered.T).argmax(2)]  # [B 2 D]
        loss, nearest = contrast(neighbours, predicted, self.temperature, spared, weight=1 / 2)
        return Output(loss, {"agreement": nearest}, {"projected": projected[:, 0]})

    @torch.no_grad()
    def after_step(self, carry: Mapping[str, Tensor]) -> None:
        newest = carry["projected"][-len(self.remembered) :]  # [N D]
        places = (self.place + torch.arange(len(newest), device=newest.device)) % len(self.remembered)
        self.remembered[places] = newest.to(self.remembered.dtype)
        self.place.copy_((self.place + len(newest)) % len(self.remembered))
