"""The schedule and the optimisers against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tacit.core.errors import UserError
from tacit.training.optim import LARS, Optim


def test_rate_warms_up_then_falls_along_a_cosine() -> None:
    optim = Optim(lr=0.1, warmup=0.1)
    rates = [optim.rate(step, 100, 512) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == pytest.approx(0.2)  # 0.1 for a batch of 256
    assert rates[55] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0.2 * 0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert all(rate > 0 for rate in rates)


@pytest.mark.parametrize("warmup", [1.0, 1.5, -0.1])
def test_warmup_longer_than_the_run_is_refused(warmup: float) -> None:
    with pytest.raises(UserError, match="warmup"):
        Optim(warmup=warmup)


def test_vectors_are_not_decayed_and_frozen_parameters_left_out() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    module[1].bias.requires_grad_(False)
    groups = Optim(weight_decay=0.3).build(module).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.3), (2, 0.0)]


def test_lars_takes_the_published_step() -> None:
    torch.manual_seed(0)
    weight, bias = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4))
    start, start_bias = weight.detach().clone(), bias.detach().clone()
    optimizer = LARS(
        [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}], lr=0.5, momentum=0.9
    )
    velocity, velocity_bias = torch.zeros(4, 3), torch.zeros(4)
    for _ in range(3):
        weight.grad, bias.grad = torch.randn(4, 3), torch.randn(4)
        decayed = weight.grad + 0.1 * start
        velocity = 0.9 * velocity + 0.02 * start.norm() / decayed.norm() * decayed
        velocity_bias = 0.9 * velocity_bias + bias.grad
        start, start_bias = start - 0.5 * velocity, start_bias - 0.5 * velocity_bias
        optimizer.step()
        torch.testing.assert_close(weight.detach(), start)
        torch.testing.assert_close(bias.detach(), start_bias)
