"""How long it takes to the first step of masked-token training from step 1 and from step 1,000,000.

    python benchmarks/resuming.py DATA [--rounds 7]

DATA is a table with a text column. Timed is what a resumed run does once its checkpoint is read: the order and the rows
of the step are found, the batch is packed, and one step of a 2 x 128 BERT is taken. One JSON line: the median seconds
of both, taken in turn, and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from record import record

from tacit.dataset import open_dataset
from tacit.encoders import build_encoder
from tacit.modalities import modality_named
from tacit.modalities.text.modality import MODALITY

STEPS = (1, 1_000_000)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    dataset = open_dataset(asked.data, text_column="text")
    plan = MODALITY.recipe({"masked": 1.0}, build_encoder("bert_nano", dataset.spec), examples=len(dataset))
    spent: dict[int, list[float]] = {step: [] for step in STEPS}
    for _ in range(asked.rounds + 1):
        for step in STEPS:
            began = time.perf_counter()
            source = modality_named("text").batches(dataset.cache, np.arange(len(dataset)), plan, 0)
            batch = next(iter(source.stream(step, step + 1)))
            plan.task.progress.fill_(0.5)
            plan.task(batch).loss.backward()
            spent[step].append(time.perf_counter() - began)
    first, far = (statistics.median(spent[step][1:]) for step in STEPS)
    record(
        "resuming/masked",
        documents=len(dataset),
        seconds={str(step): round(statistics.median(spent[step][1:]), 3) for step in STEPS},
        ratio=round(far / first, 3),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
