"""Small real things that many tests share: digits, documents, encoders, every task by its recipe, batches by step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from tacit import keys
from tacit.encoders import build_encoder
from tacit.encoders.base import ImageEncoder
from tacit.encoders.text import TextEncoder
from tacit.kinds import kind_named
from tacit.recipes.base import Recipe
from tacit.spec import ImageSpec, TextSpec
from tacit.tasks import TASKS, parse_mixture
from tacit.types import Batch

SPEC = ImageSpec(size=8, channels=1, mean=(0.3,), std=(0.37,))
PAD, UNKNOWN, CLS, SEP, MASK = range(5)
TEXT_SPEC = TextSpec("", 24, 69, PAD, CLS, SEP, MASK, UNKNOWN, (PAD, UNKNOWN, CLS, SEP, MASK))
EXAMPLES = 512

# Every task of every kind, and a sum; what is not of images carries its kind in front.
MIXTURES = [
    *(name for name, entry in TASKS.items() if "image" in entry.kinds),
    "simclr+0.4*rotation",
    *(f"text:{name}" for name, entry in TASKS.items() if "text" in entry.kinds),
    "text:masked+0.5*simclr",
]


@cache
def digits() -> Tensor:
    """scikit-learn's digits, uint8 [1797 1 8 8]."""
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images)
    return (images * (255 / 16)).round().to(torch.uint8)[:, None]


@cache
def documents() -> Tensor:
    """Counting in steps of its own: [CLS] a, a + s, a + 2s, ... [SEP] of 6 to 20 tokens, [512 22], padded."""
    rows = torch.full((EXAMPLES, 22), PAD)
    for row in range(EXAMPLES):
        n, step = 6 + row % 15, 1 + row % 4
        rows[row, : n + 2] = torch.tensor([CLS, *((row * 7 + step * i) % 64 + 5 for i in range(n)), SEP])
    return rows


def kind_and_tasks(mixture: str) -> tuple[str, str]:
    kind, _, tasks = mixture.rpartition(":")
    return kind or "image", tasks


def tiny_encoder(name: str = "convnet", seed: int = 0) -> ImageEncoder:
    torch.manual_seed(seed)
    options = {"width": 32} if name == "convnet" else {"patch": 2}
    found = build_encoder(name, SPEC, **options)
    assert isinstance(found, ImageEncoder)
    return found


def tiny_text_encoder(name: str = "bert_nano", seed: int = 0) -> TextEncoder:
    torch.manual_seed(seed)
    found = build_encoder(name, TEXT_SPEC)
    assert isinstance(found, TextEncoder)
    return found


def tiny_recipe(mixture: str, *, encoder: str | None = None, batch_size: int = 32, seed: int = 0) -> Recipe:
    kind, tasks = kind_and_tasks(mixture)
    if kind == "text":
        built: ImageEncoder | TextEncoder = tiny_text_encoder(encoder or "bert_nano", seed)
    else:
        built = tiny_encoder(encoder or "convnet", seed)
    return kind_named(kind).recipe(parse_mixture(tasks), built, examples=EXAMPLES, batch_size=batch_size)


class TinyBatches:
    """The first 512 examples of the mixture's kind in a fixed order, as the loop wants them."""

    def __init__(self, mixture: str = "simclr", batch_size: int = 32, seed: int = 0) -> None:
        self.kind, tasks = kind_and_tasks(mixture)
        self.packed = tasks in ("masked", "electra")
        self.batch_size = batch_size
        self.seed = seed

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        share = self.batch_size // world
        positions = torch.arange(rank * share, (rank + 1) * share)
        rows = (step * self.batch_size + positions) % EXAMPLES
        read = self.images if self.kind == "image" else self.texts
        return {**read(rows), "index": rows, "key": keys.batch_keys(self.seed, step, positions)}

    def images(self, rows: Tensor) -> Batch:
        return {"image": digits()[rows]}

    def texts(self, rows: Tensor) -> Batch:
        """Documents alone, or for tasks of single tokens the ends and beginnings of two in a row."""
        tokens = documents()[rows]
        if not self.packed:
            return {"tokens": tokens, "valid": tokens != PAD, "word": tokens > MASK}
        tokens = torch.cat([documents()[(rows + 1) % EXAMPLES][:, :8], tokens[:, :16]], 1)
        segment = (torch.arange(24) >= 8).long().expand(len(rows), -1)
        return {"tokens": tokens, "valid": tokens != PAD, "word": tokens > MASK, "segment": segment}

    def stream(self, start: int, stop: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        for step in range(start, stop):
            yield self.batch(step, rank, world)
