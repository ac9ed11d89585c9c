"""What judging costs.

    python benchmarks/evaluation.py report    8 arms x 7 budgets x 10 draws, 512 dimensions, 2,000 test items
    python benchmarks/evaluation.py memory    `tacit evaluate` of two files of 100,000 x 768 embeddings, all budgets

Ten classes. Processor seconds beside wall-clock seconds, and the peak memory of the process. The report's random-init
arm is three encoders, so that ten are probed; the choice among three pretrained arms inside the training labels is
included, training from scratch is not.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from record import record

from tacit.core.types import Batch
from tacit.evaluation import Arm, Labelled, evaluate
from tacit.evaluation.features import Stored

CLASSES, WIDTH, TRAIN, TEST = 10, 512, 5_000, 2_000
BUDGETS = (1, 2, 5, 10, 20, 50, 100)
ROWS, LONG = 100_000, 768


def vectors(rng: np.random.Generator, y: NDArray[np.int64], width: int, signal: float) -> NDArray[np.float32]:
    """Classes as clouds, in features of which few directions carry most, as encoders have them."""
    centres = rng.normal(0, signal, (CLASSES, width))
    return ((centres[y] + rng.normal(size=(len(y), width))) / np.arange(1, width + 1) ** 0.4).astype(np.float32)


def fetch(rows: NDArray[np.int64]) -> Batch:
    raise AssertionError("everything is stored")


def report() -> None:
    rng = np.random.default_rng(0)
    n = TRAIN + TEST
    y = rng.permutation(np.arange(n) % CLASSES)

    def encoder(signal: float) -> Stored:
        return Stored(vectors(rng, y, WIDTH, signal))

    arms = [Arm(f"task {i}", "pretrained", (encoder(0.3 + 0.02 * i),)) for i in range(3)]
    arms += [Arm(name, "baseline", (encoder(0.25),)) for name in ("pixels", "hf:a", "hf:b", "hf:c")]
    arms.append(Arm("random-init", "baseline", tuple(encoder(0.2) for _ in range(3))))
    classes = tuple(map(str, range(CLASSES)))
    labelled = Labelled(fetch, y, classes, np.arange(n), np.arange(TRAIN), np.arange(TRAIN, n))
    evaluate(arms[-2:], labelled, budgets=[1], draws=2)  # imports
    wall, processor = time.perf_counter(), time.process_time()
    found = evaluate(arms, labelled, budgets=BUDGETS, draws=10)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    record(
        "evaluate/8x7x10",
        seconds=round(wall, 1),
        processor_seconds=round(processor, 1),
        peak_mb=round(peak(resource.RUSAGE_SELF)),
        outcome=found.verdict.outcome,
    )


def memory() -> None:
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(ROWS) % CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{name}.npz") for name in ("good", "weak")]
        for file, signal in zip(files, (0.3, 0.2), strict=True):
            np.savez(file, embedding=vectors(rng, y, LONG, signal), label=y, id=np.arange(ROWS))
        command = [sys.executable, "-m", "tacit", "evaluate", files[0], "--against", files[1]]
        wall = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        wall = time.perf_counter() - wall
    record(
        "evaluate/100000x768",
        files=2,
        seconds=round(wall, 1),
        peak_mb=round(peak(resource.RUSAGE_CHILDREN)),
        verdict=next(line for line in done.stdout.splitlines() if line.startswith("TRANSFERS")).split(":")[0],
    )


def peak(who: int) -> float:
    """Resident megabytes at most."""
    return resource.getrusage(who).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    {"report": report, "memory": memory}[sys.argv[1]]()
