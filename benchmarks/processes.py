"""Two processes on two cores against one on one core: examples per second at the same global batch.

    python benchmarks/processes.py [--batch 64] [--seconds 10] [--rounds 3]

SimCLR at 32 px of the smallest ConvNet and of vit_tiny; every process computes in one thread. Each round starts one
process and then two, by torchrun, and lets each train for about so many seconds after some steps that are not timed;
the ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator

import torch
from loop import Memory
from record import record

from tacit import dist
from tacit.encoders import build_encoder
from tacit.engine import all_processes, make_fabric
from tacit.recipes.image import recipe
from tacit.spec import ImageSpec
from tacit.train import Row, pretrain
from tacit.types import Batch

ENCODERS = ("convnet", "vit_tiny")
WARM = 3  # steps


class Shared(Memory):
    """Random images that are already there, of which each process takes its share."""

    def stream(self, start: int, stop: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        for step in range(start, stop):
            yield {name: value.chunk(world)[rank] for name, value in self.batch(step).items()}


def train(name: str, batch: int, seconds: float) -> None:
    """In each process: train, and have the leader print the images per second as JSON."""
    torch.set_num_threads(1)
    encoder = build_encoder(name, ImageSpec(32, 3, (0.5,) * 3, (0.25,) * 3))
    plan = recipe({"simclr": 1.0}, encoder, examples=512, batch_size=batch)
    times: list[float] = []

    def watch(row: Row, steps: int) -> None:
        times.append(time.perf_counter())

    with all_processes(device="cpu"):
        fabric = make_fabric(device="cpu", precision="32")

        def go(steps: int) -> None:
            times.clear()
            pretrain(plan.task, Shared(batch), steps=steps, optim=plan.optim, fabric=fabric, rows=steps, watch=watch)

        go(WARM + 2)
        each = float(dist.mean(torch.tensor(times[-1] - times[-2])))
        go(WARM + max(3, round(seconds / each)))
        if dist.rank() == 0:
            print(json.dumps((len(times) - WARM) * batch / (times[-1] - times[WARM - 1])))


def speed(processes: int, name: str, asked: argparse.Namespace) -> float:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    words = [__file__, f"--batch={asked.batch}", f"--seconds={asked.seconds}", f"--train={name}"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *words], capture_output=True, text=True, env=one_thread, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train", choices=ENCODERS, help="what each process is started with")
    asked = parser.parse_args()
    if asked.train:
        train(asked.train, asked.batch, asked.seconds)
        return
    for name in ENCODERS:
        pairs = [(speed(1, name, asked), speed(2, name, asked)) for _ in range(asked.rounds)]
        ratios = [two / one for one, two in pairs]
        record(
            f"processes/{name}",
            ratio=round(statistics.median(ratios), 3),
            ratios=[round(ratio, 3) for ratio in ratios],
            one_images_per_second=round(statistics.median(one for one, _ in pairs), 1),
            two_images_per_second=round(statistics.median(two for _, two in pairs), 1),
            batch=asked.batch,
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
