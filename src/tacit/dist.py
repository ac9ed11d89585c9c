"""Several processes as one: gathers whose gradients equal those of a single process.

The convention everywhere: a loss is the mean over this rank's rows of the global batch, and DDP averages gradients over
ranks. A gather that sums the gradients arriving from all ranks then gives exactly the gradient of the global mean.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as td
from torch import Tensor, nn


def world() -> int:
    return td.get_world_size() if td.is_available() and td.is_initialized() else 1


def rank() -> int:
    return td.get_rank() if td.is_available() and td.is_initialized() else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world())]
        td.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous()
        td.all_reduce(grad)
        return grad.chunk(world())[rank()]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        td.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous().clone()
        td.all_reduce(grad)
        return grad


def _apply(function: type[torch.autograd.Function], x: Tensor) -> Tensor:
    return cast(Tensor, function.apply(x))  # type: ignore[no-untyped-call]  # torch leaves it untyped


def gather(x: Tensor) -> Tensor:
    """Rows of all ranks in rank order, [B ...] -> [world * B ...], differentiable. Every rank must hold B rows."""
    return x if world() == 1 else _apply(_Gather, x)


def total(x: Tensor) -> Tensor:
    """The sum over ranks, differentiable."""
    return x if world() == 1 else _apply(_Sum, x)


def mean(x: Tensor) -> Tensor:
    """The mean over ranks, not differentiable."""
    if world() == 1:
        return x.detach()
    total = x.detach().clone()
    td.all_reduce(total)
    return total / world()


def any_rank(flag: int) -> int:
    """The largest `flag` of all ranks: how ranks agree to stop."""
    if world() == 1:
        return flag
    value = torch.tensor(flag, device=_device())
    td.all_reduce(value, op=td.ReduceOp.MAX)
    return int(value)


def gather_bytes(data: bytes) -> list[bytes]:
    """The bytes of all ranks in rank order; every rank must give as many."""
    rows = gather(torch.tensor([list(data)], dtype=torch.uint8, device=_device()))
    return [bytes(row) for row in rows.tolist()]


def _device() -> str:
    """Where the processes exchange what lies on no device."""
    return "cuda" if world() > 1 and td.get_backend() == "nccl" else "cpu"


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the global batch, on any device (torch's own refuses the CPU)."""

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.dim() >= 2

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world() == 1:
            return super().forward(input)
        x = input.float()
        over = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = x.numel() // x.shape[1] * world()
        mean = _apply(_Sum, x.sum(over)) / count
        var = _apply(_Sum, (x - mean.view(shape)).square().sum(over)) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            momentum = self.momentum if self.momentum is not None else 0.1
            with torch.no_grad():
                self.running_mean.lerp_(mean.detach(), momentum)
                self.running_var.lerp_(var.detach() * count / (count - 1), momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        y = (x - mean.view(shape)) * torch.rsqrt(var + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(input.dtype)


def sync_batchnorm(module: nn.Module) -> None:
    """Make every batch norm inside `module` use the global batch, in place; a state dict stays the same."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.__class__ = SyncBatchNorm
