"""Time series of the UCR archive: pretrained without labels, judged with all labels and with 1, 5 and 10 per class.

    python benchmarks/series.py UCR [--steps 600] [--task simclr] [--encoder series_convnet] [--sets ECG200,Plane]
        [--threads 1] [--seed 0] [--quick] [--aeon]

UCR is the folder with SET_train.parquet and SET_test.parquet. The archive's own split is kept: pretrained is on the
training part alone, and judged is on the test part, by `tacit run`. One JSON line per set with every arm's balanced
accuracy in percent and its 95 % interval at each label budget, and one with the means over sets; a table at the end.
With --aeon MiniRocket and Hydra of the library aeon learn from all labels too (accuracy and balanced accuracy).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import record

import tacit

METRIC = "balanced_accuracy"
BUDGETS = ["1 per class", "5 per class", "10 per class", "100 %"]
PROTOCOLS = {"linear": "", "rule": "", "scratch": "", "finetune": ", fine-tuned"}


def figures(report: Any) -> dict[str, dict[str, list[float]]]:
    """Of each arm the mean and its interval at each budget, in percent."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in report.results:
        if row.metric == METRIC and row.protocol in PROTOCOLS:
            name = row.arm + PROTOCOLS[row.protocol]
            found.setdefault(name, {})[row.budget] = [round(100 * of, 1) for of in (row.mean, row.low, row.high)]
    return found


def judged(folder: Path, name: str, asked: argparse.Namespace) -> tuple[Any, float]:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        report = tacit.run(
            str(folder / f"{name}_train.parquet"),
            test=str(folder / f"{name}_test.parquet"),
            label_column="label",
            tasks=asked.task,
            encoder=asked.encoder,
            budget=f"{asked.steps}steps",
            label_budgets=BUDGETS,
            train_every_budget=not asked.quick,
            seed=asked.seed,
            out=str(Path(out) / "run"),
            device="cpu",
        )
    return report, time.perf_counter() - began


def by_aeon(folder: Path, name: str) -> dict[str, list[float]]:
    """Accuracy and balanced accuracy in percent of the library's own classifiers, with all labels."""
    import pyarrow.parquet as pq
    from aeon.classification.convolution_based import HydraClassifier, MiniRocketClassifier
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    def read(part: str) -> tuple[Any, Any]:
        table = pq.read_table(folder / f"{name}_{part}.parquet")
        series = [np.asarray(of, np.float64) for of in table["series"].to_pylist()]
        longest = max(map(len, series))
        X = np.stack([np.interp(np.linspace(0, len(of) - 1, longest), np.arange(len(of)), of) for of in series])
        return X[:, None], np.asarray(table["label"])

    (X, y), (Z, t) = read("train"), read("test")
    found = {}
    for model in (MiniRocketClassifier(random_state=0), HydraClassifier(random_state=0)):
        said = model.fit(X, y).predict(Z)
        scores = (accuracy_score(t, said), balanced_accuracy_score(t, said))
        found[f"aeon {type(model).__name__.removesuffix('Classifier')}"] = [round(100 * of, 1) for of in scores]
    return found


def table(by_set: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """Means over sets of each arm at each budget, and how many sets an arm is first in."""
    arms = sorted({arm for found in by_set.values() for arm in found})
    lines = [f"{'mean over ' + str(len(by_set)) + ' sets':<26}" + "".join(f"{budget:>15}" for budget in BUDGETS)]
    for arm in arms:
        cells = []
        for budget in BUDGETS:
            values = [found[arm][budget][0] for found in by_set.values() if budget in found.get(arm, {})]
            cells.append(f"{np.mean(values):>9.1f} ({len(values):>2})" if values else f"{'':>14}")
        lines.append(f"{arm:<26}" + " ".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ucr", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--task", default="simclr")
    parser.add_argument("--encoder", default="series_convnet")
    parser.add_argument("--sets", help="names separated by commas; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="train from scratch and fine-tune at the primary budget alone"
    )
    parser.add_argument("--aeon", action="store_true", help="beside the library aeon, where it is installed")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    names = sorted(path.name.removesuffix("_train.parquet") for path in asked.ucr.glob("*_train.parquet"))
    names = asked.sets.split(",") if asked.sets else names
    by_set: dict[str, dict[str, dict[str, list[float]]]] = {}
    verdicts: dict[str, str] = {}
    for name in names:
        try:
            report, seconds = judged(asked.ucr, name, asked)
        except tacit.UserError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        by_set[name], verdicts[name] = figures(report), report.verdict.outcome
        more = by_aeon(asked.ucr, name) if asked.aeon else {}
        record(
            f"series/{name}",
            task=asked.task,
            encoder=asked.encoder,
            steps=asked.steps,
            seconds=round(seconds),
            outcome=report.verdict.outcome,
            verdict=report.verdict.text,
            figures=by_set[name],
            **({"aeon": more} if more else {}),
        )
    arms = sorted({arm for found in by_set.values() for arm in found})
    means = {
        arm: {
            budget: round(float(np.mean(values)), 1)
            for budget in BUDGETS
            if (values := [found[arm][budget][0] for found in by_set.values() if budget in found.get(arm, {})])
        }
        for arm in arms
    }
    record(
        "series/mean",
        task=asked.task,
        encoder=asked.encoder,
        sets=len(by_set),
        steps=asked.steps,
        means=means,
        outcomes=verdicts,
    )
    print(table(by_set), file=sys.stderr)


if __name__ == "__main__":
    main()
