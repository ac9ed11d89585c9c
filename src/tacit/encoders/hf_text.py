"""Text models from a Hugging Face folder or name, with their head of masked-language modelling where they have one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from tacit.encoders import bert, modernbert
from tacit.encoders.hf import freeze_unused, quiet
from tacit.encoders.text import Attention, TextEncoder
from tacit.errors import UserError
from tacit.spec import TextSpec

LONGEST_WINDOW = 512  # numbers; attention costs their square
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
# Kinds of model whose layers are called one by one here, which is faster and can keep packed documents apart.
LAYERS: Mapping[str, Callable[[Any, Tensor, Attention], Sequence[Tensor]]] = {
    "bert": bert.layers,
    "modernbert": modernbert.layers,
}


class HuggingFaceText(TextEncoder):
    """A Hugging Face encoder of text, with its own tokenizer. Rows of several documents are for BERT and ModernBERT."""

    def __init__(
        self, name: str, model: PreTrainedModel, spec: TextSpec, source: dict[str, Any], *, head_loaded: bool
    ) -> None:
        base = model.base_model
        length = min(4, spec.length)
        trial = torch.arange(2 * length).reshape(2, length) % spec.vocabulary
        # Trainable also where it is loaded amid an evaluation.
        with torch.inference_mode(False), torch.enable_grad():
            answer = base.eval()(trial, output_hidden_states=True)
            last = answer[0]
            if last.ndim != 3 or last.shape[:2] != trial.shape:
                raise UserError(f"{name} answers {list(trial.shape)} tokens with {list(last.shape)}; choose an encoder")
            freeze_unused(base, last)
        depths = max(1, len(answer.hidden_states or ()))
        super().__init__(name, spec, model, dim=last.shape[2], n_depths=depths)
        self.source = source
        known = LAYERS.get(model.config.model_type)
        self.packs = known is not None and model.config._attn_implementation == "sdpa"
        self.predicts = model is not base and self._head_follows(trial, last)
        if self.predicts and head_loaded and spec.mask >= 0:
            self.head_trained.fill_(True)

    def layers(self, tokens: Tensor, attention: Attention) -> Sequence[Tensor]:
        if self.packs:
            return LAYERS[self.model.config.model_type](self.base, tokens, attention)
        valid = None if attention.mask is None else attention.mask[:, 0, 0].long()  # [B N]
        answer = self.base(input_ids=tokens, attention_mask=valid, output_hidden_states=True)
        return [*(answer.hidden_states or ())[:-1], answer[0]]

    @property
    def has_head(self) -> bool:
        return self.predicts

    def logits(self, hidden: Tensor) -> Tensor:
        whole = copy.copy(self.model)
        whole._modules = {**self.model._modules, self.model.base_model_prefix: Given(self.base, hidden[None])}
        places = torch.zeros(1, len(hidden), dtype=torch.int64, device=hidden.device)
        answer: Tensor = whole(input_ids=places).logits
        return answer[0]

    @torch.no_grad()
    def _head_follows(self, tokens: Tensor, hidden: Tensor) -> bool:
        """Whether the model's predictions are a function of each place's last state alone."""
        try:
            found, truth = self.logits(hidden.flatten(0, 1)), self.model.eval()(tokens).logits.flatten(0, 1)
        except (RuntimeError, AttributeError, TypeError, ValueError):
            return False
        return found.shape == truth.shape and torch.allclose(found, truth, atol=1e-3, rtol=1e-3)


class Given(nn.Module):
    """Stands in for a model that would answer with these states."""

    def __init__(self, base: nn.Module, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden
        object.__setattr__(self, "base", base)  # no part of this module

    def forward(self, *_: Any, **__: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.hidden)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["base"], name)


def open_text(name: str, folder: Path, config: Any, source: dict[str, Any], spec: TextSpec | None) -> HuggingFaceText:
    """Read a text model's folder; `spec` is known where Tacit wrote it. UserError where it is no encoder."""
    masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING
    causal = getattr(config, "is_decoder", False) or (type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not masked)
    if causal or config.is_encoder_decoder:
        kind = "an encoder-decoder" if config.is_encoder_decoder else "a causal model"
        raise UserError(
            f"{name} is {kind} ({config.model_type}); choose an encoder, such as hf:answerdotai/ModernBERT-base"
        )
    if spec is None and not any(True for pattern in TOKENIZERS for _ in folder.glob(pattern)):
        raise UserError(f"{name} is no image model, and as a text model it lacks a tokenizer.json; save it there")
    auto = AutoModelForMaskedLM if masked else AutoModel
    model, said = auto.from_pretrained(
        folder,
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    inner = f"{model.base_model_prefix}."
    missing = sorted(said["missing_keys"])
    if masked and (lost := [key for key in missing if key.startswith(inner)]):
        raise UserError(
            f"{folder} holds no weights for {lost[0]} and {len(lost) - 1} others; save the whole model there"
        )
    if spec is None:
        spec = _spec(name, folder, model)
    return HuggingFaceText(name, model, spec, source, head_loaded=masked and not missing).eval()


def untrained(encoder: HuggingFaceText) -> HuggingFaceText:
    """The same architecture with weights drawn anew from torch's random numbers."""
    auto = AutoModelForMaskedLM if encoder.model is not encoder.base else AutoModel
    with quiet(), torch.inference_mode(False), torch.enable_grad():
        config = copy.deepcopy(encoder.model.config)
        model = auto.from_config(config, trust_remote_code=False, dtype=torch.float32)
        return HuggingFaceText(encoder.name, model, encoder.spec, dict(encoder.source), head_loaded=False)


def _spec(name: str, folder: Path, model: PreTrainedModel) -> TextSpec:
    """What the model's own tokenizer says; what it puts around a text, it is tried on one."""
    try:
        found = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        backend = found.backend_tokenizer
    except Exception as error:  # whatever the library raises, it may be this class
        raise UserError(f"cannot open the tokenizer of {name}: {str(error).splitlines()[0]}") from None
    bare = backend.encode("a", add_special_tokens=False).ids
    whole = backend.encode("a").ids
    starts = [at for at in range(len(whole) - len(bare) + 1) if whole[at : at + len(bare)] == bare]
    first, last = (whole[: starts[0]], whole[starts[0] + len(bare) :]) if starts else (whole, whole)
    if len(first) > 1 or len(last) > 1:
        raise UserError(
            f"the tokenizer of {name} puts {len(first) + len(last)} numbers around a text; one each side can be"
        )
    cls, sep = (side[0] if side else -1 for side in (first, last))
    mask, unknown = (-1 if number is None else number for number in (found.mask_token_id, found.unk_token_id))
    pad = found.pad_token_id if found.pad_token_id is not None else max(sep, 0)
    specials = {number for number in (*found.all_special_ids, pad, cls, sep, mask) if number >= 0}
    return TextSpec(
        tokenizer=backend.to_str(),
        length=_length(found.model_max_length, model),
        vocabulary=model.get_input_embeddings().num_embeddings,
        pad=pad,
        cls=cls,
        sep=sep,
        mask=mask,
        unknown=unknown,
        specials=tuple(sorted(specials)),
    )


def _length(told: int, model: PreTrainedModel) -> int:
    """How many numbers the model takes at once, at most 512."""
    places = getattr(model.config, "max_position_embeddings", None) or LONGEST_WINDOW
    for part_name, part in model.named_modules():
        if part_name.endswith("position_embeddings") and isinstance(part, nn.Embedding):
            # RoBERTa and its kin begin to count behind the padding's number.
            places = part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1)
    if places < 0:  # relative positions, no limit
        places = LONGEST_WINDOW
    return int(min(LONGEST_WINDOW, places, told))
