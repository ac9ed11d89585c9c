"""Full rankings: what they take, and what counting alone recommends.

    python benchmarks/ranking.py speed                       6,000 histories x 3,700 items, on one core
    python benchmarks/ranking.py counts FILE [--by-time]     a Parquet table of user, item, and position or timestamp

The speed is that of a ranker which is a matrix product of 64 dimensions, and of one whose scores are equal for most
items; each the fastest of three, in seconds of the processor. Counts are judged leaving out each user's last event, or
by time, with seen items filtered: nDCG@10 in per cent with its 95 % interval, and the settings chosen in validation.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from record import record
from torch import Tensor

from tacit.core.types import Batch
from tacit.evaluation import Arm, evaluate
from tacit.evaluation.targets.ranking import rank
from tacit.modalities.events.counts import counted
from tacit.modalities.events.histories import Histories
from tacit.modalities.events.holdout import by_time, leave_one_out

USERS, ITEMS, EVENTS, DIM = 6_000, 3_700, 165, 64


def speed() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    start = np.arange(USERS) * EVENTS
    histories = Histories(rng.integers(0, ITEMS, USERS * EVENTS), start, start + EVENTS, ITEMS)
    states, table = (torch.from_numpy(rng.normal(size=(n, DIM)).astype(np.float32)) for n in (USERS, ITEMS))
    uses = torch.from_numpy(np.sort(rng.geometric(0.2, ITEMS)).astype(np.float32))

    def product(batch: Batch) -> Tensor:
        return states[batch["index"]] @ table.T

    def popular(batch: Batch) -> Tensor:
        return uses.expand(len(batch["index"]), -1)

    for ranker in (product, popular):
        seconds = []
        for _ in range(3):
            began = time.process_time()
            rank(ranker, histories.batch, np.arange(USERS), ITEMS)
            seconds.append(time.process_time() - began)
        record(f"ranking/{ranker.__name__}", histories=USERS, items=ITEMS, processor_seconds=round(min(seconds), 2))


def counts(file: Path, by: bool) -> None:
    histories, times = read(file)
    if by and times is None:
        raise SystemExit(f"{file} has no column 'timestamp'")
    held = by_time(histories, times) if by and times is not None else leave_one_out(histories)
    began = time.process_time()
    rankers = counted(held.learn, held.contexts.take(held.train), held.came[held.train], times)
    counting, began = time.process_time() - began, time.process_time()
    arms = [Arm(name, "baseline", (ranker,), encoder=ranker.description) for name, ranker in rankers.items()]
    report = evaluate(arms, held.labelled())
    judging = time.process_time() - began
    for arm in arms:
        found = {r.metric.split("/")[0]: r for r in report.results if r.arm == arm.name}
        main = found["ndcg@10"]
        record(
            f"counts/{file.parent.name}/{'by time' if by else 'leave one out'}/{arm.name}",
            settings=arm.encoder,
            ndcg10=[round(100 * value, 2) for value in (main.mean, main.low, main.high)],
            **{name: round(100 * found[name].mean, 2) for name in ("hr@10", "coverage@10", "popularity_bias@10")},
            histories=main.n_test,
            counting_seconds=round(counting, 1),
            judging_seconds=round(judging, 1),
        )


def read(file: Path) -> tuple[Histories, NDArray[np.int64] | None]:
    """Histories in order of time or position, and the times, if any; equal times stay in the order of the rows."""
    table = pq.read_table(file)
    timed = "timestamp" in table.column_names
    user, item, moment = (table[name].to_numpy() for name in ("user", "item", "timestamp" if timed else "position"))
    order = np.lexsort((moment, user))
    start = np.flatnonzero(np.diff(user[order], prepend=user[order][0] - 1))
    names, items = np.unique(item[order], return_inverse=True)
    return Histories(items, start, np.append(start[1:], len(items)), len(names)), moment[order] if timed else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=["speed", "counts"])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--by-time", action="store_true")
    asked = parser.parse_args()
    if asked.case == "speed":
        speed()
    else:
        counts(asked.file, asked.by_time)
