"""Share a time budget between training and evaluation, and turn a training's time into steps.

Training gets at least half of a budget, and what evaluation leaves of the rest. A training's time becomes steps by
timing a few of them; their number is corrected as the measured speed changes. All decisions are stored in plan.json,
so that a run resumes exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tacit.core import ranks
from tacit.core.budget import Deadline, clock
from tacit.core.errors import UserError
from tacit.core.records import reading
from tacit.core.wording import Ours
from tacit.training.loop import MOST_STEPS, Probe, read_history, seconds_per_step
from tacit.training.stepping import StepSettings

if TYPE_CHECKING:
    from tacit.core.budget import Budget
    from tacit.experiment.folder import Workspace
    from tacit.experiment.log import Log
    from tacit.modalities.recipe import Recipe
    from tacit.training.batches import Batches
    from tacit.training.engine import Fabric

PLAN = "plan.json"  # the decisions about a time budget, made once, so that a run resumes exactly
TRAINING_SHARE = 0.58  # least share of a time budget planned for training, with timing and set-up
BEYOND = 1.06  # times the budget that a run may take if it could not be evaluated otherwise
LEAST_TRAINING = 0.55  # the same where time is short: still at least half of the budget in fact
READINGS = 10  # of the probe, in one pretraining
PROBE_SHARE = 0.05  # share of a pretraining's time for all readings but one
THINNED = 4  # times fewer examples are probed where a full reading would take more than that
TIMING_SHARE = 0.02  # share of a pretraining's time spent on timing its steps
FEWEST_STEPS = 20  # steps of the shortest training
WINDOW = 0.06  # share of a training's time over which its speed is measured
WRONG = 0.05  # relative error of the remaining steps above which their number is corrected
GROWING = 0.9  # share of a training after which no steps are added: the learning rate is then nearly 0
QUICKEST = 1e-4  # least seconds of a step
REPORT_SECONDS = 5.0  # gallery, map and pictures
SOON = 2.0  # seconds of a report with a simpler map
SLOW = 0.6  # share of the planned steps below which later tasks give up their time


def read_plan(space: Workspace) -> dict[str, Any]:
    """The content of plan.json, empty without one. UserError where it is no valid plan."""
    planned = space.read_json(PLAN)
    if planned is None:
        return {}
    with reading(space.path / PLAN, "restore it from a copy, or start again with --overwrite"):
        if not isinstance(planned, dict) or not isinstance(planned.get("left_out", []), list):
            raise ValueError("it is no plan of a run")
        for what in ("steps", "readings", "thinned", "batch_size", "seconds", "changes"):
            for name, value in planned.get(what, {}).items():
                if what == "changes":
                    good = all(len(change) == 2 and all(map(_is_count, change)) for change in value)
                else:
                    good = type(value) is float if what == "seconds" else _is_count(value)
                if not good:
                    raise ValueError(f"{what} of {name} is {value!r:.40}")
    return planned


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= MOST_STEPS


class TooFew(UserError):
    """Fewer than `FEWEST_STEPS` steps fit into the seconds of a training."""

    def __init__(self, each: float, seconds: float) -> None:
        self.needed, self.seconds = FEWEST_STEPS * each, seconds
        super().__init__(f"{FEWEST_STEPS} steps take {clock(self.needed)}, and {clock(max(0.0, seconds))} are left")


class Shares:
    """The time for training, shared evenly among the remaining trainings: those of each task in turn.

    A task that has not begun gives up its share if the current one needs it, or if its turn comes too late; plan.json
    lists the tasks that did.
    """

    def __init__(self, tasks: Sequence[str], seeds: int, seconds: float, space: Workspace, log: Log) -> None:
        planned = ranks.from_leader(lambda: read_plan(space))
        self.left_out: list[str] = list(planned.get("left_out", []))
        self.waiting = [task for task in tasks if task not in self.left_out]
        self.seeds, self.ends, self.space, self.log = seeds, Deadline.after(seconds), space, log
        self.each = math.inf

    def begin(self) -> str | None:
        """The next task, or None; the leader decides which are left out."""
        self.left_out = ranks.from_leader(lambda: self.left_out)
        self.waiting = [task for task in self.waiting if task not in self.left_out]
        return self.waiting.pop(0) if self.waiting else None

    def seconds(self, number: int) -> float:
        """The seconds for the current task's training with seed number `number`."""
        to_come = len(self.waiting) * self.seeds + self.seeds - number + 1
        self.each = max(0.0, self.ends.left) / to_come
        return self.each

    def borrow(self) -> float:
        """Leave out the last remaining task; the seconds that each training of the current task gets now, 0 if none."""
        if not self.waiting or math.isinf(self.each):
            return 0.0
        self.leave_out(self.waiting.pop(), "training is slow, and its time goes to the task before it")
        return self.each

    def leave_out(self, task: str, why: str) -> None:
        self.log(Ours(f"{task} is left out: {why}"))
        self.left_out.append(task)
        self.space.write_json(PLAN, {**read_plan(self.space), "left_out": self.left_out})


