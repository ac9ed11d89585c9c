"""Text models from a Hugging Face folder or name, with their head of masked-language modelling where they have one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, normalizers
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForTextEncoding, AutoTokenizer, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
)

from tacit.core.errors import UserError, no_panic
from tacit.core.text import LONGEST
from tacit.modalities.hf_folder import (
    Public,
    check_complete,
    first_line,
    freeze_unused,
    load_model,
    quiet,
    read_json,
)
from tacit.modalities.text import modernbert
from tacit.modalities.text import sentence as sentences
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.sentence import Sentence, SentenceSettings
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.tokens import Attention, attended, bert_layers

LONGEST_WINDOW = 512  # numbers; attention costs their square
LEAST_WINDOW = 2
SLACK = 1024  # numbers that a vocabulary may leave out
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
# Model types whose layers are called one by one here, which is faster and can keep packed documents apart.
LAYERS: Mapping[str, Callable[[Any, Tensor, Attention], Sequence[Tensor]]] = {
    "bert": bert_layers,
    "modernbert": modernbert.layers,
}


class HuggingFaceText(TextEncoder):
    """A Hugging Face encoder of text, with its own tokenizer, and its own pooling where its folder defines one.

    Only BERT and ModernBERT read packed rows. `alone` is True if padding behind a text changes its embedding, so that
    every row is embedded by itself.
    """

    alone = False
    untraceable = "padding would change the embedding of a text"

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        spec: TextSpec,
        source: dict[str, Any],
        *,
        head_loaded: bool,
        sentence: Sentence | None = None,
    ) -> None:
        base = model.base_model
        length = min(4, spec.length)
        trial = torch.arange(2 * length).reshape(2, length) % spec.vocabulary
        # Trainable even if loaded during an evaluation.
        with torch.inference_mode(False), torch.enable_grad():
            try:
                output = base.eval()(trial, output_hidden_states=True)
                last = output[0]
            except Exception as error:  # whatever the model raises, it does not work on tokens alone
                raise UserError(f"{name} does not embed a text: {first_line(error)}") from None
            if last.ndim != 3 or last.shape[:2] != trial.shape:
                raise UserError(f"{name} answers {list(trial.shape)} tokens with {list(last.shape)}; choose an encoder")
            freeze_unused(base, last)
        depths = max(1, len(output.hidden_states or ()))
        dim = last.shape[2] if sentence is None else sentence.dim
        super().__init__(name, spec, model, dim=dim, n_depths=depths)
        self.source = source
        self.sentence = sentence
        if sentence is not None:
            self.pooling = sentence.describe()
        layers = LAYERS.get(model.config.model_type)
        causal = getattr(model.config, "is_decoder", False)  # its mask is not the one that is built here
        self.packs = layers is not None and not causal and model.config._attn_implementation == "sdpa"
        self.predicts = model is not base and self._head_follows(trial, last)
        if self.predicts and head_loaded and spec.mask >= 0:
            self.head_trained.fill_(True)
        if self._depends_on_padding(trial[:1]):
            self.alone, self.at_once, self.traceable = True, 1, False

    def layers(self, tokens: Tensor, attention: Attention) -> Sequence[Tensor]:
        if self.packs:
            return LAYERS[self.model.config.model_type](self.base, tokens, attention)
        valid = None if attention.mask is None else attention.mask[:, 0, 0].long()  # [B N]
        if self.alone:
            return self._by_themselves(tokens, torch.ones_like(tokens) if valid is None else valid)
        output = self.base(input_ids=tokens, attention_mask=valid, output_hidden_states=True)
        return [*(output.hidden_states or ())[:-1], output[0]]

    def untrained(self) -> HuggingFaceText:
        with quiet(), torch.inference_mode(False), torch.enable_grad():
            config = copy.deepcopy(self.model.config)
            auto = AutoModelForMaskedLM if self.model is not self.base else AutoModel
            if is_half(config):
                auto = AutoModelForTextEncoding
            model = auto.from_config(config, trust_remote_code=False, dtype=torch.float32)
            sentence = None if self.sentence is None else self.sentence.anew()
            source = dict(self.source)
            return HuggingFaceText(self.name, model, self.spec, source, head_loaded=False, sentence=sentence)

    def opener(self) -> Any:
        return type(self.model.base_model)  # perhaps the encoder of an encoder-decoder; without its head

    def _by_themselves(self, tokens: Tensor, valid: Tensor) -> list[Tensor]:
        """The output of all layers for each row without its padding, padded with 0 again."""
        N, outputs = tokens.shape[1], []
        for row, n in zip(tokens, valid.sum(1).tolist(), strict=True):
            own = row[None, : max(1, n)]
            output = self.base(input_ids=own, attention_mask=torch.ones_like(own), output_hidden_states=True)
            layers = [*(output.hidden_states or ())[:-1], output[0]]
            outputs.append([nn.functional.pad(states, (0, 0, 0, N - states.shape[1])) for states in layers])
        return [torch.cat(states) for states in zip(*outputs, strict=True)]

    @property
    def has_head(self) -> bool:
        return self.predicts

    def logits(self, hidden: Tensor) -> Tensor:
        whole = copy.copy(self.model)
        whole._modules = {**self.model._modules, self.model.base_model_prefix: FixedStates(self.base, hidden[None])}
        places = torch.zeros(1, len(hidden), dtype=torch.int64, device=hidden.device)
        logits: Tensor = whole(input_ids=places).logits
        return logits[0]

    @torch.no_grad()
    def _depends_on_padding(self, tokens: Tensor) -> bool:
        """True if padding behind a text changes its embedding, so that each is embedded alone."""
        longer = nn.functional.pad(tokens, (0, 3), value=self.spec.pad)
        valid = torch.arange(longer.shape[1])[None] < tokens.shape[1]
        if longer.shape[1] > self.spec.length:
            return False
        own, beside = (
            self.layers(tokens, Attention(None, None))[-1],
            self.layers(longer, Attention(attended(valid), None)),
        )
        return not torch.allclose(own, beside[-1][:, : tokens.shape[1]], rtol=1e-2, atol=1e-3)

    @torch.no_grad()
    def _head_follows(self, tokens: Tensor, hidden: Tensor) -> bool:
        """True if the model's predictions are a function of each place's last state alone."""
        try:
            found, truth = self.logits(hidden.flatten(0, 1)), self.model.eval()(tokens).logits.flatten(0, 1)
        except (RuntimeError, AttributeError, TypeError, ValueError):
            return False
        return found.shape == truth.shape and torch.allclose(found, truth, atol=1e-3, rtol=1e-3)


class FixedStates(nn.Module):
    """Stands in for a model that returns these states."""

    def __init__(self, base: nn.Module, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden
        object.__setattr__(self, "base", base)  # not as a submodule

    def forward(self, *_: Any, **__: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.hidden)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["base"], name)


def open_text(public: Public, spec: TextSpec | None) -> tuple[HuggingFaceText, tuple[str, ...]]:
    """Load a text model from its folder; also return remarks for the person. `spec` is given where Tacit wrote it."""
    name, home, folder, config, weights, source = public
    masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not config.is_encoder_decoder
    causal = (
        not masked
        and config.model_type != "xlnet"
        and (type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or getattr(config, "is_decoder", False))
    )
    opener = AutoModelForMaskedLM if masked and not getattr(config, "is_decoder", False) else AutoModel
    if is_half(config):
        opener, causal = AutoModelForTextEncoding, False
    elif config.is_encoder_decoder:
        raise UserError(
            f"{name} is an encoder-decoder ({config.model_type}) whose encoder is not opened alone; choose an "
            "encoder, such as hf:answerdotai/ModernBERT-base"
        )
    if spec is None and not any(True for pattern in TOKENIZERS for _ in folder.glob(pattern)):
        raise UserError(f"{name} is no image model, and as a text model it lacks a tokenizer.json; save it there")
    if hasattr(config, "use_cache"):
        config.use_cache = False
    loaded = load_model(opener, folder, config, weights)
    model, remarks = loaded.model, list(loaded.remarks)
    rows = _rows(name, model)
    settings = sentences.read(home, folder, _width(name, model))
    unread = spec is None
    if spec is None:
        spec, beginning = _spec(name, folder, model, rows, settings)
        if settings is not None and beginning:
            remarks.append("it cuts the beginning of a long text off by itself, and here its end")
        if settings is not None and settings.length is not None and settings.length > spec.length:
            remarks.append(f"it reads {settings.length:,} tokens of a text by itself, and {spec.length:,} here")
        remarks += [] if settings is None else settings.remarks
    if causal:
        remarks.append("it is a causal model, of which no token sees what follows; a text is the mean of its tokens")
    found = HuggingFaceText(
        name,
        model,
        spec,
        source,
        head_loaded=opener is AutoModelForMaskedLM and not loaded.missing,
        sentence=None if settings is None else settings.sentence,
    )
    check_complete(loaded, found.base)
    if unread:
        _check_longest(found)
    return found.eval(), tuple(remarks if settings is None else remarks[: len(remarks) - causal])


@torch.no_grad()
def _check_longest(encoder: HuggingFaceText) -> None:
    """Raise UserError where the model fails at a text of its stated length."""
    length = encoder.spec.length
    try:
        encoder.base(torch.arange(length)[None] % encoder.spec.vocabulary)
    except Exception as error:  # whatever the model raises, it does not work on so many tokens
        raise UserError(f"{encoder.name} does not embed a text of {length:,} tokens: {first_line(error)}") from None


def is_half(config: Any) -> bool:
    """True if this configuration has a decoder, and a class for its encoder alone (T5 and its relatives)."""
    found = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)
    return found is not None and found.__name__.endswith("EncoderModel")


def _rows(name: str, model: PreTrainedModel) -> int:
    """The number of rows of the model's token embedding."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError):
        kind = model.config.model_type
        raise UserError(f"{name} ({kind}) has no one table of tokens; choose another encoder of text") from None


