"""The modality of images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.core.encoder import OwnEncoder
from tacit.core.spec import Spec
from tacit.data.copies import Copies
from tacit.data.split import Split
from tacit.evaluation import Arm
from tacit.evaluation.features import extract
from tacit.modalities.base import Modality
from tacit.modalities.graph import GraphIO
from tacit.modalities.image import decode, export, recipes
from tacit.modalities.image.baselines import PixelStatistics, default_views
from tacit.modalities.image.copies import find_copies
from tacit.modalities.image.encoder import ImageEncoder, MapEncoder
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.image.store import Cache
from tacit.modalities.image.views import Views
from tacit.modalities.recipe import Recipe
from tacit.training.batches import Batches
from tacit.training.optim import Optim

if TYPE_CHECKING:
    from tacit.modalities.hf_folder import Public


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


class Images(Modality[ImageSpec, Cache]):
    name = "image"
    nouns = "images"
    spec = ImageSpec
    default_tasks = "simclr,rotation,masked"

    ingredients = recipes.ImageIngredients

    def default_encoder(self, spec: ImageSpec, tasks: Collection[str]) -> str:
        return recipes.default_encoder(spec, tasks)

    def views(self, spec: ImageSpec) -> Views:
        return default_views(spec, "simclr")

    def scratch_views(self, spec: ImageSpec) -> Views:
        return default_views(spec, "simclr")  # stronger than its own mild ones, so the harder baseline

    def measured(self, task: str, encoder: Any) -> dict[str, Any]:
        return recipes.measured(task, encoder)

    def optim(self, encoder: Any) -> Optim:
        return recipes.default_optim(encoder)

    def batch_size(self, encoder: Any, tasks: Collection[str], accelerated: bool) -> int:
        return recipes.batch_size(encoder, accelerated)

    def batches(self, store: Cache, rows: NDArray[np.int64], plan: Recipe, seed: int) -> Batches:
        return Batches(store.batch, rows, batch_size=plan.batch_size, seed=seed)

    def baselines(self, store: Cache, split: Split, seed: int) -> list[Arm]:
        plain = PixelStatistics.fit(store.batch, split.pretrain, store.spec, seed=seed)
        return [Arm("pixels", "baseline", encoders=(plain,), encoder="pixels and their principal components", own=True)]

    def plain(self, store: Cache, rows: NDArray[np.int64], seed: int) -> Callable[[NDArray[np.int64]], Any]:
        """The leading principal components of the pixels."""
        found = PixelStatistics.fit(store.batch, rows, store.spec, seed=seed)
        return lambda some: extract(found, store.batch, some)["depth0"]

    def compatible(self, spec: ImageSpec, other: ImageSpec) -> bool:
        if (spec.size, spec.framing) != (other.size, other.framing):
            return False
        if other.scale is None or spec.scale is None:  # of a public encoder, or an older one, which states none
            return True
        by_type = {spec.scale.numbers, other.scale.numbers} <= decode.BY_TYPE.keys()
        return spec.channels == other.channels and (by_type or spec.scale == other.scale)

    def explain(self, own: ImageSpec, other: ImageSpec, name: str) -> str:
        forms, channels = {1: "grey", 3: "colour", 2: "two-channel", 4: "four-channel"}, other.channels
        if own.channels == channels:
            return ""
        return f"{forms[own.channels]} images, but those of {name} are {forms[channels]}: convert them"

    def options_of(self, spec: ImageSpec) -> dict[str, Any]:
        return {"image_size": spec, "reads": spec}

    def bf16_pays(self, encoder: Any) -> bool:
        return isinstance(encoder, MapEncoder)

    def graph(self, encoder: Any) -> GraphIO:
        return export.Images(encoder)

    def deep(self, store: Cache) -> bool:
        return store.dtype.itemsize > 1

    def copies(self, store: Cache, rows: NDArray[np.int64], among: NDArray[np.int64]) -> Copies:
        return find_copies(store, rows, among)

    public_inputs = ("pixel_values",)
    public_part = "vision_config"

    def open_public(self, public: Public, spec: Spec | None) -> tuple[OwnEncoder, tuple[str, ...]]:
        from tacit.modalities.image.hf import open_image

        return open_image(public, spec if isinstance(spec, ImageSpec) else None)

    def wrap(self, module: nn.Module, spec: ImageSpec) -> ImageEncoder:
        from tacit.modalities.image.wrapped import wrap

        return wrap(module, spec)

    def adapt(self, encoder: Any, spec: Spec) -> Any:
        """Give a public encoder the alignment and the scale of the images, which it does not state."""
        if isinstance(spec, ImageSpec) and encoder.name.startswith("hf:"):
            encoder.spec = replace(encoder.spec, alignment=spec.alignment, scale=spec.scale)
        return encoder

    def describe(self, store: Cache) -> str:
        spec = store.spec
        colour = {1: "grey", 3: "colour"}.get(spec.channels, f"{spec.channels}-channel")
        return (
            f"{len(store):,} {colour} images at {spec.size} x {spec.size} px, {store.nbytes / 2**20:,.1f} MiB decoded"
        )

    def about(self, store: Cache) -> list[str]:
        spec = store.spec
        mebibytes = store.nbytes / 2**20
        return [
            f"shape: {spec.channels} x {spec.size} x {spec.size} px, {store.dtype}; decoded cache {mebibytes:,.1f} MiB",
            f"pixel values in [0, 1]: mean {_numbers(spec.mean)}, deviation {_numbers(spec.std)}",
            f"layout: {100 * spec.alignment:.0f} % of the variation inside an image is common to all",
        ]

    def facts(self, store: Cache) -> dict[str, Any]:
        spec = store.spec
        return {"size_px": spec.size, "channels": spec.channels}

    def pictures(self, store: Cache, rows: NDArray[np.int64]) -> Sequence[Any]:
        return list(store.images(rows))

    def shown(self, store: Cache, preview: Tensor) -> Sequence[Any]:
        return list((preview.float() if preview.is_floating_point() else preview).cpu().numpy())


MODALITY = Images()