class Cost(NamedTuple):
    """The cost of the evaluation in seconds."""

    least: float  # that gives a verdict, training from scratch included
    whole: float  # all that is planned
    training: float  # one training on labels
    scratch: float = 0.0  # the least of it that trains from scratch


def no_cost(encoders: int) -> Cost:
    """The cost of the evaluation without labels."""
    return Cost(0.0, 0.0, 0.0)


def share_out(
    budget: Budget,
    began: float,
    cost: Callable[[int], Cost],
    tasks: Sequence[str],
    seeds: int,
    space: Workspace,
    log: Log,
) -> tuple[Shares, Cost, bool]:
    """Share a time budget among trainings and evaluation, and log it; also decides whether to train from scratch.

    If it is too small for all tasks, the last are left out; if too small for one, nothing is trained from scratch.
    UserError where it is still too small.
    """
    if budget.unit != "seconds":
        return Shares(tasks, seeds, math.inf, space, log), cost(len(tasks) * seeds), True
    spent = time.perf_counter() - began
    before = {row["task"]: float(row["seconds"]) for row in read_history(space.path / "metrics.jsonl")}
    fewer = range(len(tasks), 0, -1)
    for number, scratch in [*((n, True) for n in fewer), *((n, False) for n in fewer)]:
        plan = cost(number * seeds)
        plan = plan if scratch else plan._replace(least=plan.least - plan.scratch)
        after, least = REPORT_SECONDS + plan.whole, SOON + plan.least
        try:
            if before:  # a resumed run: all its trained encoders are evaluated
                window = max(TRAINING_SHARE * budget.amount, budget.amount - spent - after) - sum(before.values())
            else:
                window = training_seconds(budget.amount, spent, after, least)
            break
        except UserError:
            if number == 1 and not scratch:
                raise
    shares = Shares(tasks, seeds, window, space, log)
    for task in reversed(tasks[number:]):
        if task in shares.waiting:
            shares.waiting.remove(task)
            shares.leave_out(task, "so many are not judged within the budget")
    shared = f" for {len(shares.waiting)} tasks" if len(shares.waiting) > 1 else ""
    shared += f" with {seeds} seeds each" if seeds > 1 else ""
    rest = clock(max(0.0, budget.amount - spent - window))
    log(
        Ours(
            f"budget {budget}: {clock(spent)} to start, {clock(max(0.0, window))} of pretraining{shared}, "
            f"about {rest} to judge and report"
        )
    )
    return shares, plan, scratch


def training_seconds(budget: float, spent: float, after: float, least: float) -> float:
    """The seconds of a budget for all pretraining together, `spent` of which are gone.

    `after` is the full cost of evaluation and report, `least` the smallest one. UserError with the smallest budget that
    works, where half of this one for training leaves less than `least`.
    """
    training = min(max(TRAINING_SHARE * budget, budget - spent - after), BEYOND * budget - spent - least)
    if training < LEAST_TRAINING * budget:
        smallest = rounded_up((spent + least) / (BEYOND - LEAST_TRAINING))
        raise UserError(
            f"--budget {clock(budget)} is too small: it takes about {clock(spent)} to begin and {clock(least)} to "
            f"judge and report, and training gets half of it at least; give --budget {in_short(smallest)} or more"
        )
    return training


def too_small(budget: Budget, encoder: str, short: TooFew) -> UserError:
    """The error where no task could be trained."""
    smallest = rounded_up(budget.amount * short.needed / max(short.seconds, 0.1 * short.needed))
    return UserError(
        f"--budget {budget} is too small to train {encoder}: {short}; give --budget {in_short(smallest)} or "
        "more, or a smaller --encoder"
    )


def rounded_up(seconds: float) -> float:
    """Round up to 5 seconds, above two minutes to half a minute."""
    step = 5 if seconds <= 120 else 30
    return step * math.ceil(seconds / step)


def in_short(seconds: float) -> str:
    """Format a time for `--budget`: 45s, 3m, 150s."""
    return f"{seconds / 60:g}m" if seconds % 60 == 0 else f"{seconds:g}s"


