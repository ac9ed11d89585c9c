"""Log-mel spectrograms of a batch of sounds, on whatever device they are.

    E[t, f] = |sum_n window[n] audio[t hop + n - window // 2] exp(-2 pi i f n / window)|^2
    mel[t, m] = ln(sum_f filter[f, m] E[t, f] + 1e-6)

The window is Hann's, periodic; what lies outside of a sound is 0. Filters are triangles on Slaney's mel scale (linear
to 1,000 Hz, logarithmic above) of the same area each (Slaney, Auditory Toolbox, 1998). The same numbers as
`librosa.feature.melspectrogram` with `n_fft = win_length = window, center=True, pad_mode="constant"`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tacit.modalities.audio.spec import AudioSpec

FLOOR = 1e-6  # added to energies, so that silence has a logarithm
FULL = 32768.0  # what an int16 is divided by
# Frames transformed together: few enough for a processor's cache, or enough to fill a GPU.
AT_ONCE, AT_ONCE_ELSEWHERE = 1024, 1 << 17
TOGETHER = 16  # bands of one product; fewer make it no faster


class Bands(NamedTuple):
    """Some neighbouring bands: the frequencies that they cover, and their weights."""

    of: slice
    first: int
    last: int
    weight: Tensor  # [F_i M_i]


@torch.no_grad()
def log_mel(audio: Tensor, length: Tensor, spec: AudioSpec) -> tuple[Tensor, Tensor]:
    """Log-mel values [B T M] float32 of `audio` [B S], int16 or float in [-1, 1], and the number of valid frames [B].

    Samples from `length` [B] on count as 0, whatever they are. T is 1 + S // hop; frames are 1 + (length - 1) // hop,
    at least 1. Always in float32, also under autocast; without gradients.
    """
    assert audio.ndim == 2, audio.shape
    assert audio.dtype == torch.int16 or audio.is_floating_point(), audio.dtype
    B, S = audio.shape
    T = 1 + S // spec.hop
    together = AT_ONCE if audio.device.type == "cpu" else AT_ONCE_ELSEWHERE
    rows = max(1, together // T)
    window, neighbours = _constants(_Front.of(spec), audio.device, not audio.is_floating_point())
    mel = torch.empty(B, T, spec.mels, device=audio.device)
    frames = torch.empty(min(rows, B) * min(T, together), spec.window, device=audio.device)  # filled again and again
    with torch.autocast(audio.device.type, enabled=False):
        for row in range(0, B, rows):
            padded = _padded(audio[row : row + rows], length[row : row + rows], spec.window)
            views = padded.unfold(1, spec.window, spec.hop)  # [b T window], no copy
            for start in range(0, T, together):
                part = views[:, start : start + together]  # [b t window]
                framed = torch.mul(part, window, out=frames[: part.shape[0] * part.shape[1]].view(part.shape))
                spectrum = torch.fft.rfft(framed)
                square = torch.view_as_real(spectrum).square_()  # [b t F 2]
                energy = (square[..., 0] + square[..., 1]).flatten(0, 1)  # [b*t F]
                out = mel[row : row + rows, start : start + together].view(-1, spec.mels)  # [b*t M]
                for bands in neighbours:
                    covered = energy[:, bands.first : bands.last]
                    torch.mm(covered, bands.weight, out=out[:, bands.of])
    return _logarithm(mel.add_(FLOOR)), frames_of(length, spec)


def _logarithm(mel: Tensor) -> Tensor:
    """Take the logarithm in place. On a CPU numpy takes less than half the time of torch."""
    if mel.device.type != "cpu":
        return mel.log_()
    np.log(mel.numpy(), out=mel.numpy())
    return mel


def frames_of(length: Tensor, spec: AudioSpec) -> Tensor:
    """The number of frames of a sound of `length` samples, at least 1."""
    return 1 + (length - 1).clamp(min=0) // spec.hop


def _padded(sound: Tensor, length: Tensor, window: int) -> Tensor:
    """Pad sounds [b S] with zeros on both sides, and behind their ends; float32 [b S + window]."""
    (b, S), half = sound.shape, window // 2
    padded = sound.new_empty(b, S + window, dtype=torch.float32)
    padded[:, :half] = 0
    padded[:, half : half + S] = sound
    if sound.device.type == "cpu":  # a mask would take half as long as the transform
        for row, end in zip(padded, length.tolist(), strict=True):
            row[half + end :] = 0
    else:
        padded[:, half + S :] = 0
        padded[:, half : half + S].masked_fill_(torch.arange(S, device=sound.device) >= length[:, None], 0)
    return padded


class LogMel(nn.Module):
    """`log_mel` of float audio by matrix products alone, for graphs without a Fourier transform."""

    waves: Tensor  # [2F 1 window]
    weight: Tensor  # [2F M]

    def __init__(self, spec: AudioSpec) -> None:
        super().__init__()
        self.spec = spec
        n = torch.arange(spec.window, dtype=torch.float64)
        angle = 2 * math.pi / spec.window * torch.outer(torch.arange(spec.window // 2 + 1, dtype=torch.float64), n)
        waves = torch.cat([angle.cos(), angle.sin()]) * torch.hann_window(spec.window, dtype=torch.float64)
        self.register_buffer("waves", waves[:, None].float(), persistent=False)
        weight = filters(spec.rate, spec.window, spec.mels, spec.low, spec.high)
        self.register_buffer("weight", torch.cat([weight, weight]).float(), persistent=False)

    def forward(self, audio: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        half = self.spec.window // 2
        valid = torch.arange(audio.shape[1], device=audio.device) < length[:, None]
        padded = nn.functional.pad(torch.where(valid, audio, 0.0), (half, self.spec.window - half))
        parts = nn.functional.conv1d(padded[:, None], self.waves, stride=self.spec.hop)  # [B 2F T]
        energy = parts.square().transpose(1, 2) @ self.weight  # [B T M]
        return (energy + FLOOR).log(), frames_of(length, self.spec)


def filters(rate: int, window: int, mels: int, low: float, high: float) -> Tensor:
    """The weight of each frequency in each band, float64 [F M], F = window // 2 + 1."""
    ends = torch.tensor([_mel(low), _mel(high)], dtype=torch.float64)
    points = torch.linspace(0, 1, mels + 2, dtype=torch.float64) * (ends[1] - ends[0]) + ends[0]
    edge = torch.where(points < 15, points * (200 / 3), 1000 * torch.exp(_STEP * (points - 15)))  # Hz
    frequency = torch.arange(window // 2 + 1, dtype=torch.float64)[:, None] * (rate / window)  # [F 1]
    rising = (frequency - edge[:-2]) / (edge[1:-1] - edge[:-2])
    falling = (edge[2:] - frequency) / (edge[2:] - edge[1:-1])
    return torch.minimum(rising, falling).clamp(min=0) * 2 / (edge[2:] - edge[:-2])


_STEP = math.log(6.4) / 27  # of Slaney's scale above 1,000 Hz, which is 15 mel


def _mel(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + math.log(hz / 1000) / _STEP


class _Front(NamedTuple):
    """The fields of a spec that the front end depends on, whatever the data."""

    rate: int
    window: int
    mels: int
    low: float
    high: float

    @classmethod
    def of(cls, spec: AudioSpec) -> _Front:
        return cls(spec.rate, spec.window, spec.mels, spec.low, spec.high)


@lru_cache(maxsize=16)
def _constants(front: _Front, device: torch.device, integers: bool) -> tuple[Tensor, tuple[Bands, ...]]:
    """The window, which also scales integers, and the filters in groups of neighbours, which share frequencies."""
    with torch.inference_mode(False):
        window = torch.hann_window(front.window, dtype=torch.float64) / (FULL if integers else 1.0)
        weight = filters(*front)
        neighbours, parts = [], max(1, front.mels // TOGETHER)
        for number in range(parts):
            of = slice(front.mels * number // parts, front.mels * (number + 1) // parts)
            covered = weight[:, of].sum(1).nonzero()[:, 0].tolist()
            first, last = (covered[0], covered[-1] + 1) if covered else (0, 1)
            neighbours.append(Bands(of, first, last, weight[first:last, of].float().contiguous().to(device)))
        return window.float().to(device), tuple(neighbours)
