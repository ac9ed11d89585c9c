"""What all encoders of histories share: numbers from ids, the latest window, scores of all items, recommendation.

Shapes: B histories, N events, L events of a window, V numbers (padding, mask and n items), D features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tacit.core.encoder import OwnEncoder
from tacit.core.errors import UserError
from tacit.core.files import sha256
from tacit.core.nn import masked_mean
from tacit.core.types import Batch, Features
from tacit.modalities.events.catalogue import FILE_NAME, Catalogue
from tacit.modalities.events.spec import ItemSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel


GROUPS = 4  # of rows by their lengths
RARE = 30  # events of an item on average below which items are rare


class Encoded(NamedTuple):
    """What an encoder says of one history."""

    embedding: Tensor  # [D]
    unknown: int  # events of items that it does not know, which were left out


class Recommended(NamedTuple):
    """Items by what comes next, the likeliest first."""

    items: list[Any]
    scores: list[float]
    unknown: int  # events of items that the encoder does not know, which were left out


class ItemEncoder(OwnEncoder):
    """Embeds histories of items; abstract.

    `model` is Hugging Face's. Where `causal`, an event knows only what
    came before it, and `pooled` is the state of the last one, else the mean. An item's score is the product of its
    embedding and the state, or, with a `temperature` above 0 among the options, their cosine over that.
    """

    spec: ItemSpec
    causal: bool

    def __init__(
        self,
        name: str,
        spec: ItemSpec,
        model: PreTrainedModel,
        *,
        dim: int,
        n_depths: int,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        super().__init__(name, spec, dim=dim, n_depths=n_depths, options=options)
        self.temperature = float(self.options.get("temperature", 0.0))
        self.model = model

    @abstractmethod
    def layers(self, tokens: Tensor, valid: Tensor) -> Sequence[Tensor]:
        """What the embedding and then every layer say of `tokens` [B N], N at most `spec.length`: tensors [B N D]."""

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        """Embed the latest `spec.length` of `batch["tokens"]` [B N]; depth `n_depths - 1` is the deepest, as `pooled`.

        Numbers beyond the catalogue are left out.
        """
        tokens, valid = self.window(batch, self.spec.length)
        return self._features(self.said(tokens, valid), valid, depths)

    def graph(self, tokens: Tensor, valid: Tensor, depths: Sequence[int] = ()) -> Features:
        """`forward` of windows, free of questions about the values in them, so that it can be traced."""
        return self._features(self.layers(tokens, valid), valid, depths)

    def _features(self, said: Sequence[Tensor], valid: Tensor, depths: Sequence[int]) -> Features:
        pooled = [self._pooled(said[depth], valid) for depth in (*depths, self.n_depths - 1)]
        return Features(said[-1], pooled[-1], valid, depths=tuple(pooled[:-1]))

    def said(self, tokens: Tensor, valid: Tensor) -> Sequence[Tensor]:
        """`layers`; on a CPU rows of about one length at a time, since most of a window of rare long ones is padding.

        There in 32 bits, whatever the catalogue is compared in: bf16 made such small layers slower.
        """
        if tokens.device.type != "cpu" or len(tokens) < 2 * GROUPS:
            return self.layers(tokens, valid)
        lengths = valid.sum(1)
        groups = lengths.argsort(stable=True).chunk(GROUPS)
        with torch.autocast("cpu", enabled=False):
            parts = [self._within(tokens[rows], valid[rows], int(lengths[rows].max())) for rows in groups]
        back = torch.cat(groups).argsort()
        return [torch.cat(depth)[back] for depth in zip(*parts, strict=True)]

    def _within(self, tokens: Tensor, valid: Tensor, length: int) -> list[Tensor]:
        """`layers` of the first events alone, and 0 behind them."""
        n = max(1, length)
        behind = (0, 0, 0, tokens.shape[1] - n)
        return [nn.functional.pad(said, behind) for said in self.layers(tokens[:, :n], valid[:, :n])]

    def _pooled(self, said: Tensor, valid: Tensor) -> Tensor:
        return at_place(said, valid.sum(1) - 1) if self.causal else masked_mean(said, valid)

    def window(self, batch: Batch, length: int) -> tuple[Tensor, Tensor]:
        """The latest `length` events of each row, and where there are any, [B L]."""
        tokens = batch.get("tokens")
        if tokens is None or tokens.ndim != 2:
            said = "tokens " + str(list(tokens.shape)) if tokens is not None else ", ".join(batch)
            raise UserError(
                f"the encoder {self.name} takes tokens [B N], not {said}; encoder.prepare(histories) makes such batches"
            )
        valid = batch.get("valid")
        valid = tokens != self.spec.pad if valid is None else valid
        unknown = tokens >= self.spec.vocabulary
        if bool(unknown.any()):
            valid = valid & ~unknown
            order = (~valid).int().argsort(dim=1, stable=True)
            tokens, valid = tokens.gather(1, order), valid.gather(1, order)
        if tokens.shape[1] <= length:
            return tokens.masked_fill(~valid, self.spec.pad), valid
        last = valid.sum(1, keepdim=True)
        place = torch.arange(length, device=tokens.device).expand(len(tokens), -1)  # [B L]
        return tokens.gather(1, (last - length).clamp(min=0) + place), place < last

    def next_state(self, batch: Batch) -> Tensor:
        """The state [B D] that says what comes next: of the last event, or of a mask put behind it."""
        if self.causal:
            return self.forward(batch).pooled
        tokens, valid = self.window(batch, self.spec.length - 1)
        last = valid.sum(1, keepdim=True)  # [B 1]
        tokens = nn.functional.pad(tokens, (0, 1), value=self.spec.pad).scatter(1, last, self.spec.mask)
        return at_place(self.said(tokens, nn.functional.pad(valid, (0, 1)).scatter(1, last, True))[-1], last[:, 0])

    def logits(self, hidden: Tensor) -> Tensor:
        """Unnormalised log-probabilities [M V] of what stands where the encoder says `hidden` [M D]."""
        hidden, table = self.comparable(hidden, self.table)
        return hidden @ table.T

    def comparable(self, hidden: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """States [M D] and embeddings of items [n D] as they are compared: their products are the scores."""
        if not self.temperature:
            return hidden, embeddings
        normalize = nn.functional.normalize
        return normalize(hidden, dim=-1) / self.temperature, normalize(embeddings, dim=-1)

    def scores(self, batch: Batch) -> Tensor:
        """One number for every item of the catalogue [B n], higher where it is likelier to be the next."""
        return self.logits(self.next_state(batch))[:, self.spec.first :].float()

    @property
    def table(self) -> Tensor:
        """The embeddings of all numbers, [V D], which are weights of the model."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    # ---------------------------------------------------------------- people's ids

    def prepare(self, histories: Sequence[Any]) -> Batch:
        """Histories, each a list of item ids from the first to the latest, as a batch on the encoder's device.

        One list of ids is one history. Returns `tokens` and `valid` [B N], `index` [B] and `unknown` [B], how many
        events of each are of items that the encoder does not know, and are left out.
        """
        several = [list(h) for h in histories] if _are_lists(histories) else [list(histories)]
        rows = [self.spec.known.numbers(history) for history in several]
        known = [row[row >= 0] + self.spec.first for row in rows]
        tokens = torch.full((len(rows), max(1, *(len(row) for row in known))), self.spec.pad)
        for number, row in enumerate(known):
            tokens[number, : len(row)] = torch.from_numpy(row)
        unknown = torch.tensor([int((row < 0).sum()) for row in rows])
        batch = {
            "tokens": tokens,
            "valid": tokens != self.spec.pad,
            "index": torch.arange(len(rows)),
            "unknown": unknown,
        }
        return {name: value.to(self.table.device) for name, value in batch.items()}

    @torch.inference_mode()
    def encode(self, history: Iterable[Any]) -> Encoded:
        """The embedding of one history of item ids, of anybody; items that are not in the catalogue are left out."""
        batch = self.prepare([list(history)])
        with evaluating(self):
            return Encoded(self(batch).pooled[0], int(batch["unknown"][0]))

    @torch.inference_mode()
    def recommend(
        self, history: Iterable[Any], k: int = 10, *, allowed: Iterable[Any] | None = None, seen: bool = False
    ) -> Recommended:
        """The k items that are likeliest to come next after a history of item ids, of anybody.

        Only items that are `allowed`, where these are given, and none of the history's own unless `seen`. UserError
        where no item is left.
        """
        if k < 1:
            raise UserError(f"k is {k}; ask for at least one item")
        batch = self.prepare([list(history)])
        out = torch.zeros(self.spec.items, dtype=torch.bool, device=self.table.device)
        if allowed is not None:
            numbers = self.spec.known.numbers(allowed)
            out[:] = True
            out[torch.from_numpy(numbers[numbers >= 0])] = False
        if not seen:
            out[batch["tokens"][batch["valid"]] - self.spec.first] = True
        k = min(k, int((~out).sum()))
        if not k:
            raise UserError("no item is left to recommend: allow items of the catalogue that are not in the history")
        with evaluating(self):
            found = self.scores(batch)[0].masked_fill(out, -torch.inf).topk(k)
        items = self.spec.known.items(found.indices.cpu().numpy())
        return Recommended(items, found.values.tolist(), int(batch["unknown"][0]))

    def item_table(self) -> pa.Table:
        """The id and the embedding of every item."""
        import pyarrow as pa

        vectors = self.table[self.spec.first :].detach().float().cpu().numpy()
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        return pa.table({"item": self.spec.known.ids, "embedding": embedding})

    def grow(self, catalogue: Catalogue) -> None:
        """Learn of the items at the end of a grown catalogue; each starts as the mean of the old ones."""
        old = self.spec.vocabulary
        assert self.spec.known.begins(catalogue), "a catalogue grows at its end"
        self.spec = replace(self.spec, items=len(catalogue), catalogue=catalogue)
        if self.spec.vocabulary == old:
            return
        self.model.resize_token_embeddings(self.spec.vocabulary, mean_resizing=False)
        with torch.no_grad():
            self.table[old:] = self.table[self.spec.first : old].mean(0)

    # ---------------------------------------------------------------- files

    def forget_names(self) -> None:
        self.spec = replace(self.spec, catalogue=Catalogue.of_numbers(self.spec.items))

    def hugging_face(self) -> PreTrainedModel:
        """The same encoder as a Hugging Face model, weights shared."""
        return self.model

    def opened_as(self, state: Mapping[str, Tensor]) -> tuple[Any, str]:
        """What opens the files of `hugging_face()`, and the prefix of its weights in the encoder's own state."""
        return type(self.model), "model."

    def write_companions(self, folder: Path) -> None:
        """The catalogue: the number of an item is its row in it, plus `spec.first`."""
        self.spec.known.save(folder / FILE_NAME)

    def spec_in(self, folder: Path) -> dict[str, Any]:
        """The JSON form of the spec, for `encoder.json` in this folder, which holds the catalogue."""
        told = {**asdict(replace(self.spec, catalogue=None)), "first": self.spec.first, "mask": self.spec.mask}
        return {**told, "catalogue": {"file": FILE_NAME, "sha256": sha256(folder / FILE_NAME)}}

    def shape(self) -> dict[str, Any]:
        """What `encoder.json` says of the kind's own."""
        return {"causal": self.causal}

    @property
    def pooling(self) -> str:  # type: ignore[override]  # others say the same of all
        if self.causal:
            what = f"cosine, over {self.temperature:g}," if self.temperature else "product"
            return f"last_hidden_state of the last event; its {what} with the input embeddings scores what comes next"
        return "the mean of last_hidden_state over the events; what comes next is asked by a mask behind the last one"


