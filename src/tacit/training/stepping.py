"""One step of training: from a batch to one update, in parts if the batch does not fit into memory.

Parts of a batch are computed one after the other and their gradients added, so that memory holds one part. What
compares examples with one another (`Comparing`) still sees the whole batch, by gradient caching: Gao, Zhang, Han &
Callan 2021, "Scaling deep contrastive learning batch size under memory limited setup", arXiv:2101.06983. All parts are
embedded without a graph, the loss of all embeddings gives each its gradient, and each part is embedded once more to
take it further back.

Batch norms see one part at a time. A loss that averages over what is hidden counts every part alike. Tasks in a sum
compare examples within a part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from tacit.core import gathering, keys
from tacit.core.errors import RunFailed, UserError
from tacit.core.types import Batch, Output
from tacit.tasks.base import Task
from tacit.training.blockwise import blockwise
from tacit.training.engine import Fabric
from tacit.training.optim import Optim
from tacit.training.profiling import Profile
from tacit.training.sharding import whole

IDLE = 3  # initial steps that may have a gradient of 0


@runtime_checkable
class Comparing(Protocol):
    """A task whose loss compares examples with one another, by their embeddings alone."""

    def embed(self, batch: Batch) -> Tensor:
        """The embedding of each example, [B ...]."""
        ...

    def compared(self, embeddings: Tensor) -> Output:
        """The loss of this rank's embeddings among those of all ranks."""
        ...


class NonFinite(RunFailed):
    """The loss or its gradient is not a number; `rows` are the data rows of that rank's batch at that step.

    A gradient is the sum over ranks: if no rank's loss is to blame, `rank` is None and `rows` are those of all.
    """

    def __init__(self, what: str, step: int, rank: int | None, rows: list[int]) -> None:
        where = f"on rank {rank}" if rank is not None else "on one of the ranks"
        shown = ", ".join(map(str, rows[:4])) + (", ..." if len(rows) > 4 else "")
        super().__init__(
            f"{what} became non-finite at step {step} {where} (data rows {shown}); nothing was updated: "
            "lower the learning rate, use --precision 32, pass over such steps with --skip-bad-steps 3, or look at "
            "these examples, then continue with --resume"
        )
        self.step, self.rank, self.rows = step, rank, rows


class OutOfMemory(RunFailed):
    """A step needs more memory than there is."""

    def __init__(self, batch: int, parts: int) -> None:
        super().__init__(
            f"out of memory at {batch} examples per step in {parts} part{'s' * (parts > 1)}: compute each step in "
            f"more parts with --accumulate {2 * parts}, or take fewer examples with --batch-size {max(1, batch // 2)} "
            "(auto finds the most that fit)"
        )


@dataclass(frozen=True)
class StepSettings:
    """How steps are computed, which affects their cost but not what they learn."""

    parts: int = 1  # in which a batch is computed
    compiled: bool = False  # block by block
    recomputed: bool = False  # activation checkpointing


