"""Ordinary data under ordinary budgets: whether each run ends well, in its time, with half of it trained.

    python benchmarks/short_budgets.py FOLDER [CASE ...] [--neighbour] >> benchmarks/results/short_budgets.jsonl

FOLDER holds fashion_mnist, trec6 and fsdd as `python -m benchmarks --list` calls them. With `--neighbour` a second
process keeps one core busy all the while. Prints the exit status, the seconds in all, those of training as
metrics.jsonl has them, and the budget; a run that is refused trains nothing and names the smallest budget that works.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import record

LABELLED = ["--label-column", "label"]
CASES: dict[str, tuple[list[str], int]] = {
    "fashion": (["fashion_mnist/train_20k.parquet", "--test", "fashion_mnist/test.parquet", *LABELLED], 240),
    "trec6 fine": (["trec6/train.parquet", "--test", "trec6/test.parquet", "--label-column", "label_fine"], 300),
    "trec6": (["trec6/train.parquet", "--test", "trec6/test.parquet", *LABELLED], 60),
    "fsdd": (["fsdd/train.parquet", *LABELLED, "--group-column", "speaker"], 90),
    "fsdd, one test group": (
        ["fsdd/train.parquet", *LABELLED, "--holdout", "speaker=theo", "--group-column", "speaker"],
        120,
    ),
    "digits": (["digits"], 20),
}


def trained(run: Path) -> float:
    """Seconds that the tasks of a run were trained in all."""
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return float(sum({row["task"]: row["seconds"] for row in map(json.loads, lines)}.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--neighbour", action="store_true")
    settings = parser.parse_args()
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if settings.neighbour else None
    try:
        for name in settings.cases or CASES:
            words, budget = CASES[name]
            words = [str(settings.folder / word) if "/" in word else word for word in words]
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder, "run")
                command = [sys.executable, "-m", "tacit", "run", *words, "--budget", f"{budget}s", "--out", str(run)]
                began = time.perf_counter()
                done = subprocess.run(command, capture_output=True, text=True)
                seconds = time.perf_counter() - began
                record(
                    f"short budget/{name}",
                    budget=budget,
                    neighbour=settings.neighbour,
                    exit=done.returncode,
                    seconds=round(seconds, 1),
                    trained=round(trained(run), 1),
                    refused=done.stderr.strip().splitlines()[-1] if done.returncode else "",
                )
    finally:
        if busy is not None:
            busy.kill()
            busy.wait()


if __name__ == "__main__":
    main()
