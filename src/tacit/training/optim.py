"""Optimisers and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tacit.core.errors import UserError


@dataclass(frozen=True)
class Optim:
    """How a task is optimised.

    `lr` is for a batch of 256 and scales linearly with the batch. It rises linearly over the first `warmup` share of
    the steps and falls to zero along a cosine. Norms, biases and other vectors are not decayed. `clip` bounds the
    gradient's norm.
    """

    name: Literal["adamw", "sgd", "lars"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    clip: float | None = None
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.95)

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise UserError(f"warmup is {self.warmup}; it is a share of the run, so choose it from 0 to below 1")

    def rate(self, step: int, steps: int, batch_size: int) -> float:
        """The learning rate of this step out of `steps`."""
        peak = self.lr * batch_size / 256
        warm = self.warmup * steps
        if step < warm:
            return peak * (step + 1) / (warm + 1)
        return 0.5 * peak * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimiser over the parameters of `module` that require gradients; all updated in one call."""
        trained = [p for p in module.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if self.name == "adamw":
            return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, fused=True)
        if self.name == "sgd":
            from torch.distributed.tensor import DTensor  # takes a second, and many a command trains nothing

            fused = not any(isinstance(p, DTensor) for p in trained)  # the fused optimiser does not support DTensor
            return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, fused=fused)
        return LARS(groups, lr=self.lr, momentum=self.momentum)


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling: You, Gitman & Ginsburg 2017, arXiv:1708.03888.

    Each decayed tensor's step is scaled by eta * |w| / |g + decay * w|; groups without decay are plain momentum SGD.
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float, momentum: float = 0.9, eta: float = 0.02) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "eta": eta, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # returns nothing
        assert closure is None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                update = p.grad
                if group["weight_decay"]:
                    update = update + group["weight_decay"] * p
                    update = update * _trust(p, update, group["eta"])
                buffer = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                buffer.mul_(group["momentum"]).add_(update)
                p.sub_(group["lr"] * buffer)


def _trust(weight: Tensor, update: Tensor, eta: float) -> Tensor:
    size, change = weight.norm(), update.norm()
    return torch.where((size > 0) & (change > 0), eta * size / change, torch.ones_like(size))
