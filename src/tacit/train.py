"""The only training loop.

It knows no task, no modality and no metric by name. Every step is a pure function of (seed, step, parameters), so a run
that was killed and resumed ends with the same bits as one that was not (same world size, threads and torch build).
"""

from __future__ import annotations

import copy
import json
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor

from tacit import dist, keys, state
from tacit.engine import Fabric, set_up, shards
from tacit.errors import Interrupted, RunFailed, UserError
from tacit.files import write_whole
from tacit.optim import Optim
from tacit.sharding import fill, gathered, hollow, whole
from tacit.task import Task
from tacit.types import Batch, Output

Row = dict[str, float | int | str]


class Source(Protocol):
    """Batches as a pure function of the step; `stream` may prepare them ahead, but must not change them."""

    batch_size: int  # examples in the global batch

    def stream(self, start: int, stop: int, *, rank: int = 0, world: int = 1) -> Iterable[Batch]: ...


@dataclass(frozen=True)
class Run:
    """What pretraining ended with: the trained task and what it took, resumed parts included."""

    task: Task
    steps: int
    seconds: float
    examples_per_second: float
    history: tuple[Row, ...]
    notes: tuple[str, ...] = ()


class NonFinite(RunFailed):
    """The loss or its gradient is not a number; `rows` are the data rows of this rank's batch at that step."""

    def __init__(self, what: str, step: int, rank: int, rows: list[int]) -> None:
        shown = ", ".join(map(str, rows[:4])) + (", ..." if len(rows) > 4 else "")
        super().__init__(
            f"{what} became non-finite at step {step} on rank {rank} (data rows {shown}); nothing was updated: "
            "lower the learning rate, use --precision 32, or look at these examples, then continue with --resume"
        )
        self.step, self.rank, self.rows = step, rank, rows


