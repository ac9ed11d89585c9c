"""A step that cannot learn is refused with one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tacit
from tacit.core.errors import UserError
from tacit.training.engine import make_fabric
from tacit.training.loop import pretrain
from tacit.training.stepping import StepSettings
from tests import tiny


class Few(tiny.TinyBatches):
    """Batches out of so many examples."""

    def __init__(self, mixture: str, rows: int, batch_size: int) -> None:
        super().__init__(mixture, batch_size)
        self.among = range(rows)


def trained(name: str, rows: int, batch_size: int, parts: int = 1) -> None:
    recipe = tiny.tiny_recipe(name, batch_size=batch_size)
    settings, fabric = StepSettings(parts), make_fabric(device="cpu")
    pretrain(
        *(recipe.task, Few(name, rows, batch_size)),
        steps=2,
        optim=recipe.optim,
        fabric=fabric,
        settings=settings,
        name=name,
    )


@pytest.mark.parametrize(
    "name", ["simclr", "byol", "text:simclr", "text:simcse", "audio:simclr", "series:simclr", "items:simclr"]
)
def test_one_example_tells_nothing_apart(name: str) -> None:
    with pytest.raises(UserError, match="there is 1 to learn from"):
        trained(name, 1, 4)
    with pytest.raises(UserError, match="a step has 1: give a --batch-size of 2 or more"):
        trained(name, 9, 1)


@pytest.mark.parametrize("name", ["simclr", "byol", "text:simcse", "simclr+0.4*rotation"])
def test_a_part_of_one_example_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="--accumulate 4 leaves 1 in each part"):
        trained(name, 9, 4, parts=4)


@pytest.mark.parametrize(("name", "parts"), [("masked", 1), ("rotation", 1), ("text:simclr", 4)])
def test_what_needs_no_others_is_not_refused(name: str, parts: int) -> None:
    trained(name, 4, parts if parts > 1 else 1, parts=parts)


def test_a_mask_that_hides_nothing_is_refused() -> None:
    recipe = tiny.tiny_recipe("text:masked")
    task: Any = recipe.task
    task.masks = lambda batch, progress: torch.zeros_like(batch["tokens"], dtype=torch.bool)
    with pytest.raises(UserError, match="nothing can be learned: the gradient of the first 3 steps is 0"):
        pretrain(task, Few("text:masked", 9, 4), steps=9, optim=recipe.optim, fabric=make_fabric(device="cpu"))


@pytest.mark.parametrize(
    ("images", "task", "match"),
    [
        (np.full((8, 8, 8), 7, np.uint8), "masked", "all 8 examples to learn from are copies of one"),
        (np.full((8, 8, 8), 7, np.uint8) + np.arange(8, dtype=np.uint8)[:, None, None], "rotation", "look the same"),
    ],
)
def test_examples_that_tell_nothing(tmp_path: Path, images: Any, task: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        tacit.pretrain(images, task=task, budget="2steps", out=str(tmp_path / "run"), cache=str(tmp_path / "cache"))
