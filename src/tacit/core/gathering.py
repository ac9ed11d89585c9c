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
        return _gathered(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous()
        found = torch.empty_like(grad)
        td.all_to_all_single(found, grad)
        return torch.stack(found.chunk(world())).sum(0)


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


def _gathered(x: Tensor) -> Tensor:
    """[B ...] -> [world * B ...]."""
    found = x.new_empty(world() * len(x), *x.shape[1:])
    td.all_gather(list(found.chunk(world())), x.contiguous())
    return found


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
    """The largest `flag` over all ranks, by which ranks agree to stop."""
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
    """The device through which the processes exchange plain data."""
    return "cuda" if world() > 1 and td.get_backend() == "nccl" else "cpu"


class _Normalise(torch.autograd.Function):
    """Batch normalisation by the statistics of all ranks: one gather in the forward pass and one in the backward pass.

    With S1 and S2 the sums over the N values of a channel of dy and of dy * xhat, the gradient of x is
    w / std * (dy - S1 / N - xhat * S2 / N) (Ioffe & Szegedy 2015, arXiv:1502.03167).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        normed: Tensor = torch.native_batch_norm(x, weight, bias, mean, var, False, 0.0, 0.0)[0]
        return normed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        dy = grads[0]
        _, dw, db = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, var, None, None, False, 0.0, [False, True, True]
        )
        sums = _gathered(torch.stack([db, dw])[None]).sum(0)  # gloo gathers so few numbers sooner than it adds them up
        s1, s2 = sums / (x.numel() // x.shape[1] * world())
        steep = weight * var.rsqrt()
        shrunk = torch.native_batch_norm(x, -steep * s2, -steep * s1, mean, var, False, 0.0, 0.0)[0]
        over = [1, -1] + [1] * (x.dim() - 2)
        return shrunk.addcmul_(dy, steep.view(over).to(x.dtype)), dw, db, None, None


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the global batch, on any device (torch's own refuses the CPU)."""

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.dim() >= 2

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world() == 1:
            return super().forward(input)
        x = input.detach()
        nothing = torch.zeros(x.shape[1], device=x.device)  # in 32 bits, and so are the answers
        here = torch.stack(torch.batch_norm_update_stats(x, nothing, nothing.clone(), 0.0))
        means, variances = _gathered(here[None]).unbind(1)  # [W C]
        mean = means.mean(0)
        var = (variances + (means - mean).square()).mean(0)
        count = input.numel() // input.shape[1] * world()
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            momentum = self.momentum if self.momentum is not None else 0.1
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(var * count / (count - 1), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        weight = torch.ones_like(mean) if self.weight is None else self.weight
        bias = torch.zeros_like(mean) if self.bias is None else self.bias
        return cast(Tensor, _Normalise.apply(input, weight, bias, mean, var + self.eps))  # type: ignore[no-untyped-call]


def sync_batchnorm(module: nn.Module) -> None:
    """Make every batch norm inside `module` use the global batch, in place; a state dict stays the same."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.__class__ = SyncBatchNorm
