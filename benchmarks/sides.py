"""One side of a comparison: a process of its own that trains or computes, and says how fast it was.

`python -m benchmarks` asks the sides of a case in turn, each by the interpreter that has what it needs, and reads the
last line that they print: their figures as JSON. A script of sides ends with `take_side({"tacit": ours, ...})`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Asked:
    """What a side is told."""

    data: Path  # that the case names, or the empty path
    folder: Path  # shared by the sides and rounds of a case; Tacit's side comes first and prepares what others need
    device: str
    round: int


Said = Mapping[str, Mapping[str, float]]
"""By the name of a part of the case: `rate`, of which more is better, and what else is worth keeping."""


def take_side(sides: Mapping[str, Callable[[Asked], Said]]) -> None:
    """Run the side that the command line names, and print what it said."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=sides)
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--folder", type=Path, default=Path("."))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--round", type=int, default=0)
    asked = parser.parse_args()
    said = sides[asked.side](Asked(asked.data, asked.folder, asked.device, asked.round))
    print(json.dumps(said), flush=True)


def seconds(work: Callable[[], object], *, times: int, device: str = "cpu") -> float:
    """The least of so many, after one that does not count: of the processor, by the clock where a GPU does the work."""
    taken = []
    for _ in range(times + 1):
        began = now(device)
        work()
        taken.append(now(device) - began)
    return min(taken[1:])


def now(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def allow_torchvision() -> None:
    """Let torchvision be imported beside a CPU build of torch, which it takes to know two operators of its own."""
    import torch

    if torch.cuda.is_available():
        return
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)


_kept: list[object] = []  # what a library defines is gone with it
