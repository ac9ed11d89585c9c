"""One JSON line per benchmark case, with the machine, the date and the torch it was measured on."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch


def record(case: str, **figures: Any) -> None:
    """Print the case as a JSON line; append standard output to a file of benchmarks/results to keep it."""
    where = {"machine": _cpu(), "cores": os.cpu_count(), "date": datetime.date.today().isoformat()}
    print(json.dumps({"case": case, **figures, **where, "torch": torch.__version__}), flush=True)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
