"""What a setting of a pretext task is worth on somebody's images: the tool behind docs/experiments.md.

    python benchmarks/recipes.py DATA --label-column label [--group-column person] [--seconds 60] [--limit 12000]
        [--task simclr] [--baselines] [lr=1e-2] [batch_size=64] [temperature=.5] [width=128] [views.crop=(.5,1.)] ...

Trains for so many processor seconds of one thread (so that a busy machine blurs nothing), then probes: a fifth of the
groups tests, draws of 1, 2, 5, 10 and 50 labels per class come from 3,000 of the others, 10 draws (4 of 50). Sealed
test sets are for reports; give the training part of a dataset. One JSON line per representation, accuracy in percent.
"""

from __future__ import annotations

import argparse
import ast
import copy
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import record

from tacit.core import keys
from tacit.dataset import open_dataset
from tacit.encoders import build_encoder
from tacit.evaluation.features import extract
from tacit.evaluation.targets.classification import Classification
from tacit.modalities.image.baselines import PixelStatistics
from tacit.modalities.image.modality import MODALITY
from tacit.modalities.recipe import Recipe
from tacit.training.batches import Batches
from tacit.training.engine import make_fabric
from tacit.training.loop import pretrain

DRAWS = {1: 10, 2: 10, 5: 10, 10: 10, 50: 4}
POOL = 3_000


def adjusted(plan: Recipe, settings: dict[str, Any]) -> Recipe:
    """The recipe with `lr`, `temperature` and `views.*` as asked."""
    task: Any = plan.task
    optim = plan.optim
    for name, value in settings.items():
        if name == "lr":
            optim = replace(optim, lr=value)
        elif name.startswith("views."):
            task.views = replace(task.views, **{name.removeprefix("views."): value})
        else:
            assert hasattr(task, name), f"the task has no {name}"
            setattr(task, name, value)
    return replace(plan, optim=optim)


def step_seconds(plan: Recipe, source: Batches) -> float:
    """Processor seconds of a step, the first two not counted."""
    spent = []
    for steps in (2, 8):
        began = time.process_time()
        pretrain(copy.deepcopy(plan.task), source, steps=steps, optim=plan.optim, fabric=make_fabric(precision="32"))
        spent.append(time.process_time() - began)
    return (spent[1] - spent[0]) / 6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--group-column")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--limit", type=int, default=20_000, help="images at most")
    parser.add_argument("--task", default="simclr")
    parser.add_argument("--encoder", default="convnet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--baselines", action="store_true", help="judge plain pixels and the untrained encoder too")
    asked = parser.parse_intermixed_args()
    settings = {name: ast.literal_eval(value) for name, value in (item.split("=", 1) for item in asked.settings)}
    torch.set_num_threads(1)
    options = {"label_column": asked.label_column, "group_column": asked.group_column, "image_size": asked.image_size}
    dataset = open_dataset(asked.data, **options)
    named = "/".join(Path(asked.data).parts[-2:])
    rows = np.arange(min(asked.limit, len(dataset)))
    group = rows if dataset.group is None else dataset.group[rows]
    chance = np.random.default_rng(0)
    held = np.isin(group, chance.choice(np.unique(group), len(np.unique(group)) // 5, replace=False))
    train, test = rows[~held], rows[held]
    pool, y = train[:POOL], dataset.label

    def judge(arm: str, encoder: Any, **facts: Any) -> None:
        seen = np.concatenate([pool, test])
        tables = extract(encoder, dataset.batch, seen)
        for depth in ("pooled", "grid2"):
            if depth not in tables:
                continue
            accuracy = {}
            for n, many in DRAWS.items():
                draws = []
                for s in range(many):
                    order = np.random.default_rng([n, s]).permutation(len(pool))
                    label = y[pool[order]]
                    draws.append(np.concatenate([order[label == c][:n] for c in range(len(dataset.classes))]))
                X, X_test = tables[depth][: len(pool)], tables[depth][len(pool) :]
                said = Classification(len(dataset.classes)).linear(X, y[pool], draws, X_test, seed=0, workers=1)
                accuracy[n] = round(100 * float((said == y[test]).mean()), 1)
            record(f"recipes/{named}/{arm}/{depth}", accuracy=accuracy, **facts)

    torch.manual_seed(keys.fold(asked.seed, "encoder"))
    encoder = build_encoder(asked.encoder, dataset.spec, width=settings.pop("width", None))
    if asked.baselines:
        judge("pixels", PixelStatistics.fit(dataset.batch, train, dataset.spec, seed=0))
        judge("random-init", encoder)
    if asked.seconds <= 0:
        return
    batch_size = settings.pop("batch_size", None)
    plan = adjusted(MODALITY.recipe({asked.task: 1.0}, encoder, examples=len(train), batch_size=batch_size), settings)
    source = Batches(dataset.batch, train, batch_size=plan.batch_size, seed=asked.seed)
    steps = int(asked.seconds / step_seconds(plan, source))
    run = pretrain(
        plan.task, source, steps=steps, optim=plan.optim, fabric=make_fabric(precision="32"), seed=asked.seed
    )
    facts = {"settings": " ".join(asked.settings) or "defaults", "size_px": dataset.spec.size, "seed": asked.seed}
    judge(asked.task, run.task.exported["encoder"], **facts, steps=steps, cpu_seconds=asked.seconds)


if __name__ == "__main__":
    main()
