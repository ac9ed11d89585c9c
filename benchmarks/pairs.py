"""What pairs come to: one JSON line per arm and metric of a run, and one for a tower against its single-modality twin.

    python benchmarks/pairs.py fashion FOLDER [--steps 700] [--size 60] [--twin 6m] [--out FOLDER] [--again RUN]
    python benchmarks/pairs.py emoji FOLDER [--steps 300] [--size 64]

`fashion`: FOLDER holds train.parquet and val.parquet of product photos with their names (`text`) and `articleType`.
Pretrained on train, judged on val: searches both ways, the kinds of products by their names alone, and with --twin the
image tower's probe at 5 labels per class against an encoder that was pretrained on the same images without the names,
for so many steps or minutes, or against one that lies in a folder; classes of fewer than 10 training photos are left
out there. --again judges a run that --out kept (with --twin its image tower alone), and trains no other. `emoji`:
FOLDER holds all.parquet of emoji with their names, those of one base kept together.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from record import record

import tacit


def run(case: str, data: str, asked: argparse.Namespace, folder: Path, **settings: Any) -> Any:
    began = time.perf_counter()
    report = tacit.run(
        data,
        text_column="text",
        image_size=asked.size,
        tasks=asked.tasks,
        budget=f"{asked.steps}steps",
        out=str(folder),
        overwrite=True,
        **settings,
    )
    tell(case, report, asked, (time.perf_counter() - began) / 60)
    return report


def tell(case: str, report: Any, asked: argparse.Namespace, minutes: float) -> None:
    how = {"steps": asked.steps, "px": asked.size, "minutes": round(minutes, 1)}
    for of in report.results:
        score = {"mean": round(of.mean, 4), "low": round(of.low, 4), "high": round(of.high, 4), "pairs": of.n_test}
        record(f"pairs {case} {of.arm} {of.metric}", **score, **how)
    record(f"pairs {case} verdict", text=report.verdict.text, **how)


def fashion(asked: argparse.Namespace, folder: Path) -> None:
    data, test = str(asked.folder / "train.parquet"), str(asked.folder / "val.parquet")
    labels = {"label_column": "articleType", "test": test}
    if asked.again is None:
        run("fashion", data, asked, folder / "pairs", **labels)
    elif asked.twin is None:
        began = time.perf_counter()
        report = tacit.evaluate(str(asked.again), data, text_column="text", **labels)
        tell("fashion judged again,", report, asked, (time.perf_counter() - began) / 60)
    if asked.twin is None:
        return
    twin = Path(asked.twin) if Path(asked.twin).is_dir() else folder / "twin"
    if not twin.is_dir():
        alike = {"kind": "image", "image_size": asked.size, "batch_size": 256, "overwrite": True}
        tacit.pretrain(data, task="simclr", budget=asked.twin, out=str(twin), **labels, **alike)
    tower, against = str((asked.again or folder / "pairs") / "encoder" / "image"), [str(twin)]
    data, labels["test"] = (str(frequent(asked.folder, folder, part)) for part in ("train", "val"))
    budget = {"primary_budget": 5, "label_budgets": ["5 per class"]}
    report = tacit.evaluate(tower, data, against=against, kind="image", **budget, **labels)
    how = {"steps": asked.steps, "px": asked.size, "twin": asked.twin if not Path(asked.twin).is_dir() else "kept"}
    for gain in report.gains:
        told = {key: value for key, value in gain.items() if key not in ("arm", "baseline")}
        record(f"pairs fashion tower against {Path(gain['baseline']).name} at 5 labels per class", **told, **how)
    for of in report.results:
        score = {"mean": round(of.mean, 4), "low": round(of.low, 4), "high": round(of.high, 4), "images": of.n_test}
        record(f"pairs fashion tower, {Path(of.arm).name} {of.protocol} {of.metric}", **score, **how)


def frequent(source: Path, folder: Path, part: str, least: int = 10) -> Path:
    """A part with the classes alone that have so many examples in training, of which 5 can be drawn anew."""
    sizes = Counter(pq.read_table(source / "train.parquet", columns=["articleType"])["articleType"].to_pylist())
    table = pq.read_table(source / f"{part}.parquet")
    kept = [sizes[name] >= least for name in table["articleType"].to_pylist()]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.filter(pa.array(kept)), folder / f"{part}.parquet")
    return folder / f"{part}.parquet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=["fashion", "emoji"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--tasks", default="siglip")
    parser.add_argument("--twin", metavar="BUDGET")
    parser.add_argument("--again", type=Path, metavar="RUN", help="judge this run, made by --out, and train none")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    usual = {"fashion": (700, 60), "emoji": (300, 64)}[asked.case]
    asked.steps, asked.size = asked.steps or usual[0], asked.size or usual[1]
    with tempfile.TemporaryDirectory() as folder:
        where = asked.out or Path(folder)
        if asked.case == "fashion":
            fashion(asked, where)
        else:
            run("emoji", str(asked.folder / "all.parquet"), asked, where, group_column="base")


if __name__ == "__main__":
    main()
