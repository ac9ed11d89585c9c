"""Random views of log-mel frames, masks of their tokens, and the baselines that any encoder of sound must beat.

A view is drawn in the plane of time and pitch: one sampling per recording moves, stretches and cuts both axes at once,
as a longer or shorter throat and faster or slower speech would (vocal tract length perturbation, Jaitly & Hinton 2013;
random resize and crop, Niizumi et al. 2021, BYOL-A, arXiv:2103.06695). Its surroundings are added as energy: the echo
of a room, other recordings (BYOL-A's mixup), noise. Loudness, a tilt of the spectrum and masked bands (Park
et al. 2019, SpecAugment) follow. Every draw is a function of the example's key.

Departure from BYOL-A: a recording is mixed with one of its few neighbours in the batch, not with one of former batches,
so that views have no state. Neighbours are always on the same rank, so any number of ranks mixes alike.

Shapes: B recordings, S samples, T frames, M bands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tacit.core import keys
from tacit.core.masks import MaskSchedule, span_starts, unit_mask
from tacit.core.types import Batch, Features
from tacit.modalities.audio.logmel import FLOOR, log_mel
from tacit.modalities.audio.spec import AudioSpec

SILENCE = math.log(FLOOR)
NEIGHBOURS = 8  # recordings of a batch, from a multiple of it on, that may be mixed with one another
SEGMENTS = 4  # parts of a recording whose bands the baseline averages
CEPSTRA = 20  # coefficients of MFCCs
CONTEXT = 5  # frames on each side of one, whose bands the baseline of frames averages


def frames_of(batch: Batch, spec: AudioSpec) -> tuple[Tensor, Tensor]:
    """The log-mel values [B T M] of a batch, and the number of valid frames [B]; computed once, then in the batch."""
    if "mel" not in batch:
        batch["mel"], batch["frames"] = log_mel(batch["audio"], batch["length"], spec)
    return batch["mel"], batch["frames"]


@dataclass(frozen=True)
class SoundViews:
    """Views of recordings: a segment of at most `most` frames, its time and pitch moved, its loudness changed.

    The segment is the share `crop` of the recording, drawn between its two ends. Its time runs up to e^`tempo` times
    faster or slower; its bands are spread by up to e^`spread` and moved by up to the share `shift` of them. `gain` is
    the deviation of its loudness and `tilt` that of the slope from low to high bands, both in natural logarithms of
    energy; `hidden` the largest share of bands, and of frames, that one mask replaces by the data's mean. `echo` is the
    longest time in seconds after which a sound has lost 60 dB, `mix` the largest share of another recording in the
    energy, and `noise` the energy of the loudest white noise, as a share of the segment's; the softest has 0.001 of it.
    """

    spec: AudioSpec
    most: int
    crop: tuple[float, float] = (1.0, 1.0)
    tempo: float = 0.0
    spread: float = 0.0
    shift: float = 0.0
    gain: float = 0.0
    tilt: float = 0.0
    hidden: float = 0.0
    echo: float = 0.0
    mix: float = 0.0
    noise: float = 0.0

    @torch.no_grad()
    def __call__(self, batch: Batch, view: int) -> Batch:
        """View number `view` of every recording: `mel` [B T M], `frames` [B], `key` the view's own.

        `audio` [B S] and `length` [B], for encoders of samples, are the same segment as it was recorded.
        """
        mel, n = frames_of(batch, self.spec)
        key = keys.split(batch["key"], view)
        u = keys.uniform(key, "stretch", 5)
        segment = self._segment(n, u)
        with torch.autocast(mel.device.type, enabled=False):
            seen, frames = self._drawn(mel.float(), n, segment, u)
            if self.echo or self.mix or self.noise:
                seen = self._surrounded(seen, frames, key)
            seen = self._coloured(seen, key)
            if self.hidden:
                seen = self._masked(seen, frames, key)
        samples = self._samples(batch, segment) if "audio" in batch else {}
        return {**batch, **samples, "mel": seen, "frames": frames, "key": key}

    def _segment(self, n: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Beginnings and lengths of segments, and the length of a view's frame, in frames of the recordings, [B]."""
        share = self.crop[0] + (self.crop[1] - self.crop[0]) * u[:, 0]
        rate = torch.exp(self.tempo * _signed(u[:, 1]))
        length = (share * n).clamp(min=1.0).minimum(self.most * rate)
        return u[:, 2] * (n - length), length, rate

    def _samples(self, batch: Batch, segment: tuple[Tensor, Tensor, Tensor]) -> Batch:
        """The samples of every segment, at most those of `most` frames."""
        hop, (start, length, _) = self.spec.hop, segment
        first = (start * hop).long().minimum(batch["length"] - 1)
        count = (length * hop).round().long().clamp(min=1, max=self.most * hop).minimum(batch["length"] - first)
        place = torch.arange(self.most * hop, device=first.device)
        if first.device.type != "cpu":
            at = (first[:, None] + place).clamp(max=batch["audio"].shape[1] - 1)
            audio = batch["audio"].gather(1, at).masked_fill(place >= count[:, None], 0)
            return {"audio": audio, "length": count}
        audio = batch["audio"].new_zeros(len(first), len(place))  # on a CPU ten times as fast as by index
        for row, (begin, n) in enumerate(zip(first.tolist(), count.tolist(), strict=True)):
            audio[row, :n] = batch["audio"][row, begin : begin + n]
        return {"audio": audio, "length": count}

    def _drawn(
        self, mel: Tensor, n: Tensor, segment: tuple[Tensor, Tensor, Tensor], u: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The segment of each recording, sampled bilinearly, and its number of frames."""
        start, length, rate = segment
        frames = (length / rate).round().long().clamp(min=1, max=self.most)  # [B]
        T, M = self.most, mel.shape[2]  # always, since batch norm also sees what lies behind the end
        at = start[:, None] + (torch.arange(T, device=mel.device) + 0.5) * rate[:, None] - 0.5
        at = at.clamp(min=0.0).minimum((n - 1).clamp(min=0)[:, None].float())  # [B T]
        middle = (M - 1) / 2
        band = torch.arange(M, device=mel.device) - middle
        band = band * torch.exp(self.spread * _signed(u[:, 3]))[:, None] + self.shift * M * _signed(u[:, 4])[:, None]
        x = (2 * (band + middle) + 1) / M - 1  # [B M]
        y = (2 * at + 1) / mel.shape[1] - 1  # [B T]
        grid = torch.stack([x[:, None].expand(-1, T, -1), y[:, :, None].expand(-1, -1, M)], dim=-1)
        seen = F.grid_sample(mel[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
        there = torch.arange(T, device=mel.device) < frames[:, None]
        return torch.where(there[:, :, None], seen, SILENCE), frames

    def _surrounded(self, mel: Tensor, frames: Tensor, key: Tensor) -> Tensor:
        """Add echoes, other recordings and noise."""
        valid = (torch.arange(mel.shape[1], device=mel.device) < frames[:, None])[:, :, None]  # [B T 1]
        energy = mel.exp() - FLOOR
        if self.echo:
            energy = self._echoed(energy, key)
        if self.mix:
            share = self.mix * keys.uniform(key, "mix", 1)[:, :, None]  # [B 1 1]
            energy = (1 - share) * energy + share * energy[_neighbours(key)]
        if self.noise:
            energy = energy + self._noise(energy * valid, frames, key)
        return torch.where(valid, (energy.clamp(min=0.0) + FLOOR).log(), SILENCE)

    def _echoed(self, energy: Tensor, key: Tensor) -> Tensor:
        """Average every frame with those before it, with weights that fall by the same factor from frame to frame."""
        seconds = (self.echo * keys.uniform(key, "echo", 1)).clamp(min=1e-3)  # [B 1]
        fall = (6 * math.log(10) * self.spec.hop / self.spec.rate / seconds)[:, :, None]  # from frame to frame
        place = torch.arange(energy.shape[1], device=energy.device)
        past = place[:, None] - place  # [T T]
        return torch.where(past >= 0, torch.exp(-fall * past), 0.0) * (1 - torch.exp(-fall)) @ energy

    def _noise(self, energy: Tensor, frames: Tensor, key: Tensor) -> Tensor:
        """White noise of random loudness, for a view [B T M] that is 0 behind its end."""
        B, T, M = energy.shape
        loud = energy.sum((1, 2)) / (M * frames) * self.noise * 10 ** (-3 * keys.uniform(key, "noise", 1)[:, 0])  # [B]
        return loud[:, None, None] * -torch.log1p(-keys.uniform(key, "noise/frames", T * M)).reshape(B, T, M)

    def _coloured(self, mel: Tensor, key: Tensor) -> Tensor:
        drawn = keys.normal(key, "colour", 2)
        slope = torch.linspace(-1.0, 1.0, mel.shape[2], device=mel.device)
        added = self.gain * drawn[:, :1] + self.tilt * drawn[:, 1:] * slope  # [B M]
        return (mel + added[:, None]).clamp(min=SILENCE) if self.gain or self.tilt else mel

    def _masked(self, mel: Tensor, frames: Tensor, key: Tensor) -> Tensor:
        """Replace one run of bands and one of frames by the data's mean."""
        u = keys.uniform(key, "hidden", 4)

        def run(size: Tensor, width: Tensor, place: Tensor, n: int) -> Tensor:
            wide = self.hidden * width * size
            first = place * (size - wide)
            number = torch.arange(n, device=mel.device)
            return (number >= first[:, None]) & (number < (first + wide)[:, None])  # [B n]

        bands = torch.full_like(u[:, 0], float(mel.shape[2]))
        across = run(bands, u[:, 0], u[:, 1], mel.shape[2])
        along = run(frames.float(), u[:, 2], u[:, 3], mel.shape[1])
        return torch.where(across[:, None] | along[:, :, None], self.spec.mean, mel)


def _neighbours(key: Tensor) -> Tensor:
    """For every example of a batch, the row of another of its `NEIGHBOURS`, its own where there is none, [B]."""
    row = torch.arange(len(key), device=key.device)
    first = row - row % NEIGHBOURS
    size = (len(key) - first).clamp(max=NEIGHBOURS)
    steps = 1 + (keys.uniform(key, "neighbour", 1)[:, 0] * (size - 1)).long()
    return first + (row - first + steps) % size


def _signed(u: Tensor) -> Tensor:
    return 2 * u - 1


@dataclass(frozen=True)
class SoundStatistics:
    """A baseline without training: mean and deviation of every band in the parts of a recording.

    An `Encoder`: `pooled` are those of `SEGMENTS` equal parts side by side, depth 0 those of the whole. With `cepstral`
    they are of the first `CEPSTRA` cosines of the bands (MFCCs, Davis & Mermelstein 1980) in place of these.
    """

    spec: AudioSpec
    cepstral: bool = False

    n_depths = 1

    @property
    def dim(self) -> int:
        return 2 * SEGMENTS * (min(CEPSTRA, self.spec.mels) if self.cepstral else self.spec.mels)

    def __call__(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        mel, n = log_mel(batch["audio"], batch["length"], self.spec)
        if self.cepstral:
            mel = mel @ cosines(self.spec.mels)[:, :CEPSTRA].to(mel)
        by_part = [self._moments(mel, n, part / SEGMENTS, (part + 1) / SEGMENTS) for part in range(SEGMENTS)]
        parts = torch.cat(by_part, dim=1)
        return Features(parts[:, None], parts, depths=tuple(self._moments(mel, n, 0.0, 1.0) for _ in depths))

    @staticmethod
    def _moments(mel: Tensor, n: Tensor, begin: float, end: float) -> Tensor:
        """Mean and deviation [B 2M] of the frames from one share of the recording to another, one at least."""
        number = torch.arange(mel.shape[1], device=mel.device)
        first = (begin * n).floor()
        last = torch.maximum((end * n).floor(), first + 1).minimum(n.float())
        first = first.minimum(last - 1)
        inside = (number >= first[:, None]) & (number < last[:, None])  # [B T]
        share = inside / inside.sum(1, keepdim=True)
        mean = (mel * share[:, :, None]).sum(1)
        square = (torch.square(mel - mean[:, None]) * share[:, :, None]).sum(1)
        return torch.cat([mean, square.sqrt()], dim=1)


def cosines(bands: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II) of `bands` bands, [M M]: one column per coefficient."""
    number = torch.arange(bands)
    waves = torch.cos(math.pi / bands * (number[:, None] + 0.5) * number)
    scale = torch.full((bands,), math.sqrt(2 / bands))
    scale[0] = math.sqrt(1 / bands)
    return waves * scale


@dataclass(frozen=True)
class FrameStatistics:
    """The baseline of frames: every band, and its mean and deviation over `CONTEXT` frames before and behind.

    An `Encoder` whose tokens are frames; `pooled` is their mean.
    """

    spec: AudioSpec

    n_depths = 0
    stride = 1

    @property
    def dim(self) -> int:
        return 3 * self.spec.mels

    def __call__(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        mel, n = log_mel(batch["audio"], batch["length"], self.spec)
        there = (torch.arange(mel.shape[1], device=mel.device) < n[:, None])[:, None].float()  # [B 1 T]
        x = (mel - self.spec.mean).transpose(1, 2) * there  # [B M T]

        def around(values: Tensor) -> Tensor:
            return F.avg_pool1d(values, 2 * CONTEXT + 1, stride=1, padding=CONTEXT)

        share = around(there)
        mean = around(x) / share.clamp(min=1e-6)
        square = around(x.square()) / share.clamp(min=1e-6) - mean.square()
        tokens = torch.cat([x, mean, square.clamp(min=0).sqrt()], 1) * there  # [B 3M T]
        pooled = tokens.sum(2) / n[:, None]
        return Features(tokens.transpose(1, 2), pooled, there[:, 0] > 0)


@dataclass(frozen=True)
class FrameTarget:
    """The target of masked prediction of sound: the normalised log-mel frames of every token, [B N stride*M]."""

    spec: AudioSpec
    stride: int  # frames of a token

    def __call__(self, batch: Batch) -> Tensor:
        mel, _ = frames_of(batch, self.spec)
        whole = F.pad(mel, (0, 0, 0, -mel.shape[1] % self.stride), value=SILENCE)
        values = (whole - self.spec.mean) / self.spec.std
        return values.reshape(len(values), -1, self.stride * values.shape[2])

    def picture(self, answer: Tensor, batch: Batch) -> Tensor:
        """Convert predictions [B N stride*M] to log-mel frames [B T M]."""
        mel = answer.reshape(len(answer), -1, self.spec.mels)[:, : batch["mel"].shape[1]]
        return mel * self.spec.std + self.spec.mean


@dataclass(frozen=True)
class SpanMask:
    """Hides about a share of each recording's tokens, in spans of `span` tokens on average."""

    spec: AudioSpec
    stride: int  # frames of a token
    hiding: MaskSchedule
    span: float

    def __call__(self, batch: Batch, progress: Tensor) -> Tensor:
        mel, frames = frames_of(batch, self.spec)
        key = keys.split(batch["key"], "mask")
        places = torch.arange(-(-mel.shape[1] // self.stride), device=mel.device)
        counts = places < ((frames + self.stride - 1) // self.stride)[:, None]  # [B N]
        return unit_mask(key, counts, span_starts(key, counts, self.span) | ~counts, self.hiding.at(progress))
