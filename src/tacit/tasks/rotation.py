"""Rotation prediction: to say which way is up, one must know what is in the picture.

Gidaris, Singh & Komodakis 2018, "Unsupervised Representation Learning by Predicting Image Rotations",
arXiv:1803.07728. Every image is shown in all four quarter turns r and a linear classifier on the pooled features names
the turn; the loss is the mean cross-entropy over the 4 N turned images. Turning by 90 degrees permutes pixels and
leaves no trace of resampling that could be read instead of the content.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Task

TURNS = 4


class Rotation(Task):
    """Transformation prediction for square images."""

    def __init__(self, encoder: Encoder, views: ViewMaker) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = views
        self.head = nn.Linear(encoder.dim, TURNS)

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        turned, turn = self.turn(self.views(batch, 0)["image"])
        logits = self.head(self.encoder({"image": turned}).pooled).float()  # [4B 4]
        accuracy = (logits.argmax(1) == turn).float().mean()
        return Output(nn.functional.cross_entropy(logits, turn), {"accuracy": accuracy.detach()}, {})

    @staticmethod
    def turn(image: Tensor) -> tuple[Tensor, Tensor]:
        """All quarter turns of [B C S S] as [4B C S S], and how often each was turned, [4B]."""
        turned = torch.cat([torch.rot90(image, quarter, (2, 3)) for quarter in range(TURNS)])
        return turned, torch.arange(TURNS, device=image.device).repeat_interleave(len(image))

    def vain(self, batch: Batch) -> str:
        image = batch["image"]
        alike = bool((image == torch.rot90(image, 1, (2, 3))).all())
        return "the images look the same however they are turned" if alike else ""

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        turned, _ = self.turn(self.views(batch, 0)["image"])
        return {f"{90 * quarter} degrees": part for quarter, part in enumerate(turned.chunk(TURNS))}
