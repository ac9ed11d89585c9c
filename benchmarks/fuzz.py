"""Damages files of runs, encoders, exports, reports, embeddings and caches, and counts what the commands make of them.

    python benchmarks/fuzz.py --trials 500 >> benchmarks/results/fuzz.jsonl

A file of one folder is flipped in a bit, cut, emptied, replaced by other JSON or YAML, deleted, swapped with another or
made a folder; then one command is asked. Nothing but an error of one line or the answer of the undamaged folder may
come out, within a minute, and what a person has put into every folder stays as it is. See `tests/fuzzing.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import record

from tests import fuzzing, made

BAD = ("traceback", "hang", "wrong", "foreign")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.perf_counter()
    came: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        once = made.make(Path(folder) / "made")
        right = fuzzing.Right(once)
        every = islice(fuzzing.trials(once, asked.seed), asked.trials)
        for number, (name, file, kind, command) in enumerate(every):
            outcome = fuzzing.trial(once, name, file, kind, command, right.to(name, command), asked.seed + number)
            came[outcome.came] += 1
            kinds[outcome.kind] += 1
            if outcome.came in BAD:
                bad.append(f"{outcome.kind} {outcome.file}, {outcome.command.strip('_')}: {outcome.came}")
                print(*outcome, file=sys.stderr, flush=True)
    record(
        "fuzz",
        trials=sum(came.values()),
        damages=dict(kinds),
        told=came["told"],
        right=came["right"],
        **{f"{what}s" if what == "traceback" else what: came[what] for what in BAD},
        bad=bad,
        seconds=round(time.perf_counter() - began),
        seed=asked.seed,
    )


if __name__ == "__main__":
    main()
