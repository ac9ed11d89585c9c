"""The base of pretext tasks: a module that turns a raw batch into a loss."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tacit.core import gathering
from tacit.core.nn import together
from tacit.core.types import Batch, Encoder, Output, ViewMaker


class Task(nn.Module, ABC):
    """One pretext task. Abstract; every subclass is final and reads like its paper.

    A task draws its views and masks through the callables it was given, encodes, and returns an `Output`. It knows no
    file format, no optimiser and no rank. Buffers that change from step to step (queues, centres, teachers) are written
    in `after_step` alone, from values the loop has gathered over all ranks.
    """

    needs: ClassVar[frozenset[str]]  # ingredients, by argument name; a modality that has them all has the task
    takes: ClassVar[frozenset[str]] = frozenset()  # optional ingredients
    progress: Tensor
    fewest: int = 1  # least number of distinct examples in a step
    fewest_in_part: int = 1  # the same for each part in which a step is computed

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("progress", torch.zeros(()), persistent=False)

    @property
    @abstractmethod
    def exported(self) -> Mapping[str, Encoder]:
        """The trained encoders: `{"encoder": ...}`, or one encoder per tower."""

    @abstractmethod
    def forward(self, batch: Batch) -> Output:
        """The loss of this batch, its metrics, and what `after_step` will need."""

    def after_step(self, carry: Mapping[str, Tensor]) -> None:
        """Update buffers after the optimiser's step; `carry` holds the whole global batch in rank order."""

    def vain(self, batch: Batch) -> str:
        """Why nothing can be learned from such examples; empty if something can."""
        return ""

    @abstractmethod
    def preview(self, batch: Batch) -> dict[str, Tensor]:
        """The inputs and predictions of the task, for the report.

        Images [B C H W] in [0, 1], numbers over time [B T C], or numbers of tokens [B N].
        """


class Viewing(Task):
    """A task on random views of each example; abstract."""

    needs = frozenset({"views"})
    fewest = fewest_in_part = 2  # one example alone has nothing to differ from, and batch norm leaves nothing of it

    def __init__(self, encoder: Encoder, views: ViewMaker) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = views

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def two_views(self, batch: Batch) -> Batch:
        """First views of all examples, then second ones, [2B ...]."""
        return together([self.views(batch, view) for view in (0, 1)])

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {f"view {view + 1}": preview_of(self.views(batch, view)) for view in (0, 1)}


def by_example(z: Tensor) -> Tensor:
    """First views, then second ones [2B D] -> both views of each example [B 2 D]."""
    return z.view(2, -1, z.shape[1]).transpose(0, 1)


def of_one_group(batch: Batch) -> Tensor | None:
    """Whether the examples of all ranks are others of the same group, such as a patient, [B W*B]; None without groups.

    What is of one group is no negative of each other.
    """
    if "group" not in batch:
        return None
    mine, everyone = batch["group"], gathering.gather(batch["group"])
    same = mine[:, None] == everyone
    own = torch.arange(len(mine), device=mine.device) + len(mine) * gathering.rank()
    return same.scatter(1, own[:, None], False)


def contrast(
    anchors: Tensor, candidates: Tensor, temperature: float, spared: Tensor | None, *, weight: float
) -> tuple[Tensor, Tensor]:
    """InfoNCE of the anchors [B 2 D] of this rank, each among other views of all ranks' candidates [W*B 2 D].

    The sum over both views, times `weight`; and the share of anchors that are nearest to their own example.
    """
    own = torch.arange(len(anchors), device=anchors.device) + len(anchors) * gathering.rank()
    loss, nearest = anchors.new_zeros(()), anchors.new_zeros(())
    for view in (0, 1):
        similarity = anchors[:, view] @ candidates[:, 1 - view].T / temperature  # [B W*B]
        similarity = similarity if spared is None else similarity.masked_fill(spared, -math.inf)
        loss = loss + weight * cross_entropy(similarity, own)
        nearest = nearest + (similarity.argmax(1) == own).float().mean() / 2
    return loss, nearest


class Teacher(nn.ModuleDict):
    """A teacher: its weights are an exponential moving average of those of its students.

    Mean teacher, Tarvainen & Valpola 2017, arXiv:1703.01780. The share that stays at every step goes from `momentum` to
    1 along a cosine (Grill et al. 2020, arXiv:2006.07733). No gradient reaches it, and `follow` alone writes it.
    """

    def __init__(self, students: Mapping[str, nn.Module], momentum: float) -> None:
        super().__init__({name: copy.deepcopy(student) for name, student in students.items()})
        self.requires_grad_(False)
        self.momentum = momentum

    @torch.no_grad()
    def follow(self, students: Mapping[str, nn.Module], progress: Tensor) -> None:
        """Move towards the students; their buffers, such as the statistics of batch norms, are copied."""
        share = (1 - self.momentum) * (1 + math.cos(math.pi * float(progress))) / 2
        for name, student in students.items():
            for weight, learned in zip(self[name].parameters(), student.parameters(), strict=True):
                weight.lerp_(learned, share)
            for count, counted in zip(self[name].buffers(), student.buffers(), strict=True):
                count.copy_(counted)


def mean_of_all(losses: Tensor, weight: Tensor | None = None) -> Tensor:
    """The mean of the losses [M] of all ranks, each weighted by `weight` [M]; ranks may have different numbers of them.

    Each rank returns its share, so that their mean, and that of their gradients, is that of all losses at once.
    """
    weight = torch.ones_like(losses) if weight is None else weight
    everything = gathering.mean(weight.sum())
    return (weight * losses).sum() / everything.clamp(min=torch.finfo(torch.float32).tiny)


def preview_of(batch: Batch) -> Tensor:
    """The examples of a batch in the form of a preview."""
    return next(batch[name] for name in ("image", "mel", "values", "tokens") if name in batch)
