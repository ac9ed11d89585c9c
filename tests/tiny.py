"""Small real things that many tests share: digits, an encoder, every task by its recipe, batches by step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from tacit import keys
from tacit.encoders import build_encoder
from tacit.encoders.base import ImageEncoder
from tacit.recipes.base import Recipe
from tacit.recipes.image import recipe
from tacit.spec import ImageSpec
from tacit.tasks import TASKS, parse_mixture
from tacit.types import Batch

SPEC = ImageSpec(size=8, channels=1, mean=(0.3,), std=(0.37,))
MIXTURES = [*TASKS, "simclr+0.4*rotation"]


@cache
def digits() -> Tensor:
    """scikit-learn's digits, uint8 [1797 1 8 8]."""
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images)
    return (images * (255 / 16)).round().to(torch.uint8)[:, None]


def tiny_encoder(name: str = "convnet", seed: int = 0) -> ImageEncoder:
    torch.manual_seed(seed)
    options = {"width": 32} if name == "convnet" else {"patch": 2}
    return build_encoder(name, SPEC, **options)


def tiny_recipe(mixture: str, *, encoder: str = "convnet", batch_size: int = 32, seed: int = 0) -> Recipe:
    return recipe(parse_mixture(mixture), tiny_encoder(encoder, seed), examples=512, batch_size=batch_size)


class DigitBatches:
    """The first 512 digits in a fixed order, as the loop wants them."""

    def __init__(self, batch_size: int = 32, seed: int = 0) -> None:
        self.batch_size = batch_size
        self.seed = seed

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        share = self.batch_size // world
        positions = torch.arange(rank * share, (rank + 1) * share)
        rows = (step * self.batch_size + positions) % 512
        return {"image": digits()[rows], "index": rows, "key": keys.batch_keys(self.seed, step, positions)}

    def stream(self, start: int, stop: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        for step in range(start, stop):
            yield self.batch(step, rank, world)
