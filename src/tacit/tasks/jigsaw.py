"""Jigsaw: say in which order the pieces of an example were put.

Noroozi & Favaro 2016, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", arXiv:1603.09246. An
example is cut into pieces, which are put back in a random order; a classifier on the pooled features names the order.

Departures: the encoder sees the whole puzzle rather than each piece apart, so that it is the one that is used
afterwards; there are four pieces, and all 24 orders. Each piece is moved a little, so that edges that fit give nothing
away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor, nn

from tacit.core import keys
from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Task, preview_of
from tacit.tasks.ingredients import Pieces


class Jigsaw(Task):
    """Prediction of the order of pieces; `accuracy` is the share of orders that are named rightly."""

    needs = frozenset({"whole", "pieces"})
    orders: Tensor  # [O P]

    def __init__(self, encoder: Encoder, whole: ViewMaker, pieces: Pieces) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = whole
        self.pieces = pieces
        orders = torch.tensor(list(permutations(range(pieces.number))))
        self.register_buffer("orders", orders, persistent=False)
        self.head = nn.Linear(encoder.dim, math.factorial(pieces.number))

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        puzzle, which = self.puzzle(batch)
        logits = self.head(self.encoder(puzzle).pooled).float()  # [B O]
        accuracy = (logits.detach().argmax(1) == which).float().mean()
        return Output(nn.functional.cross_entropy(logits, which), {"accuracy": accuracy}, {})

    def puzzle(self, batch: Batch) -> tuple[Batch, Tensor]:
        """The examples with their pieces in a drawn order, and the number [B] of that order."""
        seen = self.views(batch, 0)
        which = (keys.uniform(seen["key"], "order", 1)[:, 0] * len(self.orders)).long()  # [B]
        return self.pieces.put(seen, self.orders[which]), which

    def vain(self, batch: Batch) -> str:
        first, last = (self.pieces.put(batch, order.expand(len(batch["key"]), -1)) for order in self.orders[[0, -1]])
        alike = bool((preview_of(first) == preview_of(last)).all())
        return "the examples look the same in whatever order their pieces are" if alike else ""

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {"input": preview_of(self.views(batch, 0)), "puzzle": preview_of(self.puzzle(batch)[0])}
