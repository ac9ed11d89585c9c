"""The ingredients of pretext tasks for sound, and the settings that trained well in measurements.

The numbers were chosen by measurement; docs/experiments.md has the tables, also of what failed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tacit.core.masks import MaskSchedule
from tacit.core.types import ViewMaker
from tacit.modalities.audio.codes import QuantisedTarget
from tacit.modalities.audio.encoder import AudioEncoder
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.audio.views import FrameTarget, SoundViews, SpanMask
from tacit.tasks.ingredients import Books, Ingredients, MaskMaker, Target
from tacit.training.optim import Optim

SEEN = 0.95  # seconds of a view, as in BYOL-A
WHOLE_SEEN = 2.0  # seconds of a view, for tasks that predict the recording itself
HIDDEN, SPAN = MaskSchedule(0.4), 3.0  # tokens
CODES = 512  # of the random quantiser
SPANS = MaskSchedule(0.5), 5.0  # of wav2vec 2.0; tokens
BOOKS = Books(2, 64)  # of wav2vec 2.0's quantiser
AHEAD = 1  # tokens of 4 frames each; about the best distance in single frames


def default_encoder(spec: AudioSpec, tasks: Collection[str]) -> str:
    """The ConvNet, which learned most within minutes on a CPU, except for tasks that it cannot serve."""
    if "wav2vec2" in tasks:
        return "wav2vec2_nano"
    return "audio_causal_nano" if "next" in tasks else "audio_convnet"


@dataclass(frozen=True)
class SoundIngredients(Ingredients[AudioEncoder]):
    def views(self) -> ViewMaker:
        return compared_views(self.encoder.spec, mix=0.4 if self.task == "byol" else 0.0)

    def whole(self) -> ViewMaker:
        return whole_views(self.encoder.spec)

    def masks(self) -> MaskMaker:
        hidden, span = SPANS if self.task == "wav2vec2" else (HIDDEN, SPAN)
        return SpanMask(self.encoder.spec, self.encoder.stride, self.hiding or hidden, span)

    def target(self) -> Target:
        spec, stride = self.encoder.spec, self.encoder.stride
        frames = FrameTarget(spec, stride)
        return Target(frames, stride * spec.mels, picture=frames.picture)

    def codes(self) -> Target:
        return Target(QuantisedTarget(self.encoder.spec, self.encoder.stride, codes=CODES), CODES)

    def ahead(self) -> int:
        return AHEAD

    def quantiser(self) -> Books:
        return BOOKS


def measured(task: str, encoder: AudioEncoder) -> dict[str, Any]:
    """The settings of a task that trained well on sound in measurements."""
    if task == "simclr":
        return {"hidden": 2 * encoder.dim, "out": 128, "temperature": 0.1}
    if task == "byol":
        return {"hidden": 2 * encoder.dim, "out": 128, "momentum": 0.99}
    return {"out": encoder.dim} if task == "wav2vec2" else {}


def whole_views(spec: AudioSpec) -> SoundViews:
    """One unchanged segment of a recording."""
    return SoundViews(spec, round(spec.rate / spec.hop * min(WHOLE_SEEN, spec.seconds)))


def compared_views(spec: AudioSpec, mix: float = 0.0) -> SoundViews:
    """Strongly augmented segments of a recording, to be contrasted."""
    most = round(spec.rate / spec.hop * SEEN)
    return SoundViews(spec, most, crop=(0.7, 1.0), tempo=0.15, spread=0.15, shift=0.1, gain=1.0, mix=mix)


def default_optim(encoder: AudioEncoder) -> Optim:
    """AdamW; the ConvNet takes a higher rate and hardly any decay."""
    if encoder.name == "audio_convnet":
        return Optim("adamw", lr=3e-3, weight_decay=1e-4, warmup=0.06)
    return Optim("adamw", lr=1e-3, weight_decay=0.05, warmup=0.06, betas=(0.9, 0.98), clip=1.0)
