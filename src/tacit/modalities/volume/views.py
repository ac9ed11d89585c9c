"""Random views of volumes: a whole batch at a time, on the device that they are on.

Geometry varies little, as anatomy does: one affine sampling of all slices of a volume (zoom, shift, a turn about the
axis of the slices), and a zoom and a shift along that axis. Intensity varies as between scanners and settings: window
and level, gamma, a smooth bias field (Van Leemput et al. 1999), noise, and blur. Scans are mirrored and turned by
quarters only where the data's settings say that orientation means nothing. Every draw is a function of the example's
key.

Shapes: B volumes, D slices, H rows, W columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tacit.core import keys
from tacit.core.nn import to_float, turned
from tacit.core.types import Batch

_KNOTS = 3  # of a bias field along each axis, between which it is linear
_TILE = (8, 16, 16)  # voxels of noise, repeated over the volume: drawing each anew takes longer than all else


@dataclass(frozen=True, kw_only=True)
class VolumeViews:
    """Settings of the views; each is the largest change either way.

    `zoom` is the range of the window's side as a share of the volume's, of which the window may lie anywhere; `turn` is
    in degrees. `window` is of the log width, `level` of the centre, both of black to white; `gamma` of the log
    exponent; `bias` of the log gain; `noise` the largest deviation; `blur` that of the Gaussian, in voxels, in half of
    the views.
    """

    zoom: tuple[float, float] = (1.0, 1.0)
    turn: float = 0.0
    window: float = 0.0
    level: float = 0.0
    gamma: float = 0.0
    bias: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    turns: bool = False  # mirrored and turned by quarters

    @torch.no_grad()
    def __call__(self, batch: Batch, view: int) -> Batch:
        """View number `view` of every volume: `image` float32 [B 1 D H W] in [0, 1], and `key` of the view."""
        key = keys.split(batch["key"], view)
        with torch.autocast(key.device.type, enabled=False):
            x = to_float(batch["image"])[:, 0]  # [B D H W]
            if self.turns:
                x = _turned(x, key)
            if self.turn or self.zoom != (1.0, 1.0):
                x = self._moved(x, key)
            x = self._changed(x, key).clamp_(0.0, 1.0)
        return {**batch, "image": x[:, None], "key": key}

    def _moved(self, x: Tensor, key: Tensor) -> Tensor:
        low, high = self.zoom
        u = keys.uniform(key, "zoom", 4)
        side = low + (high - low) * u[:, 0]  # [B]
        middle = (2 * u[:, 1:] - 1) * (1 - side).abs()[:, None]  # [B 3] of the window, in [-1, 1]
        angle = math.radians(self.turn) * (2 * keys.uniform(key, "turn", 1)[:, 0] - 1)
        cos, sin = side * angle.cos(), side * angle.sin()
        affine = torch.stack([cos, -sin, middle[:, 0], sin, cos, middle[:, 1]], 1).view(-1, 2, 3)
        grid = F.affine_grid(affine, [len(x), 1, *x.shape[2:]], align_corners=False)
        x = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)  # slices are channels
        D = x.shape[1]
        at = side[:, None] * (torch.arange(D, device=x.device) * 2 + 1 - D) / D + middle[:, 2:]  # [B D] in [-1, 1]
        at = (((at + 1) * D - 1) / 2).clamp(0, D - 1)
        weight = (1 - (at[:, :, None] - torch.arange(D, device=x.device)).abs()).clamp(min=0)  # [B D D]
        return torch.bmm(weight, x.flatten(2)).view_as(x)

    def _changed(self, x: Tensor, key: Tensor) -> Tensor:
        B, D, H, W = x.shape
        u = 2 * keys.uniform(key, "intensity", 3) - 1
        if self.bias:
            knots = self.bias * (2 * keys.uniform(key, "bias", _KNOTS**3) - 1).view(B, 1, _KNOTS, _KNOTS, _KNOTS)
            x = x * F.interpolate(knots, (D, H, W), mode="trilinear", align_corners=True)[:, 0].exp_()
        if self.window or self.level:
            wide, centre = torch.exp(self.window * u[:, 0]), 0.5 + self.level * u[:, 1]
            x = torch.addcmul((0.5 - centre * wide).view(-1, 1, 1, 1), x, wide.view(-1, 1, 1, 1))
        if self.gamma:
            x = x.clamp(0.0, 1.0) ** torch.exp(self.gamma * u[:, 2]).view(-1, 1, 1, 1)
        if self.blur:
            v = keys.uniform(key, "blur", 2)
            for axis in (1, 2, 3):
                x = _blurred(x, self.blur * v[:, 0] * (v[:, 1] < 0.5), axis)
        if self.noise:
            loud = self.noise * keys.uniform(key, "loud", 1).view(-1, 1, 1, 1)
            tile = keys.normal(key, "noise", math.prod(_TILE)).view(B, *_TILE)
            often = [-(-extent // of) for extent, of in zip((D, H, W), _TILE, strict=True)]
            x = torch.addcmul(x, tile.repeat(1, *often)[:, :D, :H, :W], loud)
        return x


def _turned(x: Tensor, key: Tensor) -> Tensor:
    """Mirrored along each axis in half of the volumes, rows and columns exchanged in half."""
    u = keys.uniform(key, "turns", 4) < 0.5
    for axis in (1, 2, 3):
        x = torch.where(u[:, axis - 1].view(-1, 1, 1, 1), x.flip(axis), x)
    return torch.where(u[:, 3].view(-1, 1, 1, 1), x.transpose(2, 3), x)


def _blurred(x: Tensor, sigma: Tensor, axis: int) -> Tensor:
    """A Gaussian of deviation `sigma` [B] voxels along an axis, 0 for none; the border repeats."""
    n = x.shape[axis]
    place = torch.arange(n, device=x.device)
    apart = (place[:, None] - place).abs()
    weight = torch.exp(-0.5 * (apart / sigma.clamp(min=1e-3)[:, None, None]) ** 2)  # [B n n]
    weight = weight / weight.sum(2, keepdim=True)
    moved = x.movedim(axis, 1)
    return torch.bmm(weight, moved.flatten(2)).view_as(moved).movedim(1, axis)


def quarter_turns(quarters: int, batch: Batch) -> Batch:
    """The volumes turned about the axis of their slices by a multiple of 90 degrees."""
    return {**batch, "image": turned(batch["image"], quarters, (3, 4))}


def half_turn(axes: tuple[int, int], batch: Batch) -> Batch:
    """The volumes turned by 180 degrees in the plane of these axes."""
    return {**batch, "image": turned(batch["image"], 2, axes)}


def slab(number: int, of: int, batch: Batch) -> Batch:
    """Slab `number` of so many along the axis of the slices, drawn out to the size of the volume."""
    image = batch["image"]
    D = image.shape[2]
    thick = D / of
    at = (thick * number + (torch.arange(D, device=image.device) + 0.5) / of).long().clamp(max=D - 1)
    return {**batch, "image": image[:, :, at]}


@dataclass(frozen=True)
class BlockTarget:
    """The target of masked prediction: the voxels of every token's block [B N P], standardised by block."""

    stride: tuple[int, int, int]
    grid: tuple[int, int, int]

    def __call__(self, batch: Batch) -> Tensor:
        return self._cut(batch)[0]

    def picture(self, answer: Tensor, batch: Batch) -> Tensor:
        """Predictions [B N P] as a volume, with the true mean and deviation of every block."""
        _, mean, std = self._cut(batch)
        (d, h, w), (D, H, W) = self.stride, self.grid
        x = (answer * std + mean).view(-1, D, H, W, d, h, w).permute(0, 1, 4, 2, 5, 3, 6)
        x = x.reshape(-1, 1, D * d, H * h, W * w)
        _, _, slices, rows, columns = batch["image"].shape
        return x[:, :, :slices, :rows, :columns].clamp(0, 1)

    def _cut(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The standardised blocks, and the mean and deviation of each."""
        x = to_float(batch["image"])
        beyond = [of * n - extent for of, n, extent in zip(self.stride, self.grid, x.shape[2:], strict=True)]
        x = F.pad(x, (0, beyond[2], 0, beyond[1], 0, beyond[0]), mode="replicate")
        (d, h, w), (D, H, W) = self.stride, self.grid
        x = x.view(-1, D, d, H, h, W, w).permute(0, 1, 3, 5, 2, 4, 6).reshape(len(x), D * H * W, d * h * w)
        mean, std = x.mean(2, keepdim=True), (x.var(2, keepdim=True) + 1e-4).sqrt()
        return (x - mean) / std, mean, std
