"""Training on the labels themselves: the baseline every pretrained encoder must beat, and fine-tuning of one.

The same architecture with a linear head on `pooled`, augmented, AdamW (Loshchilov & Hutter 2019) and one cosine to
zero. Small label sets are gone through many times, so the number of steps, not of epochs, is what is fixed.

The run is a pure function of its arguments where no time limit is given. A limit is turned into a number of steps after
a few timed ones; `Trained.steps` tells it, and giving that number repeats the run exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.core import keys
from tacit.core.stages import stage
from tacit.core.types import Batch
from tacit.evaluation.features import device_of, evaluation_mode
from tacit.evaluation.targets.base import Trainable

STEPS = 200
BATCH_SIZE = 64
WARMUP_STEPS = 20
TIMED_STEPS = 5
SCRATCH_RATE, TUNING_RATE = 3e-3, 1e-3
WEIGHT_DECAY = 0.05

Fetch = Callable[[NDArray[np.int64]], Batch]
Views = Callable[[Batch, int], Batch]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Trained:
    """An encoder and a linear head on its standardised pooled features, trained together."""

    encoder: nn.Module
    head: nn.Module
    steps: int
    training: Trainable

    def predict(self, fetch: Fetch, rows: Ints) -> NDArray[Any]:
        """The target's predictions [N ...] of these rows."""
        return self.training.decide(self.outputs(fetch, rows))

    @torch.no_grad()
    def outputs(self, fetch: Fetch, rows: Ints, *, batch_size: int = 256) -> NDArray[np.float32]:
        """Of the head [N outputs]."""
        device, parts = device_of(self.encoder), []
        batch_size = min(batch_size, getattr(self.encoder, "at_once", batch_size))
        with evaluation_mode(self.encoder), stage("predicting", len(rows)) as now:
            for start in range(0, len(rows), batch_size):
                batch = _to(fetch(rows[start : start + batch_size]), device)
                parts.append(self.head(self.encoder(batch).pooled).float().cpu().numpy())
                now.step(len(parts[-1]))
        return np.concatenate(parts)


def train_on_labels(
    start: Callable[[int], nn.Module],
    fetch: Fetch,
    rows: Ints,
    training: Trainable,
    *,
    seed: int,
    views: Views | None = None,
    steps: int = STEPS,
    seconds: float | None = None,
    lr: float = SCRATCH_RATE,
) -> Trained:
    """Train the encoder `start(seed)` and a head on the labels of these rows; `seconds` may cut `steps` short.

    From scratch `start` builds new weights; to fine-tune it copies a pretrained encoder, and `lr` is `TUNING_RATE`.
    """
    with torch.random.fork_rng(devices=[]):
        keys.seed_torch(keys.fold(seed, "scratch"))
        return _train(start(seed), fetch, rows, training, seed, views, steps, seconds, lr)


def _train(
    encoder: nn.Module,
    fetch: Fetch,
    rows: Ints,
    training: Trainable,
    seed: int,
    views: Views | None,
    steps: int,
    seconds: float | None,
    lr: float,
) -> Trained:
    device = device_of(encoder)
    head = _head(int(encoder.dim), training.outputs).to(device)  # type: ignore[arg-type]
    both = nn.ModuleList([encoder, head]).train()
    optimizer = _optimizer(both, lr)
    started, step = 0.0, 0
    with stage("training", steps) as now:
        while step < steps:
            for group in optimizer.param_groups:
                group["lr"] = lr * _rate(step, steps)
            chosen = _positions(seed, step, len(rows))
            batch = _to(fetch(rows[chosen]), device)
            if views is not None:
                batch["key"] = keys.batch_keys(seed, step, torch.arange(BATCH_SIZE, device=device))
                batch = views(batch, 0)
            loss = training.loss(head(encoder(batch).pooled), torch.from_numpy(training.truth[chosen]).to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            now.step()
            if seconds is not None and step == 1:
                started = time.perf_counter()  # the first step also warms the machine up
            if seconds is not None and step == 1 + TIMED_STEPS:
                each = (time.perf_counter() - started) / TIMED_STEPS
                steps = now.total = max(step, min(steps, int(seconds / each)))
    both.eval()
    return Trained(encoder, head, steps, training)


def _head(dim: int, n_classes: int) -> nn.Sequential:
    """Averages over a map differ little between images: standardised, the head learns in a third of the steps."""
    linear = nn.Linear(dim, n_classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.BatchNorm1d(dim, affine=False), linear)


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate: a warm-up that does not depend on `steps`, which a time limit may still change."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return 0.5 + 0.5 * math.cos(math.pi * (step - WARMUP_STEPS) / (steps - WARMUP_STEPS))


def _positions(seed: int, step: int, n: int) -> Ints:
    """Which of n examples step number `step` sees: one shuffled epoch after the other, cut into batches."""
    place = step * BATCH_SIZE + np.arange(BATCH_SIZE)
    chosen = np.empty(BATCH_SIZE, np.int64)
    for epoch in np.unique(place // n):
        order = np.random.default_rng(keys.fold(seed, "epoch", int(epoch))).permutation(n)
        here = place // n == epoch
        chosen[here] = order[place[here] % n]
    return chosen


def _optimizer(module: nn.Module, lr: float) -> torch.optim.Optimizer:
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr)


def _to(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}
