"""Several tasks on one encoder, their losses added with weights.

Dangovski et al. 2022, "Equivariant Contrastive Learning", arXiv:2111.00899: contrast plus rotation learns more than
either alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tacit.core import keys
from tacit.core.types import Batch, Encoder, Output
from tacit.tasks.base import Task


class Sum(Task):
    """`Sum({"simclr": task, "rotation": task}, {"simclr": 1.0, "rotation": 0.4})`; all tasks share one encoder."""

    def __init__(self, tasks: Mapping[str, Task], weights: Mapping[str, float]) -> None:
        super().__init__()
        assert tasks.keys() == weights.keys()
        first, *others = tasks.values()
        assert all(other.exported["encoder"] is first.exported["encoder"] for other in others)
        self.tasks = nn.ModuleDict(tasks)
        self.weights = dict(weights)
        self.fewest = self.fewest_in_part = max(task.fewest for task in tasks.values())

    @property
    def exported(self) -> Mapping[str, Encoder]:
        first: Task = next(iter(self._each().values()))
        return first.exported

    def _each(self) -> dict[str, Task]:
        return {name: task for name, task in self.tasks.items() if isinstance(task, Task)}

    def vain(self, batch: Batch) -> str:
        reasons = [task.vain(batch) for task in self._each().values()]
        return reasons[0] if reasons and all(reasons) else ""

    def forward(self, batch: Batch) -> Output:
        total: Tensor | None = None
        metrics: dict[str, Tensor] = {}
        carry: dict[str, Tensor] = {}
        for name, task in self._each().items():
            task.progress.copy_(self.progress)
            out = task({**batch, "key": keys.split(batch["key"], name)})
            total = self.weights[name] * out.loss + (0 if total is None else total)
            metrics[f"{name}/loss"] = out.loss.detach()
            metrics |= {f"{name}/{key}": value for key, value in out.metrics.items()}
            carry |= {f"{name}/{key}": value for key, value in out.carry.items()}
        assert total is not None
        return Output(total, metrics, carry)

    def after_step(self, carry: Mapping[str, Tensor]) -> None:
        for name, task in self._each().items():
            prefix = f"{name}/"
            task.after_step({key.removeprefix(prefix): value for key, value in carry.items() if key.startswith(prefix)})

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {
            f"{name}: {title}": image
            for name, task in self._each().items()
            for title, image in task.preview(batch).items()
        }
