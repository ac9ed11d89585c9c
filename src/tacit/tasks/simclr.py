"""SimCLR: contrast two random views of each example against the views of all others.

Chen, Kornblith, Norouzi & Hinton 2020, "A Simple Framework for Contrastive Learning of Visual Representations",
arXiv:2002.05709. With z the L2-normalised projections of the 2N views and t the temperature, the loss of view i whose
partner is p(i) is

    - z_i . z_p(i) / t + log sum_{k != i} exp(z_i . z_k / t)

averaged over all 2N views (NT-Xent). Negatives come from the global batch: with W ranks, N is W times the local batch.
Where a batch says to which `group` an example belongs, such as a patient, views of one group are no negatives of each
other: k leaves them out.

Where both views are the same example and only the encoder's dropout differs between them, this is SimCSE: Gao, Yao &
Chen 2021, "SimCSE: Simple Contrastive Learning of Sentence Embeddings", arXiv:2104.08821.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tacit.core import gathering
from tacit.core.nn import mlp
from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Viewing, by_example


class SimCLR(Viewing):
    """Contrast for any modality that has views.

    `hidden` and `out` are the widths of the projection head, which is thrown away afterwards; with a `hidden` of 0
    there is none, and the features themselves are contrasted.
    """

    def __init__(
        self,
        encoder: Encoder,
        views: ViewMaker,
        *,
        hidden: int = 2048,
        out: int = 256,
        temperature: float = 0.2,
    ) -> None:
        super().__init__(encoder, views)
        self.temperature = temperature
        self.fewest_in_part = 2 if hidden else 1  # batch norm makes two views alone opposites
        self.head = mlp(encoder.dim, hidden, out) if hidden else nn.Identity()
        self.width = out if hidden else encoder.dim

    def forward(self, batch: Batch) -> Output:
        return self.compared(self.embed(batch))

    def embed(self, batch: Batch) -> Tensor:
        """Projections of both views, unit length, [B 2 D]; a last number is the example's group, where it has one."""
        both = self.two_views(batch)  # [2B ...]
        z = normalize(self.head(self.encoder(both).pooled).float(), dim=1)  # [2B D]
        z = torch.cat([z, both["group"][:, None].to(z)], 1) if "group" in both else z
        return by_example(z)

    def compared(self, embeddings: Tensor) -> Output:
        """NT-Xent of this rank's rows [B 2 D]; `agreement` is the share of views that are nearest to their partner."""
        rows = len(embeddings)
        everyone = gathering.gather(embeddings).flatten(0, 1)  # [W*B*2 D]
        z, everyone, groups = (
            embeddings.flatten(0, 1)[:, : self.width],
            everyone[:, : self.width],
            everyone[:, self.width :],
        )
        mine = torch.arange(2 * rows, device=z.device) + 2 * rows * gathering.rank()  # this rank's views in it
        similarity = z @ everyone.T / self.temperature  # [2B W*B*2]
        similarity = similarity.scatter(1, mine[:, None], -math.inf)
        partner = mine ^ 1  # views of one example are neighbours
        if groups.shape[1]:
            kin = (groups[mine] == groups.T).scatter(1, partner[:, None], value=False)
            similarity = similarity.masked_fill(kin, -math.inf)
        loss = nn.functional.cross_entropy(similarity, partner)
        agreement = (similarity.argmax(1) == partner).float().mean()
        return Output(loss, {"agreement": agreement.detach()}, {})
