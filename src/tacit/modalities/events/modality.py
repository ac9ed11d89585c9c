"""The modality of events: histories of items, as the rest of Tacit uses them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.budget import quickest
from tacit.core.errors import UserError
from tacit.core.text import snippet, word_counts
from tacit.data.split import Split
from tacit.evaluation import Arm, Labelled, Seal
from tacit.evaluation.arms import target_of
from tacit.evaluation.probes.linear import fit_counts
from tacit.modalities.base import Modality
from tacit.modalities.events import export, recipes
from tacit.modalities.events.associations import associations
from tacit.modalities.events.counts import counted
from tacit.modalities.events.encoder import ItemEncoder, read_spec
from tacit.modalities.events.figures import item_map, recommended
from tacit.modalities.events.holdout import Held, about_held, hold_out
from tacit.modalities.events.spec import ItemSpec
from tacit.modalities.events.store import Histories
from tacit.modalities.events.views import ItemViews
from tacit.modalities.graph import GraphIO
from tacit.modalities.recipe import Recipe
from tacit.report import Points, Recommended
from tacit.training.batches import Batches
from tacit.training.optim import Optim

SHOWN = 8  # latest items shown of a history
LETTERS = 40  # of an item's name
TERMS_FROM = 50_000  # histories at most for term counts
COUNTED = 200  # histories by which the time of counting all is estimated
BEGUN = 0.1  # root mean square of the initial embeddings
LARGE = 1_000  # items of a catalogue from which on comparison is faster in bf16
LEAST = 2  # events of a history to learn from, at least


def _as_texts(store: Histories, split: Split) -> Callable[[NDArray[np.int64]], list[str]]:
    """Labelled histories as texts in which each item is a word."""
    return lambda positions: [
        " ".join(f"item{n}" for n in items.tolist()) for items in store.seen(split.rows[positions])
    ]


def _titles(spec: ItemSpec, items: Sequence[int]) -> str:
    """The names of items in order of time; a masked one as [?]."""
    return " → ".join(snippet(spec.known.title(item), LETTERS) if item >= 0 else "[?]" for item in items)


def _order(store: Histories) -> str:
    return "in time" if store.timed else "order only"


class Events(Modality[ItemSpec, Histories]):
    name = "items"
    nouns = "events"
    spec = ItemSpec
    owned = True
    default_tasks = "next"

    ingredients = recipes.EventIngredients

    def default_encoder(self, spec: ItemSpec, tasks: Collection[str]) -> str:
        return recipes.default_encoder(spec, tasks)

    def views(self, spec: ItemSpec) -> ItemViews:
        return recipes.compared_views(spec)

    def scratch_views(self, spec: ItemSpec) -> ItemViews:
        return recipes.whole_views(spec)

    def measured(self, task: str, encoder: Any) -> dict[str, Any]:
        return recipes.measured(task, encoder)

    def optim(self, encoder: Any) -> Optim:
        return recipes.default_optim(encoder)

    def batches(self, store: Histories, rows: NDArray[np.int64], plan: Recipe, seed: int) -> Batches:
        """Batches without held-out events, and without histories that then have a single event."""
        learned = store.learned()
        among = rows[learned.lengths[rows] >= LEAST]
        if not len(among):
            raise UserError(
                f"no history has {LEAST} events beside those that are held out; hold out none with "
                "--holdout none, or give longer ones"
            )
        return Batches(learned.batch, among, batch_size=plan.batch_size, seed=seed)

    def hold_out(
        self, store: Histories, names: Sequence[str], *, target: str, seed: int, transductive: bool, sealed: Seal | None
    ) -> Split:
        return hold_out(store, names, target=target, seed=seed, transductive=transductive, sealed=sealed)

    def without_held(self, store: Histories, held: object) -> Histories:
        assert isinstance(held, Held)
        return store.until(held.learn.stop)

    def about_held(self, split: Split) -> list[str]:
        return about_held(split)

    def baselines(self, store: Histories, split: Split, seed: int) -> list[Arm]:
        labelled, held = split.labelled, split.held
        assert labelled is not None
        if held is not None:
            assert isinstance(held, Held)
            contexts = held.contexts.take(held.train)
            rankers = counted(held.learn, contexts, held.came[held.train], store.times if store.timed else None)
            return [
                Arm(name, "baseline", encoders=(of,), encoder=of.description, own=True) for name, of in rankers.items()
            ]
        if not target_of(labelled).by_class:
            return []
        counts = word_counts(_as_texts(store, split), labelled.train[:TERMS_FROM], fit_counts, characters=False)
        return [Arm("tfidf-items", "baseline", rule=counts, encoder="TF-IDF of items and pairs", own=True)]

    def baselines_seconds(self, store: Histories, split: Split) -> tuple[float, Callable[[int], float]]:
        labelled = split.labelled
        if labelled is None or not target_of(labelled).by_class:
            return 0.0, lambda labels: 0.0
        some = np.random.default_rng(0).permutation(labelled.train)[:COUNTED]
        rule = word_counts(_as_texts(store, split), some, fit_counts, characters=False)
        each = quickest(lambda: rule(some, labelled.y[some], some)) / len(some)
        return each * len(labelled.y), lambda labels: each * labels

    def compatible(self, spec: ItemSpec, other: ItemSpec) -> bool:
        return spec.known == other.known

    def options_of(self, spec: ItemSpec) -> dict[str, Any]:
        return {"catalogue": spec}

    def fixed(self, spec: ItemSpec) -> dict[str, Any]:
        return {"catalogue": None, "length": spec.length}

    def adapt(self, encoder: Any, spec: Any) -> Any:
        if isinstance(spec, ItemSpec):
            encoder.grow(spec.known)
        return encoder

    def warm_start(self, encoder: Any, store: Histories, rows: NDArray[np.int64]) -> Any:
        """Initialise items that co-occur in the training events alike, see `associations`."""
        learned = store.learned().take(rows)
        with torch.no_grad():
            items = encoder.table[encoder.spec.first :]
            items += torch.from_numpy(associations(learned, items.shape[1])).to(items) * BEGUN
        return encoder

    def bf16_pays(self, encoder: Any) -> bool:
        return bool(encoder.spec.items >= LARGE)

    def read_spec(self, values: Mapping[str, Any], folder: Path) -> ItemSpec:
        return read_spec(values, folder)

    def holds(self, spec: ItemSpec) -> str:
        if spec.catalogue is None:
            return ""
        return (
            f"items.parquet holds the ids of all {spec.items:,} items, and their names and attributes where these are "
            "known; tacit export --without-ids leaves them out"
        )

    def graph(self, encoder: Any) -> GraphIO:
        return export.Sequences(encoder)

    def describe(self, store: Histories) -> str:
        spec = store.spec
        sampled = (
            f", each compared with {recipes.NEGATIVES:,} sampled ones" if spec.items >= recipes.SAMPLED_FROM else ""
        )
        return (
            f"{len(store):,} histories of {store.lengths.mean():,.1f} events on average, {spec.items:,} items"
            f"{sampled}; {_order(store)}; {store.nbytes / 2**20:,.1f} MiB sorted"
        )

    def about(self, store: Histories) -> list[str]:
        spec = store.spec
        low, middle, high = np.quantile(store.ends - store.start, [0.05, 0.5, 0.95])
        held = {"last": "the last event of each and the one before", "time": "the latest fifth", "none": "nothing"}
        return [
            f"length: median {middle:,.0f} events, nine in ten from {low:,.0f} to {high:,.0f}; an encoder sees the "
            f"latest {spec.length}",
            f"events: {len(store.items):,} in all; {spec.known.n_attributes:,} attributes of items; held out: "
            f"{held[store.held]}",
        ]

    def facts(self, store: Histories) -> dict[str, Any]:
        spec = store.spec
        return {
            "items": spec.items,
            "events": len(store.items),
            "length": spec.length,
            "order": _order(store),
            "held_out": store.held,
            "sampled_softmax": recipes.NEGATIVES if spec.items >= recipes.SAMPLED_FROM else 0,
        }

    def pictures(self, store: Histories, rows: NDArray[np.int64]) -> Sequence[Any]:
        spec = store.spec
        return [_titles(spec, items[-SHOWN:].tolist()) for items in store.seen(np.asarray(rows, np.int64))]

    def map_of(self, encoder: Any, labelled: Labelled, name: str) -> Points | None:
        return item_map(encoder, labelled, name) if isinstance(encoder, ItemEncoder) else None

    def recommended(self, encoder: Any, labelled: Labelled, seed: int) -> list[Recommended]:
        return recommended(encoder, labelled, encoder.spec.known.title, seed=seed)

    def shown(self, store: Histories, preview: Tensor) -> Sequence[Any]:
        spec = store.spec
        rows = [[number - spec.first for number in row if number != spec.pad] for row in preview.cpu().tolist()]
        return [_titles(spec, row[-SHOWN:]) for row in rows]


MODALITY = Events()
