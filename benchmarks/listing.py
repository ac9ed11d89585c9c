"""What opening image folders costs: one JSON line per case.

    python benchmarks/listing.py [--files 1000000] [--images 20000] [--parquet FILE --column image]

`list`: hard links of one tiny image, listed only: seconds, and memory beyond what the imports take (Linux). `list tar`:
as many members of tar shards of 10,000, listed, and again from the kept index. `decode`:
images per second of processor time, in this process. `open`: image files decoded for the first time, and opened again
from the cache. `order`: the examples of a step in an epoch of 50 million, beside `torch.randperm`, and of a billion.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from record import record

LISTING = """
import json, re, sys, time
from pathlib import Path
from tacit.dataset import open_dataset
from tacit.dataset import open_source

def memory(name):  # of this process alone: getrusage would count what its parent once had
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

before = memory("VmRSS")
start, worked = time.perf_counter(), time.process_time()
source = open_source(sys.argv[1], root=Path(sys.argv[2]))
seconds, worked = time.perf_counter() - start, time.process_time() - worked
extra = {"peak": memory("VmHWM") - before, "held": memory("VmRSS") - before}
megabytes = {f"extra_{name}_mb": round(value / 1e6, 1) for name, value in extra.items()}
spent = {"seconds": round(seconds, 2), "processor_seconds": round(worked, 2)}
print(json.dumps({"examples": len(source), **spent, **megabytes}))
"""


def listing(folder: Path, n: int) -> None:
    from PIL import Image

    Image.new("L", (8, 8)).save(folder / "seed.png")
    for block in range(0, n, 1000):
        inside = folder / f"class_{block // 1000 % 10}" / f"block_{block // 1000:04d}"
        inside.mkdir(parents=True)
        for i in range(block, min(n, block + 1000)):
            # A file has at most 65,000 names on some file systems: begin a new one in time.
            if i % 50_000 == 0:
                source = inside / f"image_{i:08d}.png"
                source.write_bytes((folder / "seed.png").read_bytes())
            else:
                os.link(source, inside / f"image_{i:08d}.png")
    (folder / "seed.png").unlink()
    record("list", **listed(folder, folder / ".cache"))


def listed(folder: Path, cache: Path) -> dict[str, Any]:
    words = [sys.executable, "-c", LISTING, str(folder), str(cache)]
    said = subprocess.run(words, capture_output=True, text=True, check=True)
    return dict(json.loads(said.stdout))


def shards(folder: Path, n: int) -> None:
    from PIL import Image

    image, header = io.BytesIO(), tarfile.TarInfo()
    Image.new("L", (8, 8)).save(image, "PNG")
    data = image.getvalue()
    for first in range(0, n, 10_000):
        with (folder / f"shard-{first // 10_000:05d}.tar").open("wb") as file:
            for i in range(first, min(n, first + 10_000)):
                header.name, header.size = f"image_{i:08d}.png", len(data)
                file.write(header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512))
            file.write(bytes(1024))
    for case in ("list tar", "list tar again"):
        record(case, **listed(folder, folder / ".cache"))


def opening(folder: Path, parquet: Path, column: str, n: int) -> None:
    import pyarrow.parquet as pq

    from tacit.dataset import open_dataset

    cells = pq.ParquetFile(parquet).read([column])[column][:n]
    (folder / "images").mkdir()
    for i, cell in enumerate(cells):
        (folder / "images" / f"{i:06d}.img.png").write_bytes(cell.as_py())
    for case in ("open cold", "open warm"):
        start = time.perf_counter()
        dataset = open_dataset(folder / "images", cache=str(folder / "cache"))
        seconds = time.perf_counter() - start
        record(case, data=parquet.parent.name, examples=len(dataset), px=dataset.spec.size, seconds=round(seconds, 3))
        del dataset


def decoding(parquet: Path, column: str, n: int) -> None:
    """Images per second of one core, without processes."""
    import numpy as np
    import pyarrow.parquet as pq

    from tacit.modalities.image import decode

    cells = pq.ParquetFile(parquet).read([column])[column][:n].to_pylist()
    header = decode.probe(cells[0])
    size = min(header.width, 96)
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        for cell in cells:
            decode.decode(cell, size, 1 if header.grey else 3, np.dtype(np.uint8))
        best = max(best, len(cells) / (time.process_time() - start))
    record("decode", data=parquet.parent.name, from_px=header.width, to_px=size, images_per_second_per_core=round(best))


def order(n: int = 50_000_000, batch: int = 256) -> None:
    import psutil
    import torch

    start = time.process_time()
    torch.randperm(n)
    randperm = time.process_time() - start
    record(
        "order", examples=n, batch=batch, microseconds_per_step=drawing(n, batch), randperm_seconds=round(randperm, 2)
    )
    held = psutil.Process().memory_info().rss
    spent = drawing(10**9, batch)
    held = psutil.Process().memory_info().rss - held
    record("order", examples=10**9, batch=batch, microseconds_per_step=spent, extra_held_mb=round(held / 1e6, 1))


def drawing(n: int, batch: int, steps: int = 1000) -> int:
    """Microseconds of processor time for the rows of a step anywhere in many epochs."""
    from tacit.training.batches import Batches, Span

    batches = Batches(lambda rows: {}, Span(n), batch)
    batches.rows(0)
    start = time.process_time()
    for step in range(steps):
        batches.rows(step * (n // batch // 100))
    return round((time.process_time() - start) / steps * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--parquet", type=Path, nargs="*", default=[])
    parser.add_argument("--column", default="image")
    args = parser.parse_args()
    order()
    for parquet in args.parquet:
        decoding(parquet, args.column, 2000)
        with tempfile.TemporaryDirectory() as folder:
            opening(Path(folder), parquet, args.column, args.images)
    if args.files:
        for case in (shards, listing):
            with tempfile.TemporaryDirectory() as folder:
                case(Path(folder), args.files)


if __name__ == "__main__":
    main()
