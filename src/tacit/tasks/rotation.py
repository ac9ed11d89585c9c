"""Rotation prediction: recognising which way is up requires knowing the content of the picture.

Gidaris, Singh & Komodakis 2018, "Unsupervised Representation Learning by Predicting Image Rotations",
arXiv:1803.07728. Every image is shown in all four quarter turns r and a linear classifier on the pooled features names
the turn; the loss is the mean cross-entropy over the 4 N turned images. Turning by 90 degrees permutes pixels and
leaves no trace of resampling that could be read instead of the content.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tacit.core.nn import together
from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Task, preview_of
from tacit.tasks.ingredients import Turns


class Rotation(Task):
    """Transformation prediction; for square images the `turns` are quarter turns."""

    needs = frozenset({"whole", "turns"})

    def __init__(self, encoder: Encoder, whole: ViewMaker, turns: Turns) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = whole
        self.turns = turns
        self.head = nn.Linear(encoder.dim, len(turns))

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        seen = self.views(batch, 0)
        turned = together([turn(seen) for turn in self.turns.values()])  # [4B ...]
        logits = self.head(self.encoder(turned).pooled).float()  # [4B 4]
        turn = torch.arange(len(self.turns), device=logits.device).repeat_interleave(len(seen["key"]))
        accuracy = (logits.argmax(1) == turn).float().mean()
        return Output(nn.functional.cross_entropy(logits, turn), {"accuracy": accuracy.detach()}, {})

    def vain(self, batch: Batch) -> str:
        alike = all(bool((preview_of(turn(batch)) == preview_of(batch)).all()) for turn in self.turns.values())
        return "the examples look the same however they are turned" if alike else ""

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        seen = self.views(batch, 0)
        return {name: preview_of(turn(seen)) for name, turn in self.turns.items()}
