"""Exported graphs of text: their inputs, outputs and description."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.modalities.graph import Inputs, Numbers, Outputs, Words, outputs_of
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

    fewest = 2

    def drawn(self, lengths: Tensor, longest: int, generator: torch.Generator) -> Tensor:
        spec = self.encoder.spec
        tokens = torch.randint(0, spec.vocabulary, (len(lengths), longest), generator=generator)
        if spec.cls >= 0:
            tokens[:, 0] = spec.cls
        if spec.sep >= 0:
            tokens.scatter_(1, lengths[:, None] - 1, spec.sep)
        return tokens

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
