"""BERT4Rec (Sun et al. 2019, arXiv:1904.06690), Hugging Face's BERT: every event attends to all others.

Departures: no head between the last state and the embeddings that it is compared with, and a single segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import BertModel

from tacit.modalities.events.encoder import ItemEncoder
from tacit.modalities.events.spec import ItemSpec
from tacit.modalities.tokens import Attention, attended, bert_layers

LAYOUTS: Mapping[str, Mapping[str, int]] = {
    "nano": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256},
    "tiny": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512},
    "small": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024},
}


class Bert4Rec(ItemEncoder):
    causal = False

    def __init__(self, name: str, spec: ItemSpec, *, dropout: float = 0.1) -> None:
        config = BertConfig(
            vocab_size=spec.vocabulary,
            max_position_embeddings=spec.length,
            type_vocab_size=1,
            pad_token_id=spec.pad,
            initializer_range=0.1,  # with the usual 0.02, context reaches a mask only late in training
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            **LAYOUTS[name.removeprefix("bert4rec_")],
        )
        model = BertModel(config, add_pooling_layer=False)
        depths = 1 + config.num_hidden_layers
        super().__init__(name, spec, model, dim=config.hidden_size, n_depths=depths, options={"dropout": dropout})

    def layers(self, tokens: Tensor, valid: Tensor) -> Sequence[Tensor]:
        return bert_layers(self.model, tokens, Attention(attended(valid), None))
