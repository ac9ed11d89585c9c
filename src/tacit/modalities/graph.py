"""How the encoders of a modality are written as a graph, and compared with their copies elsewhere.

`Inputs` are the tensors that an ONNX graph takes, by name; copy and original are compared on the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from tacit.core.types import Features

Inputs = Mapping[str, Tensor]
Said = tuple[Tensor, Tensor]  # pooled [B D] and tokens [B N D]
BATCHES = (1, 2, 7)  # sizes at which the other form is compared


class Words(NamedTuple):
    """What the README says of a modality."""

    one: str  # example
    does: str  # what graph and encoder do themselves
    prepared: str
    given: str  # to `prepare`, in Python
    feed: str  # lines in Python that make `inputs` of the graph


class GraphIO(Protocol):
    """How one kind of encoder is written as a graph and compared with its copies."""

    axes: Mapping[str, Mapping[int, str]]  # of each input, those that may have any length, and their names

    def example(self) -> Inputs:
        """Inputs to trace a graph with."""

    def trial(self) -> Iterator[Inputs]:
        """Inputs to compare on, of their own random numbers."""

    def taken(self, inputs: Inputs, deep: bool) -> Inputs:
        """The same inputs as a graph with a head takes them; `deep`: examples have 16 bits."""

    def features(self, encoder: Any, inputs: Inputs, depths: Sequence[int] = ()) -> Features:
        """What an encoder of this kind says, by operations that can be traced."""

    def graph(self, inner: nn.Module) -> nn.Module:
        """A module that takes the inputs one by one, as a tracer wants them, and hands them to `inner` by name."""

    def read(self, model: Any, inputs: Inputs) -> Said:
        """What Hugging Face's model of the folder says, pooled as the description tells people to."""

    def compared(self, tokens: Tensor, inputs: Inputs) -> Tensor:
        """Tokens without those that mean nothing."""

    def sidecar(self) -> dict[str, Any]:
        """What `onnx.json` says of the graph."""

    def longer(self) -> str:
        """What other programs make of an example that is longer than a window; empty where there is none."""

    def left_to_do(self, deep: bool) -> list[str]:
        """What the caller does to examples first, in this order; `encoder.prepare` does all of it.

        `deep`: examples have 16 bits.
        """

    @property
    def words(self) -> Words:
        """What the README of an encoder with its head says."""


class Numbers:
    """`input_ids` and `attention_mask` int64 [B N], N at most a window: the graph refuses more."""

    encoder: Any  # of texts, or of items

    axes: Mapping[str, Mapping[int, str]] = {
        "input_ids": {0: "batch", 1: "tokens"},
        "attention_mask": {0: "batch", 1: "tokens"},
    }

    def taken(self, inputs: Inputs, deep: bool) -> Inputs:
        return inputs

    def graph(self, inner: nn.Module) -> nn.Module:
        length = self.encoder.spec.length

        class Graph(nn.Module):
            room: Tensor

            def __init__(self) -> None:
                super().__init__()
                self.inner = inner
                self.register_buffer("room", torch.ones(length, dtype=torch.int64))

            def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
                attention_mask = attention_mask * within(self.room, input_ids)
                return self.inner({"input_ids": input_ids, "attention_mask": attention_mask})

        return Graph()

    def compared(self, tokens: Tensor, inputs: Inputs) -> Tensor:
        return tokens * inputs["attention_mask"][:, :, None].to(tokens)


def within(room: Tensor, inputs: Tensor) -> Tensor:
    """1 for each place of inputs [B N], where there is `room` [L] for them: a graph looks them up, and fails beyond.

    An encoder without positions of its own would answer longer inputs by something else than it was trained for.
    """
    return room[torch.arange(inputs.shape[1], device=room.device)]


def outputs_of(places: int | str, dim: int) -> dict[str, Any]:
    return {
        "pooled": {"shape": ["batch", dim], "dtype": "float32"},
        "tokens": {"shape": ["batch", places, dim], "dtype": "float32"},
    }
