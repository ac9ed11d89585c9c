"""Fully sharded training: every process holds a part of each tensor, along its first axis, and whole blocks in turn.

PyTorch's `fully_shard` (Zhao et al. 2023, arXiv:2304.11277) over the blocks of encoders, heads and teachers, each
gathered while it computes; what lies outside of blocks is gathered for a whole step.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard

from tacit.core import ranks
from tacit.core.nn import blocks

M = TypeVar("M", bound=nn.Module)


def shard(module: nn.Module, mesh: Any) -> nn.Module:
    """Cut the parameters of `module` in place, one piece for each process."""
    processes = mesh["data_parallel"]
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()  # nothing else can be cut
    for block in blocks(module):
        fully_shard(block, mesh=processes)
    fully_shard(module, mesh=processes)
    return module


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Make parts of a sharded module callable on their own, by every process at the same time."""
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


def hollow(module: M) -> M:
    """A copy without the parameters' numbers, to be filled by `fill`."""
    memo = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in module.parameters()}
    return copy.deepcopy(module, memo)


def fill(empty: M, module: nn.Module) -> M:
    """Put the whole tensors of the sharded `module` into the leader's hollow copy. Every process must ask."""
    state = {}
    for name, value in module.state_dict().items():
        together = whole(value)
        if ranks.leader():
            state[name] = together
    if ranks.leader():
        empty.load_state_dict(state, assign=True)
    return empty


def whole(value: Tensor) -> Tensor:
    """A tensor with all its pieces. Every process must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def here(value: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return value.to_local() if isinstance(value, DTensor) else value


def cuts(value: Tensor) -> list[tuple[int, int]] | None:
    """The rows, from and to, that each process holds; None of a tensor that all hold whole."""
    if not isinstance(value, DTensor):
        return None
    assert value.placements == (Shard(0),)
    rows, processes = value.shape[0], value.device_mesh.size()
    each = -(-rows // processes)
    return [(min(n * each, rows), min((n + 1) * each, rows)) for n in range(processes)]


def alike(piece: Tensor, model: Tensor) -> Tensor:
    """The piece that this process holds of a tensor cut as `model` is, and laid out so in memory."""
    if not isinstance(model, DTensor):
        return torch.empty_like(model).copy_(piece)
    return DTensor.from_local(
        piece.to(model.device),
        model.device_mesh,
        model.placements,
        run_check=False,
        shape=model.shape,
        stride=torch.empty(model.shape, device="meta").stride(),
    )
