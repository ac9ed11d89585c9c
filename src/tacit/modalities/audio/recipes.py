"""Which settings pretrain on sound well: plain functions that return everything a run needs.

The numbers were chosen by measurement; docs/experiments.md keeps the tables, also of what failed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from tacit.core.masks import Hiding
from tacit.modalities.audio.codes import QuantisedTarget
from tacit.modalities.audio.encoder import AudioEncoder
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.audio.views import FrameTarget, SoundViews, SpanMask
from tacit.modalities.recipe import Recipe, mixed
from tacit.tasks.base import Task
from tacit.tasks.byol import BYOL
from tacit.tasks.masked import Masked
from tacit.tasks.next import Next
from tacit.tasks.simclr import SimCLR
from tacit.tasks.wav2vec2 import Wav2Vec2
from tacit.training.optim import Optim

SEEN = 0.95  # seconds of a view, as in BYOL-A
WHOLE_SEEN = 2.0  # seconds that a task looks at which predicts the recording itself
HIDDEN, SPAN = Hiding(0.4), 3.0  # tokens
CODES = 512  # of the random quantiser
SPANS = Hiding(0.5), 5.0  # of wav2vec 2.0; tokens
BOOK = 64  # codes of one of wav2vec 2.0's books
AHEAD = 1  # tokens; of 4 frames each, about what is best of single frames


def default_encoder(spec: AudioSpec, tasks: Collection[str]) -> str:
    """The ConvNet: within minutes of a CPU it learned most. Some tasks need what it cannot do."""
    if "wav2vec2" in tasks:
        return "wav2vec2_nano"
    return "audio_causal_nano" if "next" in tasks else "audio_convnet"


def recipe(
    weights: Mapping[str, float],
    encoder: AudioEncoder,
    *,
    examples: int,
    batch_size: int | None = None,
    accelerated: bool = False,
    hiding: Hiding | None = None,
) -> Recipe:
    """The recipe of a task, or of a weighted sum of tasks, for this encoder and so many recordings."""
    task = mixed({name: make_task(name, encoder, hiding) for name in weights}, weights)
    batch_size = batch_size or default_batch_size(examples, accelerated=accelerated)
    return Recipe(task, default_optim(encoder), batch_size)


def make_task(name: str, encoder: AudioEncoder, hiding: Hiding | None = None) -> Task:
    """One task with its defaults for sound."""
    spec = encoder.spec
    views = default_views(spec, name)
    if name == "simclr":
        return SimCLR(encoder, views, hidden=2 * encoder.dim, out=128, temperature=0.1)
    if name == "byol":
        return BYOL(encoder, views, hidden=2 * encoder.dim, out=128, momentum=0.99)
    masks = SpanMask(spec, encoder.stride, hiding or HIDDEN, SPAN)
    if name == "wav2vec2":
        hidden, span = SPANS
        spans = SpanMask(spec, encoder.stride, hiding or hidden, span)
        return Wav2Vec2(encoder, views, spans, books=2, codes=BOOK, out=encoder.dim)
    if name == "bestrq":
        return Masked(encoder, views, masks, QuantisedTarget(spec, encoder.stride, codes=CODES), width=CODES)
    target, width = FrameTarget(spec, encoder.stride), encoder.stride * spec.mels
    if name == "next":
        return Next(encoder, views, target, width=width, ahead=AHEAD, picture=target.picture)
    assert name == "masked", name
    return Masked(encoder, views, masks, target, width=width, picture=target.picture)


def default_views(spec: AudioSpec, task: str) -> SoundViews:
    """The views that suit the pretext `task`, or "scratch": strong ones for contrast, else a stretch as it is."""
    per_second = spec.rate / spec.hop
    views = SoundViews(spec, round(per_second * min(WHOLE_SEEN, spec.seconds)))
    if task in ("masked", "bestrq", "next", "wav2vec2"):
        return views
    views = replace(views, most=round(per_second * SEEN), crop=(0.7, 1.0), tempo=0.15, spread=0.15, shift=0.1, gain=1.0)
    return replace(views, mix=0.4) if task == "byol" else views


def default_optim(encoder: AudioEncoder) -> Optim:
    """AdamW; the ConvNet takes a higher rate and hardly any decay."""
    if encoder.name == "audio_convnet":
        return Optim("adamw", lr=3e-3, weight_decay=1e-4, warmup=0.06)
    return Optim("adamw", lr=1e-3, weight_decay=0.05, warmup=0.06, betas=(0.9, 0.98), clip=1.0)


def default_batch_size(examples: int, *, accelerated: bool = False) -> int:
    """128, 256 where an accelerator would idle; at most a quarter of the recordings."""
    most = max(2, min(256 if accelerated else 128, examples // 4))
    return 1 << (most.bit_length() - 1)
