"""A clock that steps of pretraining move on, and nothing else by much: what a time comes to is counted, not timed."""

from __future__ import annotations

from typing import Any

import pytest

from tacit.training.stepping import Stepper

LOOK = 1e-4  # seconds that every look at the clock takes, so that nothing takes none
READERS = (
    *("tacit.core.budget", "tacit.evaluation.agenda", "tacit.evaluation.probes.finetune"),
    *("tacit.experiment.pacing", "tacit.training.loop"),
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += LOOK
        return self.now

    monotonic = perf_counter


def count_steps(patch: pytest.MonkeyPatch, seconds: float) -> Clock:
    """Each step of pretraining takes `seconds`, on whatever machine."""
    clock, step = Clock(), Stepper.__call__

    def taken(self: Stepper, *given: Any) -> Any:
        clock.now += seconds
        return step(self, *given)

    patch.setattr(Stepper, "__call__", taken)
    for reader in READERS:
        patch.setattr(f"{reader}.time", clock)
    return clock
