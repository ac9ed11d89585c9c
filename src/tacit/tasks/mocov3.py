"""MoCo v3: tell the teacher's projection of another view from those of all other examples.

Chen, Xie & He 2021, "An Empirical Study of Training Self-Supervised Vision Transformers", arXiv:2104.02057. With
q the unit prediction of the student for one view, k the unit projection of the teacher, a moving average of the student
that no gradient reaches, for the other view, and t the temperature, the loss of example i is

    2 t (- q_i . k_i / t + log sum_j exp(q_i . k_j / t)) + the same with the views exchanged

averaged over the batch; j goes over the global batch.

Departure: batch norm sees both views at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tacit.core import gathering
from tacit.core.nn import mlp
from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Teacher, Viewing, by_example, contrast, of_one_group


class MoCoV3(Viewing):
    """Contrast with a teacher for any modality that has views.

    `hidden`, by default twice the features, and `out` are the widths of projector and predictor;
    `momentum` is the teacher's at the start.
    """

    def __init__(
        self,
        encoder: Encoder,
        views: ViewMaker,
        *,
        hidden: int | None = None,
        out: int = 128,
        temperature: float = 0.2,
        momentum: float = 0.99,
    ) -> None:
        super().__init__(encoder, views)
        self.temperature = temperature
        hidden = hidden or 2 * encoder.dim
        self.head = mlp(encoder.dim, hidden, out)
        self.predictor = mlp(out, hidden, out)
        self.teacher = Teacher(self._taught(), momentum)

    def _taught(self) -> dict[str, nn.Module]:
        assert isinstance(self.encoder, nn.Module)
        return {"encoder": self.encoder, "head": self.head}

    def forward(self, batch: Batch) -> Output:
        both = self.two_views(batch)  # [2B ...]
        queries = self.predictor(self.head(self.encoder(both).pooled))
        with torch.no_grad():
            keys = self.teacher["head"](self.teacher["encoder"](both).pooled)
        return self.compare(by_example(queries.float()), by_example(keys.float()), of_one_group(batch))

    def compare(self, queries: Tensor, keys: Tensor, spared: Tensor | None = None) -> Output:
        """The loss of this rank's queries [B 2 D] among the keys [B 2 D] of all ranks, but for `spared` [B W*B].

        `agreement` is the share of queries that are nearest to their own key; `spread` that of the keys.
        """
        queries, keys = normalize(queries, dim=2), normalize(keys, dim=2)
        keys = gathering.gather(keys)  # [W*B 2 D]
        loss, nearest = contrast(queries, keys, self.temperature, spared, weight=2 * self.temperature)
        return Output(loss, {"agreement": nearest, "spread": keys.flatten(0, 1).var(0).sum().sqrt()}, {})

    def after_step(self, carry: Mapping[str, Tensor]) -> None:
        self.teacher.follow(self._taught(), self.progress)