class Paced:
    """The length of a training that must take `seconds`, corrected as the speed of its steps changes.

    Each correction is stored before it takes effect, and replayed when the training is resumed or repeated with another
    seed. If the machine has become so slow that the share `SLOW` of the steps would not be reached, `borrow` returns
    more seconds, taken from later tasks.
    """

    def __init__(
        self,
        first: int,
        changes: list[list[int]],
        keep: Callable[[list[list[int]]], None],
        *,
        seconds: float = math.inf,
        borrow: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.first, self.changes, self.keep, self.borrow = first, changes, keep, borrow
        self.seconds = seconds  # of the whole training; infinite where it only replays earlier decisions
        self._since: tuple[int, float] | None = None

    def at(self, step: int) -> int:
        known = [total for since, total in self.changes if since <= step]
        return known[-1] if known else self.first

    def revise(self, step: int, seconds: float) -> None:
        if math.isinf(self.seconds) or (self.changes and step < self.changes[-1][0]) or step >= self.at(step):
            return
        self.changes = ranks.from_leader(lambda: self._revised(step, seconds))

    def _revised(self, step: int, seconds: float) -> list[list[int]]:
        if self._since is None:
            self._since = step, seconds
        before, began = self._since
        if step == before or seconds - began < WINDOW * self.seconds:
            return self.changes
        self._since = step, seconds
        each, planned = (seconds - began) / (step - before), self.at(step)
        while step + (self.seconds - seconds) / each < SLOW * self.first and (more := self.borrow()):
            self.seconds += more
        total = step + max(1, int((self.seconds - seconds) / each))
        if total > planned and step > GROWING * planned:
            return self.changes
        if abs(total - planned) <= WRONG * (planned - step):
            return self.changes
        changes = [*self.changes, [step, total]]
        self.keep(changes)
        return changes


def planned_steps(
    space: Workspace,
    name: str,
    recipe: Recipe,
    source: Batches,
    budget: Budget,
    seconds: float,
    *,
    fabric: Fabric,
    probe: Callable[[int], Probe],
    seed: int,
    settings: StepSettings | None = None,
    repeated: bool = False,
    borrow: Callable[[], float] = lambda: 0.0,
) -> tuple[Paced, int, int]:
    """The length of a task's training under the budget (`seconds` where it is a time), the number of probe readings,
    and the factor by which the probe reads fewer examples; `probe` makes a probe for that factor.

    A time becomes steps by timing a few, less the time of the readings, which are fewer where a reading takes long; the
    leader decides. All is stored in plan.json, corrections too; `repeated` replays those of the first seed. UserError
    where not even a few steps fit.
    """
    planned: dict[str, Any] = ranks.from_leader(lambda: read_plan(space))
    planned.setdefault("steps", {})
    timed, per_epoch = budget.unit == "seconds", len(source.among) / recipe.batch_size
    if name not in planned["steps"]:
        step, reading, readings, thinned, left = 0.0, 0.0, READINGS, 1, seconds
        if timed:
            began = time.perf_counter()
            step = seconds_per_step(
                *(recipe.task, source),
                optim=recipe.optim,
                fabric=fabric,
                seed=seed,
                longest=TIMING_SHARE * seconds,
                settings=settings,
            )
            left -= time.perf_counter() - began
            began = time.perf_counter()
            probe(THINNED)(recipe.task)
            reading = time.perf_counter() - began
            left -= reading
            thinned = THINNED if THINNED * reading > PROBE_SHARE * seconds else 1
            reading *= THINNED / thinned
            readings = max(1, min(READINGS, int(PROBE_SHARE * seconds / reading)))
        found = int(max(0.0, left - readings * reading) / step) if timed else budget.steps(per_epoch)
        decided = ranks.from_leader(lambda: [found, readings, thinned, left, step])
        if timed and decided[0] < FEWEST_STEPS:
            raise TooFew(decided[4], decided[3])
        for what, number in zip(("steps", "readings", "thinned"), decided, strict=False):
            planned.setdefault(what, {})[name] = number
        if timed:
            planned.setdefault("seconds", {})[name] = decided[3]
        space.write_json(PLAN, planned)

    def keep(changes: list[list[int]]) -> None:
        now = read_plan(space)
        now.setdefault("changes", {})[name] = changes
        space.write_json(PLAN, now)

    changes = planned.get("changes", {}).get(name, []) if timed else []
    most = budget.amount / QUICKEST if timed else budget.steps(per_epoch)
    if max(planned["steps"][name], *(total for _, total in changes), 0) > most:
        raise UserError(
            f"{space.path / PLAN} says more steps of {name} than a budget of {budget} comes to; restore it from a "
            "copy, or start again with --overwrite"
        )
    corrected = timed and not repeated
    length = Paced(
        planned["steps"][name],
        changes,
        keep,
        seconds=planned.get("seconds", {}).get(name, math.inf) if corrected else math.inf,
        borrow=borrow,
    )
    return length, planned.get("readings", {}).get(name, READINGS), planned.get("thinned", {}).get(name, 1)
