"""What a setting of pretraining on histories of items recommends, beside what counting alone recommends.

    python benchmarks/recommending.py TABLE [--epochs 12] [--task next] [--encoder sasrec_nano] [--test] [SETTING]

TABLE is a Parquet table of users, items, and times or positions. A SETTING is name=value: dropout=0.5 temperature=0.07
of the encoder, lr=8e-3 decay=0 batch=64 length=50 of the training, begun=0 for embeddings that know no counts,
precision=32. What is not named is the recipe's. The last event but one of each user is asked for, with seen items
filtered, among the whole catalogue; with --test the last one, which is read once, when everything is chosen. nDCG@10 is
in per cent, with its 95 % interval over users, as are those of counts and of the differences to them.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from record import record

from tacit.core import keys
from tacit.dataset import open_dataset
from tacit.encoders import build_encoder
from tacit.evaluation import Arm, evaluate
from tacit.modalities.events.counts import counted
from tacit.modalities.events.holdout import Held, leave_one_out
from tacit.modalities.events.modality import MODALITY as EVENTS
from tacit.modalities.events.store import Histories
from tacit.tasks import parse_mixture
from tacit.training.engine import make_fabric
from tacit.training.loop import pretrain

FIGURES = ("ndcg@10", "hr@10", "mrr", "coverage@10", "popularity_bias@10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--task", default="next")
    parser.add_argument("--encoder")
    parser.add_argument("--epochs", type=float, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-counts", action="store_true", help="the encoder alone")
    parser.add_argument("--folder", type=Path, help="go on from the training that was interrupted there")
    parser.add_argument("--test", action="store_true", help="read the test's events, once everything is chosen")
    asked, settings = parser.parse_known_args()
    told = dict(setting.split("=", 1) for setting in settings)
    torch.set_num_threads(asked.threads)
    if asked.folder is not None:
        asked.folder.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(str(asked.table), length=int(told.get("length", 50)))
    histories, weights = dataset.cache, parse_mixture(asked.task)
    assert isinstance(histories, Histories)
    rows = np.arange(len(dataset))
    began, spent = time.perf_counter(), time.process_time()
    options = {name: float(told[name]) for name in ("dropout", "temperature") if name in told}
    torch.manual_seed(keys.fold(asked.seed, "encoder"))
    encoder = build_encoder(asked.encoder or EVENTS.default_encoder(dataset.spec, weights), dataset.spec, **options)
    if told.get("begun") != "0":
        EVENTS.warm_start(encoder, dataset.cache, rows)
    plan = EVENTS.recipe(weights, encoder, examples=len(rows), batch_size=int(told.get("batch", 0)) or None)
    lr, decay = float(told.get("lr", plan.optim.lr)), float(told.get("decay", plan.optim.weight_decay))
    fabric = make_fabric(device="cpu", precision=told.get("precision", "auto"), bf16_pays=EVENTS.bf16_pays(encoder))
    source = EVENTS.batches(dataset.cache, rows, plan, asked.seed)
    run = pretrain(
        plan.task,
        source,
        steps=round(asked.epochs * len(source.among) / plan.batch_size),
        optim=replace(plan.optim, lr=lr, weight_decay=decay),
        fabric=fabric,
        seed=asked.seed,
        folder=asked.folder,
    )
    trained, spent = time.perf_counter() - began, time.process_time() - spent
    arms = [Arm(encoder.name, "pretrained", (encoder,), encoder=encoder.name)]
    whole = replace(histories, stop=histories.ends).take(rows)
    held = leave_one_out(whole)
    if not asked.no_counts:
        rankers = counted(held.learn, held.contexts.take(held.train), held.came[held.train], histories.times)
        arms += [Arm(name, "baseline", (ranker,), encoder=ranker.description) for name, ranker in rankers.items()]
    began = time.perf_counter()
    report = evaluate(arms, (held if asked.test else earlier(held)).labelled())
    judging = time.perf_counter() - began
    found: dict[str, dict[str, list[float]]] = {arm.name: {} for arm in arms}
    for result in report.results:
        if (metric := result.metric.split("/")[0]) in FIGURES:
            found[result.arm][metric] = [round(100 * value, 2) for value in (result.mean, result.low, result.high)]
    print(report)
    record(
        f"recommending/{asked.table.parent.name}/{asked.task}/{encoder.name}",
        settings={**encoder.options, **told},
        asked="test" if asked.test else "validation",
        histories=len(held.test if asked.test else held.train),
        items=dataset.spec.items,
        epochs=asked.epochs,
        steps=run.steps,
        loss=round(float(run.history[-1]["loss"]), 3),
        seed=asked.seed,
        seconds=round(trained, 1),
        processor_seconds=round(spent, 1),
        events_per_second=round(asked.epochs * int(histories.learned().lengths.sum()) / run.seconds),
        judging_seconds=round(judging, 1),
        found=found,
        threads=asked.threads,
    )


def earlier(held: Held) -> Held:
    """With the questions of validation in place of the test's."""
    return replace(held, train=held.train[:0], test=held.train)


if __name__ == "__main__":
    main()
