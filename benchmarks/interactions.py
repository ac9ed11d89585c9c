"""What sorting events into histories costs, and the memory that it takes however many there are.

    python benchmarks/interactions.py [--rows 10000000 100000000] [--users-each 150] [--items 100000] [--core]

Writes a Parquet file of random events in no order, opens it in a process of its own, and prints one JSON line per
size: seconds, events per second of processor time, and the peak of the process's own memory beyond its imports.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from record import record

BLOCK = 1 << 20  # rows written at a time


def write(path: Path, rows: int, users: int, items: int) -> None:
    rng = np.random.default_rng(0)
    writer = None
    for start in range(0, rows, BLOCK):
        n = min(BLOCK, rows - start)
        table = pa.table(
            {
                "user_id": rng.integers(0, users, n),
                "item_id": (items * rng.random(n) ** 2).astype(np.int64),
                "timestamp": 1_500_000_000 + rng.integers(0, 100_000_000, n),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def opened(path: str, cache: str, core: bool) -> None:
    """In a process of its own: open the file and say what it took."""
    from tacit.dataset import open_dataset

    before, most, done = own_memory(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], own_memory())

    threading.Thread(target=watch, daemon=True).start()
    began, spent = time.perf_counter(), time.process_time()
    settings = {"cache": cache, "k_core": 5 if core else None}
    dataset = open_dataset(path, **settings)
    done.set()
    took = {"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - spent}
    again = time.perf_counter()
    open_dataset(path, **settings)
    took["seconds_again"] = time.perf_counter() - again
    told = {name: round(value, 1) for name, value in took.items()}
    print(json.dumps({"histories": len(dataset), **told, "peak_mb": round(most[0] - before)}))


def own_memory() -> float:
    """MB of this process that no file stands behind: what is mapped from the disk goes when others need the room."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--users-each", type=int, default=150, help="events of a user, on average")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--core", action="store_true", help="with a core of 5")
    ask = parser.parse_args()
    for rows in ask.rows:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "events.parquet"
            write(path, rows, rows // ask.users_each, ask.items)
            call = f"import interactions; interactions.opened({str(path)!r}, {folder + '/cache'!r}, {ask.core})"
            done = subprocess.run(
                [sys.executable, "-c", call], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
            )
            found = json.loads(done.stdout)
        record(
            "interactions",
            events=rows,
            users=rows // ask.users_each,
            items=ask.items,
            core=ask.core,
            events_per_processor_second=round(rows / found["processor_seconds"]),
            **found,
        )


if __name__ == "__main__":
    main()