def pretrain(
    task: Task,
    source: Source,
    *,
    steps: int,
    optim: Optim,
    fabric: Fabric,
    seed: int = 0,
    name: str = "task",
    folder: Path | None = None,
    save_every: float = 60.0,
    rows: int = 100,
    probe: Callable[[Task], Mapping[str, float]] | None = None,
    probes: int = 10,
    watch: Callable[[Row, int], None] | None = None,
) -> Run:
    """Train `task` for `steps` steps on `source`, from its newest checkpoint under `folder` where there is one.

    Writes `folder/checkpoints/<name>/` every `save_every` seconds, at the end and on Ctrl-C or SIGTERM, and about
    `rows` lines to `folder/metrics.jsonl`, `probes` of them with what `probe` measured. `watch` sees each line and the
    total.

    Raises `NonFinite` before a non-finite loss or gradient changes anything, `Interrupted` after the checkpoint that a
    signal asked for, `RunFailed` on a full disk.
    """
    if steps < 1:
        raise UserError("the budget is too small for one step; give a larger --budget")
    if dist.world() > 1:
        dist.sync_batchnorm(task)
    empty = hollow(task) if shards(fabric) else None
    model, optimizer = set_up(fabric, task, optim)
    place = folder / "checkpoints" / name if folder is not None else None
    saved = state.restore(place, task, optimizer.optimizer, steps=steps, seed=seed) if place is not None else None
    start, spent = (saved.step, saved.spent) if saved else (0, 0.0)
    history = _History(folder, name, start, leader=dist.rank() == 0)
    log_every, probe_every = max(1, steps // rows), max(1, steps // max(1, probes))
    began = last_save = time.perf_counter()

    def save(step: int) -> None:
        if place is not None:
            so_far = spent + time.perf_counter() - began
            state.save(place, step, task, optimizer.optimizer, steps=steps, seed=seed, spent=so_far)

    task.train()
    with _Signals() as signals:
        batches = source.stream(start, steps, rank=dist.rank(), world=dist.world())
        for step, batch in enumerate(batches, start):
            out = _step(fabric, model, task, optimizer, optim, source.batch_size, batch, step, steps, seed)
            done = step + 1
            if done % log_every == 0 or done == steps:
                row: Row = {"task": name, "step": done, "loss": float(dist.mean(out.loss))}
                row |= {key: float(dist.mean(value)) for key, value in out.metrics.items()}
                row["seconds"] = round(spent + time.perf_counter() - began, 3)
                if probe is not None and (done % probe_every < log_every or done == steps):
                    row |= _measure(probe, task)
                history.append(row)
                if watch is not None:
                    watch(row, steps)
            due = folder is not None and time.perf_counter() - last_save > save_every
            agreed = dist.any_rank(signals.received or int(due))  # 0 go on, 1 save, else a signal's number
            if agreed and done < steps:
                save(done)
                last_save = time.perf_counter()
                if agreed > 1:
                    raise Interrupted(agreed)
        if start < steps:
            save(steps)
        if agreed := dist.any_rank(signals.received):
            raise Interrupted(agreed)
    seconds = spent + time.perf_counter() - began
    task = (task if empty is None else fill(empty, task)).eval()
    speed = steps * source.batch_size / max(seconds, 1e-9)
    return Run(task, steps, seconds, speed, tuple(history.rows), saved.notes if saved else ())


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
) -> float:
    """How long one step takes, on a copy of the task: at least `steps` steps, more until `seconds` are over.

    Where steps are slow, fewer of them, so that it takes little more than `longest` seconds.
    """
    trial = copy.deepcopy(task)
    model, optimizer = set_up(fabric, trial, optim)
    trial.train()
    warm, timed = max(1, steps // 4), 0
    began = entered = time.perf_counter()
    for step, batch in enumerate(source.stream(0, 50 * steps, rank=dist.rank(), world=dist.world())):
        if step < warm and dist.any_rank(int(time.perf_counter() - entered > longest / 4)):
            warm = max(1, step)
        if step == warm:
            began = time.perf_counter()
        _step(fabric, model, trial, optimizer, optim, source.batch_size, batch, step, 50 * steps, seed)
        timed = step + 1 - warm
        now = time.perf_counter()
        over = (timed >= steps and now - began > seconds) or (timed >= 1 and now - entered > longest)
        if dist.any_rank(int(over)):
            break
    spent = torch.tensor((time.perf_counter() - began) / timed, device=fabric.device)
    return float(dist.mean(spent))


def _step(
    fabric: Fabric,
    model: Any,
    task: Task,
    optimizer: Any,
    optim: Optim,
    batch_size: int,
    batch: Batch,
    step: int,
    steps: int,
    seed: int,
) -> Output:
    torch.manual_seed(keys.fold(seed, step, dist.rank()))  # dropout and whatever else asks the global generator
    task.progress.fill_(step / steps)
    for group in optimizer.param_groups:
        group["lr"] = optim.rate(step, steps, batch_size)
    out: Output = model(fabric.to_device(batch))
    _check_finite("the loss", out.loss, batch, step)
    fabric.backward(out.loss)
    norm = fabric.clip_gradients(model, optimizer, max_norm=optim.clip or float("inf"), error_if_nonfinite=False)
    assert norm is not None
    _check_finite("the gradient", whole(norm), batch, step)
    optimizer.step()
    optimizer.zero_grad()
    task.after_step({key: dist.gather(value) for key, value in out.carry.items()})
    return out


def _check_finite(what: str, value: Tensor, batch: Batch, step: int) -> None:
    bad = not bool(torch.isfinite(value.detach()))
    culprit = dist.any_rank(dist.rank() + 1 if bad else 0)
    if culprit:
        raise NonFinite(what, step, culprit - 1, batch["index"].tolist())


def _measure(probe: Callable[[Task], Mapping[str, float]], task: Task) -> dict[str, float]:
    """Ask the probe in eval mode, without letting it move the global generator."""
    task.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad(), gathered(task):
        found = dict(probe(task))
    task.train()
    return found


class _History:
    """The lines of `metrics.jsonl` that belong to one task; a resumed run takes back lines after its checkpoint."""

    def __init__(self, folder: Path | None, name: str, start: int, *, leader: bool) -> None:
        self.path = folder / "metrics.jsonl" if folder is not None and leader else None
        self.rows: list[Row] = []
        if self.path is None or not self.path.exists():
            return
        kept = [row for row in read_history(self.path) if row["task"] != name or int(row["step"]) <= start]
        write_whole(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self.rows = [row for row in kept if row["task"] == name]

    def append(self, row: Row) -> None:
        self.rows.append(row)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def read_history(path: Path) -> Iterator[Row]:
    """The whole lines of a `metrics.jsonl`; a last line cut off by a kill is passed over."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


class _Signals:
    """Ctrl-C and SIGTERM set `received`, and the loop stops at the end of its step; a second Ctrl-C stops at once.

    What follows within a second is the first one again, which torchrun hands on.
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
