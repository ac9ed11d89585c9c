"""The modality of time series, as the rest of Tacit uses it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.encoder import OwnEncoder
from tacit.core.errors import UserError
from tacit.core.spec import Spec
from tacit.data.split import Split
from tacit.evaluation import Arm
from tacit.evaluation.arms import target_of
from tacit.modalities.base import Modality
from tacit.modalities.graph import GraphIO
from tacit.modalities.recipe import Recipe
from tacit.modalities.series import export, recipes
from tacit.modalities.series.baselines import (
    Kernels,
    PlainValues,
    Statistics,
    features_of,
    nearest_on,
    own_form,
    ridge_on,
)
from tacit.modalities.series.spec import SeriesSpec
from tacit.modalities.series.store import Pieces, SeriesStore
from tacit.modalities.series.views import SeriesViews
from tacit.report import Curve
from tacit.training.batches import Batches, Span
from tacit.training.optim import Optim

if TYPE_CHECKING:
    from tacit.modalities.hf_folder import Public

SHOWN = 4096  # steps of a series that a report draws
PIECES = 2  # windows in a piece, the part of a series that a training step reads


class Series(Modality[SeriesSpec, SeriesStore]):
    name = "series"
    nouns = "time series"
    spec = SeriesSpec
    default_tasks = "simclr,masked"

    ingredients = recipes.SeriesIngredients

    def default_encoder(self, spec: SeriesSpec, tasks: Collection[str]) -> str:
        return recipes.default_encoder(spec, tasks)

    def views(self, spec: SeriesSpec) -> SeriesViews:
        return recipes.compared_views(spec)

    def scratch_views(self, spec: SeriesSpec) -> SeriesViews:
        return recipes.scratch_views(spec)

    def measured(self, task: str, encoder: Any) -> dict[str, Any]:
        return recipes.measured(task, encoder)

    def optim(self, encoder: Any) -> Optim:
        return recipes.default_optim(encoder)

    def batches(self, store: SeriesStore, rows: NDArray[np.int64], plan: Recipe, seed: int) -> Batches:
        pieces = Pieces(store, rows, PIECES * store.spec.length)
        return Batches(pieces.batch, Span(len(pieces)), batch_size=plan.batch_size, seed=seed)

    def baselines(self, store: SeriesStore, split: Split, seed: int) -> list[Arm]:
        spec, labelled = store.spec, split.labelled
        assert labelled is not None
        values, statistics = PlainValues(spec), Statistics(spec)
        arms = [
            Arm("values", "baseline", encoders=(values,), encoder="the values themselves", own=True),
            Arm(
                "statistics",
                "baseline",
                encoders=(statistics,),
                encoder="moments, autocorrelation and spectrum",
                own=True,
            ),
        ]
        if target_of(labelled).by_class:
            n = len(labelled.y)
            kernels = features_of(Kernels(spec, labelled.fetch, labelled.train, seed=seed), labelled.fetch, n)
            nearest = features_of(own_form(spec), labelled.fetch, n)
            arms += [
                Arm("kernels", "baseline", rule=ridge_on(kernels), encoder="random convolutions, ridge", own=True),
                Arm("nearest", "baseline", rule=nearest_on(nearest), encoder="nearest series", own=True),
            ]
        return arms

    def compatible(self, spec: SeriesSpec, other: SeriesSpec) -> bool:
        return spec.channels == other.channels

    def explain(self, own: SeriesSpec, other: SeriesSpec, name: str) -> str:
        if own.channels == other.channels:
            return ""
        return f"series of {own.channels} channels, and those of {name} have {other.channels}"

    def options_of(self, spec: SeriesSpec) -> dict[str, Any]:
        columns = {"series_column": list(spec.names)} if spec.names else {}
        return {"length": spec.length, "relative_to": spec.relative_to, "series_step": spec.step, **columns}

    def holds(self, spec: SeriesSpec) -> str:
        return "encoder.json holds the names of the columns that are channels" if spec.names else ""

    def adapt(self, encoder: Any, spec: Any) -> Any:
        return encoder

    def graph(self, encoder: Any) -> GraphIO:
        return export.Series(encoder)

    public_inputs = ("past_values",)

    def open_public(self, public: Public, spec: Spec | None) -> tuple[OwnEncoder, tuple[str, ...]]:
        raise UserError(
            f"{public.name} reads time series, of which only folders that Tacit has written are opened; judge it as a "
            "function of your own: package.module:function"
        )

    def describe(self, store: SeriesStore) -> str:
        spec = store.spec
        channels = f" in {spec.channels} channels" if spec.channels > 1 else ""
        return (
            f"{len(store):,} series of {store.lengths.mean():,.4g} steps on average{channels}, "
            f"{store.nbytes / 2**20:,.1f} MiB"
        )

    def about(self, store: SeriesStore) -> list[str]:
        spec = store.spec
        low, middle, high = np.quantile(store.lengths, [0.05, 0.5, 0.95])
        whose = "the data's mean and deviation" if spec.relative_to == "data" else "each series' own mean and deviation"
        return [
            f"length: median {middle:,.0f} steps, nine in ten from {low:,.0f} to {high:,.0f}; an encoder sees "
            f"{spec.length:,} at once, longer series in several windows",
            f"values: relative to {whose}; --relative-to chooses",
        ]

    def facts(self, store: SeriesStore) -> dict[str, Any]:
        spec = store.spec
        return {"channels": spec.channels, "steps": int(store.lengths.sum()), "window": spec.length}

    def pictures(self, store: SeriesStore, rows: NDArray[np.int64]) -> Sequence[Any]:
        return [Curve(np.array(of[:SHOWN]).T) for of in store.series(rows)]

    def shown(self, store: SeriesStore, preview: Tensor) -> Sequence[Any]:
        """Curves of a task; values that are masked or after the end stay empty."""
        curves = preview.float().cpu().numpy()
        return [Curve(np.where(of == 0, np.nan, of).T) for of in curves]


MODALITY = Series()
