"""What looking for near-copies costs, and what it finds: one JSON line.

    python benchmarks/duplicates.py [--images 100000] [--tested 0.3] [--px 32]

Made pictures with the spectrum of photos, 30 % of them a sealed test set compared with all others; one in a hundred
test pictures is made a near-copy of another: brighter, darker, or shifted by a pixel. Seconds by the clock and of the
processor, and the memory beyond the imports (the decoded pictures, mapped from a file, are not counted on Linux).
"""

from __future__ import annotations

import argparse
import re
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import record

from tacit.modalities.image.copies import find_copies
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.image.store import Cache


def pictures(n: int, side: int, seed: int) -> NDArray[np.uint8]:
    """[n 3 side side]: amplitudes fall with frequency, phases are chance."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    amplitude = 1 / np.maximum(frequency, 1 / side) ** 1.2
    waves = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((n, 3, side, side), np.float32)) * amplitude)
    waves += 2 * waves[:, :1]  # channels go together
    waves /= waves.std(axis=(2, 3), keepdims=True)
    return (128 + 45 * waves).clip(0, 255).round().astype(np.uint8)


def planted(image: NDArray[np.uint8], kind: int) -> Any:
    if kind == 2:
        return np.roll(image, 1, axis=2)
    return (image * (1.05, 0.95)[kind]).clip(0, 255).round().astype(np.uint8)


def memory() -> float:
    """Peak megabytes of this process without mapped files, where the system tells them apart."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"RssAnon:\s+(\d+) kB", status.read_text())):
        return int(found[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--tested", type=float, default=0.3)
    parser.add_argument("--px", type=int, default=32)
    args = parser.parse_args()
    n, side, n_test = args.images, args.px, round(args.tested * args.images)
    with tempfile.TemporaryDirectory() as folder:
        shape = (n, 3, side, side)
        mapped = np.memmap(Path(folder) / "images.bin", np.uint8, "w+", shape=shape)
        for start in range(0, n, 2000):
            mapped[start : start + 2000] = pictures(min(2000, n - start), side, seed=start)
        copied = np.arange(0, n_test, 100)
        for row in copied:
            mapped[row] = planted(mapped[n_test + row], row // 100 % 3)
        mapped.flush()
        pixels = np.asarray(np.memmap(Path(folder) / "images.bin", np.uint8, "r", shape=shape))
        content = np.arange(2 * n, dtype=np.int64).view("V16")  # no exact copies
        spec = ImageSpec(side, 3, (0.5,) * 3, (0.2,) * 3)
        cache = Cache(pixels, content, spec, "made")
        find_copies(cache, np.arange(50), np.arange(50, 200))  # imports
        before, wall, processor = memory(), time.perf_counter(), time.process_time()
        peak = Peak()
        found = find_copies(cache, np.arange(n_test), np.arange(n_test, n))
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        truth = np.full(n_test, -1)
        truth[copied] = n_test + copied
        record(
            "duplicates",
            images=n,
            tested=n_test,
            px=side,
            seconds=round(wall, 1),
            processor_seconds=round(processor, 1),
            extra_peak_mb=round(peak.stop() - before),
            planted=len(copied),
            recall=round(float((found.twin[copied] == truth[copied]).mean()), 4),
            false_per_10k=round(1e4 * float((found.found & (found.twin != truth)).mean()), 2),
            threshold=round(found.threshold or 0.0, 3),
        )


class Peak:
    """Samples `memory` until stopped: the system keeps no peak of memory that is not mapped from files."""

    def __init__(self) -> None:
        import threading

        self._highest, self._done = memory(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self._highest = max(self._highest, memory())

    def stop(self) -> float:
        self._done.set()
        self._thread.join()
        return self._highest


if __name__ == "__main__":
    main()
