"""Baselines without pretraining: values, statistics and spectrum, random kernels, 1-NN.

values       the series itself, resampled to one length; a linear probe of that
statistics   moments, quantiles, changes, autocorrelation and spectrum of each channel, and moments of its segments
kernels      MiniRocket (Dempster, Schmidt & Webb 2021, arXiv:2012.08791): the share of steps at which each of 84 fixed,
             dilated convolutions exceeds quantiles of its responses to training series; ridge regression on these.
             Departures: about 2,000 features in place of 10,000, and each kernel sees a few random channels
nearest      the label of the nearest series, by Euclidean distance of values standardised per series (1-NN, Bagnall et
             al. 2017)

Shapes: B series, T steps, C channels, R steps after resampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.core import keys
from tacit.core.types import Batch, Features
from tacit.modalities.series.encoder import relative
from tacit.modalities.series.spec import SeriesSpec

DRAWN_OUT = 512  # values of a series that the plain baselines use, at most
SEGMENTS = 4  # of a series, with moments of their own
LAGS = (1, 2, 4, 8, 16)  # steps
BANDS = 24  # of the spectrum
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FEATURES = 2_000  # of random kernels
MOST_DILATIONS = 8
FITTED = 256  # series from which thresholds are computed
AT_ONCE = 64  # series in a batch; each may have a million steps
PENALTIES = np.logspace(-3, 3, 10)
SEEN = 2048  # steps to which series are resampled for kernels and spectrum, at most

Fetch = Callable[[NDArray[np.int64]], Batch]
Rule = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], NDArray[np.int32]]


def drawn_out(values: Tensor, length: Tensor, steps: int) -> Tensor:
    """Resample series [B T C] of these lengths [B] to `steps` steps by linear interpolation, [B R C]."""
    along = torch.linspace(0, 1, steps, device=values.device)
    at = along * (length[:, None] - 1).clamp(min=0)  # [B R]
    low = at.floor().long()
    high = (low + 1).minimum((length[:, None] - 1).clamp(min=0))
    first, second = (values.gather(1, of[:, :, None].expand(-1, -1, values.shape[2])) for of in (low, high))
    return first + (at - low)[:, :, None] * (second - first)


@dataclass(frozen=True)
class PlainValues:
    """The values of a series, resampled to one length, as an `Encoder`."""

    spec: SeriesSpec

    n_depths = 0
    at_once = AT_ONCE

    @property
    def steps(self) -> int:
        return max(2, min(self.spec.length, DRAWN_OUT // self.spec.channels))

    @property
    def dim(self) -> int:
        return self.steps * self.spec.channels

    def __call__(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        values = relative(batch["series"], batch["length"], self.spec)
        flat = drawn_out(values, batch["length"], self.steps).flatten(1)
        return Features(flat[:, None], flat)


@dataclass(frozen=True)
class Statistics:
    """Moments, quantiles, changes, autocorrelation and spectrum of each channel, as an `Encoder`."""

    spec: SeriesSpec

    n_depths = 0
    at_once = AT_ONCE

    @property
    def dim(self) -> int:
        each = 2 * SEGMENTS + len(QUANTILES) + 8 + len(LAGS) + BANDS
        return each * self.spec.channels

    def __call__(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        length = batch["length"]
        values = relative(batch["series"], length, self.spec)
        steps = min(SEEN, max(self.spec.length, 2 * max(LAGS)))
        x = drawn_out(values, length, steps).transpose(1, 2)  # [B C R]
        mean, std = x.mean(2, keepdim=True), x.std(2, keepdim=True).clamp(min=1e-6)
        z = (x - mean) / std
        step = z.diff(dim=2)
        place = torch.linspace(-1, 1, steps, device=x.device)
        moments = [torch.stack([part.mean(2), part.std(2)], 2) for part in x.tensor_split(SEGMENTS, 2)]
        found = [
            *moments,
            torch.quantile(x, torch.tensor(QUANTILES, device=x.device), dim=2).permute(1, 2, 0),
            torch.stack(
                [
                    mean[:, :, 0],
                    std[:, :, 0].log(),
                    z.pow(3).mean(2),
                    z.pow(4).mean(2).log1p(),
                    step.abs().mean(2),
                    step.std(2),
                    (z[:, :, 1:] * z[:, :, :-1] < 0).float().mean(2),
                    (z * place).mean(2),
                ],
                2,
            ),
            torch.stack([(z[:, :, lag:] * z[:, :, :-lag]).mean(2) for lag in LAGS], 2),
            self._spectrum(z),
        ]
        flat = torch.cat(found, 2).flatten(1)
        return Features(flat[:, None], flat)

    @staticmethod
    def _spectrum(z: Tensor) -> Tensor:
        """Log power in bands whose width grows with frequency, [B C BANDS]."""
        power = torch.fft.rfft(z, dim=2).abs().square()[:, :, 1:] / z.shape[2]
        F = power.shape[2]
        edge = torch.unique(torch.logspace(0, math.log10(F), BANDS + 1).round().long().clamp(max=F))
        bands = [
            power[:, :, a - 1 : max(a, b - 1)].mean(2)
            for a, b in zip(edge[:-1].tolist(), edge[1:].tolist(), strict=True)
        ]
        bands += [torch.zeros_like(bands[0])] * (BANDS - len(bands))
        return torch.stack(bands, 2).add(1e-6).log()


class Kernels:
    """MiniRocket's features: the shares of steps at which fixed convolutions exceed thresholds."""

    def __init__(self, spec: SeriesSpec, fetch: Fetch, rows: NDArray[np.int64], *, seed: int) -> None:
        self.spec = spec
        chance = np.random.default_rng(keys.fold(seed, "kernels"))
        some = np.sort(chance.permutation(rows)[:FITTED])
        x = self._values(fetch(some))  # [B C R]
        R = x.shape[2]
        pattern = torch.full((84, 9), -1.0)
        for number, places in enumerate(combinations(range(9), 3)):
            pattern[number, list(places)] = 2.0
        self.pattern = pattern
        most = max(0.0, math.log2(max(1, (R - 1) // 8)))
        self.dilations = sorted({int(2**power) for power in np.linspace(0, most, MOST_DILATIONS)})
        each = max(1, FEATURES // (84 * len(self.dilations)))
        shares = (
            np.arange(1, each * len(self.dilations) * 84 + 1) * (math.sqrt(5) + 1) / 2
        ) % 1  # a low-discrepancy sequence by the golden ratio
        shares = shares.reshape(len(self.dilations), 84, each)
        self.channels = []
        self.thresholds = []
        for number, dilation in enumerate(self.dilations):
            taken = np.zeros((84, spec.channels), np.float32)
            for kernel in range(84):
                few = int(2 ** chance.uniform(0, math.log2(min(spec.channels, 9) + 1)))
                taken[kernel, chance.permutation(spec.channels)[: max(1, few)]] = 1.0
            self.channels.append(torch.from_numpy(taken))
            responses = self._responses(x, number, dilation)  # [B 84 R]
            quantile = torch.from_numpy(shares[number]).float()  # [84 each]
            one = responses[torch.from_numpy(chance.integers(0, len(responses), 84)), torch.arange(84)]  # [84 R]
            ordered = one.sort(dim=1).values
            self.thresholds.append(ordered.gather(1, (quantile * (R - 1)).round().long()))  # [84 each]

    def _values(self, batch: Batch) -> Tensor:
        """Series [B C R], normalised and resampled to one length."""
        steps = max(9, min(SEEN, self.spec.length))
        return drawn_out(relative(batch["series"], batch["length"], self.spec), batch["length"], steps).transpose(1, 2)

    def _responses(self, x: Tensor, number: int, dilation: int) -> Tensor:
        weight = self.channels[number][:, :, None] * self.pattern[:, None]  # [84 C 9]
        return nn.functional.conv1d(x, weight, padding=4 * dilation, dilation=dilation)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        x = self._values(batch)
        found = []
        for number, dilation in enumerate(self.dilations):
            responses = self._responses(x, number, dilation)  # [B 84 R]
            for threshold in self.thresholds[number].unbind(1):
                found.append((responses > threshold[:, None]).float().mean(2))
        features: NDArray[np.float32] = torch.cat(found, 1).numpy()
        return features


def features_of(
    of: Callable[[Batch], NDArray[np.float32]], fetch: Fetch, n: int
) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """A function from positions to features, each computed once."""
    place = np.full(n, -1, np.int64)
    held: list[NDArray[np.float32]] = []
    count = 0

    def read(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        nonlocal count
        new = np.unique(rows[place[rows] < 0])
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]
            held.append(of(fetch(some)))
            place[some] = np.arange(count, count + len(some))
            count += len(some)
        if len(held) > 1:
            held[:] = [np.concatenate(held)]
        return held[0][place[rows]]

    return read


def ridge_on(features: Callable[[NDArray[np.int64]], NDArray[np.float32]]) -> Rule:
    """Ridge regression on class indicators, with the penalty by leave-one-out cross-validation."""

    def rule(train: NDArray[np.int64], truth: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.int32]:
        from sklearn.linear_model import RidgeClassifierCV

        if len(np.unique(truth)) < 2:
            return np.full(len(test), truth[0], np.int32)
        X = features(train)
        mean, std = X.mean(0), X.std(0) + 1e-3
        model = RidgeClassifierCV(alphas=PENALTIES).fit((X - mean) / std, truth)
        return np.asarray(model.predict((features(test) - mean) / std), np.int32)

    return rule


def nearest_on(features: Callable[[NDArray[np.int64]], NDArray[np.float32]]) -> Rule:
    """The label of the nearest training example."""

    def rule(train: NDArray[np.int64], truth: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.int32]:
        X, Z = features(train).astype(np.float64), features(test).astype(np.float64)
        apart = (X**2).sum(1) - 2 * Z @ X.T  # [n N] squared distances, up to a constant per row
        return np.asarray(truth[apart.argmin(1)], np.int32)

    return rule


def own_form(spec: SeriesSpec) -> Callable[[Batch], NDArray[np.float32]]:
    """A function that resamples series to one length and standardises each, [B R*C]."""
    plain = PlainValues(spec)

    def of(batch: Batch) -> NDArray[np.float32]:
        x = drawn_out(relative(batch["series"], batch["length"], spec), batch["length"], plain.steps)
        x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True).clamp(min=1e-6)
        flat: NDArray[np.float32] = x.flatten(1).numpy()
        return flat

    return of
