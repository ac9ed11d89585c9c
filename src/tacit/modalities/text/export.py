"""Exported graphs of text: their inputs, outputs and description."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from tacit.core.types import Features
from tacit.modalities.graph import BATCHES, Inputs, Numbers, Outputs, Words, outputs_of
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.files import beyond_a_window

WORDS = Words(
    "text",
    "leaves special tokens out of the mean itself",
    "texts)` does all of this, and cuts nothing",
    "['a text']",
    """batch = tacit.load_encoder(".").prepare(["a text"])  # or your own, as listed above
inputs = {"input_ids": batch["tokens"].numpy(), "attention_mask": batch["valid"].long().numpy()}""",
)


class Texts(Numbers):
    """The graph leaves special tokens out itself."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder

    def example(self) -> Inputs:
        return self._documents([self.encoder.spec.length - 1, 2], torch.Generator().manual_seed(0))

    def trial(self) -> Iterator[Inputs]:
        """Documents of random numbers, short ones and full windows, in batches and alone."""
        generator, length = torch.Generator().manual_seed(0), self.encoder.spec.length
        for rows in BATCHES:
            for longest in (min(5, length), length):
                rest = torch.randint(2, longest + 1, (rows - 1,), generator=generator).tolist()
                yield self._documents([longest, *rest], generator)

    def _documents(self, lengths: list[int], generator: torch.Generator) -> Inputs:
        spec = self.encoder.spec
        valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]  # [B N]
        tokens = torch.randint(0, spec.vocabulary, valid.shape, generator=generator)
        if spec.cls >= 0:
            tokens[:, 0] = spec.cls
        if spec.sep >= 0:
            tokens.scatter_(1, torch.tensor(lengths)[:, None] - 1, spec.sep)
        return {"input_ids": torch.where(valid, tokens, spec.pad), "attention_mask": valid.long()}

    def features(self, encoder: TextEncoder, inputs: Inputs, depths: Sequence[int] = ()) -> Features:
        device = encoder.special.device
        return encoder.graph(inputs["input_ids"].to(device), inputs["attention_mask"].to(device) != 0, depths)

    def read(self, model: Any, inputs: Inputs) -> Outputs:
        tokens = model(**inputs).last_hidden_state
        own = inputs["attention_mask"].bool()
        if self.encoder.sentence is not None:
            return self.encoder.sentence(tokens, own), tokens
        counted = own & ~torch.isin(inputs["input_ids"], torch.tensor(self.encoder.spec.specials))
        counted = torch.where(counted.any(1, keepdim=True), counted, own)[:, :, None]
        return (tokens * counted).sum(1) / counted.sum(1), tokens

    def sidecar(self) -> dict[str, Any]:
        spec = self.encoder.spec
        numbers = {"shape": ["batch", "tokens"], "dtype": "int64"}
        return {
            "input": {"input_ids": {**numbers, "range": [0, spec.vocabulary - 1]}, "attention_mask": numbers},
            "output": outputs_of("tokens", self.encoder.dim),
            "preprocessing": f"tokenizer.json makes input_ids of a text, cut after {spec.length}; attention_mask is 0 "
            f"where padding; the graph pools by itself: {self.encoder.pooling}",
            "length": spec.length,
            "pad": spec.pad,
        }

    def longer(self) -> str:
        return beyond_a_window(self.encoder.spec)

    def left_to_do(self, deep: bool) -> list[str]:
        spec = self.encoder.spec
        return [
            "tokenise with tokenizer.json, which puts the special tokens around a text; special words that stand in it "
            "are text (split_special_tokens)",
            f"cut after {spec.length} numbers; tacit predict reads longer texts in several windows",
            f"pad with {spec.pad} to the longest of a batch, input_ids [B N]; attention_mask [B N] is 0 there, else 1",
        ]

    @property
    def words(self) -> Words:
        return WORDS