def read_spec(values: Mapping[str, Any], folder: Path) -> ItemSpec:
    """What `spec_in` said; UserError where the catalogue is missing or another one."""
    path = folder / Path(values["catalogue"]["file"]).name
    if not path.is_file():
        raise UserError(f"{path} is missing; export the encoder again")
    if sha256(path) != values["catalogue"]["sha256"]:
        raise UserError(f"{path} is damaged: its SHA-256 is not the one in encoder.json; export the encoder again")
    return ItemSpec.of({**values, "catalogue": Catalogue.load(path)})


def usual_dropout(spec: ItemSpec) -> float:
    """The rarer items are, the more: chosen by measurement, see docs/experiments.md."""
    return 0.5 if 0 < spec.uses < RARE else 0.3


class evaluating:  # noqa: N801  (read as a word of the sentence)
    """With the module in eval mode, and as it was afterwards."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.training = module, module.training

    def __enter__(self) -> None:
        self.module.eval()

    def __exit__(self, *_: object) -> None:
        self.module.train(self.training)


def at_place(said: Tensor, place: Tensor) -> Tensor:
    """The state [B D] of those [B N D] at one place of each row [B], of the first where it is -1."""
    index = place.clamp(min=0)[:, None, None].expand(-1, 1, said.shape[2])
    return said.gather(1, index)[:, 0]


def _are_lists(histories: Sequence[Any]) -> bool:
    if not len(histories):
        raise UserError("no histories to prepare; pass at least one")
    return all(isinstance(history, list | tuple | np.ndarray) for history in histories)
