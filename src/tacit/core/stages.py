"""Progress of long work: code anywhere counts its steps, and a watcher is notified.

    with watched(lambda now: print(now)):  # Stage(doing='embedding', total=512, done=256)
        with stage("embedding", 512) as now:
            ...
            now.step(256)

The watcher belongs to the context (`contextvars`), so that a loop deep inside an evaluation needs no argument for it;
threads of a pool must be given the context. Without a watcher, counting costs nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Stage:
    """A piece of work with `done` of `total` steps done, inside the work `above`."""

    doing: str
    total: int
    done: int = 0
    above: Stage | None = None
    began: float = field(default_factory=time.monotonic)

    def step(self, more: int = 1) -> None:
        with _COUNTING:
            self.done += more
        _tell(self)

    def __str__(self) -> str:
        """`embedding 256 of 512`."""
        return f"{self.doing} {self.done:,} of {self.total:,}"


Watch = Callable[[Stage], None]

_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)
_NOW: ContextVar[Stage | None] = ContextVar("now", default=None)
_COUNTING = threading.Lock()  # draws are counted by several threads


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Call `watch` with every stage within the block: when it begins, after each step, and at every `beat`."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


@contextmanager
def stage(doing: str, total: int) -> Iterator[Stage]:
    """Count `total` steps of work; the block reports progress with `step`."""
    now = Stage(doing, total, above=_NOW.get())
    token = _NOW.set(now)
    try:
        _tell(now)
        yield now
    finally:
        _NOW.reset(token)


def beat() -> None:
    """Report that work goes on, inside one long step."""
    if _WATCH.get() is not None and (now := _NOW.get()) is not None:
        _tell(now)


def _tell(now: Stage) -> None:
    if (watch := _WATCH.get()) is not None:
        watch(now)
