"""SASRec (Kang & McAuley 2018, arXiv:1808.09781) as Hugging Face's BLOOM: a causal Transformer with linear biases.

Departures: attention decreases with distance by a slope per head (ALiBi, Press et al. 2022, "Train short, test long",
arXiv:2108.12409), in place of learned positions; norms come after the embedding, and before attention and the
feed-forward part, which is four times as wide as the rest and has a GELU; no dropout on attention weights. The score of
an item is the cosine of its embedding and the last state over a temperature, where the paper has their dot product,
which a temperature of 0 gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.bloom.configuration_bloom import BloomConfig
from transformers.models.bloom.modeling_bloom import BloomModel

from tacit.modalities.events.encoder import ItemEncoder, usual_dropout
from tacit.modalities.events.spec import ItemSpec

TEMPERATURE = 0.07
LAYOUTS: Mapping[str, Mapping[str, int]] = {
    "nano": {"hidden_size": 64, "n_layer": 2, "n_head": 4},
    "tiny": {"hidden_size": 128, "n_layer": 2, "n_head": 4},
    "small": {"hidden_size": 256, "n_layer": 4, "n_head": 8},
}


class SASRec(ItemEncoder):
    causal = True

    def __init__(
        self, name: str, spec: ItemSpec, *, dropout: float | None = None, temperature: float = TEMPERATURE
    ) -> None:
        dropout = usual_dropout(spec) if dropout is None else dropout
        config = BloomConfig(
            vocab_size=spec.vocabulary,
            pad_token_id=spec.pad,
            bos_token_id=None,
            eos_token_id=None,
            use_cache=False,
            hidden_dropout=dropout,
            **LAYOUTS[name.removeprefix("sasrec_")],
        )
        model = BloomModel(config)
        depths = 1 + config.n_layer
        options = {"dropout": dropout, "temperature": temperature}
        super().__init__(name, spec, model, dim=config.hidden_size, n_depths=depths, options=options)

    def layers(self, tokens: Tensor, valid: Tensor) -> Sequence[Tensor]:
        # Padding comes after all events, so that none attends to it: the causal mask suffices.
        model: Any = self.model
        x = model.word_embeddings_layernorm(model.word_embeddings(tokens))  # [B N D]
        x = nn.functional.dropout(x, self.options["dropout"], self.training)
        slopes = model.build_alibi_tensor(torch.ones_like(tokens), model.num_heads, x.dtype)
        later = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=x.device).triu(1)  # [N N]
        causal = torch.zeros_like(later, dtype=x.dtype).masked_fill(later, torch.finfo(x.dtype).min)
        states = [x]
        for block in model.h:
            x, _ = block(x, alibi=slopes, attention_mask=causal)
            states.append(x)
        return [*states[:-1], model.ln_f(x)]
