"""ModernBERT (Warner et al. 2024, arXiv:2412.13663), Hugging Face's implementation, at the widths of BERT here.

Rotary positions, gated feed-forward layers, norms before the blocks and no biases; two layers of three attend to the 64
tokens on either side alone. Departures: attention is PyTorch's own on padded rows; the gated layer is four times as
wide as the model; no dropout by default; `pooled` is the mean over the tokens of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.models.modernbert.configuration_modernbert import ModernBertConfig
from transformers.models.modernbert.modeling_modernbert import ModernBertForMaskedLM

from tacit.modalities.text.bert import LAYOUTS
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.tokens import Attention

if TYPE_CHECKING:
    from transformers.models.modernbert.modeling_modernbert import ModernBertModel


class ModernBert(TextEncoder):
    def __init__(self, name: str, spec: TextSpec, *, dropout: float = 0.0) -> None:
        none = {"bos_token_id": None, "eos_token_id": None}
        config = ModernBertConfig(
            vocab_size=spec.vocabulary,
            max_position_embeddings=spec.length,
            pad_token_id=spec.pad,
            cls_token_id=spec.cls if spec.cls >= 0 else None,
            sep_token_id=spec.sep if spec.sep >= 0 else None,
            embedding_dropout=dropout,
            attention_dropout=dropout,
            mlp_dropout=dropout,
            **none,
            **LAYOUTS[name.removeprefix("modernbert_")],
        )
        super().__init__(
            name,
            spec,
            ModernBertForMaskedLM(config),
            dim=config.hidden_size,
            n_depths=1 + config.num_hidden_layers,
            options={"dropout": dropout},
        )

    def layers(self, tokens: Tensor, attention: Attention) -> Sequence[Tensor]:
        return layers(self.base, tokens, attention)

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.model.decoder(self.model.head(hidden))
        return logits


def layers(model: ModernBertModel, tokens: Tensor, attention: Attention) -> Sequence[Tensor]:
    """The outputs of `ModernBertModel`, its embedding first, the last layer normed."""
    x = model.embeddings(tokens)  # [B N D]
    place = torch.arange(tokens.shape[1], device=tokens.device)
    position = place[None] if attention.position is None else attention.position
    config: Any = model.config
    turns = {kind: model.rotary_emb(x, position, kind) for kind in set(config.layer_types)}
    masks = {"full_attention": attention.mask, "sliding_attention": attention.mask}
    near = (place[:, None] - place).abs() <= config.sliding_window  # [N N]
    masks["sliding_attention"] = near[None, None] if attention.mask is None else near & attention.mask
    if attention.mask is None and tokens.shape[1] <= config.sliding_window + 1:
        masks["sliding_attention"] = None
    states = [x]
    for layer in model.layers:
        x = layer(x, masks[layer.attention_type], turns[layer.attention_type])
        states.append(x)
    states[-1] = model.final_norm(x)
    return states
