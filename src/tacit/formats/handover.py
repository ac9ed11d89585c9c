"""What a copy of an encoder in another program says, by the graph of its modality."""

from __future__ import annotations

from copy import deepcopy

from torch import nn

from tacit.core.encoder import OwnEncoder
from tacit.modalities import modality_of
from tacit.modalities.graph import GraphIO, Inputs, Said


def handover(encoder: OwnEncoder) -> GraphIO:
    """How this encoder is handed over."""
    return modality_of(encoder.spec).graph(encoder)


class Says(nn.Module):
    """Inputs to pooled and tokens, on the CPU, with a copy of the encoder's weights."""

    def __init__(self, encoder: OwnEncoder) -> None:
        super().__init__()
        self.kind = handover(encoder)
        self.encoder = deepcopy(encoder).cpu()

    def forward(self, inputs: Inputs) -> Said:
        features = self.kind.features(self.encoder, inputs)
        return features.pooled, features.tokens
