"""Histories of items: random views, masks, and losses over a catalogue.

Shapes: B histories, N events, L events of a view, M positions, V numbers (padding, mask and n items), D features, A
attributes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tacit.core import keys
from tacit.core.errors import UserError
from tacit.core.masks import unit_mask
from tacit.core.types import Batch
from tacit.modalities.events.spec import ItemSpec

OF_EVENTS = ("tokens", "weight")  # fields of a batch with a value per event, [B N]


@dataclass(frozen=True)
class ItemViews:
    """Views of histories: windows of at most `length` consecutive events, augmented in one of the `ways` at random.

    The window is the latest one in the share `latest` of rows, else a random one. The ways, each with its share of
    events: crop, mask and reorder (a run of events is shuffled) of CL4SRec (Xie et al. 2020, arXiv:2010.14395), and
    substitute (random items replace some).
    """

    spec: ItemSpec
    length: int
    latest: float = 0.5
    ways: tuple[str, ...] = ()
    crop: float = 0.6
    mask: float = 0.3
    reorder: float = 0.6
    substitute: float = 0.2

    @torch.no_grad()
    def __call__(self, batch: Batch, view: int) -> Batch:
        """View number `view` of every history: per-event fields become [B L], and `key` the view's own."""
        key = keys.split(batch["key"], view)
        chosen = self._chosen(key)
        n = batch["valid"].sum(1)  # [B]
        taken = n.clamp(max=self.length)
        share, place, inner = keys.uniform(key, "window", 3).unbind(1)
        first = torch.where(share < self.latest, n - taken, (place * (n - taken + 1)).long())
        shorter = torch.where(
            chosen("crop")[:, 0], (taken * self.crop).round().long().clamp(min=1).minimum(taken), taken
        )
        first = first + (inner * (taken - shorter + 1)).long()
        at = torch.arange(max(1, int(shorter.max())) if len(n) else 1, device=n.device)
        valid = at < shorter[:, None]  # [B L]
        source = (first[:, None] + at).clamp(max=batch["valid"].shape[1] - 1)
        source = torch.where(chosen("reorder"), source.gather(1, self._reordered(key, shorter, at)), source)
        out = {name: batch[name].gather(1, source) * valid for name in OF_EVENTS if name in batch}
        out["tokens"] = self._changed(key, chosen, out["tokens"], valid)
        return {**batch, **out, "valid": valid, "key": key}

    def _chosen(self, key: Tensor) -> Callable[[str], Tensor]:
        """A function from a way to the mask of rows that it changes, [B 1]."""
        drawn = (keys.uniform(key, "way", 1) * len(self.ways)).long()  # [B 1]
        return lambda way: drawn == (self.ways.index(way) if way in self.ways else -1)

    def _reordered(self, key: Tensor, n: Tensor, at: Tensor) -> Tensor:
        """Positions [B L] with one run of them shuffled."""
        run = (n * self.reorder).round()
        begin = (keys.uniform(key, "reorder/begin", 1)[:, 0] * (n - run + 1)).floor()
        inside = (at >= begin[:, None]) & (at < (begin + run)[:, None])
        chance = begin[:, None] + keys.uniform(key, "reorder", len(at)) * run[:, None]
        return torch.where(inside, chance, at.float()).argsort(dim=1, stable=True)

    def _changed(self, key: Tensor, chosen: Callable[[str], Tensor], tokens: Tensor, valid: Tensor) -> Tensor:
        """Mask or substitute some events."""
        every = torch.ones_like(valid)
        hidden = unit_mask(keys.split(key, "hide"), valid, every, self.mask) & chosen("mask")
        swapped = unit_mask(keys.split(key, "swap"), valid, every, self.substitute) & chosen("substitute")
        others = (keys.uniform(key, "substitute", tokens.shape[1]) * self.spec.items).long() + self.spec.first
        return torch.where(swapped, others, tokens.masked_fill(hidden, self.spec.mask))


@dataclass(frozen=True)
class ItemMask:
    """Mask the share `ratio` of each row's events, one at least; in the share `last` of rows only the last event.

    Masking the last event only is what recommendation amounts to (Sun et al. 2019, arXiv:1904.06690).
    """

    ratio: float
    last: float = 0.0

    def __call__(self, batch: Batch, progress: Tensor) -> Tensor:
        key, valid = keys.split(batch["key"], "mask"), batch["valid"]
        hidden = unit_mask(key, valid, torch.ones_like(valid), self.ratio)
        place = torch.arange(valid.shape[1], device=valid.device)
        latest = place == valid.sum(1, keepdim=True) - 1  # [B N]
        return torch.where(keys.uniform(key, "last", 1) < self.last, latest, hidden)


