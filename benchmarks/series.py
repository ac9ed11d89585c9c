"""Time series of the UCR archive: pretrained without labels, judged with all labels and with 1, 5 and 10 per class.

    python benchmarks/series.py UCR [--steps 200] [--tasks simclr,masked] [--encoder series_convnet]
        [--sets ECG200,Plane] [--draws 3] [--threads 1] [--seed 0] [--measured FILE]
        [--rules]

UCR is the folder with SET_train.parquet and SET_test.parquet. The archive's own split is kept: pretrained is on the
training part alone, by so many steps of each task, and judged on the test part by the protocol of `tacit run`, frozen,
against every baseline; training from scratch and fine-tuning at the primary budget alone (10 labels per class, or the
most below that all classes have). One JSON line per set with every arm's balanced accuracy in percent and its 95 %
interval at each label budget, one with the means over sets, and a table of these at the end. MiniRocket of the library
aeon is measured by series_aeon.py.

With --measured nothing is trained: the means of the sets in a file of such lines, each set's latest, which several
processes may have written. With --rules neither: the baselines that need no features, with all labels.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import record

import tacit
from tacit.core.errors import UserError
from tacit.data.dataset import Dataset
from tacit.data.split import Split
from tacit.encoders import build_encoder, fresh_twin
from tacit.evaluation import Arm, Labelled, Report, evaluate
from tacit.modalities import modality_named
from tacit.tasks import parse_mixture
from tacit.training.engine import make_fabric
from tacit.training.loop import pretrain

METRIC = "balanced_accuracy"
BUDGETS = ["1 per class", "5 per class", "10 per class", "100 %"]
PROTOCOLS = {"linear": "", "rule": "", "scratch": "", "finetune": ", fine-tuned"}
SEEDS = 3  # random initialisations of the untrained encoder

Figures = dict[str, dict[str, list[float]]]


def figures(report: Report) -> Figures:
    """Of each arm the mean and its interval at each budget, in percent."""
    found: Figures = {}
    for row in report.results:
        if row.metric == METRIC and row.protocol in PROTOCOLS:
            name = row.arm + PROTOCOLS[row.protocol]
            found.setdefault(name, {})[row.budget] = [round(100 * of, 1) for of in (row.mean, row.low, row.high)]
    return found


def opened(folder: Path, name: str) -> tuple[Dataset, Labelled]:
    """A set by the archive's own split."""
    files = [str(folder / f"{name}_{part}.parquet") for part in ("train", "test")]
    dataset = tacit.open_dataset(files[0], test=files[1], label_column="label")
    assert dataset.split is not None
    train, test = (np.flatnonzero((dataset.split == part) & (dataset.label >= 0)) for part in (0, 1))
    labelled = Labelled(
        fetch=dataset.batch,
        y=dataset.label,
        classes=dataset.classes,
        group=np.arange(len(dataset)),
        train=train,
        test=test,
        content=dataset.content,
    )
    return dataset, labelled


def by_rules(folder: Path, name: str, seed: int) -> dict[str, float]:
    """Balanced accuracy in percent of the baselines that need no features, with all labels."""
    dataset, labelled = opened(folder, name)
    split = Split(rows=np.arange(len(dataset)), pretrain=labelled.train, labelled=labelled)
    found = {}
    for arm in modality_named("series").baselines(dataset.cache, split, seed):
        if arm.rule is not None:
            said = arm.rule(labelled.train, labelled.y[labelled.train], labelled.test)
            right, y = said == labelled.y[labelled.test], labelled.y[labelled.test]
            found[arm.name] = round(100 * float(np.mean([right[y == c].mean() for c in np.unique(y)])), 1)
    return found


