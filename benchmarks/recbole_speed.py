"""How many interactions a second SASRec learns from, ours beside RecBole's, on MovieLens-100K.

The same shape on both sides (2 layers of 64, 2 heads, 256 inside, at most 50 events, dropout .2 but none of attention),
the same loss (cross-entropy of the product over all items), Adam at one rate, 256 rows a batch, one thread, 32 bits.

An interaction is learned from where the loss asks for it: RecBole makes a row of every event, with what came before it,
and asks for that one; ours asks for every event of a row at once, so that `rows` a second are told too. Seconds are
those of the processor; the first fifth of the steps is left out.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sides import Asked, Said, take_side

BATCH, STEPS, LENGTH, DROPOUT, RATE = 256, 40, 50, 0.2, 1e-3


class Enough(Exception):
    """So many steps have been taken."""


@dataclass
class Watch:
    """When each step ended, in processor seconds."""

    stamps: list[float] = field(default_factory=list)

    def step(self, *_: Any) -> None:
        self.stamps.append(time.process_time())
        if len(self.stamps) == STEPS:
            raise Enough

    def rates(self, interactions: list[int]) -> Said:
        """Of as many interactions as each step has learned from."""
        first = STEPS // 5
        seconds = self.stamps[-1] - self.stamps[first - 1]
        rows = (STEPS - first) * BATCH
        return {"interactions": {"rate": sum(interactions[first:STEPS]) / seconds, "rows": rows / seconds}}


def ours(asked: Asked) -> Said:
    from tacit.dataset import open_dataset
    from tacit.encoders import build_encoder
    from tacit.modalities.events.modality import MODALITY as EVENTS
    from tacit.modalities.events.store import Histories
    from tacit.training.batches import Batches
    from tacit.training.engine import make_fabric
    from tacit.training.loop import pretrain
    from tacit.training.optim import Optim

    torch.set_num_threads(1)
    torch.manual_seed(asked.round)
    hand_over(asked)
    dataset = open_dataset(str(asked.data), length=LENGTH, cache=str(asked.folder / "cache"))
    histories = dataset.cache
    assert isinstance(histories, Histories)
    encoder = build_encoder("sasrec_nano", dataset.spec, dropout=DROPOUT, temperature=0.0)
    plan = EVENTS.recipe({"next": 1.0}, encoder, examples=len(dataset), batch_size=BATCH)
    drawn = EVENTS.batches(dataset.cache, np.arange(len(dataset)), plan, asked.round)
    interactions: list[int] = []

    def read(rows: Any) -> Any:
        batch = drawn.read(rows)
        interactions.append(int((batch["valid"].sum(1).clamp(max=LENGTH) - 1).sum()))  # of the first nothing is asked
        return batch

    source = Batches(read, drawn.among, batch_size=BATCH, seed=asked.round)
    optim = Optim("adamw", lr=RATE * 256 / BATCH, weight_decay=0.0, warmup=0.0, betas=(0.9, 0.999))
    fabric = make_fabric(device="cpu", precision="32")
    watch = Watch()
    try:
        pretrain(plan.task, source, steps=STEPS, optim=optim, fabric=fabric, rows=STEPS, watch=watch.step)
    except Enough:
        return watch.rates(interactions)
    raise AssertionError("the last step ends it")


def hand_over(asked: Asked) -> None:
    """The same events in the form that RecBole reads."""
    import pyarrow.parquet as pq
    from pyarrow import csv

    (asked.folder / "events").mkdir(exist_ok=True)
    table = pq.read_table(asked.data, columns=["user", "item", "timestamp"])
    form = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with (asked.folder / "events" / "events.inter").open("wb") as file:
        file.write(b"user_id:token\titem_id:token\ttimestamp:float\n")
        csv.write_csv(table, file, form)


def recbole(asked: Asked) -> Said:
    import logging

    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.sequential_recommender import SASRec
    from recbole.trainer import Trainer

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    settings = {
        "data_path": str(asked.folder),
        "checkpoint_dir": str(asked.folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": LENGTH,
        "hidden_dropout_prob": DROPOUT,
        "attn_dropout_prob": 0.0,
        "train_neg_sample_args": None,  # as cross-entropy over all items wants it
        "train_batch_size": BATCH,
        "learning_rate": RATE,
        "epochs": 1,
        "seed": asked.round,
        "use_gpu": False,
        "show_progress": False,
    }
    config = Config(model="SASRec", dataset="events", config_dict=settings)
    dataset = create_dataset(config)
    rows = data_preparation(config, dataset)[0]
    trainer = Trainer(config, SASRec(config, rows.dataset).to(config["device"]))
    watch = Watch()
    trainer.optimizer.register_step_post_hook(watch.step)
    try:
        trainer.fit(rows, verbose=False, saved=False, show_progress=False)
    except Enough:
        return watch.rates([BATCH] * STEPS)
    raise SystemExit(f"RecBole took only {len(watch.stamps)} of {STEPS} steps in an epoch")


if __name__ == "__main__":
    take_side({"tacit": ours, "recbole": recbole})
