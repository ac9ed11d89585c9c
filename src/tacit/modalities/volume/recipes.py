"""Ingredients of pretext tasks on volumes, and default settings."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from tacit.core.masks import MaskSchedule
from tacit.core.types import Dropping, Encoder, ViewMaker
from tacit.modalities.layers import RandomMask
from tacit.modalities.volume.encoder import MapEncoder, VolumeEncoder
from tacit.modalities.volume.spec import VolumeSpec
from tacit.modalities.volume.views import BlockTarget, VolumeViews, half_turn, quarter_turns, slab
from tacit.tasks.ingredients import Ingredients, MaskMaker, Target, Turns
from tacit.training.optim import Optim

SLABS = 4  # of a volume, of which a task says which one it sees


def default_encoder(spec: VolumeSpec, tasks: Collection[str]) -> str:
    """The one that reads neighbouring slices as channels: the quickest on a CPU."""
    return "volume_slices"


@dataclass(frozen=True)
class VolumeIngredients(Ingredients[VolumeEncoder]):
    def views(self) -> ViewMaker:
        return compared_views(self.encoder.spec)

    def whole(self) -> ViewMaker:
        return whole_views(self.encoder.spec)

    def masks(self) -> MaskMaker:
        share = 0.75 if drops(self.encoder) else 0.5
        return RandomMask(self.hiding or MaskSchedule(share), math.prod(self.encoder.grid))

    def target(self) -> Target:
        blocks = BlockTarget(self.encoder.stride, self.encoder.grid)
        return Target(blocks, math.prod(self.encoder.stride), picture=blocks.picture)

    def turns(self) -> Turns:
        """Quarter turns about the axis of the slices, half turns about the other two."""
        found: dict[str, Any] = {f"{90 * quarter} degrees": partial(quarter_turns, quarter) for quarter in range(4)}
        return found | {"half about rows": partial(half_turn, (2, 3)), "half about columns": partial(half_turn, (2, 4))}

    def slabs(self) -> Turns:
        return {f"slab {number + 1}": partial(slab, number, SLABS) for number in range(SLABS)}


def drops(encoder: Encoder) -> bool:
    """Whether an encoder can leave tokens out."""
    return isinstance(encoder, Dropping)


def measured(task: str, encoder: VolumeEncoder) -> dict[str, Any]:
    """Settings of a task for volumes."""
    if task == "simclr":
        return {"hidden": 2 * encoder.dim, "out": 128, "temperature": 0.5}
    if task == "byol":
        return {"hidden": 2 * encoder.dim, "out": 128, "momentum": 0.99}
    if task == "vicreg":
        return {}
    return {"drop": drops(encoder)} if task == "masked" else {}


def compared_views(spec: VolumeSpec) -> VolumeViews:
    """Views that differ as scans of two scanners do, and lie a little apart."""
    return VolumeViews(
        zoom=(0.7, 1.0),
        turn=10.0,
        window=0.4,
        level=0.15,
        gamma=0.4,
        bias=0.3,
        noise=0.05,
        blur=1.0,
        turns=spec.turns,
    )


def whole_views(spec: VolumeSpec) -> VolumeViews:
    """The volume itself, a little varied."""
    return VolumeViews(zoom=(0.9, 1.0), window=0.1, gamma=0.1)


def default_optim(encoder: VolumeEncoder) -> Optim:
    """AdamW; ConvNets take a higher rate than Transformers and hardly any decay."""
    if isinstance(encoder, MapEncoder):
        return Optim("adamw", lr=1e-2, weight_decay=1e-4, warmup=0.1, betas=(0.9, 0.999))
    return Optim("adamw", lr=1e-3, weight_decay=0.05, warmup=0.1, betas=(0.9, 0.95))
