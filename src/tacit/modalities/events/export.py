"""Inputs and outputs of exported encoders of events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from tacit.core.nn import masked_mean
from tacit.core.types import Features
from tacit.modalities.events.encoder import ItemEncoder, at_place
from tacit.modalities.graph import BATCHES, Inputs, Numbers, Outputs, Words, outputs_of

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

    def __init__(self, encoder: ItemEncoder) -> None:
        self.encoder = encoder

    def example(self) -> Inputs:
        return self._histories([self.encoder.spec.length - 1, 2], torch.Generator().manual_seed(0))

    def trial(self) -> Iterator[Inputs]:
        """Histories of random items, short ones and full windows, in batches and alone."""
        generator, length = torch.Generator().manual_seed(0), self.encoder.spec.length
        for rows in BATCHES:
            for longest in (min(3, length), length):
                rest = torch.randint(1, longest + 1, (rows - 1,), generator=generator).tolist()
                yield self._histories([longest, *rest], generator)

    def _histories(self, lengths: list[int], generator: torch.Generator) -> Inputs:
        spec = self.encoder.spec
        valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]  # [B N]
        tokens = torch.randint(spec.first, spec.vocabulary, valid.shape, generator=generator)
        return {"input_ids": torch.where(valid, tokens, spec.pad), "attention_mask": valid.long()}

    def features(self, encoder: ItemEncoder, inputs: Inputs, depths: Sequence[int] = ()) -> Features:
        device = encoder.table.device
        return encoder.graph(inputs["input_ids"].to(device), inputs["attention_mask"].to(device) != 0, depths)

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
