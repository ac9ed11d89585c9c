"""Fully sharded training: every process holds a part of each tensor, along its first axis, and whole blocks in turn.

PyTorch's `fully_shard` (Zhao et al. 2023, arXiv:2304.11277) over the blocks of encoders, heads and teachers, each
gathered while it computes; parameters outside of blocks are gathered for a whole step.
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
        parameter.data = parameter.data.contiguous()  # other layouts cannot be sharded
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
    """A copy without the parameters' values, to be filled by `fill`."""
    memo = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in module.parameters()}
    return copy.deepcopy(module, memo)


def fill(empty: M, module: nn.Module) -> M:
    """Gather the whole tensors of the sharded `module` into the leader's hollow copy. Every process must call it."""
    state = {}
    for name, value in module.state_dict().items():
        together = whole(value)
        if ranks.is_leader():
            state[name] = together
    if ranks.is_leader():
        empty.load_state_dict(state, assign=True)
    return empty


def whole(value: Tensor) -> Tensor:
    """The whole tensor, gathered from all pieces. Every process must call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def here(value: Tensor) -> Tensor:
    """This process's piece of a tensor."""
    return value.to_local() if isinstance(value, DTensor) else value


def cuts(value: Tensor) -> list[tuple[int, int]] | None:
    """The range of rows that each process holds; None for a tensor that is not sharded."""
    if not isinstance(value, DTensor):
        return None
    assert value.placements == (Shard(0),)
    rows, processes = value.shape[0], value.device_mesh.size()
    each = -(-rows // processes)
    return [(min(n * each, rows), min((n + 1) * each, rows)) for n in range(processes)]


def alike(piece: Tensor, model: Tensor) -> Tensor:
    """This process's piece of a tensor, sharded and laid out in memory as `model` is."""
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