def judged(folder: Path, name: str, asked: argparse.Namespace) -> Report:
    """Pretrain on the training part, judge on the test part."""
    dataset, labelled = opened(folder, name)
    train = labelled.train
    modality: Any = modality_named("series")
    fabric = make_fabric(device="cpu")
    arms = []
    for task in asked.tasks.split(","):
        torch.manual_seed(asked.seed)
        weights = parse_mixture(task)
        encoder: Any = build_encoder(asked.encoder or modality.default_encoder(dataset.spec, weights), dataset.spec)
        plan = modality.recipe(weights, encoder, examples=len(train))
        source = modality.batches(dataset.cache, train, plan, asked.seed)
        run = pretrain(plan.task, source, steps=asked.steps, optim=plan.optim, fabric=fabric)
        arms.append(Arm(task, "pretrained", (encoder.eval(),), task=task, encoder=encoder.name, steps=run.steps))
    untrained = tuple(fresh_twin(encoder, seed).eval() for seed in range(SEEDS))
    split = Split(rows=np.arange(len(dataset)), pretrain=train, labelled=labelled)
    views = modality.scratch_views(dataset.spec)
    arms += [
        Arm("random-init", "baseline", untrained, encoder=encoder.name),
        *modality.baselines(dataset.cache, split, asked.seed),
        Arm("scratch", "baseline", build=lambda seed: fresh_twin(encoder, seed), views=views, encoder=encoder.name),
    ]
    return evaluate(arms, labelled, budgets=BUDGETS, draws=asked.draws, seed=asked.seed, scratch_draws=2)


def means_of(by_set: dict[str, Figures]) -> dict[str, dict[str, tuple[float, int]]]:
    """Of each arm and budget the mean over the sets that have it, and how many these are."""
    arms = dict.fromkeys(arm for found in by_set.values() for arm in found)
    means: dict[str, dict[str, tuple[float, int]]] = {arm: {} for arm in arms}
    for arm in arms:
        for budget in BUDGETS:
            values = [found[arm][budget][0] for found in by_set.values() if budget in found.get(arm, {})]
            if values:
                means[arm][budget] = round(float(np.mean(values)), 1), len(values)
    return means


def table(means: dict[str, dict[str, tuple[float, int]]], sets: int) -> str:
    """The means over sets, with their number behind."""
    lines = [f"{f'mean over {sets} sets':<24}" + "".join(f"{budget:>16}" for budget in BUDGETS)]
    for arm, found in means.items():
        cells = [f"{found[b][0]:.1f} ({found[b][1]})" if b in found else "-" for b in BUDGETS]
        lines.append(f"{arm:<24}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ucr", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--tasks", default="simclr,masked")
    parser.add_argument("--encoder")
    parser.add_argument("--sets", help="names separated by commas; all by default")
    parser.add_argument("--draws", type=int, default=3, help="of the labels, at each budget")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measured", type=Path, help="a file of lines of sets, whose means are told")
    parser.add_argument("--rules", action="store_true", help="the baselines that need no features alone")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    started = time.perf_counter()
    names = sorted(path.name.removesuffix("_train.parquet") for path in asked.ucr.glob("*_train.parquet"))
    by_set: dict[str, Figures] = {}
    outcomes: dict[str, str] = {}
    settings = {"tasks": asked.tasks, "steps": asked.steps, "draws": asked.draws, "seed": asked.seed}
    if asked.rules:
        rules = {name: by_rules(asked.ucr, name, asked.seed) for name in names}
        means = {arm: round(float(np.mean([of[arm] for of in rules.values()])), 1) for arm in rules[names[0]]}
        record(
            "series/rules", sets=len(names), seconds=round(time.perf_counter() - started), means=means, figures=rules
        )
        return
    for line in asked.measured.read_text().splitlines() if asked.measured else []:
        said = json.loads(line)
        if "figures" in said and "outcome" in said:
            name = said["case"].partition("/")[2]
            by_set[name], outcomes[name] = said["figures"], said["outcome"]
    names = asked.sets.split(",") if asked.sets else names
    for name in [] if asked.measured else names:
        began = time.perf_counter()
        try:
            report = judged(asked.ucr, name, asked)
        except UserError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        by_set[name], outcomes[name] = figures(report), report.verdict.outcome
        said = {"outcome": report.verdict.outcome, "verdict": report.verdict.text, "figures": by_set[name]}
        record(f"series/{name}", **settings, seconds=round(time.perf_counter() - began), **said)
    all_means = means_of(by_set)
    record("series/mean", **settings, sets=len(by_set), means=all_means, outcomes=outcomes)
    print(table(all_means, len(by_set)), file=sys.stderr)


if __name__ == "__main__":
    main()
