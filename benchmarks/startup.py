"""From typing the command to the first training step, on 20,000 images that are cached already.

    python benchmarks/startup.py FOLDER_OR_TABLE [-- --image-column image ...]

Runs `tacit pretrain DATA --budget 1steps` twice, the first time to fill the cache, and prints seconds to the end of the
first step, and how many of them the imports of torch and Lightning Fabric take alone in a process of their own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

from record import record

FIRST = "step 1 of"
IMPORTS = "import torch, lightning_fabric"


def seconds(command: list[str], until: str = "") -> float:
    """To the line of standard error that holds `until`, else to the end."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if until and until in line:
                found = time.perf_counter() - began
                process.stderr.read()
                return found
    assert not until, "the line never came"
    return time.perf_counter() - began


def main() -> None:
    data, *options = [word for word in sys.argv[1:] if word != "--"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tacit", "pretrain", data, *options]
        command += ["--budget", "2steps", "--overwrite", "--out", f"{folder}/run", "--cache", f"{folder}/cache"]
        first = seconds(command, FIRST)
        cached = [seconds(command, FIRST) for _ in range(3)]
        imports = [seconds([sys.executable, "-c", IMPORTS]) for _ in range(3)]
    whole, libraries = statistics.median(cached), statistics.median(imports)
    record(
        "startup/first-step",
        cold_seconds=round(first, 2),
        cached_seconds=round(whole, 2),
        library_import_seconds=round(libraries, 2),
        own_seconds=round(whole - libraries, 2),
    )


if __name__ == "__main__":
    main()