def _width(name: str, model: PreTrainedModel) -> int:
    """The number of features of a token."""
    try:
        with torch.no_grad():
            return int(model.base_model.eval()(torch.zeros(1, 2, dtype=torch.int64))[0].shape[-1])
    except Exception as error:  # whatever the model raises, it does not work on tokens alone
        raise UserError(f"{name} does not embed a text: {first_line(error)}") from None


def _spec(
    name: str, folder: Path, model: PreTrainedModel, rows: int, settings: SentenceSettings | None
) -> tuple[TextSpec, bool]:
    """The spec of the model's own tokenizer, and whether that cuts off the beginning of long texts.

    Encodes a text to find out which tokens it adds around one.
    """
    _check_tokenizer(folder / "tokenizer.json", rows)
    try:
        with no_panic(f"the tokenizer of {name}"):
            found = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            backend = _plain(name, found.backend_tokenizer, rows, settings)
            bare = backend.encode("a", add_special_tokens=False).ids
            whole = backend.encode("a").ids
    except UserError:
        raise
    except Exception as error:  # whatever the library raises, it may be this class
        raise UserError(f"cannot open the tokenizer of {name}: {first_line(error)}") from None
    starts = [at for at in range(len(whole) - len(bare) + 1) if whole[at : at + len(bare)] == bare]
    first, last = (whole[: starts[0]], whole[starts[0] + len(bare) :]) if starts else (whole, whole)
    if len(first) > 1 or len(last) > 1:
        raise UserError(
            f"the tokenizer of {name} puts {len(first) + len(last)} numbers around a text; one each side can be"
        )
    cls, sep = (side[0] if side else -1 for side in (first, last))
    mask, unknown = (_number_of(number, rows) for number in (found.mask_token_id, found.unk_token_id))
    pad = _number_of(found.pad_token_id, rows)
    pad = pad if pad >= 0 else max(sep, 0)
    specials = {number for number in (*found.all_special_ids, pad, cls, sep, mask) if 0 <= number < rows}
    length = _length(found.model_max_length, model, LONGEST_WINDOW)
    if settings is not None:  # texts are cut there, not read in windows
        length = _length(settings.length or found.model_max_length, model, LONGEST)
    if length <= LEAST_WINDOW:
        raise UserError(f"{name} reads {length} tokens of a text; choose a model that reads more than {LEAST_WINDOW}")
    spec = TextSpec(
        tokenizer=backend.to_str(),
        length=length,
        vocabulary=rows,
        pad=pad,
        cls=cls,
        sep=sep,
        mask=mask,
        unknown=unknown,
        specials=tuple(sorted(specials)),
    )
    return spec, found.truncation_side == "left"


