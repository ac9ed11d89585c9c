"""The ingredients of pretext tasks on images, and the settings that were measured to train well.

The numbers were chosen by measurement; docs/experiments.md keeps the tables, also of what failed.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tacit.core import keys
from tacit.core.errors import UserError
from tacit.core.masks import MaskSchedule, block_mask
from tacit.core.nn import as_channels, to_float, turned
from tacit.core.types import Batch, Dropping, ViewMaker
from tacit.modalities.image.baselines import ALIGNED, TINY, default_views, patches, unpatches
from tacit.modalities.image.encoder import ImageEncoder, MapEncoder
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.layers import RandomMask
from tacit.tasks.ingredients import Colours, Ingredients, MaskMaker, Pieces, Target, Turns
from tacit.training.optim import Optim

PART = 0.4  # of a whole view's area is seen by a small crop
STANDARDISED_FROM = 8  # px; from this size on, patches are standardised as targets of masked prediction


def default_encoder(spec: ImageSpec, tasks: Collection[str]) -> str:
    """The ConvNet: on the small images and budgets that people start with it learned most in the same time.

    A Transformer where a task leaves parts out.
    """
    return "vit_tiny" if "ijepa" in tasks else "convnet"


@dataclass(frozen=True)
class ImageIngredients(Ingredients[ImageEncoder]):
    def views(self) -> ViewMaker:
        return default_views(self.encoder.spec, "simclr")

    def parts(self) -> ViewMaker:
        views = default_views(self.encoder.spec, "simclr")
        return replace(views, crop=(PART * views.crop[0], PART * views.crop[1]))

    def whole(self) -> ViewMaker:
        return default_views(self.encoder.spec, self.task)

    def masks(self) -> MaskMaker:
        drops = isinstance(self.encoder, Dropping)
        share = 0.75 if drops and self.task == "masked" else 0.5
        return RandomMask(self.hiding or MaskSchedule(share), math.prod(self.encoder.grid))

    def blocks(self) -> MaskMaker:
        drops = isinstance(self.encoder, Dropping)
        if not drops:
            raise UserError(
                f"the encoder {self.encoder.name} cannot leave parts out, as {self.task!r} must; "
                "choose --encoder vit_tiny"
            )
        return BlockMask(self.hiding or MaskSchedule(0.6), self.encoder.grid)

    def pieces(self) -> Pieces:
        return Pieces(4, put_quarters)

    def colours(self) -> Colours:
        spec, stride = self.encoder.spec, self.encoder.stride
        if spec.channels != 3:
            raise UserError(f"the task {self.task!r} needs images in colour, and these have {spec.channels} channels")
        pixels = PatchTarget(stride, self.encoder.grid, standardise=False)
        return Colours(3 * stride**2, greyed, lambda batch: pixels(batch) - pixels(greyed(batch)))

    def target(self) -> Target:
        encoder, channels = self.encoder, self.encoder.spec.channels
        standardise = encoder.stride >= STANDARDISED_FROM
        pixels = PatchTarget(encoder.stride, encoder.grid, standardise=standardise, channels=channels)
        return Target(pixels, channels * encoder.stride**2, picture=pixels.picture)

    def turns(self) -> Turns:
        return {f"{90 * quarter} degrees": partial(quarter_turns, quarter) for quarter in range(4)}


def quarter_turns(quarters: int, batch: Batch) -> Batch:
    """The images rotated by a multiple of 90 degrees, which leaves no trace of resampling."""
    return {**batch, "image": turned(batch["image"], quarters, (2, 3))}


def greyed(batch: Batch) -> Batch:
    """The images without their colours, still in three channels."""
    image = to_float(batch["image"])
    return {**batch, "image": as_channels(as_channels(image, 1), 3)}


def put_quarters(batch: Batch, order: Tensor) -> Batch:
    """Put the quarters of square images in another order [B 4], each moved by up to an eighth of its side.

    The border of a moved quarter repeats, so that edges of neighbours do not fit even in the right order.
    """
    image = to_float(batch["image"])  # [B C S S]
    half = image.shape[3] // 2
    gap = max(1, half // 8)
    quarters = torch.stack(
        [image[:, :, down : down + half, right : right + half] for down in (0, half) for right in (0, half)], 1
    )  # [B 4 C h h]
    quarters = quarters[torch.arange(len(image), device=image.device)[:, None], order]
    moves = (keys.uniform(batch["key"], "pieces", 8).view(-1, 4, 2) * (2 * gap + 1)).long() - gap  # [B 4 2]
    along = torch.arange(half, device=image.device)
    down = (along + moves[:, :, :1]).clamp(0, half - 1)[:, :, None, :, None].expand_as(quarters)
    right = (along + moves[:, :, 1:]).clamp(0, half - 1)[:, :, None, None, :].expand_as(quarters)
    quarters = quarters.gather(3, down).gather(4, right)
    rows = [torch.cat([quarters[:, place], quarters[:, place + 1]], 3) for place in (0, 2)]
    put = image.clone()
    put[:, :, : 2 * half, : 2 * half] = torch.cat(rows, 2)
    return {**batch, "image": put}


def measured(task: str, encoder: ImageEncoder) -> dict[str, Any]:
    """Settings of a task that were measured to train images well."""
    if task == "simclr":
        return {"hidden": 2 * encoder.dim, "out": 128, "temperature": _temperature(encoder.spec)}
    if task == "byol":
        return {"hidden": 2 * encoder.dim, "out": 128, "momentum": 0.99}
    if task == "ijepa":
        return {"drop": True}
    return {"drop": isinstance(encoder, Dropping)} if task == "masked" else {}


def _temperature(spec: ImageSpec) -> float:
    """The fewer details tell images apart, the higher the temperature: measured on digits, clothes and photos."""
    if spec.size <= TINY:
        return 1.0
    return 0.5 if spec.alignment >= ALIGNED else 0.2


def default_optim(encoder: ImageEncoder) -> Optim:
    """AdamW for all; ConvNets take a higher rate than Transformers and hardly any decay, on tiny images more so."""
    if isinstance(encoder, MapEncoder):
        rate = 4e-2 if encoder.spec.size <= TINY else 1e-2
        return Optim("adamw", lr=rate, weight_decay=1e-4, warmup=0.1, betas=(0.9, 0.999))
    return Optim("adamw", lr=1e-3, weight_decay=0.05, warmup=0.1, betas=(0.9, 0.95))


def batch_size(encoder: ImageEncoder, accelerated: bool) -> int:
    """64, with which a CPU learned most; 256 where an accelerator would idle."""
    return 256 if accelerated and encoder.spec.size > TINY else 64


@dataclass(frozen=True)
class BlockMask:
    """Masks a share of the tokens in squares of a third of the grid's side, as many tokens in every image."""

    hiding: MaskSchedule
    grid: tuple[int, int]

    def __call__(self, batch: Batch, progress: Tensor) -> Tensor:
        places = math.prod(self.grid)
        count = min(max(1, round(float(self.hiding.at(progress)) * places)), places - 1)
        block = max(1, min(self.grid) // 3)
        return block_mask(keys.split(batch["key"], "mask"), self.grid, count / places, block=block)


@dataclass(frozen=True)
class PatchTarget:
    """The target of masked prediction: the pixels of every token's square [B N P], perhaps standardised."""

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
        """Predictions [B N P] as an image, with the true mean and deviation of every standardised patch."""
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
        """The image with its border repeated where the last squares stick out."""
        down, right = (side * self.patch - extent for side, extent in zip(self.grid, image.shape[2:], strict=True))
        return torch.nn.functional.pad(image, (0, right, 0, down), mode="replicate") if down or right else image

    @staticmethod
    def _moments(target: Tensor) -> tuple[Tensor, Tensor]:
        mean = target.mean(-1, keepdim=True)
        return mean, (target.var(-1, keepdim=True) + 1e-6).sqrt()
