"""What long recordings and many hours of them cost: one JSON line per case, with memory in MB.

    python benchmarks/recordings.py [--hours 100] [--rounds 3]

`hour`: one recording of an hour at 16 kHz, decoded into the cache: memory beyond what the imports take, and processor
milliseconds of a step of masked prediction (audio_nano, 64 pieces of a second) on it, beside a step on an hour of clips
of a second; `ratio` is the median over steps in turn.
`listed`: HOURS of one-minute recordings at 8 kHz, all different, beside a hundredth of them: memory while they are
decoded, while they are opened again, and over 200 batches.

`peak_mb` is the most that this process and its decoders held in memory of their own at any of the moments looked at,
beyond what the imports took; pages of mapped files are not counted, since the system takes these back when it likes.
`mapped_mb` is the most that it held of these. Linux only.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

BATCH, BATCHES, STEPS = 64, 200, 8


def held(process: int | str, name: str) -> float:
    """MB of a process: RssAnon, its own, or RssFile, pages of files."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:  # it has just ended
        return 0.0
    found = re.search(name + r":\s+(\d+) kB", status)
    return int(found[1]) / 1e3 if found else 0.0


@contextmanager
def watched(found: dict[str, float], name: str) -> Iterator[None]:
    """Add the most memory held meanwhile to `found`, and the seconds it took."""
    import psutil

    own = psutil.Process()
    before, most, done = held("self", "RssAnon"), [0.0, 0.0], threading.Event()

    def look() -> None:
        last = False
        while not last:
            last = done.wait(0.02)
            total = held("self", "RssAnon") + sum(held(child.pid, "RssAnon") for child in own.children(recursive=True))
            most[:] = [max(most[0], total - before), max(most[1], held("self", "RssFile"))]

    watcher = threading.Thread(target=look)
    watcher.start()
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
    found |= {f"{name}_peak_mb": round(most[0], 1), f"{name}_mapped_mb": round(most[1], 1)}
    found[f"{name}_seconds"] = round(seconds, 2)


def opened(folder: str) -> dict[str, float]:
    """Decode, open again, and read batches of pieces of what lies in a folder."""
    import torch  # noqa: F401  (imported before anything is measured)

    from tacit.dataset import open_dataset
    from tacit.modalities.audio import recordings
    from tacit.training.batches import Batches, Span

    open_dataset(f"{folder}/first", cache=f"{folder}/cache")  # what is imported on first use does not count
    found: dict[str, float] = {}
    for name in ("decoding", "opening"):
        with watched(found, name):
            dataset = open_dataset(f"{folder}/data", cache=f"{folder}/cache")
    assert isinstance(dataset.cache, recordings.Recordings)
    with watched(found, "reading"):
        pieces = recordings.Pieces(dataset.cache, np.arange(len(dataset)), 2.0)
        source = Batches(pieces.batch, Span(len(pieces)), batch_size=BATCH)
        for step in range(BATCHES):
            source(step)
    found["hours"] = round(dataset.cache.seconds / 3600, 2)
    found["recordings"] = len(dataset)
    return found


def stepped(folder: str) -> list[dict[str, float]]:
    """Milliseconds of reading a batch and of a whole step, on an hour in one piece and in clips, in turn."""
    import torch

    from tacit.dataset import open_dataset
    from tacit.encoders import build_encoder
    from tacit.modalities.audio import recordings
    from tacit.modalities.audio.modality import MODALITY
    from tacit.modalities.audio.spec import AudioSpec
    from tacit.modalities.recipe import make_task
    from tacit.training.batches import Batches, Span

    torch.set_num_threads(1)
    sources = []
    for name in ("data", "clips"):
        dataset = open_dataset(f"{folder}/{name}", cache=f"{folder}/cache")
        assert isinstance(dataset.cache, recordings.Recordings)
        pieces = recordings.Pieces(dataset.cache, np.arange(len(dataset)), 1.0)
        sources.append(Batches(pieces.batch, Span(len(pieces)), batch_size=BATCH))
    spec = dataset.spec
    assert isinstance(spec, AudioSpec)
    task = make_task(MODALITY, "masked", build_encoder("audio_nano", spec))  # type: ignore[arg-type]
    found = []
    for _ in range(STEPS):
        figures = {}
        for source, name in zip(sources, ("long", "clips"), strict=True):
            began = time.process_time()
            batch = source(len(found))
            read = time.process_time()
            task(batch).loss.backward()
            figures[f"{name}_read"], figures[f"{name}_step"] = read - began, time.process_time() - began
        found.append(figures)
    return found[1:]


def sound(number: int, seconds: float, rate: int) -> np.ndarray:
    """Noise, another of each number, int16 [S]."""
    chance = np.random.default_rng(number)
    block = chance.integers(-8000, 8000, 1 << 16, dtype=np.int16)
    return np.resize(block, round(seconds * rate))


def written(folder: Path, n: int, seconds: float, rate: int, first: int = 0) -> None:
    import soundfile

    folder.mkdir()
    for number in range(n):
        soundfile.write(folder / f"{number:06d}.wav", sound(first + number, seconds, rate), rate)


def asked(side: str, folder: Path) -> Any:
    done = subprocess.run([sys.executable, __file__, "--side", side, str(folder)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def hour(rounds: int) -> None:
    from record import record

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written(folder / "first", 2, 1.0, 16_000, 10_000)
        written(folder / "data", 1, 3600.0, 16_000)
        written(folder / "clips", 3600, 1.0, 16_000, 1)
        (folder / "data" / "second.wav").write_bytes((folder / "clips" / "000000.wav").read_bytes())
        memory = asked("opened", folder)
        found = [step for _ in range(rounds) for step in asked("stepped", folder)]
    of = {key: 1e3 * statistics.median(step[key] for step in found) for key in found[0]}
    ratio = statistics.median(step["long_step"] / step["clips_step"] for step in found)
    record("recordings/hour", **memory, **{f"{key}_ms": round(ms, 2) for key, ms in of.items()}, ratio=round(ratio, 3))


def listed(hours: int) -> None:
    from record import record

    for n in (max(2, 60 * hours // 100), 60 * hours):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            written(folder / "first", 2, 1.0, 8_000, 1_000_000)
            written(folder / "data", n, 60.0, 8_000)
            record("recordings/listed", **asked("opened", folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=["opened", "stepped"])
    parser.add_argument("folder", nargs="?")
    args = parser.parse_args()
    if args.side:
        return print(json.dumps({"opened": opened, "stepped": stepped}[args.side](args.folder)))
    hour(args.rounds)
    listed(args.hours)


if __name__ == "__main__":
    main()