@dataclass
class Stepper:
    """Takes the steps of one pretraining, identified by `steps` and `seed`."""

    fabric: Fabric
    model: Any  # the task as Fabric set it up
    task: Task
    optimizer: Any
    optim: Optim
    batch_size: int  # of the global batch
    steps: int
    seed: int
    settings: StepSettings = field(default_factory=StepSettings)
    profile: Profile = field(default_factory=Profile)
    idle: int = 0  # initial steps with a gradient of 0; -1 once one was not 0

    def __post_init__(self) -> None:
        if self.settings.parts > 1 and isinstance(self.task, Comparing):
            self.model.mark_forward_method("embed")

    def __call__(self, batch: Batch, step: int) -> Output:
        """Update the task by this rank's share of the batch of this step.

        Raises `NonFinite` before a non-finite loss or gradient changes anything, `OutOfMemory` with the remedy.
        """
        self.profile.steps += 1
        self.task.progress.fill_(step / self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.optim.rate(step, self.steps, self.batch_size)
        try:
            out = self._gradients(parted(self.fabric.to_device(batch), self.settings.parts), step)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise OutOfMemory(self.batch_size, self.settings.parts) from error
            raise
        with self.profile("update"):
            norm = self.fabric.clip_gradients(
                self.model, self.optimizer, max_norm=self.optim.clip or float("inf"), error_if_nonfinite=False
            )
            assert norm is not None
            length = float(whole(norm))  # the same on all ranks
            if not math.isfinite(length):
                raise _blamed(out.loss, batch, step)
            self._refuse_idleness(length == 0, step)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.task.after_step({key: gathering.gather(value) for key, value in out.carry.items()})
        return out

    def _refuse_idleness(self, idle: bool, step: int) -> None:
        """UserError where all steps of a training so far had a gradient of 0."""
        self.idle = self.idle + 1 if idle and self.idle == step else -1
        if self.idle == min(IDLE, self.steps):
            raise UserError(
                f"nothing can be learned: the gradient of the first {self.idle} step{'s' * (self.idle > 1)} is 0, "
                "because nothing was hidden or there was nothing to tell apart; give longer or more examples, another "
                "--batch-size or another task"
            )

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Context in which steps can be taken."""
        task, settings = self.task.train(), self.settings
        with self.profile.within(task), blockwise(task, compiled=settings.compiled, recomputed=settings.recomputed):
            yield

    def _gradients(self, parts: list[Batch], step: int) -> Output:
        """The combined output of the parts, with their gradients added."""
        caching = len(parts) > 1 and isinstance(self.task, Comparing)
        at_once, wanted = self._compared(parts, step) if caching else (None, None)
        found: list[Output] = []
        for number, part in enumerate(parts):
            self._seed(step, number)
            with self._synchronised(number == len(parts) - 1):
                with self.profile("forward"):
                    if wanted is not None:
                        loss = (self.model.embed(part) * wanted[number]).sum()
                    else:
                        found.append(self.model(part))
                        loss = _marked(found[-1].loss) / len(parts)
                with self.profile("backward"):
                    self.fabric.backward(loss)
        return at_once if at_once is not None else _together(found)

    def _compared(self, parts: list[Batch], step: int) -> tuple[Output, list[Tensor]]:
        """The output for all embeddings, and the gradient of each part's embeddings."""
        counts = [(buffer, buffer.clone()) for buffer in self.task.buffers()]
        embedded = []
        with torch.no_grad(), self.profile("forward"):
            for number, part in enumerate(parts):
                self._seed(step, number)
                embedded.append(self.model.embed(part))
            for buffer, before in counts:  # batch norms count these examples in the second pass
                buffer.copy_(before)
        embeddings = torch.cat(embedded).requires_grad_()
        out = self.task.compared(embeddings)  # type: ignore[operator]  # it is `Comparing`
        (gradient,) = torch.autograd.grad(_marked(out.loss), embeddings)
        detached = Output(out.loss.detach(), out.metrics, out.carry)
        return detached, list(torch.split(gradient, [len(part) for part in embedded]))

    def _seed(self, step: int, part: int) -> None:
        """Seed the global generator, for dropout and other draws."""
        keys.seed_torch(keys.fold(self.seed, step, gathering.rank(), part))

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        """Synchronise gradients over ranks at the last part alone."""
        return nullcontext() if last else self.fabric.no_backward_sync(self.model)


def parted(batch: Batch, parts: int) -> list[Batch]:
    """Split a batch into `parts` equal parts. UserError where they cannot be equal."""
    rows = len(batch["index"])
    if rows % parts:
        raise UserError(f"{rows} examples per process have no {parts} equal parts; choose another --accumulate")
    if parts == 1:
        return [batch]
    pieces = {name: torch.split(value, rows // parts) for name, value in batch.items()}
    return [{name: of[number] for name, of in pieces.items()} for number in range(parts)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means out of memory, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error)
    return "can't allocate memory" in message or "out of memory" in message


def _together(found: list[Output]) -> Output:
    """Combine the outputs of a batch's parts: means of losses and metrics, carried tensors concatenated."""
    if len(found) == 1:
        return found[0]
    metrics = {name: torch.stack([out.metrics[name] for out in found]).mean(0) for name in found[0].metrics}
    carry = {name: torch.cat([out.carry[name] for out in found]) for name in found[0].carry}
    return Output(torch.stack([out.loss.detach() for out in found]).mean(), metrics, carry)


def _marked(loss: Tensor) -> Tensor:
    """The loss unchanged, but with a non-finite gradient where it is not finite, since ranks share gradients."""
    return loss * (1 + 0 * loss.detach())


def _blamed(loss: Tensor, batch: Batch, step: int) -> NonFinite:
    """The error of a step whose gradient is not finite: due to the loss of a rank, or to the gradient alone."""
    culprit = gathering.any_rank(0 if bool(torch.isfinite(loss.detach())) else gathering.rank() + 1)
    rows = gathering.gather(batch["index"].to(loss.device))
    if culprit:
        return NonFinite("the loss", step, culprit - 1, rows.chunk(gathering.world())[culprit - 1].tolist())
    return NonFinite("the gradient", step, 0 if gathering.world() == 1 else None, rows.tolist())
