"""Views of time series: crops, time warping, scaling, shifts, noise, and masked runs.

Crops and time warping (Le Guennec, Malinowski & Tavenard 2016), jitter, scaling and magnitude (Um et al. 2017,
arXiv:1706.00527), masks of a run of steps (Yue et al. 2022, TS2Vec, arXiv:2106.10466). Every draw is a function of the
example's key.

Shapes: B series, T steps, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tacit.core import keys
from tacit.core.masks import MaskSchedule, span_starts, unit_mask
from tacit.core.types import Batch
from tacit.modalities.series.encoder import values_of
from tacit.modalities.series.spec import SeriesSpec
from tacit.modalities.windows import counted

KNOTS = 5  # between which the speed of warped time changes linearly


@dataclass(frozen=True)
class SeriesViews:
    """Views of series: random segments of at most `most` steps.

    The segment is a share of the series drawn from the range `crop`; with `resize` it is resampled to the length of the
    series. Its speed varies by up to e^`warp`. `scale` is the deviation of its log amplitude, `shift` that of its level
    and `noise` the largest deviation of noise, both in deviations of the values; `hidden` is the largest share of steps
    set to 0 in one run. With `flip` the sign is inverted in half of the views.
    """

    spec: SeriesSpec
    most: int
    crop: tuple[float, float] = (1.0, 1.0)
    resize: bool = False
    warp: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    noise: float = 0.0
    hidden: float = 0.0
    flip: bool = False

    @torch.no_grad()
    def __call__(self, batch: Batch, view: int) -> Batch:
        """View number `view` of every series: `values` [B T C], `steps` [B], and `key` of the view."""
        values, n = values_of(batch, self.spec)
        key = keys.split(batch["key"], view)
        with torch.autocast(values.device.type, enabled=False):
            seen, steps = self._drawn(values.float(), n, key)
            seen = self._changed(seen, steps, key)
        return {**batch, "values": seen, "steps": steps, "key": key}

    def _drawn(self, values: Tensor, n: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a segment of each series by linear interpolation; and its number of steps."""
        u = keys.uniform(key, "stretch", 2)
        most = self.most
        share = self.crop[0] + (self.crop[1] - self.crop[0]) * u[:, 0]
        length = (share * n).clamp(min=1.0).clamp(max=float(most))
        start = u[:, 1] * (n - length)
        steps = (n.clamp(max=most) if self.resize else length.round()).long().clamp(min=1)  # [B]
        place = torch.arange(most, device=values.device)
        along = (place + 0.5) / steps[:, None]  # [B most] position within the segment, as a share
        if self.warp:
            along = self._warped(along.clamp(max=1.0), key)
        at = start[:, None] + along * length[:, None] - 0.5
        at = at.clamp(min=0.0).minimum((n - 1).clamp(min=0)[:, None].float())
        low = at.floor().long()
        high = (low + 1).minimum((n - 1).clamp(min=0)[:, None])
        part = (at - low)[:, :, None]
        C = values.shape[2]
        first, second = (values.gather(1, of[:, :, None].expand(-1, -1, C)) for of in (low, high))
        seen = first + part * (second - first)
        return torch.where(counted(steps, most)[:, :, None], seen, 0.0), steps

    def _warped(self, along: Tensor, key: Tensor) -> Tensor:
        """Warp positions [B T]: integrate a piecewise linear speed between `KNOTS` random knots."""
        speed = torch.exp(self.warp * (2 * keys.uniform(key, "warp", KNOTS) - 1))  # [B K]
        pieces = (speed[:, :-1] + speed[:, 1:]) / 2
        done = torch.cat([torch.zeros_like(pieces[:, :1]), pieces.cumsum(1)], 1)  # [B K]
        knot = (along * (KNOTS - 1)).clamp(max=KNOTS - 1 - 1e-6)
        piece = knot.long()
        within = knot - piece
        begin, end = speed.gather(1, piece), speed.gather(1, piece + 1)
        gone = done.gather(1, piece) + within * begin + within**2 / 2 * (end - begin)
        return gone / done[:, -1:]

    def _changed(self, x: Tensor, steps: Tensor, key: Tensor) -> Tensor:
        there = counted(steps, x.shape[1])[:, :, None]
        B, T, C = x.shape
        if self.scale:
            x = x * torch.exp(self.scale * keys.normal(key, "scale", C))[:, None]
        if self.flip:
            x = x * torch.where(keys.uniform(key, "flip", 1) < 0.5, -1.0, 1.0)[:, :, None]
        if self.shift:
            x = x + self.shift * keys.normal(key, "shift", C)[:, None]
        if self.noise:
            loud = self.noise * keys.uniform(key, "loud", 1)[:, :, None]
            x = x + loud * keys.normal(key, "noise", T * C).reshape(B, T, C)
        if self.hidden:
            u = keys.uniform(key, "hidden", 2)
            wide = self.hidden * u[:, 0] * steps
            first = u[:, 1] * (steps - wide)
            place = torch.arange(T, device=x.device)
            run = (place >= first[:, None]) & (place < (first + wide)[:, None])
            x = torch.where(run[:, :, None], 0.0, x)
        return torch.where(there, x, 0.0)


@dataclass(frozen=True)
class StepTarget:
    """The target of masked prediction: the values of every token, [B N stride*C]."""

    spec: SeriesSpec
    stride: int  # steps of a token

    def __call__(self, batch: Batch) -> Tensor:
        values, _ = values_of(batch, self.spec)
        whole = torch.nn.functional.pad(values, (0, 0, 0, -values.shape[1] % self.stride))
        return whole.reshape(len(whole), -1, self.stride * values.shape[2])

    def picture(self, answer: Tensor, batch: Batch) -> Tensor:
        """Reshape predictions [B N stride*C] to values [B T C]."""
        return answer.reshape(len(answer), -1, self.spec.channels)[:, : batch["values"].shape[1]]


@dataclass(frozen=True)
class RunMask:
    """Mask a share of each series' tokens, in runs of `run` tokens on average."""

    spec: SeriesSpec
    stride: int  # steps of a token
    hiding: MaskSchedule
    run: float

    def __call__(self, batch: Batch, progress: Tensor) -> Tensor:
        values, steps = values_of(batch, self.spec)
        key = keys.split(batch["key"], "mask")
        counts = counted(-(-steps // self.stride), -(-values.shape[1] // self.stride))  # [B N]
        return unit_mask(key, counts, span_starts(key, counts, self.run) | ~counts, self.hiding.at(progress))
