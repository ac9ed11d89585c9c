"""The only training loop.

It knows no task, no modality and no metric by name. Every step is a pure function of (seed, step, parameters), so a run
that was killed and resumed ends with the same bits as one that was not (same world size, threads and torch build).
"""

from __future__ import annotations

import copy
import json
import math
import re
import signal
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch

from tacit.core import gathering
from tacit.core.errors import Interrupted, RunFailed, UserError, writing_to
from tacit.core.files import write_whole
from tacit.core.types import Batch, Output
from tacit.tasks.base import Task
from tacit.training import state
from tacit.training.engine import Fabric, set_up, shards
from tacit.training.optim import Optim
from tacit.training.profiling import Profile
from tacit.training.sharding import fill, gathered, hollow
from tacit.training.spikes import Spikes
from tacit.training.stepping import NonFinite, Stepper, StepSettings

Row = dict[str, float | int | str]
Probe = Callable[[Task], Mapping[str, float]]

MOST_STEPS = 1 << 40  # the stream of batches ends with the training
GO_ON, SAVE, JUMPED = 0, 1, 1 << 10  # the agreement of ranks after a step; values in between are numbers of signals


class Source(Protocol):
    """Batches as a pure function of the step; `stream` may prepare them ahead, but must not change them."""

    batch_size: int  # examples in the global batch

    def stream(self, start: int, stop: int, *, rank: int = 0, world: int = 1) -> Iterable[Batch]: ...


class Length(Protocol):
    """The number of steps of a training, which may change on the way."""

    @property
    def first(self) -> int:
        """The total number of steps, as planned before the first one."""

    def at(self, step: int) -> int:
        """The total number of steps, as known before this one."""

    def revise(self, step: int, seconds: float) -> None:
        """Revise the total before this step, `seconds` after the start; every process calls it at the same steps."""


@dataclass(frozen=True)
class Steps:
    """A fixed length."""

    first: int

    def at(self, step: int) -> int:
        return self.first

    def revise(self, step: int, seconds: float) -> None:
        pass


@dataclass(frozen=True)
class Run:
    """The result of pretraining: the trained task, its steps and its time, resumed parts included."""

    task: Task
    steps: int
    seconds: float
    examples_per_second: float
    history: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    epochs: float = math.nan  # epochs seen, if known


class Jumped(RunFailed):
    """The loss jumped at a step that must be skipped."""

    def __init__(self, text: str, step: int) -> None:
        super().__init__(f"{text} at step {step}")
        self.step = step


