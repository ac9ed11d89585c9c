"""How the encoders of a modality are exported as a graph, and compared with their copies.

`Inputs` are the tensors that an ONNX graph takes, by name; copy and original are compared on the same inputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from tacit.core.types import Features

Inputs = Mapping[str, Tensor]
Outputs = tuple[Tensor, Tensor]  # pooled [B D] and tokens [B N D]
BATCHES = (1, 2, 7)  # sizes of the batches on which copies are compared


class Words(NamedTuple):
    """The words for a modality in the README of an exported encoder."""

    one: str  # an example
    does: str  # what graph and encoder do to examples themselves
    prepared: str
    given: str  # to `prepare`, in Python
    feed: str  # lines in Python that make `inputs` of the graph


class GraphIO(Protocol):
    """Exports the encoders of one modality as graphs, and compares them with their copies."""

    axes: Mapping[str, Mapping[int, str]]  # of each input, the axes of any length, and their names

    def example(self) -> Inputs:
        """Inputs to trace a graph with."""

    def trial(self) -> Iterator[Inputs]:
        """Inputs to compare on, from a random generator of their own."""

    def taken(self, inputs: Inputs, deep: bool) -> Inputs:
        """The same inputs as a graph with a head takes them; `deep`: examples have 16 bits."""

    def features(self, encoder: Any, inputs: Inputs, depths: Sequence[int] = ()) -> Features:
        """The features of an encoder, by operations that can be traced."""

    def read(self, model: Any, inputs: Inputs) -> Outputs:
        """The outputs of the folder's Hugging Face model, pooled as its description states."""

    def compared(self, tokens: Tensor, inputs: Inputs) -> Tensor:
        """The tokens to compare, 0 where they are padding."""

    def sidecar(self) -> dict[str, Any]:
        """The fields of `onnx.json` on the graph."""

    def longer(self) -> str:
        """What other programs do with an example that is longer than a window; empty where there is none."""

    def left_to_do(self, deep: bool) -> list[str]:
        """The steps of preprocessing that are left to the caller, in order; `encoder.prepare` does all of them.

        `deep`: examples have 16 bits.
        """

    @property
    def words(self) -> Words:
        """The words for the README of an encoder with its head."""


class Numbers(ABC):
    """`input_ids` and `attention_mask` int64 [B N], N at most a window: the graph refuses more."""

    fewest: ClassVar[int] = 1  # numbers of an example

    axes: Mapping[str, Mapping[int, str]] = {
        "input_ids": {0: "batch", 1: "tokens"},
        "attention_mask": {0: "batch", 1: "tokens"},
    }

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder  # of texts or of events
        self.room = torch.ones(encoder.spec.length, dtype=torch.int64)

    @abstractmethod
    def drawn(self, lengths: Tensor, longest: int, generator: torch.Generator) -> Tensor:
        """Random numbers [B longest], of which the first `lengths` [B] count."""

    def example(self) -> Inputs:
        return self._padded([self.encoder.spec.length - 1, 2], torch.Generator().manual_seed(0))

    def trial(self) -> Iterator[Inputs]:
        """Random numbers, few and full windows, in batches and alone."""
        generator, length = torch.Generator().manual_seed(0), self.encoder.spec.length
        for rows in BATCHES:
            for longest in (min(5, length), length):
                rest = torch.randint(self.fewest, longest + 1, (rows - 1,), generator=generator).tolist()
                yield self._padded([longest, *rest], generator)

    def _padded(self, listed: list[int], generator: torch.Generator) -> Inputs:
        lengths = torch.tensor(listed)
        tokens = self.drawn(lengths, max(listed), generator)
        valid = torch.arange(max(listed)) < lengths[:, None]  # [B N]
        return {"input_ids": torch.where(valid, tokens, self.encoder.spec.pad), "attention_mask": valid.long()}

    def taken(self, inputs: Inputs, deep: bool) -> Inputs:
        return inputs

    def features(self, encoder: Any, inputs: Inputs, depths: Sequence[int] = ()) -> Features:
        device = next(encoder.parameters()).device
        tokens, mask = inputs["input_ids"].to(device), inputs["attention_mask"].to(device)
        if torch.compiler.is_exporting():
            mask = mask * within(self.room, tokens)
        found: Features = encoder.graph(tokens, mask != 0, depths)
        return found

    def compared(self, tokens: Tensor, inputs: Inputs) -> Tensor:
        return tokens * inputs["attention_mask"][:, :, None].to(tokens)


def within(room: Tensor, inputs: Tensor) -> Tensor:
    """1 for each of the N places of inputs [B N], looked up in `room` [L], so that a graph fails where N exceeds L.

    An encoder without position embeddings would otherwise accept inputs longer than any that it was trained on.
    """
    return room[torch.arange(inputs.shape[1], device=room.device)]


def outputs_of(places: int | str, dim: int) -> dict[str, Any]:
    return {
        "pooled": {"shape": ["batch", dim], "dtype": "float32"},
        "tokens": {"shape": ["batch", places, dim], "dtype": "float32"},
    }
