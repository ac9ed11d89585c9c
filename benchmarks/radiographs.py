"""What pretraining is worth on radiographs, in the area under the ROC curve: pneumoniamnist28, by steps.

    python benchmarks/radiographs.py DATA/pneumoniamnist28/train.parquet [--steps 1500] [--task simclr]
        [--baselines] [--image-size 28] [--encoder convnet] [lr=1e-2] [batch_size=64] [width=128] [views.crop=(.5,1.)]

Trains for so many steps, whatever they cost, since a busy machine changes how many fit into a time. A fifth of the
images tests; a logistic regression on the features of the last depth is fitted to 1 and 10 % of the labels of
the others (10 draws, and 3). Sealed test sets are for reports; give the training part. One JSON line per arm.
"""

from __future__ import annotations

import argparse
import ast
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recipes import adjusted
from record import record
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tacit.core import keys
from tacit.dataset import open_dataset
from tacit.encoders import build_encoder
from tacit.evaluation.features import extract
from tacit.modalities.image.baselines import PixelStatistics
from tacit.modalities.image.modality import MODALITY
from tacit.training.batches import Batches
from tacit.training.engine import make_fabric
from tacit.training.loop import pretrain

DRAWS = {0.01: 10, 0.1: 3}  # share of the labels -> how often they are drawn


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--task", default="simclr")
    parser.add_argument("--encoder", default="convnet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--baselines", action="store_true", help="judge plain pixels and the untrained encoder too")
    asked = parser.parse_intermixed_args()
    settings = {name: ast.literal_eval(value) for name, value in (item.split("=", 1) for item in asked.settings)}
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    dataset = open_dataset(asked.data, label_column="label", image_size=asked.image_size)
    rows = np.random.default_rng(0).permutation(len(dataset))
    test, train = np.sort(rows[: len(rows) // 5]), np.sort(rows[len(rows) // 5 :])
    named, y = "/".join(Path(asked.data).parts[-2:]), dataset.label

    def judge(arm: str, encoder: Any, **facts: Any) -> None:
        tables = extract(encoder, dataset.batch, np.concatenate([train, test]))
        found: dict[str, dict[str, float]] = {}
        for depth in [depth for depth in ("pooled", "grid2") if depth in tables]:
            X = tables[depth]
            found[depth] = {}
            for share, many in DRAWS.items():
                areas = []
                for draw in range(many):
                    order = np.random.default_rng([draw, 1]).permutation(len(train))
                    some = np.concatenate(  # the same share of either class
                        [c[: max(5, round(share * len(c)))] for c in (order[y[train[order]] == k] for k in (0, 1))]
                    )
                    probe = make_pipeline(
                        StandardScaler(),
                        LogisticRegressionCV(Cs=[1e-3, 1e-2, 1e-1], cv=3, scoring="roc_auc", max_iter=100),
                    )
                    probe.fit(X[some], y[train[some]])
                    areas.append(roc_auc_score(y[test], probe.decision_function(X[len(train) :])))
                found[depth][f"{100 * share:g} %"] = round(float(np.mean(areas)), 4)
        best = max(found, key=lambda depth: found[depth]["10 %"])
        record(f"radiographs/{named}/{arm}", auroc=found[best], depth=best, pooled=found.get("pooled"), **facts)

    torch.manual_seed(keys.fold(asked.seed, "encoder"))
    width = settings.pop("width", None)
    encoder = build_encoder(asked.encoder, dataset.spec, **({} if width is None else {"width": width}))
    if asked.baselines:
        judge("pixels", PixelStatistics.fit(dataset.batch, train, dataset.spec, seed=0))
        judge("untrained", encoder, size_px=dataset.spec.size)
    if asked.steps <= 0:
        return
    batch_size = settings.pop("batch_size", None)
    plan = adjusted(MODALITY.recipe({asked.task: 1.0}, encoder, examples=len(train), batch_size=batch_size), settings)
    source = Batches(dataset.batch, train, batch_size=plan.batch_size, seed=asked.seed)
    began, fabric = time.process_time(), make_fabric(precision="32")
    run = pretrain(plan.task, source, steps=asked.steps, optim=plan.optim, fabric=fabric, seed=asked.seed)
    seconds = round(time.process_time() - began, 1)
    facts = {"settings": " ".join(asked.settings) or "defaults", "size_px": dataset.spec.size, "seed": asked.seed}
    judge(asked.task, run.task.exported["encoder"], **facts, steps=asked.steps, processor_seconds=seconds)


if __name__ == "__main__":
    main()
