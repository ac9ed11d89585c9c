"""Trainings of every kind of data under faults: how many are lost, and how many go unseen. Both should be none.

    python benchmarks/faults.py [--kills 50] [--flips 100] [--truncations 20] [--seed 0]

Kills: SIGKILL at random moments, most of them amid checkpoints, which here come after every step; a run is lost that
does not end with the same bits as one that was left alone. Damage: flipped bits and files cut off at random places in
the files of a checkpoint, and each file deleted once; unseen is what is not named and passed over for the checkpoint
before.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import record

from tests import processes
from tests.faults import OF_EVERY_KIND, damages, survives, train

PRELOADED = [
    "tests.preload",
    "tacit.modalities.text.bert",
    "tacit.modalities.image.vit",
    "tacit.modalities.events.sasrec",
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--truncations", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance, began = random.Random(asked.seed), time.perf_counter()
    shares = [len(range(number, asked.kills, len(OF_EVERY_KIND))) for number in range(len(OF_EVERY_KIND))]
    lost = []
    processes.server().set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        for mixture, kills in zip(OF_EVERY_KIND, shares, strict=True):
            if not survives(mixture, Path(folder) / mixture, kills, chance):
                lost.append(mixture)
        train("items:next", Path(folder) / "damaged", steps=3)
        found = list(damages(Path(folder) / "damaged" / "checkpoints" / "task", asked.flips, asked.truncations, chance))
    record(
        "faults",
        kills=dict(zip(OF_EVERY_KIND, shares, strict=True)),
        lost=lost,
        damages=dict(Counter(damage.kind for damage in found)),
        unseen=[damage for damage in found if not damage.noticed],
        seconds=round(time.perf_counter() - began),
        seed=asked.seed,
    )


if __name__ == "__main__":
    main()
