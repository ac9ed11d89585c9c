"""Which settings pretrain on sound well: plain functions that return everything a run needs.

The numbers were chosen by measurement; docs/experiments.md keeps the tables, also of what failed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from tacit.encoders.audio import AudioEncoder
from tacit.modalities.audio import FrameTarget, SoundViews, SpanMask
from tacit.optim import Optim
from tacit.recipes.base import Recipe, mixed
from tacit.spec import AudioSpec
from tacit.task import Task
from tacit.tasks.masked import Masked
from tacit.tasks.next import Next
from tacit.tasks.simclr import SimCLR

SEEN = 0.95  # seconds of a view, as in BYOL-A
WHOLE_SEEN = 2.0  # seconds that masked and next prediction look at
MASKED_SHARE, SPAN = 0.4, 3.0  # of the tokens; tokens
AHEAD = 1  # tokens; of 4 frames each, about what is best of single frames


def default_encoder(spec: AudioSpec, tasks: Collection[str]) -> str:
    """The ConvNet: within minutes of a CPU it learned most. Next prediction needs one that does not look ahead."""
    return "audio_causal_nano" if "next" in tasks else "audio_convnet"


def recipe(
    weights: Mapping[str, float],
    encoder: AudioEncoder,
    *,
    examples: int,
    batch_size: int | None = None,
    accelerated: bool = False,
) -> Recipe:
    """The recipe of a task, or of a weighted sum of tasks, for this encoder and so many recordings."""
    task = mixed({name: make_task(name, encoder) for name in weights}, weights)
    batch_size = batch_size or default_batch_size(examples, accelerated=accelerated)
    return Recipe(task, default_optim(encoder), batch_size)


def make_task(name: str, encoder: AudioEncoder) -> Task:
    """One task with its defaults for sound."""
    spec = encoder.spec
    views = default_views(spec, name)
    if name == "simclr":
        return SimCLR(encoder, views, hidden=2 * encoder.dim, out=128, temperature=0.2)
    target, width = FrameTarget(spec, encoder.stride), encoder.stride * spec.mels
    if name == "next":
        return Next(encoder, views, target, width=width, ahead=AHEAD, picture=target.picture)
    assert name == "masked", name
    masks = SpanMask(spec, encoder.stride, MASKED_SHARE, SPAN)
    return Masked(encoder, views, masks, target, width=width, picture=target.picture)


def default_views(spec: AudioSpec, task: str) -> SoundViews:
    """The views that suit the pretext `task`, or "scratch": strong ones for contrast, else a stretch as it is."""
    per_second = spec.rate / spec.hop
    views = SoundViews(spec, round(per_second * min(WHOLE_SEEN, spec.seconds)))
    if task in ("masked", "next"):
        return views
    return replace(views, most=round(per_second * SEEN), crop=(0.7, 1.0), tempo=0.15, spread=0.15, shift=0.1, gain=1.0)


def default_optim(encoder: AudioEncoder) -> Optim:
    """AdamW; the ConvNet takes a higher rate and hardly any decay."""
    if encoder.name == "audio_convnet":
        return Optim("adamw", lr=3e-3, weight_decay=1e-4, warmup=0.06)
    return Optim("adamw", lr=1e-3, weight_decay=0.05, warmup=0.06, betas=(0.9, 0.98), clip=1.0)


def default_batch_size(examples: int, *, accelerated: bool = False) -> int:
    """128, 256 where an accelerator would idle; at most a quarter of the recordings."""
    most = max(2, min(256 if accelerated else 128, examples // 4))
    return 1 << (most.bit_length() - 1)
