"""What a setting of pretraining on text learns in a given time: a linear probe of frozen features, beside word counts.

    python benchmarks/text_recipes.py TEXTS --test TEST [--task simclr] [--encoder bert_bag] [--seconds 60] [SETTING]

TEXTS and TEST are tables with the columns text and label; rows without a label are pretrained on too. A SETTING is
name=value: crop=0.1,0.5 most=64 delete=0.5 of the views, hidden=0 temperature=0.2 of contrast, mask=0.3:0.15,span as
`tacit run --mask`, random=0.1 kept=0.1 of the mask, lr=4e-3 decay=0.05 clip=1 batch=128 vocabulary=8192 length=128.
What is not named is the recipe's. Everything is judged on at most 2,000 test texts, 10 draws of 10 and of 100 labels
per class, and masked prediction by its pseudo-perplexity on 200 of them too.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from record import record

from tacit.core.text import word_counts
from tacit.dataset import open_dataset
from tacit.encoders import build_encoder
from tacit.evaluation.features import extract
from tacit.evaluation.splits import Budget, draw_labels
from tacit.evaluation.targets.classification import Classification
from tacit.experiment.plan import mask_schedule_of
from tacit.modalities import modality_named
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.language import pseudo_perplexity
from tacit.modalities.text.modality import MODALITY
from tacit.modalities.text.views import TextViews, TokenMask
from tacit.tasks import parse_mixture
from tacit.tasks.masked import Masked
from tacit.tasks.simclr import SimCLR
from tacit.training.engine import make_fabric
from tacit.training.loop import pretrain, seconds_per_step
from tacit.training.optim import Optim

TESTED, LEARNED_FROM = 2_000, 4_000
WINDOWS, READ = 200, 4_000  # test texts, and tokens of them, for pseudo-perplexity


def adjusted(task: Any, told: dict[str, str], dim: int) -> None:
    """The settings put into a task, or into each task of a sum."""
    for part in getattr(task, "tasks", {"": task}).values():
        if isinstance(part, SimCLR):
            low, _, high = told.get("crop", "").partition(",")
            crop = {"crop": (float(low), float(high))} if low else {}
            more = {"delete": float(told["delete"])} if "delete" in told else {}
            more |= {"most": int(told["most"])} if "most" in told else {}
            more |= {"least": int(told["least"])} if "least" in told else {}
            part.views = replace(part.views, **crop, **more)  # type: ignore[type-var]
            part.temperature = float(told.get("temperature", part.temperature))
            if told.get("hidden") == "0":
                part.head = torch.nn.Identity()
        if isinstance(part, Masked):
            assert isinstance(part.masks, TokenMask)
            part.masks = replace(part.masks, hiding=mask_schedule_of(told.get("mask")) or part.masks.hiding)
            shares = {name: float(told[name]) for name in ("random", "kept") if name in told}
            part.corrupt = replace(part.corrupt, **shares)  # type: ignore[type-var]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("texts")
    parser.add_argument("--test", required=True)
    parser.add_argument("--task", default="simclr")
    parser.add_argument("--encoder", default="bert_bag")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--steps", type=int, help="so many steps in place of the seconds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--counts", action="store_true", help="the word counts too")
    asked, settings = parser.parse_known_args()
    told = dict(setting.split("=", 1) for setting in settings)
    torch.set_num_threads(asked.threads)
    shape = {name: int(told[name]) for name in ("vocabulary", "length") if name in told}
    dataset = open_dataset(asked.texts, test=asked.test, label_column="label", text_column="text", **shape)
    assert dataset.split is not None
    test = np.flatnonzero(dataset.split == 1)
    among = np.flatnonzero(dataset.split != 1)
    chance = np.random.default_rng(0)
    test = np.sort(chance.permutation(test)[:TESTED])
    known = np.sort(chance.permutation(among[dataset.label[among] >= 0])[:LEARNED_FROM])
    torch.manual_seed(0)
    encoder = build_encoder(asked.encoder, dataset.spec)
    fabric = make_fabric(device="cpu")
    plan = MODALITY.recipe(
        parse_mixture(asked.task), encoder, examples=len(among), batch_size=int(told.get("batch", 0)) or None
    )
    adjusted(plan.task, told, encoder.dim)
    optim: Optim = plan.optim
    optim = replace(
        optim, lr=float(told.get("lr", optim.lr)), weight_decay=float(told.get("decay", optim.weight_decay))
    )
    optim = replace(optim, clip=float(told["clip"]) if "clip" in told else optim.clip)
    source = modality_named("text").batches(dataset.cache, among, plan, 0)
    steps = asked.steps
    if steps is None:
        steps = max(1, int(asked.seconds / seconds_per_step(plan.task, source, optim=optim, fabric=fabric)))
    run = pretrain(plan.task, source, steps=steps, optim=optim, fabric=fabric)
    began = time.perf_counter()
    rows = np.concatenate([known, test])
    tables = extract(encoder, dataset.batch, rows)
    dead = float((tables["pooled"].std(axis=0) < 1e-3 * tables["pooled"].std(axis=0).mean()).mean())
    spent = time.perf_counter() - began
    whole = {**dataset.batch(test[:WINDOWS]), "key": torch.arange(WINDOWS)}
    windows = TextViews(dataset.spec, dataset.spec.length)(whole, 0)
    target, n = Classification(len(dataset.classes)), len(known)
    label = dataset.label[rows]
    budgets = [Budget(f"{k} per class", k, None, k * len(dataset.classes), 10, 0.0) for k in (10, 100)]
    budgets = [b for b in budgets if b.per_class <= np.bincount(label[:n]).min()]
    draws = draw_labels(label, np.arange(len(rows)), np.arange(n), budgets, seed=0)

    def score(predicted: Any) -> float:
        right = predicted == label[n:]
        return float(np.mean([right[:, label[n:] == c].mean() for c in np.unique(label[n:])]))

    found = {
        name: {
            b.name: round(100 * score(target.linear(X[:n], label[:n], draws[b.name], X[n:], seed=0)), 1)
            for b in budgets
        }
        for name, X in tables.items()
    }
    if asked.counts:
        cache: Any = dataset.cache
        rule = word_counts(lambda at: cache.texts(rows[at]), np.arange(n), characters=False)
        found["tfidf-words"] = {
            b.name: round(100 * score(np.stack([rule(d, label[d], np.arange(n, len(rows))) for d in draws[b.name]])), 1)
            for b in budgets
        }
    assert isinstance(encoder, TextEncoder)
    perplexity = round(pseudo_perplexity(encoder, windows, read=READ)[0], 1) if encoder.headed else None
    record(
        f"text/{asked.task}/{asked.encoder}",
        settings=told,
        steps=run.steps,
        seconds=round(run.seconds, 1),
        examples_per_second=round(run.examples_per_second),
        texts_embedded_per_second=round(len(rows) / spent),
        loss=round(float(run.history[-1]["loss"]), 3),
        pseudo_perplexity=perplexity,
        dead_share=round(dead, 3),
        accuracy=found,
        threads=asked.threads,
    )


if __name__ == "__main__":
    main()
