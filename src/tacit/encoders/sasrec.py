"""SASRec (Kang & McAuley 2018, arXiv:1808.09781) as a GPT-2 of Hugging Face's: causal, places learned.

Departures: norms come before attention and the feed-forward part, which is four times as wide as the rest and has a
GELU; two heads; attention itself is not dropped out. The score of an item is the cosine of its embedding and the last
state over a temperature, where the paper has their product, which a temperature of 0 gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2Model

from tacit.encoders.items import ItemEncoder, usual_dropout
from tacit.spec import ItemSpec

TEMPERATURE = 0.07
LAYOUTS: Mapping[str, Mapping[str, int]] = {
    "nano": {"n_embd": 64, "n_layer": 2, "n_head": 2},
    "tiny": {"n_embd": 128, "n_layer": 2, "n_head": 2},
    "small": {"n_embd": 256, "n_layer": 4, "n_head": 4},
}


class SASRec(ItemEncoder):
    causal = True

    def __init__(
        self, name: str, spec: ItemSpec, *, dropout: float | None = None, temperature: float = TEMPERATURE
    ) -> None:
        dropout = usual_dropout(spec) if dropout is None else dropout
        config = GPT2Config(
            vocab_size=spec.vocabulary,
            n_positions=spec.length,
            pad_token_id=spec.pad,
            bos_token_id=None,
            eos_token_id=None,
            use_cache=False,
            embd_pdrop=dropout,
            attn_pdrop=0.0,
            resid_pdrop=dropout,
            **LAYOUTS[name.removeprefix("sasrec_")],
        )
        model = GPT2Model(config)
        depths = 1 + config.n_layer
        options = {"dropout": dropout, "temperature": temperature}
        super().__init__(name, spec, model, dim=config.n_embd, n_depths=depths, options=options)

    def layers(self, tokens: Tensor, valid: Tensor) -> Sequence[Tensor]:
        # What is padded lies behind all events, so that no event sees it: no mask is needed beside the causal one.
        model: Any = self.model
        place = model.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        x = model.drop(model.wte(tokens) + place)  # [B N D]
        said = [x]
        for block in model.h:
            x = block(x)
            said.append(x)
        return [*said[:-1], model.ln_f(x)]
