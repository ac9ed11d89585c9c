"""The budget of pretraining: a time for the whole command, or steps or epochs for each task."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tacit.core.errors import UserError

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Budget:
    """`amount` seconds for the whole command, or steps or epochs for each task."""

    amount: float
    unit: Literal["seconds", "steps", "epochs"]

    def steps(self, steps_per_epoch: float) -> int:
        """This budget in steps of one task, unless it is a time. UserError for less than one."""
        found = int(self.amount if self.unit == "steps" else self.amount * steps_per_epoch)
        if found < 1:
            raise UserError(f"--budget {self} comes to less than one step; give 1steps or more")
        return found

    def __str__(self) -> str:
        return clock(self.amount) if self.unit == "seconds" else f"{self.amount:g} {self.unit}"


@dataclass(frozen=True)
class Deadline:
    """The moment by which something must end, on the clock of `time.perf_counter`; infinite by default."""

    at: float = math.inf

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """This many seconds from now."""
        return cls(time.perf_counter() + seconds)

    def earlier(self, seconds: float) -> Deadline:
        """This many seconds before this one."""
        return Deadline(self.at - seconds)

    @property
    def left(self) -> float:
        """Seconds until then, negative once it has passed."""
        return self.at - time.perf_counter()


NEVER = Deadline()
_commands: list[float] = []  # when the command line began, until a command takes it


def start_clock() -> None:
    """Note when a command line begins: its imports take seconds, which count."""
    _commands[:] = [time.perf_counter()]


def command_began() -> float:
    """When the calling command began, on the clock of `time.perf_counter`."""
    return _commands.pop() if _commands else time.perf_counter()


def quickest(call: Callable[[], object], times: int = 2) -> float:
    """Seconds that a call takes: the quickest of several, since the first warms up and others may be disturbed."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return min(spent)


def parse_budget(text: str) -> Budget:
    """Read `90s`, `10m`, `2h`, `5000steps` or `20epochs`."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(s|m|h|d|steps?|epochs?)\s*", text)
    if match is None or float(match[1]) <= 0:
        raise UserError(f"cannot read the budget {text!r}; write e.g. 90s, 10m, 2h, 5000steps or 20epochs")
    amount, unit = float(match[1]), match[2]
    if unit in _SECONDS:
        return Budget(amount * _SECONDS[unit], "seconds")
    return Budget(amount, "steps" if unit.startswith("step") else "epochs")


def judging_deadline(text: str | None, began: float) -> Deadline:
    """When an evaluation that began at `began` must end by this budget, a time; never without one."""
    if text is None:
        return NEVER
    budget = parse_budget(text)
    if budget.unit != "seconds":
        raise UserError(f"--budget {text}: judging takes a time, such as 90s or 10m")
    return Deadline(began + budget.amount)


def clock(seconds: float) -> str:
    """A time for people: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
