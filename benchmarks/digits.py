"""Digits inside the quickstart's budget: each task, plain pixels and the untrained encoder under a linear probe.

    python benchmarks/digits.py [--steps N] [--seed 0] [--draws 20] [--tasks simclr,rotation,masked]

scikit-learn's 1,797 digits; the data's own 500 test images are held out; probes learn from draws of 1, 2, 5, 10 and 50
labels per class out of the other 1,297, whose labels are all known here. One JSON line per arm: accuracy in percent at
each budget, the mean of the draws.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import replace

import numpy as np
import torch
from record import record

from tacit.core import keys
from tacit.dataset import TEST, open_dataset
from tacit.evaluation.features import extract
from tacit.evaluation.targets.classification import Classification
from tacit.experiment.architecture import chosen_encoder
from tacit.modalities.image.baselines import PixelStatistics
from tacit.modalities.image.modality import MODALITY
from tacit.training.batches import Batches
from tacit.training.engine import make_fabric
from tacit.training.loop import pretrain

PER_CLASS = (1, 2, 5, 10, 50)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=0, help="0: what fits into --seconds")
    parser.add_argument("--seconds", type=float, default=25.0, help="of training for each task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--tasks", default="simclr,rotation,masked")
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--lr", type=float, default=None, help="in place of the recipe's")
    asked = parser.parse_args()
    dataset = open_dataset("digits")
    from sklearn.datasets import load_digits

    y = load_digits().target.astype(np.int64)
    train, test = np.flatnonzero(dataset.split != TEST), np.flatnonzero(dataset.split == TEST)
    chance = np.random.default_rng(asked.seed)
    nested = [[chance.permutation(np.flatnonzero(y[train] == c)) for c in range(10)] for _ in range(asked.draws)]

    def judge(name: str, encoder: object, **facts: object) -> None:
        tables = extract(encoder, dataset.batch, np.arange(len(y)))  # type: ignore[arg-type]
        for depth in ("pooled", "grid2"):
            if depth not in tables:
                continue
            accuracy = {}
            for n in PER_CLASS:
                draws = [np.concatenate([of_class[:n] for of_class in draw]) for draw in nested]
                X = tables[depth]
                said = Classification(10).linear(X[train], y[train], draws, X[test], seed=asked.seed)
                accuracy[n] = round(100 * float((said == y[test]).mean()), 1)
            record(f"digits/{name}/{depth}", accuracy=accuracy, seed=asked.seed, draws=asked.draws, **facts)

    judge("pixels", PixelStatistics.fit(dataset.batch, train, dataset.spec, seed=0))
    for name in asked.tasks.split(","):
        torch.manual_seed(keys.fold(asked.seed, "encoder"))
        encoder = chosen_encoder(asked.encoder)(dataset.spec)
        if name == asked.tasks.split(",")[0]:
            judge("random-init", encoder)
        plan = MODALITY.recipe({name: 1.0}, encoder, examples=len(train), batch_size=asked.batch_size)
        if asked.lr is not None:
            plan = replace(plan, optim=replace(plan.optim, lr=asked.lr))
        fabric = make_fabric(precision="auto")
        source = Batches(dataset.batch, train, batch_size=plan.batch_size, seed=asked.seed)
        steps = asked.steps
        if not steps:
            from tacit.training.loop import seconds_per_step

            steps = int(asked.seconds / seconds_per_step(plan.task, source, optim=plan.optim, fabric=fabric))
        began = time.perf_counter()
        run = pretrain(plan.task, source, steps=steps, optim=plan.optim, fabric=fabric, seed=asked.seed)
        seconds = round(time.perf_counter() - began, 1)
        judge(name, run.task.exported["encoder"], steps=steps, seconds=seconds, batch=plan.batch_size)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
