"""MiniRocket of the library aeon on time series of the UCR archive, with all labels.

    python benchmarks/series_aeon.py UCR

To be run by an interpreter that has aeon and pyarrow; Tacit is not needed. One JSON line with the balanced accuracy in
percent on the archive's test part of each set, and the means: what `kernels` of series.py stands beside.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from aeon.classification.convolution_based import MiniRocketClassifier
from sklearn.metrics import balanced_accuracy_score


def read(path: Path) -> tuple[Any, Any]:
    """Series [N 1 T], drawn out to the longest, and labels."""
    table = pq.read_table(path)
    series = [np.asarray(of, np.float64) for of in table["series"].to_pylist()]
    longest = max(map(len, series))
    drawn = [np.interp(np.linspace(0, len(of) - 1, longest), np.arange(len(of)), of) for of in series]
    return np.stack(drawn)[:, None], np.asarray(table["label"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ucr", type=Path)
    folder = parser.parse_args().ucr
    found: dict[str, float] = {}
    began = time.perf_counter()
    for path in sorted(folder.glob("*_train.parquet")):
        name = path.name.removesuffix("_train.parquet")
        (X, y), (Z, t) = read(path), read(folder / f"{name}_test.parquet")
        said = MiniRocketClassifier(random_state=0).fit(X, y).predict(Z)
        found[name] = round(100 * float(balanced_accuracy_score(t, said)), 1)
    mean = round(float(np.mean([*found.values()])), 1)
    where = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    when = {"date": datetime.date.today().isoformat(), "seconds": round(time.perf_counter() - began)}
    print(json.dumps({"case": "series/aeon-minirocket", "figures": found, "mean": mean, **where, **when}))


if __name__ == "__main__":
    main()
