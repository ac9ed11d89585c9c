"""One JSON line per benchmark case, with the machine, the date and the torch it was measured on."""

from __future__ import annotations

import datetime
import json
import os
from typing import Any

import torch

from tacit.experiment.folder import processor


def described() -> dict[str, Any]:
    """Where and when something is measured."""
    where = {"machine": processor(), "cores": os.cpu_count(), "date": datetime.date.today().isoformat()}
    return {**where, "torch": torch.__version__}


def record(case: str, **figures: Any) -> None:
    """Print the case as a JSON line; append standard output to a file of benchmarks/results to keep it."""
    print(json.dumps({"case": case, **figures, **described()}), flush=True)