def pretrain(
    task: Task,
    source: Source,
    *,
    steps: int | Length,
    optim: Optim,
    fabric: Fabric,
    seed: int = 0,
    name: str = "task",
    folder: Path | None = None,
    save_every: float = 60.0,
    rows: int = 100,
    probe: Probe | None = None,
    probes: int = 10,
    watch: Callable[[Row, int], None] | None = None,
    say: Callable[[str], None] | None = None,
    settings: StepSettings | None = None,
    skip_bad_steps: int = 0,
    profile: Profile | None = None,
) -> Run:
    """Train `task` for `steps` steps on `source`, from its newest checkpoint under `folder` where there is one.

    With a `Length` in place of a number, the number of steps may change on the way. The learning rate and all else that
    depends on it follow from the next step on.

    Writes `folder/checkpoints/<name>/` every `save_every` seconds, at the end and on Ctrl-C or SIGTERM, and about
    `rows` lines to `folder/metrics.jsonl`, `probes` of them with what `probe` measured. `watch` sees each line and the
    total, `say` gets messages for the user. `settings` define how steps are computed.

    Where the loss or its gradient is not finite, or the loss jumps, training returns to the newest checkpoint and skips
    that step, at most `skip_bad_steps` times; this needs a `folder`.

    Raises `NonFinite` before a non-finite loss or gradient changes anything, `OutOfMemory` with the remedy,
    `Interrupted` after the checkpoint that follows a signal, `RunFailed` on a full disk.
    """
    length: Length = Steps(steps) if isinstance(steps, int) else steps
    if length.first < 1:
        raise UserError("the budget is too small for one step; give a larger --budget")
    if skip_bad_steps and folder is None:
        raise UserError("bad steps are passed over from a checkpoint on; give a folder for checkpoints too")
    check_learning(task, source, name, settings)
    if gathering.world() > 1:
        gathering.sync_batchnorm(task)
    empty = hollow(task) if shards(fabric) else None
    model, optimizer = set_up(fabric, task, optim)
    how = (settings or StepSettings(), profile or Profile())
    training = _Training(
        Stepper(fabric, model, task, optimizer, optim, source.batch_size, length.first, seed, *how),
        length,
        source=source,
        name=name,
        folder=folder,
        save_every=save_every,
        log_every=max(1, length.first // rows),
        probe=probe,
        probe_every=max(1, length.first // max(1, probes)),
        watch=watch or (lambda row, steps: None),
        say=say or (lambda text: None),
        skip_bad_steps=skip_bad_steps,
    )
    with training.signals:
        while not training.to_the_end():
            pass
    seconds, done = training.seconds, training.take.steps
    trained = (task if empty is None else fill(empty, task)).eval()
    speed = done * source.batch_size / max(seconds, 1e-9)
    return Run(trained, done, seconds, speed, tuple(training.history.rows), training.notes)


def check_learning(task: Task, source: Source, name: str, settings: StepSettings | None = None) -> None:
    """UserError where a step has fewer different examples than the task can learn from."""
    among = getattr(source, "among", None)
    there, parts = len(among) if among is not None else source.batch_size, (settings or StepSettings()).parts
    if there < task.fewest:
        raise UserError(
            f"{name} learns from what tells examples apart, and there is {there} to learn from; give more, or choose "
            "another task"
        )
    if source.batch_size < task.fewest:
        raise UserError(
            f"{name} learns from what tells examples apart, and a step has {source.batch_size}: give a --batch-size of "
            f"{task.fewest} or more"
        )
    alone = source.batch_size // parts
    if 0 < alone < task.fewest_in_part:
        raise UserError(
            f"{name} learns from what tells examples apart, and --accumulate {parts} leaves {alone} in each part of a "
            f"step; give fewer parts, or a --batch-size of {task.fewest_in_part * parts} or more"
        )


class _Training:
    """Takes steps from the newest checkpoint on, writes and logs, and returns to a checkpoint after a bad step."""

    def __init__(
        self,
        take: Stepper,
        length: Length,
        *,
        source: Source,
        name: str,
        folder: Path | None,
        save_every: float,
        log_every: int,
        probe: Probe | None,
        probe_every: int,
        watch: Callable[[Row, int], None],
        say: Callable[[str], None],
        skip_bad_steps: int,
    ) -> None:
        self.take, self.length, self.source, self.name, self.folder = take, length, source, name, folder
        self.save_every, self.log_every, self.probe, self.probe_every = save_every, log_every, probe, probe_every
        self.watch, self.say, self.skip_bad_steps = watch, say, skip_bad_steps
        self.place = folder / "checkpoints" / name if folder is not None else None
        self.skipped: list[int] = []
        self.notes: tuple[str, ...] = ()
        self.signals = _Signals()

    def to_the_end(self) -> bool:
        """Train from the newest checkpoint to the end; False if a bad step must be skipped first."""
        start = self._restore()
        if start == 0 and self.skip_bad_steps:
            self._save(0)
        try:
            self._steps(start)
        except (NonFinite, Jumped) as bad:
            if len(self.skipped) >= self.skip_bad_steps:
                raise
            self.skipped.append(bad.step)
            self.take.optimizer.zero_grad()
            message = str(bad).partition(";")[0]
            self.say(f"{message}: going back to the newest checkpoint, and passing over that step")
            return False
        return True

    @property
    def seconds(self) -> float:
        """Seconds spent so far, including earlier parts of the run."""
        return self._before + time.perf_counter() - self._began

    def _steps(self, start: int) -> None:
        take, profile = self.take, self.take.profile
        take.steps = self.length.at(start)
        with take.ready():
            batches = iter(self.source.stream(start, MOST_STEPS, rank=gathering.rank(), world=gathering.world()))
            step = start
            while step < take.steps:
                with profile("data"):
                    batch = next(batches)
                if step not in self.skipped:
                    out = take(batch, step)
                    with profile("logging"):
                        if (step + 1) % self.log_every == 0 or step + 1 == take.steps:
                            self._log(step + 1, out)
                            self.length.revise(step + 1, self.seconds)
                        self._agree(step, out)
                step += 1
                take.steps = self.length.at(step)
            if start < step:
                self._save(step)
            if agreed := gathering.any_rank(self.signals.received):
                raise Interrupted(agreed)

    def _log(self, done: int, out: Output) -> None:
        row: Row = {"task": self.name, "step": done, "loss": float(gathering.mean(out.loss))}
        row |= {key: float(gathering.mean(value)) for key, value in out.metrics.items()}
        row["seconds"] = round(self.seconds, 3)
        if self.probe is not None and (done % self.probe_every < self.log_every or done == self.take.steps):
            with self.take.profile("probe"):
                row |= _measure(self.probe, self.take.task)
        self.history.append(row)
        self.watch(row, self.take.steps)

    def _agree(self, step: int, out: Output) -> None:
        """Agree over ranks on the consequence of a step: a jump of the loss, a signal, a checkpoint that is due."""
        jump = self.spikes.jumped(float(out.loss.detach()))
        due = self.place is not None and time.perf_counter() - self._saved > self.save_every
        agreed = gathering.any_rank(JUMPED if jump else self.signals.received or (SAVE if due else GO_ON))
        if agreed == JUMPED:
            text = jump or "the loss on another rank jumped"
            if len(self.skipped) < self.skip_bad_steps:
                raise Jumped(text, step)
            self.say(f"{text} at step {step}")
        elif agreed and step + 1 < self.take.steps:
            self._save(step + 1)
            if agreed != SAVE:
                raise Interrupted(agreed)

    def _restore(self) -> int:
        """Restore the newest checkpoint; returns the step to continue from."""
        task, optimizer, steps, seed = self.take.task, self.take.optimizer.optimizer, self.length.first, self.take.seed
        saved = state.restore(self.place, task, optimizer, steps=steps, seed=seed) if self.place is not None else None
        saved = saved or state.Saved(0)
        self.skipped += [step for step in saved.skipped if step not in self.skipped]
        self.notes = saved.notes
        self.spikes = Spikes(saved.recent)
        self.history = _History(self.folder, self.name, saved.step, leader=gathering.rank() == 0)
        if self.history.damaged > 0:
            lines = f"{self.history.damaged} damaged line{'s' * (self.history.damaged > 1)}"
            self.notes = (*self.notes, f"{self.history.path} has {lines}, left out of the curves of this training")
        self._before = saved.spent
        self._began = self._saved = time.perf_counter()
        return saved.step

    def _save(self, step: int) -> None:
        if self.place is None:
            return
        task, optimizer, steps, seed = self.take.task, self.take.optimizer.optimizer, self.length.first, self.take.seed
        saved = state.Saved(step, self.seconds, tuple(self.skipped), tuple(self.spikes.recent))
        with self.take.profile("saving"):
            state.save(self.place, saved, task, optimizer, steps=steps, seed=seed)
        self._saved = time.perf_counter()


def seconds_per_step(
    task: Task,
    source: Source,
    *,
    optim: Optim,
    fabric: Fabric,
    seed: int = 0,
    steps: int = 20,
    seconds: float = 2.0,
    longest: float = math.inf,
    settings: StepSettings | None = None,
) -> float:
    """Time one step on a copy of the task: over at least `steps` steps, and more until `seconds` are over.

    Where steps are slow, fewer of them, so that it takes little more than `longest` seconds.
    """
    trial = copy.deepcopy(task)
    model, optimizer = set_up(fabric, trial, optim)
    many = 50 * steps
    take = Stepper(fabric, model, trial, optimizer, optim, source.batch_size, many, seed, settings or StepSettings())
    warm, timed = max(1, steps // 4), 0
    began = entered = time.perf_counter()
    with take.ready():
        for step, batch in enumerate(source.stream(0, many, rank=gathering.rank(), world=gathering.world())):
            if step < warm and gathering.any_rank(int(time.perf_counter() - entered > longest / 4)):
                warm = max(1, step)
            if step == warm:
                began = time.perf_counter()
            take(batch, step)
            timed = step + 1 - warm
            now = time.perf_counter()
            over = (timed >= steps and now - began > seconds) or (timed >= 1 and now - entered > longest)
            if gathering.any_rank(int(over)):
                break
    spent = torch.tensor((time.perf_counter() - began) / timed, device=fabric.device)
    return float(gathering.mean(spent))


def _measure(probe: Callable[[Task], Mapping[str, float]], task: Task) -> dict[str, float]:
    """Run the probe in eval mode, without advancing the global generator."""
    task.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad(), gathered(task):
        found = dict(probe(task))
    task.train()
    return found


class _History:
    """The lines of one task in `metrics.jsonl`; a resumed run removes lines after its checkpoint."""

    def __init__(self, folder: Path | None, name: str, start: int, *, leader: bool) -> None:
        self.path = folder / "metrics.jsonl" if folder is not None and leader else None
        self.rows: list[Row] = []
        self.damaged = 0  # lines that were skipped
        if self.path is None or not self.path.exists():
            return
        whole = list(read_history(self.path))
        self.damaged = self.path.read_bytes().count(b"\n") - len(whole)
        kept = [row for row in whole if row["task"] != name or int(row["step"]) <= start]
        write_whole(self.path, "".join(_line(row) for row in kept))
        self.rows = [row for row in kept if row["task"] == name]

    def append(self, row: Row) -> None:
        self.rows.append(row)
        if self.path is not None:
            with writing_to(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(_line(row))


_CHECK = re.compile(rb', "crc32": "([0-9a-f]{8})"}$')  # the end of a line: the checksum of all before it


def _line(row: Row) -> str:
    text = json.dumps(row)
    return f'{text[:-1]}, "crc32": "{zlib.crc32(text.encode()):08x}"}}\n'


def read_history(path: Path) -> Iterator[Row]:
    """The whole lines of a `metrics.jsonl`; damaged ones, such as a last one cut off by a kill, are skipped."""
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        found = _CHECK.search(line)
        text = line if found is None else line[: found.start()] + b"}"
        if found is not None and int(found[1], 16) != zlib.crc32(text):
            continue
        try:
            row = json.loads(text)
            whole = type(row["step"]) is int and isinstance(row["task"], str) and 0 < row["step"] <= MOST_STEPS
            whole = whole and all(_is_number(value) for key, value in row.items() if key != "task")
            whole = whole and {"loss", "seconds"} <= row.keys()
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if whole:
            yield row


def _is_number(value: Any) -> bool:
    """Whether a value is a number, finite or not, but no integer beyond the range of floats."""
    return type(value) is float or (type(value) is int and abs(value) < 1 << 1000)


class _Signals:
    """Ctrl-C and SIGTERM set `received`, and the loop stops at the end of its step; a second Ctrl-C stops at once.

    A signal within a second of the first is the same one, repeated by torchrun.
    """

    def __init__(self) -> None:
        self.received, self._since = 0, 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: the caller keeps its own handlers
                break
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > 1.0:
            raise KeyboardInterrupt

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
