"""What the loop costs over a bare PyTorch step of the same model and views: ResNet-18, SimCLR, 32 px.

    python benchmarks/loop.py [--batch 16] [--steps 6] [--rounds 3] [--whole DATA]

The bare step holds batches in memory, draws the same views, and does forward, backward, step. Both are timed in turn,
and the overhead is the median over rounds of the ratio of their seconds. With --whole, the shares of a minute's
`tacit pretrain DATA --profile`, with its checkpoints, probe and logs as they come by default.
"""

from __future__ import annotations

import argparse
import copy
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from record import record

from tacit.core import keys
from tacit.core.types import Batch
from tacit.encoders import build_encoder
from tacit.modalities.image.modality import MODALITY
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.recipe import Recipe
from tacit.training.engine import cpu_has_bf16, make_fabric
from tacit.training.loop import pretrain


class Memory:
    """Random images that are already there, so that only the loop itself is timed."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        chance = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8, generator=chance)

    def batch(self, step: int) -> Batch:
        positions = torch.arange(self.batch_size)
        rows = (step * self.batch_size + positions) % 512
        return {"image": self.images[rows], "index": rows, "key": keys.batch_keys(0, step, positions)}

    def stream(self, start: int, stop: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        yield from map(self.batch, range(start, stop))


def bare(plan: Recipe, source: Memory, steps: int, precision: str) -> float:
    """Seconds of a plain loop."""
    optimizer = plan.optim.build(plan.task)
    plan.task.train()
    began = time.perf_counter()
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = plan.task(source.batch(step)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - began


def ours(plan: Recipe, source: Memory, steps: int, precision: str) -> float:
    fabric = make_fabric(device="cpu", precision=precision)  # type: ignore[arg-type]
    began = time.perf_counter()
    pretrain(plan.task, source, steps=steps, optim=plan.optim, fabric=fabric, rows=steps)
    return time.perf_counter() - began


def whole(data: str) -> None:
    """The shares of a default pretraining by `tacit pretrain --profile`."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            sys.executable,
            "-m",
            "tacit",
            "pretrain",
            data,
            "--budget",
            "60s",
            "--profile",
            "--out",
            f"{folder}/run",
        ]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stderr
    shares = {name.strip(): float(share) for share, name in re.findall(r"ms +([\d.]+) %  (.+)", said)}
    step = re.search(r"a step took ([\d.,]+) ms", said)
    assert step is not None, said
    record("loop/whole", data=Path(data).name, step_ms=float(step[1].replace(",", "")), percent=shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", metavar="DATA")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if asked.whole:
        whole(asked.whole)
    spec = ImageSpec(32, 3, (0.5,) * 3, (0.25,) * 3)
    plan = MODALITY.recipe({"simclr": 1.0}, build_encoder("resnet18", spec), examples=512, batch_size=asked.batch)
    source = Memory(asked.batch)
    for precision in ("32", "bf16") if cpu_has_bf16() else ("32",):
        bare(copy.deepcopy(plan), source, 2, precision)
        ratios, seconds = [], []
        for _ in range(asked.rounds):
            plain = bare(copy.deepcopy(plan), source, asked.steps, precision)
            looped = ours(copy.deepcopy(plan), source, asked.steps, precision)
            ratios.append(looped / plain)
            seconds.append(looped / asked.steps)
        record(
            f"loop/resnet18/{precision}",
            overhead_percent=round(100 * (statistics.median(ratios) - 1), 2),
            ratios=[round(ratio, 4) for ratio in ratios],
            step_seconds=round(statistics.median(seconds), 3),
            images_per_second=round(asked.batch / statistics.median(seconds), 1),
            batch=asked.batch,
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
