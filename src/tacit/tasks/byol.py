"""BYOL: predict what a slowly moving copy of oneself says of another view; nothing is told apart from anything.

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

from tacit.core.nn import mlp, together
from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Task, Teacher, looks


class BYOL(Task):
    """Self-prediction for any modality that has views.

    `hidden` and `out` are the widths of projector and predictor, which are thrown away afterwards; `momentum` is the
    teacher's at the start.
    """

    needs = frozenset({"views"})
    fewest = fewest_in_part = 2  # of one alone, batch norm leaves nothing but which view is which

    def __init__(
        self,
        encoder: Encoder,
        views: ViewMaker,
        *,
        hidden: int = 4096,
        out: int = 256,
        momentum: float = 0.996,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = views
        self.head = mlp(encoder.dim, hidden, out)
        self.predictor = mlp(out, hidden, out)
        self.teacher = Teacher(self._taught(), momentum)

    def _taught(self) -> dict[str, nn.Module]:
        assert isinstance(self.encoder, nn.Module)
        return {"encoder": self.encoder, "head": self.head}

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        both = together([self.views(batch, view) for view in (0, 1)])  # [2B ...]
        told = self.predictor(self.head(self.encoder(both).pooled))  # [2B D]
        with torch.no_grad():
            wanted = self.teacher["head"](self.teacher["encoder"](both).pooled)  # [2B D]
        loss, metrics = self.compare(told.float(), wanted.float())
        return Output(loss, metrics, {})

    @staticmethod
    def compare(told: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of what was told and wanted of first views, then of second ones, [2B D] each.

        Metrics: the cosine of both, and how far apart the wanted ones are, 1 where all over the sphere and 0 where all
        are the same.
        """
        told, wanted = normalize(told, dim=1), normalize(wanted, dim=1)
        agreement = (told * wanted.roll(len(wanted) // 2, 0)).sum(1).mean()
        spread = wanted.var(0).sum().sqrt()
        return 4 - 4 * agreement, {"agreement": agreement.detach(), "spread": spread}

    def after_step(self, carry: Mapping[str, Tensor]) -> None:
        self.teacher.follow(self._taught(), self.progress)

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {f"view {view + 1}": looks(self.views(batch, view)) for view in (0, 1)}
