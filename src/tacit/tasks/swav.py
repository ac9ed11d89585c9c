"""SwAV: predict from one view the cluster of the other, clusters being assigned evenly over the batch.

Caron, Misra, Mairal, Goyal, Bojanowski & Joulin 2020, "Unsupervised Learning of Visual Features by Contrasting Cluster
Assignments", arXiv:2006.09882. With s [N K] the products of unit projections and unit prototypes for one view, Q the
codes of the other view and t the temperature, the loss is

    - sum over k of Q_ik log softmax(s_i / t)_k + the same with the views exchanged

averaged over both. The codes are exp(s / epsilon), its columns and rows normalised in turn (Sinkhorn & Knopp 1967), so
that all prototypes are used as often over the global batch; no gradient reaches them.

Departures: prototypes are normalised where they are used; none are kept still in the first epoch; there are as many as
suit a batch of a hundred.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tacit.core import gathering
from tacit.core.nn import mlp, variety
from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Viewing, by_example

TURNS = 3  # of normalising columns and rows


class SwAV(Viewing):
    """Swapped prediction of clusters for any modality that has views.

    `hidden`, by default twice the features, and `out` are the projector's widths, `prototypes` the number of clusters.
    `agreement` is the share of views whose most likely cluster is that of the other view, `used` how many clusters are
    in use (a perplexity).
    """

    def __init__(
        self,
        encoder: Encoder,
        views: ViewMaker,
        *,
        hidden: int | None = None,
        out: int = 128,
        prototypes: int = 256,
        temperature: float = 0.1,
        epsilon: float = 0.05,
    ) -> None:
        super().__init__(encoder, views)
        self.temperature, self.epsilon = temperature, epsilon
        hidden = hidden or 2 * encoder.dim
        self.head = mlp(encoder.dim, hidden, out)
        self.prototypes = nn.Linear(out, prototypes, bias=False)

    def forward(self, batch: Batch) -> Output:
        return self.compared(self.embed(batch))

    def embed(self, batch: Batch) -> Tensor:
        """Products of both views with all prototypes, in [-1, 1], [B 2 K]."""
        z = normalize(self.head(self.encoder(self.two_views(batch)).pooled).float(), dim=1)  # [2B D]
        with torch.autocast(z.device.type, enabled=False):
            return by_example(z @ normalize(self.prototypes.weight.float(), dim=1).T)

    def compared(self, embeddings: Tensor) -> Output:
        """The loss of this rank's products [B 2 K], with codes that are even over those of all ranks."""
        codes = codes_of_views(embeddings, self.epsilon)
        chances = (embeddings / self.temperature).log_softmax(2)
        loss = -(codes.flip(1) * chances).sum(2).mean()
        likeliest = embeddings.detach().argmax(2)  # [B 2]
        agreement = (likeliest[:, 0] == likeliest[:, 1]).float().mean()
        used = variety(likeliest.flatten(), embeddings.shape[2])
        return Output(loss, {"agreement": agreement, "used": used}, {})


@torch.no_grad()
def codes_of_views(products: Tensor, epsilon: float) -> Tensor:
    """Codes of this rank's products [B 2 K], for each view even over those of all ranks."""
    rows = len(products)
    mine = slice(rows * gathering.rank(), rows * (gathering.rank() + 1))
    everyone = gathering.gather(products.detach())  # [W*B 2 K]
    return torch.stack([even_codes(everyone[:, view], epsilon)[mine] for view in (0, 1)], 1)


@torch.no_grad()
def even_codes(products: Tensor, epsilon: float) -> Tensor:
    """Codes [N K] of products [N K]: each row sums to 1, each column nearly to N / K."""
    codes = ((products - products.max()) / epsilon).exp()
    for _ in range(TURNS):
        codes = codes / codes.sum(0, keepdim=True).clamp(min=torch.finfo(codes.dtype).tiny)
        codes = codes / codes.sum(1, keepdim=True).clamp(min=torch.finfo(codes.dtype).tiny)
    return codes
