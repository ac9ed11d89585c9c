"""Which settings pretrain images well: plain functions that return everything a run needs.

The numbers were chosen by measurement; docs/experiments.md keeps the tables, also of what failed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tacit.core import keys
from tacit.core.masks import Hiding, random_mask
from tacit.core.nn import as_channels, to_float
from tacit.core.types import Batch, Dropping
from tacit.modalities.image.baselines import ALIGNED, TINY, default_views, patches, unpatches
from tacit.modalities.image.encoder import ImageEncoder, MapEncoder
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.recipe import Recipe, mixed
from tacit.tasks.base import Task
from tacit.tasks.byol import BYOL
from tacit.tasks.masked import Masked
from tacit.tasks.rotation import Rotation
from tacit.tasks.simclr import SimCLR
from tacit.training.optim import Optim

STANDARDISED_FROM = 8  # px: the patch whose own mean and deviation are taken out of what masked prediction predicts


def default_encoder(spec: ImageSpec, tasks: Collection[str]) -> str:
    """The ConvNet: on the small images and budgets that people start with it learned most in the same time."""
    return "convnet"


def recipe(
    weights: Mapping[str, float],
    encoder: ImageEncoder,
    *,
    examples: int,
    batch_size: int | None = None,
    accelerated: bool = False,
    hiding: Hiding | None = None,
) -> Recipe:
    """The recipe of a task, or of a weighted sum of tasks, for this encoder and so many examples."""
    task = mixed({name: make_task(name, encoder, hiding) for name in weights}, weights)
    batch_size = batch_size or default_batch_size(encoder.spec, examples, accelerated=accelerated)
    return Recipe(task, default_optim(encoder), batch_size)


def make_task(name: str, encoder: ImageEncoder, hiding: Hiding | None = None) -> Task:
    """One task with its defaults for images."""
    views = default_views(encoder.spec, name)
    if name == "simclr":
        return SimCLR(encoder, views, hidden=2 * encoder.dim, out=128, temperature=_temperature(encoder.spec))
    if name == "byol":
        return BYOL(encoder, views, hidden=2 * encoder.dim, out=128, momentum=0.99)
    if name == "rotation":
        return Rotation(encoder, views)
    assert name == "masked", name
    drop = isinstance(encoder, Dropping)
    standardise = encoder.stride >= STANDARDISED_FROM
    target = PatchTarget(encoder.stride, encoder.grid, standardise=standardise, channels=encoder.spec.channels)
    hiding = hiding or Hiding(0.75 if drop else 0.5)
    width = encoder.spec.channels * encoder.stride**2
    return Masked(
        encoder,
        views,
        RandomMask(hiding, math.prod(encoder.grid)),
        target,
        width=width,
        drop=drop,
        picture=target.picture,
    )


def _temperature(spec: ImageSpec) -> float:
    """The fewer details tell images apart, the softer the comparison: measured on digits, clothes and photos."""
    if spec.size <= TINY:
        return 1.0
    return 0.5 if spec.alignment >= ALIGNED else 0.2


def default_optim(encoder: ImageEncoder) -> Optim:
    """AdamW for all; ConvNets take a higher rate than Transformers and hardly any decay, on tiny images more so."""
    if isinstance(encoder, MapEncoder):
        rate = 4e-2 if encoder.spec.size <= TINY else 1e-2
        return Optim("adamw", lr=rate, weight_decay=1e-4, warmup=0.1, betas=(0.9, 0.999))
    return Optim("adamw", lr=1e-3, weight_decay=0.05, warmup=0.1, betas=(0.9, 0.95))


def default_batch_size(spec: ImageSpec, examples: int, *, accelerated: bool = False) -> int:
    """64, with which a CPU learned most; 256 where an accelerator would idle; at most a quarter of the data."""
    most = max(2, min(256 if accelerated and spec.size > TINY else 64, examples // 4))
    return 1 << (most.bit_length() - 1)


@dataclass(frozen=True)
class RandomMask:
    """Hides a share of the places, at least one and not all, drawn anew for every example."""

    hiding: Hiding
    places: int

    def __call__(self, batch: Batch, progress: Tensor) -> Tensor:
        count = min(max(1, round(float(self.hiding.at(progress)) * self.places)), self.places - 1)
        return random_mask(keys.split(batch["key"], "mask"), self.places, count / self.places)


@dataclass(frozen=True)
class PatchTarget:
    """What masked prediction predicts of an image: the pixels of every token's square [B N P], perhaps standardised."""

    patch: int  # px
    grid: tuple[int, int]
    standardise: bool
    channels: int | None = None  # that the encoder reads, where the data may have others

    def __call__(self, batch: Batch) -> Tensor:
        target = patches(self._padded(self._seen(batch)), self.patch)
        if self.standardise:
            mean, std = self._moments(target)
            target = (target - mean) / std
        return target

    def picture(self, answer: Tensor, batch: Batch) -> Tensor:
        """Answers [B N P] as an image, with the true mean and deviation of every patch where those were taken out."""
        height, width = batch["image"].shape[2:]
        truth = patches(self._padded(self._seen(batch)), self.patch)
        if self.standardise:
            mean, std = self._moments(truth)
            answer = answer * std + mean
        return unpatches(answer, self.patch, self.grid)[:, :, :height, :width].clamp(0, 1)

    def _seen(self, batch: Batch) -> Tensor:
        image = to_float(batch["image"])
        return image if self.channels is None else as_channels(image, self.channels)

    def _padded(self, image: Tensor) -> Tensor:
        """The image grown by its border where the last squares stick out."""
        down, right = (side * self.patch - extent for side, extent in zip(self.grid, image.shape[2:], strict=True))
        return torch.nn.functional.pad(image, (0, right, 0, down), mode="replicate") if down or right else image

    @staticmethod
    def _moments(target: Tensor) -> tuple[Tensor, Tensor]:
        mean = target.mean(-1, keepdim=True)
        return mean, (target.var(-1, keepdim=True) + 1e-6).sqrt()
