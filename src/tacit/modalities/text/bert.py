"""BERT (Devlin et al. 2018, arXiv:1810.04805), Hugging Face's implementation, at widths for a CPU and a GPU.

Departures: no next-sentence prediction, and every token is of the first sentence; no dropout by default; `pooled` is
the mean over the tokens of the text, [CLS] takes part in attention only. `bert_bag` has no layers: a mean of
embeddings, twenty times as fast, for contrast alone, since no token sees the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import BertForMaskedLM

from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.tokens import Attention, bert_layers

LAYOUTS: Mapping[str, Mapping[str, int]] = {
    "bag": {"hidden_size": 128, "num_hidden_layers": 0, "num_attention_heads": 2, "intermediate_size": 512},
    "nano": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512},
    "tiny": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024},
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}


class Bert(TextEncoder):
    def __init__(self, name: str, spec: TextSpec, *, dropout: float = 0.0) -> None:
        config = BertConfig(
            vocab_size=spec.vocabulary,
            max_position_embeddings=spec.length,
            pad_token_id=spec.pad,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            **LAYOUTS[name.removeprefix("bert_")],
        )
        super().__init__(
            name,
            spec,
            BertForMaskedLM(config),
            dim=config.hidden_size,
            n_depths=1 + config.num_hidden_layers,
            options={"dropout": dropout},
        )
        if not config.num_hidden_layers:  # contrast would scale a fifth of the features down to nothing
            self.base.embeddings.LayerNorm.requires_grad_(False)

    def layers(self, tokens: Tensor, attention: Attention) -> Sequence[Tensor]:
        return bert_layers(self.base, tokens, attention)

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.model.cls(hidden)
        return logits
