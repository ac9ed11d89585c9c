"""Images, as a run asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tacit.dataset import Cache, Dataset
from tacit.evaluation import Arm
from tacit.modalities.image import decode
from tacit.modalities.image.baselines import PixelStatistics, default_views
from tacit.modalities.image.encoder import MapEncoder
from tacit.modalities.image.recipes import default_encoder, recipe
from tacit.modalities.image.views import Views
from tacit.modalities.recipe import Recipe
from tacit.modalities.spec import ImageSpec
from tacit.run.split import Split
from tacit.training.batches import Batches

__all__ = ["default_encoder", "default_views", "recipe"]

tasks = "simclr,rotation,masked"
contrast = "simclr"


def scratch_views(spec: ImageSpec) -> Views:
    return default_views(spec, contrast)  # stronger than its own mild ones, so the harder baseline


def batches(dataset: Dataset, rows: NDArray[np.int64], plan: Recipe, seed: int) -> Batches:
    return Batches(dataset.batch, rows, batch_size=plan.batch_size, seed=seed)


def statistics(dataset: Dataset, split: Split, seed: int) -> list[Arm]:
    assert isinstance(dataset.spec, ImageSpec)
    plain = PixelStatistics.fit(dataset.batch, split.pretrain, dataset.spec, seed=seed)
    return [Arm("pixels", "baseline", encoders=(plain,), encoder="pixels and their principal components")]


def statistics_seconds(dataset: Dataset, split: Split) -> tuple[float, Callable[[int], float]]:
    return 0.0, lambda labels: 0.0


def same_form(spec: ImageSpec, other: ImageSpec) -> bool:
    if (spec.size, spec.framing) != (other.size, other.framing):
        return False
    if other.scale is None or spec.scale is None:  # of a public encoder, or an older one: it does not say
        return True
    by_type = {spec.scale.numbers, other.scale.numbers} <= decode.BY_TYPE.keys()
    return spec.channels == other.channels and (by_type or spec.scale == other.scale)


def mismatch(own: ImageSpec, opened: Dataset) -> str:
    kinds, channels = {1: "grey", 3: "colour", 2: "two-channel", 4: "four-channel"}, _parts(opened)[0].channels
    if own.channels == channels:
        return ""
    return f"{kinds[own.channels]} images, but those of {opened.name} are {kinds[channels]}: convert them"


def reading(spec: ImageSpec) -> dict[str, Any]:
    return {"image_size": spec, "reads": spec}


def fixed(spec: ImageSpec) -> dict[str, Any]:
    return {}


def heard(encoder: Any, asked: Mapping[str, Any]) -> None:
    pass


def fitted(encoder: Any, spec: Any) -> Any:
    return encoder


def begun(encoder: Any, dataset: Dataset, rows: NDArray[np.int64]) -> Any:
    return encoder


def bf16_pays(encoder: Any) -> bool:
    return isinstance(encoder, MapEncoder)


def describe(dataset: Dataset) -> str:
    spec, cache = _parts(dataset)
    colour = {1: "grey", 3: "colour"}.get(spec.channels, f"{spec.channels}-channel")
    return f"{len(dataset):,} {colour} images at {spec.size} x {spec.size} px, {cache.nbytes / 2**20:,.1f} MiB decoded"


def about(dataset: Dataset) -> list[str]:
    spec, cache = _parts(dataset)
    mebibytes = cache.nbytes / 2**20
    return [
        f"shape: {spec.channels} x {spec.size} x {spec.size} px, {cache.dtype}; decoded cache {mebibytes:,.1f} MiB",
        f"pixel values in [0, 1]: mean {_numbers(spec.mean)}, deviation {_numbers(spec.std)}",
        f"layout: {100 * spec.alignment:.0f} % of the variation inside an image is common to all",
    ]


def facts(dataset: Dataset) -> dict[str, Any]:
    spec, _ = _parts(dataset)
    return {"size_px": spec.size, "channels": spec.channels}


def pictures(dataset: Dataset, rows: NDArray[np.int64]) -> Sequence[Any]:
    return list(_parts(dataset)[1].images(rows))


def sounds(dataset: Dataset, rows: NDArray[np.int64]) -> Sequence[bytes | None]:
    return [None] * len(rows)


def shown(dataset: Dataset, preview: Tensor) -> Sequence[Any]:
    return list((preview.float() if preview.is_floating_point() else preview).cpu().numpy())


def _parts(dataset: Dataset) -> tuple[ImageSpec, Cache]:
    assert isinstance(dataset.spec, ImageSpec)
    assert isinstance(dataset.cache, Cache)
    return dataset.spec, dataset.cache


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3f}" for value in values)
