"""What a setting of pretraining on spoken digits learns in a given time: a linear probe of other speakers.

    python benchmarks/sound_recipes.py FSDD LIBRISPEECH [--task simclr] [--encoder audio_convnet]
        [--seconds 60 | --steps N] [--without SPEAKER] [--labels N] [--baselines]
        [SETTING]

FSDD and LIBRISPEECH as in spoken_digits.py. Pretrained on every clip, without labels, or on all but those of one
speaker. Then each speaker in turn (or that one) is left out, and a linear probe learns from labels of the others;
beside it, where asked for, mean and deviation of log-mel bands, and the untrained encoder. A SETTING is name=value:
tempo, spread, shift, gain, tilt, hidden and crop of the views, temperature, lr, decay, batch, seed. What is not named
is the recipe's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import record
from spoken_digits import clips

import tacit
from tacit.encoders import build_encoder
from tacit.evaluation.features import extract
from tacit.evaluation.spectrum import diagnose
from tacit.evaluation.targets.classification import Classification
from tacit.modalities import modality_named
from tacit.modalities.audio.modality import MODALITY
from tacit.modalities.audio.views import SoundStatistics
from tacit.tasks import parse_mixture
from tacit.tasks.simclr import SimCLR
from tacit.training.engine import make_fabric
from tacit.training.loop import pretrain, seconds_per_step

VIEWS = ("tempo", "spread", "shift", "gain", "tilt", "hidden")


def adjusted(task: Any, told: dict[str, str]) -> None:
    """The settings put into a task, or into each task of a sum."""
    for part in getattr(task, "tasks", {"": task}).values():
        if isinstance(part, SimCLR):
            changed: dict[str, Any] = {name: float(told[name]) for name in VIEWS if name in told}
            changed |= {"crop": (float(told["crop"]), 1.0)} if "crop" in told else {}
            part.views = replace(part.views, **changed)  # type: ignore[type-var]
            part.temperature = float(told.get("temperature", part.temperature))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fsdd", type=Path)
    parser.add_argument("librispeech", type=Path)
    parser.add_argument("--task", default="simclr")
    parser.add_argument("--encoder", default="audio_convnet")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--steps", type=int, help="so many steps in place of the seconds")
    parser.add_argument("--without", help="a speaker who is not pretrained on")
    parser.add_argument("--labels", type=int, help="that a probe learns from; all by default")
    parser.add_argument("--baselines", action="store_true", help="log-mel and the untrained encoder too")
    parser.add_argument("--threads", type=int, default=2)
    asked, settings = parser.parse_known_args()
    told = dict(setting.split("=", 1) for setting in settings)
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        speakers = clips(asked.fsdd, asked.librispeech, Path(folder) / "clips.parquet")
        dataset = tacit.open_dataset(Path(folder) / "clips.parquet", label_column="label", worst_group=None)
    who = np.array(dataset.columns["speaker"].to_pylist())
    heard = np.flatnonzero(who != asked.without)
    torch.manual_seed(int(told.get("seed", 0)))
    encoder, untrained = build_encoder(asked.encoder, dataset.spec), build_encoder(asked.encoder, dataset.spec)
    fabric = make_fabric(device="cpu", bf16_pays=asked.encoder == "audio_convnet")
    plan = MODALITY.recipe(
        parse_mixture(asked.task), encoder, examples=len(heard), batch_size=int(told.get("batch", 0)) or None
    )
    adjusted(plan.task, told)
    optim = replace(plan.optim, lr=float(told.get("lr", plan.optim.lr)))
    optim = replace(optim, weight_decay=float(told.get("decay", optim.weight_decay)))
    source = modality_named("audio").batches(dataset.cache, heard, plan, int(told.get("seed", 0)))
    steps = asked.steps
    if steps is None:
        steps = max(1, int(asked.seconds / seconds_per_step(plan.task, source, optim=optim, fabric=fabric)))
    began = time.perf_counter()
    run = pretrain(plan.task, source, steps=steps, optim=optim, fabric=fabric)
    seconds = time.perf_counter() - began
    known = np.flatnonzero(dataset.label >= 0)
    y, target = dataset.label[known], Classification(len(dataset.classes))
    arms: dict[str, Any] = {asked.task: encoder}
    if asked.baselines:
        arms |= {"log-mel": SoundStatistics(dataset.spec), "random-init": untrained}
    tables = {
        f"{arm}/{name}": values
        for arm, of in arms.items()
        for name, values in extract(of, dataset.batch, known).items()
        if name == "pooled" or (arm == asked.task and name == "opening")
    }
    found: dict[str, list[float]] = {}
    judged = [asked.without] if asked.without else speakers
    for name, X in tables.items():
        chance = np.random.default_rng(0).permutation(len(known))
        others = [np.sort(chance[who[known][chance] != speaker][: asked.labels]) for speaker in judged]
        for speaker, said in zip(judged, target.linear(X, y, others, X, seed=0), strict=True):
            test = who[known] == speaker
            score = np.mean([(said == y)[test & (y == c)].mean() for c in np.unique(y[test])])
            found.setdefault(name, []).append(round(100 * float(score), 1))
    figures = diagnose(extract(encoder, dataset.batch, known)["pooled"])
    record(
        f"sound/{asked.task}/{asked.encoder}",
        settings=told,
        without=asked.without,
        labels=asked.labels,
        steps=run.steps,
        seconds=round(seconds),
        clips_per_second=round(run.examples_per_second),
        loss=round(float(run.history[-1]["loss"]), 3),
        alarms=[f"{alarm.level} {alarm.name}" for alarm in figures.alarms],
        mean={name: round(float(np.mean(of)), 1) for name, of in found.items()},
        by_speaker={name: dict(zip(judged, of, strict=True)) for name, of in found.items()},
    )


if __name__ == "__main__":
    main()
