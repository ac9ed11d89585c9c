"""Detect losses that jump far above the earlier ones."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable

SEEN = 50  # recent losses that define the usual range
ENOUGH = 20  # of them before any counts as unusual
TIMES = 12.0  # mean absolute deviations from the median, beyond which one is unusual; usual ones stay within 6


class Spikes:
    """Watches the losses of a training, step by step; `recent` are those that a checkpoint kept."""

    def __init__(self, recent: Iterable[float] = ()) -> None:
        self.recent = deque(recent, SEEN)

    def jumped(self, loss: float) -> str:
        """A message if this loss lies far above the recent ones, else empty; the loss then joins them."""
        usual = statistics.median(self.recent) if len(self.recent) >= ENOUGH else loss
        spread = statistics.fmean(abs(one - usual) for one in self.recent) if self.recent else 0.0
        far = loss - usual > TIMES * spread and loss > 1.5 * abs(usual)
        self.recent.append(loss)
        return f"the loss jumped from about {usual:.3g} to {loss:.3g}" if far else ""
