"""Inputs and outputs of exported encoders of events."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.core.nn import masked_mean
from tacit.modalities.events.encoder import at_place
from tacit.modalities.graph import Inputs, Numbers, Outputs, Words, outputs_of

WORDS = Words(
    "history",
    "takes what stands at the last event, or the mean, itself",
    "histories)` does all of this for lists of item ids",
    "[[first, ..., latest]]",
    """batch = tacit.load_encoder(".").prepare([[first, ..., latest]])  # ids of items, or numbers as listed above
inputs = {"input_ids": batch["tokens"].numpy(), "attention_mask": batch["valid"].long().numpy()}""",
)


class Sequences(Numbers):
    """Histories of items, the latest event last."""

    def drawn(self, lengths: Tensor, longest: int, generator: torch.Generator) -> Tensor:
        spec = self.encoder.spec
        return torch.randint(spec.first, spec.vocabulary, (len(lengths), longest), generator=generator)

    def read(self, model: Any, inputs: Inputs) -> Outputs:
        tokens, valid = model(**inputs).last_hidden_state, inputs["attention_mask"].bool()
        if self.encoder.causal:
            return at_place(tokens, valid.sum(1) - 1), tokens
        return masked_mean(tokens, valid), tokens

    def sidecar(self) -> dict[str, Any]:
        spec = self.encoder.spec
        numbers = {"shape": ["batch", "tokens"], "dtype": "int64"}
        return {
            "input": {"input_ids": {**numbers, "range": [0, spec.vocabulary - 1]}, "attention_mask": numbers},
            "output": outputs_of("tokens", self.encoder.dim),
            "preprocessing": f"the number of an item is its row in items.parquet, from 0 on, plus {spec.first}; the "
            f"latest {spec.length} events, the first of them first, padded at the end; attention_mask is 0 there",
            "length": spec.length,
            "pad": spec.pad,
            "mask": spec.mask,
        }

    def longer(self) -> str:
        return ""  # the encoder itself reads the latest events only

    def left_to_do(self, deep: bool) -> list[str]:
        spec = self.encoder.spec
        return [
            f"number each item by its row in items.parquet, from 0 on, plus {spec.first}, and leave unknown ones out",
            f"take the latest {spec.length} events, the first of them first",
            f"pad with {spec.pad} to the longest of a batch, input_ids [B N]; attention_mask [B N] is 0 there, else 1",
        ]

    @property
    def words(self) -> Words:
        return WORDS
