"""Histories of items, as a run asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.budget import quickest
from tacit.core.errors import UserError
from tacit.core.masks import Hiding
from tacit.dataset import Dataset
from tacit.evaluation import Arm
from tacit.evaluation.probes.linear import fit_counts
from tacit.modalities.events.associations import associations
from tacit.modalities.events.counts import counted
from tacit.modalities.events.recipes import NEGATIVES, SAMPLED_FROM, default_encoder, default_views
from tacit.modalities.events.recipes import recipe as recipe_of
from tacit.modalities.events.store import Histories
from tacit.modalities.events.views import ItemViews
from tacit.modalities.recipe import Recipe
from tacit.modalities.spec import ItemSpec
from tacit.modalities.text.views import snippet, word_counts
from tacit.run.split import Split
from tacit.training.batches import Batches

__all__ = ["default_encoder", "default_views"]

tasks = "next"
contrast = "simclr"

SHOWN = 8  # the latest items, which stand for a history
LETTERS = 40  # of an item's name
TERMS_FROM = 50_000  # histories at most that items are counted in
COUNTED = 200  # histories whose items are counted to tell how long all of them take
BEGUN = 0.1  # root mean square of the embeddings that training begins with
LARGE = 1_000  # items of a catalogue that is faster compared with in bf16
LEAST = 2  # events that something can be learned from


def scratch_views(spec: ItemSpec) -> ItemViews:
    return default_views(spec, "scratch")


def recipe(weights: Mapping[str, float], encoder: Any, *, hiding: Hiding | None = None, **settings: Any) -> Recipe:
    if hiding is not None:
        raise UserError("--mask: of items masked prediction hides a share of its own; leave it out")
    return recipe_of(weights, encoder, **settings)


def batches(dataset: Dataset, rows: NDArray[np.int64], plan: Recipe, seed: int) -> Batches:
    """Without what is held out, and without histories of which a single event is then left."""
    learned = _parts(dataset)[1].learned()
    among = rows[learned.lengths[rows] >= LEAST]
    if not len(among):
        raise UserError(
            f"no history of {dataset.name} has {LEAST} events beside those that are held out; hold out none with "
            "--holdout none, or give longer ones"
        )
    return Batches(learned.batch, among, batch_size=plan.batch_size, seed=seed)


def statistics(dataset: Dataset, split: Split, seed: int) -> list[Arm]:
    labelled, held = split.labelled, split.held
    assert labelled is not None
    if held is not None:
        histories, asked = _parts(dataset)[1], held.asked.take(held.train)
        rankers = counted(held.learn, asked, held.came[held.train], histories.times if histories.timed else None)
        return [Arm(name, "baseline", encoders=(of,), encoder=of.said) for name, of in rankers.items()]
    if labelled.target != "classification":
        return []
    counts = word_counts(_as_texts(dataset, split), labelled.train[:TERMS_FROM], fit_counts, characters=False)
    return [Arm("tfidf-items", "baseline", rule=counts, encoder="TF-IDF of items and pairs")]


def statistics_seconds(dataset: Dataset, split: Split) -> tuple[float, Callable[[int], float]]:
    labelled = split.labelled
    if labelled is None or labelled.target != "classification":
        return 0.0, lambda labels: 0.0
    some = np.random.default_rng(0).permutation(labelled.train)[:COUNTED]
    rule = word_counts(_as_texts(dataset, split), some, fit_counts, characters=False)
    each = quickest(lambda: rule(some, labelled.y[some], some)) / len(some)
    return each * len(labelled.y), lambda labels: each * labels


def _as_texts(dataset: Dataset, split: Split) -> Callable[[NDArray[np.int64]], list[str]]:
    """Labelled histories as texts of which each item is a word."""
    histories = _parts(dataset)[1]
    return lambda positions: [
        " ".join(f"item{n}" for n in items.tolist()) for items in histories.seen(split.rows[positions])
    ]


def same_form(spec: ItemSpec, other: ItemSpec) -> bool:
    return spec.known == other.known


def mismatch(own: ItemSpec, opened: Dataset) -> str:
    return ""


def reading(spec: ItemSpec) -> dict[str, Any]:
    return {"catalogue": spec}


def fixed(spec: ItemSpec) -> dict[str, Any]:
    return {"catalogue": None, "length": spec.length}


def heard(encoder: Any, asked: Mapping[str, Any]) -> None:
    pass


def fitted(encoder: Any, spec: Any) -> Any:
    if isinstance(spec, ItemSpec):
        encoder.grow(spec.known)
    return encoder


def begun(encoder: Any, dataset: Dataset, rows: NDArray[np.int64]) -> Any:
    """Items that stood near each other in what is learned from begin alike."""
    learned = _parts(dataset)[1].learned().take(rows)
    with torch.no_grad():
        items = encoder.table[encoder.spec.first :]
        items += torch.from_numpy(associations(learned, items.shape[1])).to(items) * BEGUN
    return encoder


def bf16_pays(encoder: Any) -> bool:
    return bool(encoder.spec.items >= LARGE)


def describe(dataset: Dataset) -> str:
    spec, histories = _parts(dataset)
    sampled = f", each compared with {NEGATIVES:,} sampled ones" if spec.items >= SAMPLED_FROM else ""
    return (
        f"{len(dataset):,} histories of {histories.lengths.mean():,.1f} events on average, {spec.items:,} items"
        f"{sampled}; {_order(histories)}; {histories.nbytes / 2**20:,.1f} MiB sorted"
    )


def about(dataset: Dataset) -> list[str]:
    spec, histories = _parts(dataset)
    low, middle, high = np.quantile(histories.ends - histories.start, [0.05, 0.5, 0.95])
    held = {"last": "the last event of each and the one before", "time": "the latest fifth", "none": "nothing"}
    return [
        f"length: median {middle:,.0f} events, nine in ten from {low:,.0f} to {high:,.0f}; an encoder sees the latest "
        f"{spec.length}",
        f"events: {len(histories.items):,} in all; {spec.known.n_attributes:,} attributes of items; held out: "
        f"{held[histories.held]}",
    ]


def facts(dataset: Dataset) -> dict[str, Any]:
    spec, histories = _parts(dataset)
    return {
        "items": spec.items,
        "events": len(histories.items),
        "length": spec.length,
        "order": _order(histories),
        "held_out": histories.held,
        "sampled_softmax": NEGATIVES if spec.items >= SAMPLED_FROM else 0,
    }


def pictures(dataset: Dataset, rows: NDArray[np.int64]) -> Sequence[Any]:
    spec, histories = _parts(dataset)
    return [_told(spec, items[-SHOWN:].tolist()) for items in histories.seen(np.asarray(rows, np.int64))]


def sounds(dataset: Dataset, rows: NDArray[np.int64]) -> Sequence[bytes | None]:
    return [None] * len(rows)


def shown(dataset: Dataset, preview: Tensor) -> Sequence[Any]:
    spec, _ = _parts(dataset)
    rows = [[number - spec.first for number in row if number != spec.pad] for row in preview.cpu().tolist()]
    return [_told(spec, row[-SHOWN:]) for row in rows]


def _told(spec: ItemSpec, items: Sequence[int]) -> str:
    """Items by their names, in the order of time; a hidden one as [?]."""
    return " → ".join(snippet(spec.known.title(item), LETTERS) if item >= 0 else "[?]" for item in items)


def _order(histories: Histories) -> str:
    return "in time" if histories.timed else "order only"


def _parts(dataset: Dataset) -> tuple[ItemSpec, Histories]:
    assert isinstance(dataset.spec, ItemSpec)
    assert isinstance(dataset.cache, Histories)
    return dataset.spec, dataset.cache
