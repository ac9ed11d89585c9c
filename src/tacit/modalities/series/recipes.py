"""Ingredients of pretext tasks for time series, and default settings.

The numbers were chosen by measurement; docs/experiments.md has the tables, also of what failed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tacit.core.masks import MaskSchedule
from tacit.core.types import ViewMaker
from tacit.modalities.series.encoder import SeriesEncoder
from tacit.modalities.series.spec import SeriesSpec
from tacit.modalities.series.views import RunMask, SeriesViews, StepTarget
from tacit.tasks.ingredients import Ingredients, MaskMaker, Target
from tacit.training.optim import Optim

HIDDEN, RUN = MaskSchedule(0.4), 3.0  # tokens
AHEAD = 1  # token


def default_encoder(spec: SeriesSpec, tasks: Collection[str]) -> str:
    """The ConvNet; a causal one where a task predicts what comes next."""
    return "series_causal" if "next" in tasks else "series_convnet"


@dataclass(frozen=True)
class SeriesIngredients(Ingredients[SeriesEncoder]):
    def views(self) -> ViewMaker:
        return compared_views(self.encoder.spec)

    def whole(self) -> ViewMaker:
        return whole_views(self.encoder.spec)

    def masks(self) -> MaskMaker:
        return RunMask(self.encoder.spec, self.encoder.stride, self.hiding or HIDDEN, RUN)

    def target(self) -> Target:
        spec, stride = self.encoder.spec, self.encoder.stride
        steps = StepTarget(spec, stride)
        return Target(steps, stride * spec.channels, picture=steps.picture)

    def ahead(self) -> int:
        return AHEAD


def measured(task: str, encoder: SeriesEncoder) -> dict[str, Any]:
    """Settings of a task that were measured to work well for series."""
    if task == "simclr":
        return {"hidden": 2 * encoder.dim, "out": 128, "temperature": 0.1}
    if task == "byol":
        return {"hidden": 2 * encoder.dim, "out": 128, "momentum": 0.99}
    return {}


def whole_views(spec: SeriesSpec) -> SeriesViews:
    """Unchanged segments."""
    return SeriesViews(spec, spec.length)


def compared_views(spec: SeriesSpec) -> SeriesViews:
    """Strongly augmented segments."""
    return SeriesViews(spec, spec.length, crop=(0.7, 1.0), warp=0.2, scale=0.2, noise=0.2, hidden=0.2)


def scratch_views(spec: SeriesSpec) -> SeriesViews:
    """Weakly augmented segments, for supervised training."""
    return SeriesViews(spec, spec.length, crop=(0.8, 1.0), resize=True, warp=0.1, scale=0.1, noise=0.1)


def default_optim(encoder: SeriesEncoder) -> Optim:
    """AdamW; with a higher rate and hardly any decay for the ConvNets."""
    if encoder.name.startswith("series_"):
        return Optim("adamw", lr=3e-3, weight_decay=1e-4, warmup=0.06)
    return Optim("adamw", lr=1e-3, weight_decay=0.05, warmup=0.06, betas=(0.9, 0.98), clip=1.0)
