"""What judging costs: 7 arms, 5 budgets, 10 draws, 200 training labels, 500 test items, 128 dimensions, 10 classes.

    taskset -c 0 python benchmarks/evaluation.py

Processor seconds of this process beside wall-clock seconds, and the memory beyond the imports. The random-init arm is
three encoders, so that nine are probed; the choice among three pretrained arms inside the training labels is included,
training from scratch is not.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
import torch
from record import record

from tacit.evaluation import Arm, Labelled, evaluate
from tacit.types import Batch, Features

CLASSES, WIDTH, TRAIN, TEST = 10, 128, 200, 500
BUDGETS = (1, 2, 5, 10, 1.0)


class Vectors:
    """An encoder that looks up one row per example."""

    n_depths, dim = 0, WIDTH

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def __call__(self, batch: Batch, *, depths: object = ()) -> Features:
        pooled = self.rows[batch["index"]]
        return Features(pooled[:, None], pooled)


def main() -> None:
    rng = np.random.default_rng(0)
    n = TRAIN + TEST
    y = rng.permutation(np.arange(n) % CLASSES)

    def encoder(signal: float) -> Vectors:
        centres = rng.normal(0, signal, (CLASSES, WIDTH))
        return Vectors(torch.tensor(centres[y] + rng.normal(0, 1, (n, WIDTH)), dtype=torch.float32))

    arms = [Arm(f"task {i}", "pretrained", (encoder(0.3 + 0.02 * i),)) for i in range(3)]
    arms += [Arm(name, "baseline", (encoder(0.25),)) for name in ("pixels", "hf:a", "hf:b")]
    arms.append(Arm("random-init", "baseline", tuple(encoder(0.2) for _ in range(3))))
    labelled = Labelled(
        lambda rows: {"index": torch.from_numpy(rows)},
        y,
        tuple(map(str, range(CLASSES))),
        np.arange(n),
        np.arange(TRAIN),
        np.arange(TRAIN, n),
    )
    evaluate(arms[-2:], labelled, budgets=[1], draws=2)  # imports
    before, wall, processor = memory(), time.perf_counter(), time.process_time()
    report = evaluate(arms, labelled, budgets=BUDGETS, draws=10)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    record(
        "evaluate/7x5x10",
        seconds=round(wall, 1),
        processor_seconds=round(processor, 1),
        extra_peak_mb=round(memory() - before),
        outcome=report.verdict.outcome,
    )


def memory() -> float:
    """Peak resident megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
