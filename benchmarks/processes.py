"""Two processes on two cores against one on one core: examples per second at the same global batch.

    python benchmarks/processes.py [--batch 64] [--seconds 10] [--rounds 3] [--encoder convnet]

SimCLR at 32 px of the smallest ConvNet and of vit_tiny; every process computes in one thread. Each round starts one
process and then two, by torchrun, and lets each train for about so many seconds after some steps that are not timed;
the ratio is the median over rounds. Beside it stands what the cores allow: two processes that never meet, each with
half of the batch, over the one.
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


def started(processes: int, name: str, batch: int, seconds: float) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    words = [__file__, f"--batch={batch}", f"--seconds={seconds}", f"--train={name}"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launcher, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=one_thread
    )


def speed(*jobs: subprocess.Popen[str]) -> float:
    """Images per second of all that were started, together."""
    return sum(float(json.loads(job.communicate()[0].splitlines()[-1])) for job in jobs)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoder", choices=ENCODERS, help="only this one")
    parser.add_argument("--train", choices=ENCODERS, help="what each process is started with")
    asked = parser.parse_args()
    if asked.train:
        train(asked.train, asked.batch, asked.seconds)
        return
    for name in [asked.encoder] if asked.encoder else ENCODERS:
        batch, seconds = asked.batch, asked.seconds
        rounds = [
            (
                speed(started(1, name, batch, seconds)),
                speed(started(2, name, batch, seconds)),
                speed(*(started(1, name, batch // 2, seconds) for _ in range(2))),
            )
            for _ in range(asked.rounds)
        ]
        one, two, apart = (statistics.median(speeds) for speeds in zip(*rounds, strict=True))
        record(
            f"processes/{name}",
            ratio=round(statistics.median(two / one for one, two, _ in rounds), 3),
            ratio_apart=round(statistics.median(apart / one for one, _, apart in rounds), 3),
            ratios=[round(two / one, 3) for one, two, _ in rounds],
            one_images_per_second=round(one, 1),
            two_images_per_second=round(two, 1),
            apart_images_per_second=round(apart, 1),
            batch=batch,
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
