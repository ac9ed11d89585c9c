"""Where the time of a training step goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from tacit.core.types import Batch

SECTIONS = {
    "data": "waiting for data",
    "views": "views and masks",
    "forward": "forward",
    "backward": "backward",
    "update": "optimiser",
    "probe": "online probe",
    "saving": "checkpoints",
    "logging": "the rest of the loop",
}


class Profile:
    """`with profile("forward"): ...` adds to `seconds["forward"]`; one that is not `on` does nothing.

    The time of a nested section is not counted in the outer one. On an accelerator every section synchronises, which
    slows training down a little.
    """

    def __init__(self, *, on: bool = False) -> None:
        self.on = on
        self.steps = 0
        self.seconds: dict[str, float] = dict.fromkeys(SECTIONS, 0.0)
        self._open: list[str] = []
        self._since = 0.0

    def __call__(self, section: str) -> AbstractContextManager[None]:
        return self._timed(section) if self.on else nullcontext()

    @contextmanager
    def _timed(self, section: str) -> Iterator[None]:
        self._turn()
        self._open.append(section)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        """Add the time since the last call to the innermost section."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    @contextmanager
    def within(self, task: nn.Module) -> Iterator[None]:
        """Time a task's drawing of views separately from the rest of its forward pass."""
        drawing = [module for module in task.modules() if callable(getattr(module, "views", None))] if self.on else []
        own: list[Any] = [module.views for module in drawing]
        for module, views in zip(drawing, own, strict=True):
            module.views = _Timed(views, self)  # type: ignore[assignment]  # as callable as what it times
        try:
            yield
        finally:
            for module, views in zip(drawing, own, strict=True):
                module.views = views


class _Timed:
    """A view maker whose calls are timed; all else is unchanged."""

    def __init__(self, views: Any, profile: Profile) -> None:
        self._views, self._profile = views, profile

    def __call__(self, batch: Batch, view: int) -> Batch:
        with self._profile("views"):
            drawn: Batch = self._views(batch, view)
        return drawn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._views, name)


def profile_lines(seconds: Mapping[str, float], steps: int) -> list[str]:
    """Milliseconds of a step and their share, a line for each section."""
    whole = sum(seconds.values())
    lines = [f"a step took {1e3 * whole / steps:,.1f} ms:"]
    for section, spent in seconds.items():
        lines.append(f"  {1e3 * spent / steps:8,.1f} ms {100 * spent / whole:5.1f} %  {SECTIONS[section]}")
    return lines
