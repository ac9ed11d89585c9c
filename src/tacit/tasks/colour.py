"""Colourisation: predict the colours of an image from its grey copy.

Zhang, Isola & Efros 2016, "Colorful Image Colorization", arXiv:1603.08511; Larsson, Maire & Shakhnarovich 2017,
"Colorization as a Proxy Task for Visual Understanding", arXiv:1703.04044. The encoder sees the image without its
colours, and a linear layer on each token predicts how the colours of its square differ from grey; the loss is the mean
squared error over all of them.

Departure: a regression of the difference from grey in place of classes of colour.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Task, preview_of
from tacit.tasks.ingredients import Colours


class Colourisation(Task):
    """Prediction of what a grey copy lacks."""

    needs = frozenset({"whole", "colours"})

    def __init__(self, encoder: Encoder, whole: ViewMaker, colours: Colours) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = whole
        self.colours = colours
        self.head = nn.Linear(encoder.dim, colours.width)

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        seen = self.views(batch, 0)
        wanted = self.colours.of(seen)  # [B N P]
        predicted = self.head(self.encoder(self.colours.without(seen)).tokens).float()  # [B N P]
        loss = nn.functional.mse_loss(predicted, wanted)
        explained = 1 - loss.detach() / wanted.square().mean().clamp(min=1e-12)
        return Output(loss, {"explained": explained}, {})

    def vain(self, batch: Batch) -> str:
        grey = float(self.colours.of(batch).abs().max()) < 1e-3
        return "the images have no colours" if grey else ""

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        seen = self.views(batch, 0)
        return {"input": preview_of(seen), "shown": preview_of(self.colours.without(seen))}
