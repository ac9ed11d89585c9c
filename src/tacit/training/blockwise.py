"""Compile the blocks of networks, or recompute their activations (activation checkpointing)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from tacit.core.nn import blocks

BACKEND = "inductor"


@contextmanager
def blockwise(module: nn.Module, *, compiled: bool = False, recomputed: bool = False) -> Iterator[None]:
    """Within the context, each block of `module` is `compiled` by itself, and stores only its inputs if `recomputed`.

    Recomputing is activation checkpointing: Chen et al. 2016, "Training deep nets with sublinear memory cost",
    arXiv:1604.06174. Results are the same, including dropout and the counts of batch norms.
    """
    found = blocks(module)
    for block in found:
        if compiled:
            block.compile(backend=BACKEND)
        if recomputed:
            block.forward = partial(_recomputed, block, block.forward)
    try:
        yield
    finally:
        for block in found:
            block._compiled_call_impl = None
            block.__dict__.pop("forward", None)


def _recomputed(block: nn.Module, forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    if not block.training:
        return forward(*inputs, **named)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _uncounted(block)

    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **named)


@contextmanager
def _uncounted(block: nn.Module) -> Iterator[None]:
    """Undo the counts of batch norms within the context."""
    before = [(buffer, buffer.clone()) for buffer in block.buffers()]
    try:
        yield
    finally:
        for buffer, count in before:
            buffer.copy_(count)