# ---------------------------------------------------------------- losses over a large catalogue

Comparable = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Scales states [M D] and embeddings [n D] so that their dot products are the scores."""


def as_they_are(states: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    return states, embeddings


@dataclass(frozen=True)
class SampledSoftmax:
    """Cross-entropy over all items, estimated from the true one and `negatives` others, shared by all M positions.

    With n items of which S are drawn uniformly, the sum of exp(score) over all others is estimated as n - 1 times the
    mean over the draws: their scores are corrected by log((n - 1) / S), as in importance sampling (Bengio & Senecal
    2008). A draw of the true item is ignored. Draws come from torch's own generator.
    """

    table: Callable[[], Tensor]  # embeddings [V D]
    spec: ItemSpec
    negatives: int
    comparable: Comparable = as_they_are

    def __call__(self, states: Tensor, truth: Tensor) -> Tensor:
        right, others = _compared(self, states, truth)
        # S counts the draws other than the true item
        weight = math.log(self.spec.items - 1) - (others > -math.inf).sum(1, keepdim=True).clamp(min=1).log()
        everything = torch.cat([right[:, None], others + weight], dim=1)  # [M 1+S]
        return everything.logsumexp(1) - right


@dataclass(frozen=True)
class GBCE:
    """Binary cross-entropy of the true item against `negatives` others, calibrated against overconfidence.

    Petrov & Macdonald 2023, "gSASRec", arXiv:2308.07192: with the share a = S / (n - 1) of the others drawn, the
    probability of the true item is raised to b = a (t (1 - 1/a) + 1/a), which for a `calibration` t of 1 undoes the
    effect of sampling. Departure: the same negatives for all positions.
    """

    table: Callable[[], Tensor]
    spec: ItemSpec
    negatives: int
    calibration: float = 0.75
    comparable: Comparable = as_they_are

    def __call__(self, states: Tensor, truth: Tensor) -> Tensor:
        right, others = _compared(self, states, truth)
        share = self.negatives / max(1, self.spec.items - 1)
        power = share * (self.calibration * (1 - 1 / share) + 1 / share)
        return -(power * nn.functional.logsigmoid(right) + nn.functional.logsigmoid(-others).sum(1))


def _compared(loss: SampledSoftmax | GBCE, states: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the true items [M] and of the draws [M S], minus infinity where a draw is the true item."""
    spec, table = loss.spec, loss.table()
    drawn = torch.randint(spec.first, spec.vocabulary, (loss.negatives,), device=states.device)
    hidden, embeddings = loss.comparable(states, table[torch.cat([truth, drawn])])
    right = (hidden * embeddings[: len(truth)]).sum(1).float()
    others = (hidden @ embeddings[len(truth) :].T).float()
    return right, others.masked_fill(drawn == truth[:, None], -math.inf)


class AttributeLoss(nn.Module):
    """Predict the attributes of the item at each position: the mean of A binary cross-entropies.

    Zhou et al. 2020, "S3-Rec", arXiv:2008.07873, its associated attribute prediction. Departures: predicted
    from the states that predict items, not from item embeddings, and items without attributes have no loss.
    """

    flat: Tensor
    bounds: Tensor

    def __init__(self, spec: ItemSpec, dim: int) -> None:
        super().__init__()
        lists = spec.known.attributes
        if lists is None:
            raise UserError(
                "the task 'attributes' needs attributes of the items: name a table of them with --item-table"
            )
        bounds = torch.from_numpy(lists.offsets.to_numpy().astype("int64"))
        self.register_buffer("flat", torch.from_numpy(lists.values.to_numpy().astype("int64")), persistent=False)
        self.register_buffer("bounds", bounds - bounds[0], persistent=False)
        self.first, self.n = spec.first, spec.known.n_attributes
        self.head = nn.Linear(dim, self.n)

    def forward(self, states: Tensor, truth: Tensor) -> Tensor:
        wanted = self.of(truth)  # [M A]
        counts = wanted.any(1)
        losses = nn.functional.binary_cross_entropy_with_logits(self.head(states).float(), wanted, reduction="none")
        return losses.mean(1) * counts

    def of(self, tokens: Tensor) -> Tensor:
        """The attributes of these items, [M A] 0 or 1 as float."""
        items = tokens - self.first
        begin, end = self.bounds[items], self.bounds[items + 1]
        row = torch.arange(len(items), device=items.device).repeat_interleave(end - begin)
        inner = torch.arange(len(row), device=items.device) - (end - begin).cumsum(0)[row] + (end - begin)[row]
        found = torch.zeros(len(items), self.n, device=items.device)
        found[row, self.flat[begin[row] + inner]] = 1.0
        return found
