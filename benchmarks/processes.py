"""Two processes on two cores against one on one core: examples per second at the same global batch.

    python benchmarks/processes.py [--encoder convnet] [--batch 256] [--seconds 12] [--rounds 3]

SimCLR at 32 px of the smallest ConvNet, 256 images a step, and of vit_tiny, 64; every process computes in one thread.
Each round starts one process and then two, by torchrun, and lets each train for about so many seconds after a quarter
of the steps that is not timed; the ratio is the median over rounds. Beside it stands what the cores allow: two
processes that never meet, each with half of the batch, over the one.
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

from tacit.core import gathering
from tacit.core.types import Batch
from tacit.encoders import build_encoder
from tacit.modalities.image.modality import MODALITY
from tacit.modalities.image.spec import ImageSpec
from tacit.training.engine import all_processes, make_fabric
from tacit.training.loop import Row, pretrain

ENCODERS = {"convnet": 256, "vit_tiny": 64}  # and images a step
LINES = 4  # of the log, as a training writes about 100; what comes before the first is not timed


class Shared(Memory):
    """Random images that are already there, of which each process takes its share."""

    def stream(self, start: int, stop: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        for step in range(start, stop):
            yield {name: value.chunk(world)[rank] for name, value in self.batch(step).items()}


def train(name: str, batch: int, seconds: float) -> None:
    """In each process: train, and have the leader print the images per second as JSON."""
    torch.set_num_threads(1)
    encoder = build_encoder(name, ImageSpec(32, 3, (0.5,) * 3, (0.25,) * 3))
    plan = MODALITY.recipe({"simclr": 1.0}, encoder, examples=512, batch_size=batch)
    times: list[float] = []

    def watch(row: Row, steps: int) -> None:
        times.append(time.perf_counter())

    with all_processes(device="cpu"):
        fabric = make_fabric(device="cpu", precision="32")

        def go(steps: int) -> float:
            """Train for LINES times as many steps, and say how long one took."""
            times.clear()
            given = {"optim": plan.optim, "fabric": fabric, "rows": LINES, "watch": watch}
            pretrain(plan.task, Shared(batch), steps=LINES * steps, **given)
            return (times[-1] - times[0]) / (steps * (LINES - 1))

        each = float(gathering.mean(torch.tensor(go(1))))
        each = go(max(2, round(seconds / each / (LINES - 1))))
        if gathering.rank() == 0:
            print(json.dumps(batch / each))


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
    parser.add_argument("--batch", type=int, help="images a step")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoder", choices=ENCODERS, help="only this one")
    parser.add_argument("--train", choices=ENCODERS, help="what each process is started with")
    asked = parser.parse_args()
    if asked.train:
        train(asked.train, asked.batch, asked.seconds)
        return
    for name in [asked.encoder] if asked.encoder else ENCODERS:
        batch, seconds = asked.batch or ENCODERS[name], asked.seconds
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
