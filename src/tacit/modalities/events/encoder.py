"""The base class of encoders of histories: item numbers from ids, windows, scores of all items, recommendation.

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

from tacit.core.encoder import OwnEncoder, several
from tacit.core.errors import UserError
from tacit.core.files import sha256
from tacit.core.nn import masked_mean
from tacit.core.types import Batch, Features
from tacit.modalities.events.catalogue import FILE_NAME, Catalogue
from tacit.modalities.events.spec import ItemSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel


GROUPS = 4  # of rows with similar lengths
RARE = 30  # mean events per item, below which items are rare


class Encoded(NamedTuple):
    """The embedding of one history."""

    embedding: Tensor  # [D]
    unknown: int  # events of items outside of the catalogue, which were left out


class Recommended(NamedTuple):
    """Items that may come next, the most likely first."""

    items: list[Any]
    scores: list[float]
    unknown: int  # events of items outside of the catalogue, which were left out


class ItemEncoder(OwnEncoder):
    """Embeds histories of items; abstract.

    `model` is Hugging Face's. Where `causal`, an event attends to earlier ones only, and `pooled` is the state of the
    last event; else it is the mean. An item's score is the dot product of its embedding and the state, or, with a
    `temperature` above 0, their cosine divided by it.
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
        """The states [B N D] after the embedding and every layer, for `tokens` [B N], N at most `spec.length`."""

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        """Embed the latest `spec.length` of `batch["tokens"]` [B N]; depth `n_depths - 1` is the deepest, as `pooled`.

        Numbers outside of the catalogue are left out.
        """
        tokens, valid = self.window(batch, self.spec.length)
        return self._features(self.states(tokens, valid), valid, depths)

    def graph(self, tokens: Tensor, valid: Tensor, depths: Sequence[int] = ()) -> Features:
        """`forward` for windows, without control flow that depends on values, so that it can be traced."""
        return self._features(self.layers(tokens, valid), valid, depths)

    def _features(self, states: Sequence[Tensor], valid: Tensor, depths: Sequence[int]) -> Features:
        pooled = [self._pooled(states[depth], valid) for depth in (*depths, self.n_depths - 1)]
        return Features(states[-1], pooled[-1], valid, depths=tuple(pooled[:-1]))

    def states(self, tokens: Tensor, valid: Tensor) -> Sequence[Tensor]:
        """`layers`; on a CPU in groups of rows of similar length, since most of a batch may be padding.

        There in float32, whatever the precision of the comparison with the catalogue: bf16 made small layers slower.
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
        """`layers` of the first `length` events, padded with 0."""
        n = max(1, length)
        behind = (0, 0, 0, tokens.shape[1] - n)
        return [nn.functional.pad(states, behind) for states in self.layers(tokens[:, :n], valid[:, :n])]

    def _pooled(self, states: Tensor, valid: Tensor) -> Tensor:
        return at_place(states, valid.sum(1) - 1) if self.causal else masked_mean(states, valid)

    def window(self, batch: Batch, length: int) -> tuple[Tensor, Tensor]:
        """The latest `length` events of each row, and their validity mask, [B L] each."""
        tokens = batch.get("tokens")
        if tokens is None or tokens.ndim != 2:
            got = "tokens " + str(list(tokens.shape)) if tokens is not None else ", ".join(batch)
            raise UserError(
                f"the encoder {self.name} takes tokens [B N], not {got}; encoder.prepare(histories) makes such batches"
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
        """The state [B D] that predicts the next item: of the last event, or of a mask token appended to it."""
        if self.causal:
            return self.forward(batch).pooled
        tokens, valid = self.window(batch, self.spec.length - 1)
        last = valid.sum(1, keepdim=True)  # [B 1]
        tokens = nn.functional.pad(tokens, (0, 1), value=self.spec.pad).scatter(1, last, self.spec.mask)
        return at_place(self.states(tokens, nn.functional.pad(valid, (0, 1)).scatter(1, last, True))[-1], last[:, 0])

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [M V] of the items at positions with the states `hidden` [M D]."""
        hidden, table = self.comparable(hidden, self.table)
        return hidden @ table.T

    def comparable(self, hidden: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Scale states [M D] and embeddings of items [n D] so that their dot products are the scores."""
        if not self.temperature:
            return hidden, embeddings
        normalize = nn.functional.normalize
        return normalize(hidden, dim=-1) / self.temperature, normalize(embeddings, dim=-1)

    def scores(self, batch: Batch) -> Tensor:
        """Scores of all items of the catalogue as the next one, [B n]."""
        return self.logits(self.next_state(batch))[:, self.spec.first :].float()

    @property
    def table(self) -> Tensor:
        """The embedding table [V D], a weight of the model."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    # ---------------------------------------------------------------- people's ids

    def prepare(self, histories: Sequence[Any]) -> Batch:
        """Make a batch on the encoder's device from histories, each a list of item ids from the first to the latest.

        A flat list of ids is one history. Returns `tokens` and `valid` [B N], `index` [B] and `unknown` [B], the number
        of events of items outside of the catalogue, which are left out.
        """
        given = several(histories, str, "lists of item ids")
        lists = all(isinstance(history, list | tuple | np.ndarray) for history in given)
        rows = [self.spec.known.numbers(list(history)) for history in (given if lists else [given])]
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
        """Embed one history of item ids, of any user; items outside of the catalogue are left out."""
        batch = self.prepare([list(history)])
        with evaluating(self):
            return Encoded(self(batch).pooled[0], int(batch["unknown"][0]))

    @torch.inference_mode()
    def recommend(
        self, history: Iterable[Any], k: int = 10, *, allowed: Iterable[Any] | None = None, seen: bool = False
    ) -> Recommended:
        """Recommend the k items most likely to follow a history of item ids, of any user.

        Considers only items in `allowed`, if given, and items of the history only if `seen`. UserError where no item is
        left.
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
        """A table of the ids and embeddings of all items."""
        import pyarrow as pa

        vectors = self.table[self.spec.first :].detach().float().cpu().numpy()
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        return pa.table({"item": self.spec.known.ids, "embedding": embedding})

    def grow(self, catalogue: Catalogue) -> None:
        """Add the new items of a grown catalogue; each starts as the mean of the old embeddings."""
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
        """The class that opens the files of `hugging_face()`, and the prefix of its weights in the encoder's state."""
        return type(self.model), "model."

    def write_companions(self, folder: Path) -> None:
        """Write the catalogue; the number of an item is its row plus `spec.first`."""
        self.spec.known.save(folder / FILE_NAME)

    def spec_in(self, folder: Path) -> dict[str, Any]:
        """The spec as JSON, for `encoder.json` in this folder, which holds the catalogue."""
        values = {**asdict(replace(self.spec, catalogue=None)), "first": self.spec.first, "mask": self.spec.mask}
        return {**values, "catalogue": {"file": FILE_NAME, "sha256": sha256(folder / FILE_NAME)}}

    def shape(self) -> dict[str, Any]:
        """Facts of this modality for `encoder.json`."""
        return {"causal": self.causal}

    @property
    def pooling(self) -> str:  # type: ignore[override]  # a constant in other classes
        if self.causal:
            what = f"cosine, over {self.temperature:g}," if self.temperature else "product"
            return f"last_hidden_state of the last event; its {what} with the input embeddings scores what comes next"
        return "the mean of last_hidden_state over the events; a mask after the last one predicts what comes next"


def read_spec(values: Mapping[str, Any], folder: Path) -> ItemSpec:
    """Read the values of `spec_in`. UserError where the catalogue is missing or differs."""
    path = folder / Path(values["catalogue"]["file"]).name
    if not path.is_file():
        raise UserError(f"{path} is missing; export the encoder again")
    if sha256(path) != values["catalogue"]["sha256"]:
        raise UserError(f"{path} is damaged: its SHA-256 is not the one in encoder.json; export the encoder again")
    return ItemSpec.of({**values, "catalogue": Catalogue.load(path)})


def usual_dropout(spec: ItemSpec) -> float:
    """The default dropout, higher where items are rare: chosen by measurement, see docs/experiments.md."""
    return 0.5 if 0 < spec.uses < RARE else 0.3


class evaluating:  # noqa: N801  (used like a keyword)
    """Put the module into eval mode, and restore its mode afterwards."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.training = module, module.training

    def __enter__(self) -> None:
        self.module.eval()

    def __exit__(self, *_: object) -> None:
        self.module.train(self.training)


def at_place(states: Tensor, place: Tensor) -> Tensor:
    """Take the state [B D] at one position of each row [B] from states [B N D]; -1 means the first."""
    index = place.clamp(min=0)[:, None, None].expand(-1, 1, states.shape[2])
    return states.gather(1, index)[:, 0]
