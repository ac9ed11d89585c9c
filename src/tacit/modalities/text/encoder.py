"""The base of all text encoders: tokens from texts, windows and packed rows, the mean, the head.

Shapes: B rows, N tokens of a row, L tokens of a window, M places, V numbers of the vocabulary, D features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tacit.core.encoder import OwnEncoder, several
from tacit.core.errors import UserError
from tacit.core.nn import masked_mean
from tacit.core.text import LONGEST
from tacit.core.types import Batch, Features
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.text.tokens import masking_reader, number_type, numbers_of, plain_numbers, reader
from tacit.modalities.tokens import Attention, attended

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

    from tacit.modalities.text.sentence import Sentence


class TextEncoder(OwnEncoder):
    """Embeds batches of tokens; abstract.

    `model` is Hugging Face's: with its head of masked-language modelling where there is one, whose own parameters are
    frozen until `train_head`. `packs` is True if documents packed into one row (`segment`) are embedded exactly as
    alone. `sentence` pools a text to one vector where an encoder defines how, in place of the mean of all windows.
    """

    spec: TextSpec
    packs = True
    at_once = 32  # rows of any length that fit into memory together while they are embedded
    sorts = True  # rows of similar length are embedded together
    sentence: Sentence | None
    special: Tensor  # [V]  True for numbers that are not text
    head_trained: Tensor

    def __init__(
        self,
        name: str,
        spec: TextSpec,
        model: PreTrainedModel,
        *,
        dim: int,
        n_depths: int,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        super().__init__(name, spec, dim=dim, n_depths=n_depths, options=options)
        self.model = model
        self.sentence = None
        self.register_buffer("special", _table(spec), persistent=False)
        self.register_buffer("head_trained", torch.tensor(False))
        for parameter in self._own_of_head():
            parameter.requires_grad_(False)

    @abstractmethod
    def layers(self, tokens: Tensor, attention: Attention) -> Sequence[Tensor]:
        """The output of the embedding and of every layer for `tokens` [B N], N at most `spec.length` without positions.

        Tensors [B N D].
        """

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        """Embed `batch["tokens"]` [B N]; depth `n_depths - 1` is the deepest and equals `pooled`.

        `valid` of the features is False at special tokens too, which take part in attention only.
        """
        tokens, valid = self._checked(batch), batch.get("valid")
        counted = self.counted(tokens, valid)
        if self.sentence is not None and "segment" not in batch:
            return self._as_one(self.sentence, tokens, valid, counted, depths)
        states, pooled = self._embedded(tokens, valid, counted, batch.get("segment"), [*depths, self.n_depths - 1])
        return Features(states, pooled[-1], counted, depths=tuple(pooled[:-1]))

    def states(self, batch: Batch) -> Features:
        """`forward` with the states of all tokens: in windows even where an encoder would cut the text."""
        tokens, valid = self._checked(batch), batch.get("valid")
        counted = self.counted(tokens, valid)
        states, pooled = self._embedded(tokens, valid, counted, batch.get("segment"), [self.n_depths - 1])
        return Features(states, pooled[-1], counted)

    def _as_one(
        self, sentence: Sentence, tokens: Tensor, valid: Tensor | None, counted: Tensor, depths: Sequence[int]
    ) -> Features:
        """Embed rows cut after `spec.length` numbers, pooled by `sentence`; no token behind that counts."""
        N, L = tokens.shape[1], self.spec.length
        there = torch.ones_like(counted) if valid is None else valid
        if N > L:
            ends = there[:, L]  # of rows that are cut
            tokens, there = tokens[:, :L].clone(), there[:, :L]
            if self.spec.sep >= 0:
                tokens[ends, L - 1] = self.spec.sep
            counted = self.counted(tokens, there)
        states = self.layers(tokens, Attention(None if bool(there.all()) else attended(there), None))
        pooled = sentence(states[-1], there)
        inner = tuple(pooled if depth == self.n_depths - 1 else masked_mean(states[depth], there) for depth in depths)
        behind = (0, max(0, N - L))
        return Features(
            nn.functional.pad(states[-1], (0, 0, *behind)), pooled, nn.functional.pad(counted, behind), depths=inner
        )

    def counted(self, tokens: Tensor, valid: Tensor | None) -> Tensor:
        """The tokens [B N] that `pooled` averages: no padding, and no special ones unless there are no others."""
        valid = torch.ones_like(tokens, dtype=torch.bool) if valid is None else valid
        own = valid & ~self.special[tokens]
        return own | (valid & ~own.any(1, keepdim=True))

    def graph(self, tokens: Tensor, valid: Tensor, depths: Sequence[int] = ()) -> Features:
        """`forward` for rows of one window, without control flow that depends on values, so that it can be traced."""
        counted = self.counted(tokens, valid)
        states = self.layers(tokens, Attention(attended(valid), None))
        whole = masked_mean(states[-1], counted) if self.sentence is None else self.sentence(states[-1], valid)
        last, weight = self.n_depths - 1, counted if self.sentence is None else valid
        pooled = tuple(whole if depth == last else masked_mean(states[depth], weight) for depth in depths)
        return Features(states[-1], whole, counted, depths=pooled)

    def _embedded(
        self, tokens: Tensor, valid: Tensor | None, counted: Tensor, segment: Tensor | None, depths: Sequence[int]
    ) -> tuple[Tensor, list[Tensor]]:
        """The last states [B N D] of rows of any length, and the mean of the counted ones at `depths`, [B D] each."""
        if segment is not None and not self.packs:
            raise UserError(f"the encoder {self.name} cannot read several documents in a row; leave packing out")
        if valid is not None and bool(valid.all()):
            valid = None  # no mask is faster
        N, L = tokens.shape[1], self.spec.length
        if segment is not None or N <= L:
            attention = Attention(None if valid is None else attended(valid), None)
            if segment is not None:
                attention = packed(segment, valid, L)
            states = self.layers(tokens, attention)
            return states[-1], [masked_mean(states[depth], counted) for depth in depths]
        rest = -N % L
        windows = nn.functional.pad(tokens, (0, rest), value=self.spec.pad).reshape(-1, L)  # [B*W L]
        inside = torch.ones_like(tokens, dtype=torch.bool) if valid is None else valid
        inside = nn.functional.pad(inside, (0, rest), value=False).reshape(-1, L)
        used = inside.any(1)  # [B*W]
        used[:1] = True  # so that at least one is
        inside = inside[used]
        states = self.layers(windows[used], Attention(None if bool(inside.all()) else attended(inside), None))
        weight = counted / counted.sum(1, keepdim=True).clamp(min=1)  # [B N]
        weight = nn.functional.pad(weight, (0, rest)).reshape(-1, L)[used]
        row = torch.arange(len(tokens), device=tokens.device).repeat_interleave((N + rest) // L)[used]
        pooled = []
        for depth in depths:  # a row's mean is the sum of its windows' shares in it
            share = (states[depth] * weight[:, :, None].to(states[depth].dtype)).sum(1)  # [used D]
            pooled.append(share.new_zeros(len(tokens), share.shape[1]).index_add(0, row, share))
        whole = states[-1].new_zeros(*windows.shape, states[-1].shape[-1])  # [B*W L D]
        whole[used] = states[-1]
        return whole.reshape(len(tokens), N + rest, -1)[:, :N], pooled

    def _checked(self, batch: Batch) -> Tensor:
        tokens = batch.get("tokens")
        if tokens is None or tokens.ndim != 2:
            given = "tokens " + str(list(tokens.shape)) if tokens is not None else ", ".join(batch)
            raise UserError(
                f"the encoder {self.name} takes tokens [B N], not {given}; encoder.prepare(texts) makes such batches"
            )
        return tokens

    @property
    def base(self) -> PreTrainedModel:
        """The model without a head."""
        return self.model.base_model

    @property
    def has_head(self) -> bool:
        """True if the architecture has a head of masked-language modelling."""
        return self.model.base_model is not self.model

    @property
    def headed(self) -> bool:
        """True if that head is trained, so that it is saved with the encoder."""
        return bool(self.head_trained)

    def train_head(self) -> None:
        """Make the head trainable, and save it with the encoder from now on."""
        if not self.has_head or self.spec.mask < 0:
            lacks = "no head that predicts masked tokens" if not self.has_head else "a tokenizer without a mask token"
            raise UserError(f"{self.name} has {lacks}; choose another task or a masked language model")
        for parameter in self._own_of_head():
            parameter.requires_grad_(True)
        self.head_trained.fill_(True)

    def logits(self, hidden: Tensor) -> Tensor:
        """The head's unnormalised log-probabilities [M V] of the tokens at the places with states `hidden` [M D]."""
        raise NotImplementedError(self.name)

    def _own_of_head(self) -> list[nn.Parameter]:
        shared = {id(parameter) for parameter in self.base.parameters()}
        return [parameter for parameter in self.model.parameters() if id(parameter) not in shared]

    def set_dropout(self, dropout: float) -> None:
        """Set the share of activations and of attention that is dropped in training."""
        for part in self.model.modules():
            if isinstance(part, nn.Dropout):
                part.p = dropout
            elif isinstance(getattr(part, "attention_dropout", None), float):
                part.attention_dropout = dropout
            if isinstance(getattr(part, "out_drop", None), nn.Identity):  # ModernBERT's form of no dropout
                part.out_drop = nn.Dropout(dropout)
        for name, value in self.model.config.to_dict().items():
            if "dropout" in name and "classifier" not in name and isinstance(value, float):
                setattr(self.model.config, name, dropout)
        if "dropout" in self.options:
            self.options["dropout"] = dropout

    def grow(self, vocabulary: int, tokenizer: str | None = None) -> None:
        """Enlarge the embedding to `vocabulary` numbers; new rows are the mean of the old ones, in the head too.

        `tokenizer` is the JSON of the tokenizer with the new words.
        """
        old = self.spec.vocabulary
        assert vocabulary >= old, (vocabulary, old)
        frozen = [parameter for parameter in self._own_of_head() if not parameter.requires_grad]
        with torch.no_grad():
            before = {id(parameter) for parameter in self.model.parameters()}
            self.model.resize_token_embeddings(vocabulary, mean_resizing=False)
            for parameter in self.model.parameters():
                if id(parameter) not in before or parameter.shape[:1] == (vocabulary,):
                    parameter[old:] = parameter[:old].mean(0)
        if frozen:
            for parameter in self._own_of_head():
                parameter.requires_grad_(False)
        self.spec = replace(self.spec, vocabulary=vocabulary, tokenizer=tokenizer or self.spec.tokenizer)
        self.special = _table(self.spec).to(self.special.device)

    def add_words(self, words: Sequence[str]) -> int:
        """Add words as tokens, each the mean of those it was split into before; return the number of new ones."""
        from tokenizers import AddedToken, Tokenizer

        current = reader(self.spec.tokenizer)
        parted = {word: current.encode(word, add_special_tokens=False).ids for word in words}
        parted = {word: ids for word, ids in parted.items() if len(ids) > 1 or self.spec.unknown in ids}
        grown = Tokenizer.from_str(self.spec.tokenizer)
        grown.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in parted])
        numbers = grown.get_vocab(with_added_tokens=True)
        self.grow(max(self.spec.vocabulary, 1 + max(numbers.values())), grown.to_str())
        with torch.no_grad():
            rows = self.model.get_input_embeddings().weight
            for word, ids in parted.items():
                rows[numbers[word]] = rows[ids].mean(0)
        return len(parted)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that takes a written mask token for a mask. Texts of data are read by `tokens.reader`."""
        return masking_reader(self.spec.tokenizer, self.spec.mask)

    def prepare(self, texts: str | Sequence[str], *, masks: bool = False) -> Batch:
        """Convert texts to a batch on the encoder's device, prepared as for its training.

        A document is [CLS] tokens [SEP], cut after 2048 numbers; longer than `spec.length`, it is embedded in windows,
        or cut by encoders that do so.
        A [MASK] in a text is text, as every other special word is; with `masks` it marks a token to be predicted.
        Returns `tokens`, `valid` and `word` [B N] and `index` [B]. Raises UserError naming what is no text.
        """
        texts = several(texts, str, "texts")
        for text in texts:
            if not isinstance(text, str):
                raise UserError(f"cannot prepare {text!r}, a {type(text).__name__}; pass texts as str")
        if masks:
            read, plain = self.tokenizer, np.arange(self.spec.vocabulary, dtype=number_type(self.spec.vocabulary))
        else:
            read, plain = reader(self.spec.tokenizer), plain_numbers(self.spec)
        rows = [self._document(*document) for document in numbers_of(texts, read, plain)]
        longest = max(1, *(len(tokens) for tokens, _ in rows))
        tokens = torch.full((len(rows), longest), self.spec.pad)
        valid, word = torch.zeros_like(tokens, dtype=torch.bool), torch.zeros_like(tokens, dtype=torch.bool)
        for number, (row, begins) in enumerate(rows):
            tokens[number, : len(row)] = torch.tensor(row, dtype=torch.int64)
            word[number, : len(row)] = torch.tensor(begins, dtype=torch.bool)
            valid[number, : len(row)] = True
        batch = {"tokens": tokens, "valid": valid, "word": word, "index": torch.arange(len(rows))}
        return {name: value.to(self.special.device) for name, value in batch.items()}

    def _document(self, ids: list[int], begins: list[bool]) -> tuple[list[int], list[bool]]:
        """The numbers of a document, special ones included, and which of them begin a word."""
        first, last = ([number] if number >= 0 else [] for number in (self.spec.cls, self.spec.sep))
        room = LONGEST - len(first) - len(last)
        inside = [*([False] * len(first)), *begins[:room], *([False] * len(last))]
        return [*first, *ids[:room], *last], inside

    def hugging_face(self) -> PreTrainedModel:
        """The same encoder as a Hugging Face model, weights shared: with its head where that is trained."""
        return self.model if self.headed else self.base

    def opened_as(self, state: Mapping[str, Tensor]) -> tuple[Any, str]:
        """The class that loads the files of `hugging_face()`, and the prefix of its weights in the encoder's state."""
        if self.model is self.base or state["head_trained"]:
            return type(self.model), "model."
        return type(self.base), f"model.{self.model.base_model_prefix}."

    def write_companions(self, folder: Path) -> None:
        """Write the files by which other libraries read text for the model in `folder`, and pool."""
        from tacit.modalities.text import files

        files.write(self, folder)

    def spec_in(self, folder: Path) -> dict[str, Any]:
        """The JSON form of the spec, for `encoder.json` in this folder, which holds the tokenizer."""
        from tacit.modalities.text import files

        return files.describe(folder, asdict(self.spec))

    def shape(self) -> dict[str, Any]:
        """The fields of `encoder.json` that text encoders add."""
        return {"headed": self.headed, "packs": self.packs}

    pooling = (
        "the mean of last_hidden_state over tokens that are neither padding nor special, see specials; of a text that "
        "is longer than a window, over those of all its windows"
    )


def packed(segment: Tensor, valid: Tensor | None, length: int) -> Attention:
    """Attention of packed documents: each within itself, with positions from 0; in windows beyond `length`."""
    valid = torch.ones_like(segment, dtype=torch.bool) if valid is None else valid
    place = torch.arange(segment.shape[1], device=segment.device).expand_as(segment)  # [B N]
    document = torch.where(valid, segment, segment.amin() - 1)  # padding keeps to itself
    starts = torch.ones_like(valid)
    starts[:, 1:] = document[:, 1:] != document[:, :-1]
    position = place - torch.where(starts, place, 0).cummax(1).values
    window = (position % length == 0).cumsum(1)
    return Attention((window[:, :, None] == window[:, None, :])[:, None], position % length)


def _table(spec: TextSpec) -> Tensor:
    table = torch.zeros(spec.vocabulary, dtype=torch.bool)
    table[[number for number in spec.specials if 0 <= number < spec.vocabulary]] = True
    return table
