"""Blocks that are compiled or recomputed compute the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tacit.core.nn import blocks
from tacit.core.types import Batch
from tacit.training import blockwise
from tests.tiny import TinyBatches, tiny_recipe


def learned(mixture: str, encoder: str | None, **how: bool) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """The loss of one batch, gradients and buffers."""
    task, batch = tiny_recipe(mixture, encoder=encoder).task, TinyBatches(mixture).batch(0)
    task.train()
    torch.manual_seed(0)
    with blockwise.blockwise(task, **how):
        loss = task(batch).loss
        loss.backward()
    assert all("forward" not in vars(block) and block._compiled_call_impl is None for block in blocks(task))
    grads = {name: p.grad for name, p in task.named_parameters() if p.grad is not None}
    return loss.detach(), grads, dict(task.named_buffers())


@pytest.mark.parametrize(
    ("mixture", "encoder"),
    [("simclr", "resnet18"), ("masked", "vit_tiny"), ("text:simcse", "modernbert_nano"), ("items:next", None)],
)
def test_recomputed_is_the_same(mixture: str, encoder: str | None) -> None:
    kept, anew = learned(mixture, encoder), learned(mixture, encoder, recomputed=True)
    assert kept[1]
    torch.testing.assert_close(anew, kept)


def test_recomputed_keeps_less() -> None:
    def kept(recomputed: bool) -> int:
        task, batch = tiny_recipe("text:masked", encoder="bert_nano").task, TinyBatches("text:masked").batch(0)
        return bytes_kept(task.train(), batch, recomputed)

    assert kept(True) < 0.6 * kept(False)


def bytes_kept(task: torch.nn.Module, batch: Batch, recomputed: bool) -> int:
    sizes: dict[int, int] = {}

    def note(value: Tensor) -> Tensor:
        sizes[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with blockwise.blockwise(task, recomputed=recomputed), torch.autograd.graph.saved_tensors_hooks(note, lambda v: v):
        task(batch)
    return sum(sizes.values())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # that the compiler asks for
def test_compiled_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise, "BACKEND", "aot_eager")
    kept, compiled = learned("masked", "vit_tiny"), learned("masked", "vit_tiny", compiled=True)
    torch.testing.assert_close(compiled, kept)