def _number_of(number: int | None, rows: int) -> int:
    """The number of a special token; -1 where the tokenizer has none, or the model has no row for it."""
    return number if number is not None and 0 <= number < rows else -1


def _check_tokenizer(path: Path, rows: int) -> None:
    """Raise UserError where a tokenizer's numbers would fill the memory: tables reach up to the largest."""
    if not path.exists():
        return
    content = read_json(path)
    model = content.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    added = content.get("added_tokens")
    try:
        numbers = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary or ())))
        numbers += [token["id"] for token in added or ()]
        sound = all(type(number) is int and number >= 0 for number in numbers)
    except (TypeError, KeyError):
        sound = False
    if not sound:
        raise UserError(f"{path} is damaged: its vocabulary is none; download it again")
    most = max(rows, 2 * len(numbers)) + SLACK
    if max(numbers, default=0) > most:
        raise UserError(f"{path} numbers a token {max(numbers):,}, and has {len(numbers):,}; do not trust it")


def _plain(name: str, tokenizer: Tokenizer, rows: int, settings: SentenceSettings | None) -> Tokenizer:
    """The tokenizer as used here: it neither cuts nor pads, and has no token that the model has no row for."""
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    content = json.loads(tokenizer.to_str())
    added = [token for token in content.get("added_tokens") or () if token["id"] < rows]
    if len(added) < len(content.get("added_tokens") or ()):
        tokenizer = Tokenizer.from_str(json.dumps({**content, "added_tokens": added}))
    word, number = max(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda of: of[1])
    if number >= rows:
        raise UserError(
            f"the tokenizer of {name} numbers {word!r} {number:,}, and the model embeds {rows:,} numbers; they are of "
            "two models"
        )
    special = [token["content"] for token in added if token.get("special")]
    if settings is not None and (token := next((word for word in special if word in settings.prompt), None)):
        raise UserError(
            f"{name} puts a special token ({token}) before every text, which is not read here; leave its "
            "default_prompt_name out"
        )
    before: list[Any] = []
    if settings is not None and settings.lowercase and '"Lowercase"' not in json.dumps(content.get("normalizer")):
        before.append(normalizers.Lowercase())
    if settings is not None and settings.prompt:
        before.insert(0, normalizers.Prepend(settings.prompt))
    if before:
        own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        tokenizer.normalizer = normalizers.Sequence([*before, *own])
    return tokenizer


def _length(stated: Any, model: PreTrainedModel, most: int) -> int:
    """The number of tokens that the model reads at once."""
    stated = stated if isinstance(stated, int | float) else most
    places = getattr(model.config, "max_position_embeddings", None) or most
    for part_name, part in model.named_modules():
        if part_name.rpartition(".")[2] == "position_embeddings" and isinstance(part, nn.Embedding):
            # RoBERTa and its relatives count positions from behind the padding's number.
            there = part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1)
            places = there if places < 0 else min(places, there)
    if places < 0:  # relative positions, no limit
        places = most
    return int(min(most, places, stated))
