"""The only training loop.

It knows no task, no modality and no metric by name. Every step is a pure function of (seed, step, parameters), so a run
that was killed and resumed ends with the same bits as one that was not (same world size, threads and torch build).
"""

from __future__ import annotations

import copy
import json
import math
import platform
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor

from tacit import checkpoint, dist
from tacit.engine import Fabric
from tacit.errors import Interrupted, RunFailed, UserError
from tacit.files import write_whole
from tacit.optim import Optim
from tacit.profiling import Profile
from tacit.spikes import Spikes
from tacit.stepping import Comparing, NonFinite, Stepper
from tacit.task import Task
from tacit.types import Batch

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


JUMPED = 1 << 10  # what ranks agree on where a loss jumped, above the numbers of signals


class Jumped(RunFailed):
    """The loss jumped at a step, and such steps are to be passed over."""

    def __init__(self, text: str, step: int, rows: list[int]) -> None:
        super().__init__(f"{text} at step {step}")
        self.step, self.rows = step, rows


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
    say: Callable[[str], None] | None = None,
    accumulate: int = 1,
    skip_bad_steps: int = 0,
    profile: Profile | None = None,
) -> Run:
    """Train `task` for `steps` steps on `source`, from its newest checkpoint under `folder` where there is one.

    Writes `folder/checkpoints/<name>/` every `save_every` seconds, at the end and on Ctrl-C or SIGTERM, and about
    `rows` lines to `folder/metrics.jsonl`, `probes` of them with what `probe` measured. `watch` sees each line and the
    total, `say` hears what a person should know. Each batch is computed in `accumulate` parts (see `tacit.stepping`).

    Where the loss or its gradient is not finite, or the loss jumps, training goes back to the newest checkpoint and
    passes over that step, at most `skip_bad_steps` times; this needs a `folder`.

    Raises `NonFinite` before a non-finite loss or gradient changes anything, `OutOfMemory` with the remedy,
    `Interrupted` after the checkpoint that a signal asked for, `RunFailed` on a full disk.
    """
    if steps < 1:
        raise UserError("the budget is too small for one step; give a larger --budget")
    if skip_bad_steps and folder is None:
        raise UserError("bad steps are passed over from a checkpoint on; give a folder for checkpoints too")
    if dist.world() > 1:
        dist.sync_batchnorm(task)
    model, optimizer = fabric.setup(task, optim.build(task))
    if accumulate > 1 and isinstance(task, Comparing):
        model.mark_forward_method("embed")
    profile = profile or Profile()
    step_of = Stepper(fabric, model, task, optimizer, optim, source.batch_size, steps, seed, accumulate, profile)
    say = say or (lambda text: None)
    log_every, probe_every = max(1, steps // rows), max(1, steps // max(1, probes))
    skipped: list[int] = []

    def once() -> Run:
        """From the newest checkpoint to the end."""
        saved = _restore(task, optimizer.optimizer, folder, name, steps=steps, seed=seed)
        start, spent = (saved.step, saved.spent) if saved else (0, 0.0)
        skipped.extend(step for step in (saved.skipped if saved else ()) if step not in skipped)
        spikes = Spikes(saved.recent if saved else ())
        history = _History(folder, name, start, leader=dist.rank() == 0)
        began = last_save = time.perf_counter()

        def save(step: int) -> None:
            if folder is not None and dist.rank() == 0:
                state = {
                    "steps": steps,
                    "seed": seed,
                    "spent": spent + time.perf_counter() - began,
                    "build": _build(),
                    "skipped": skipped,
                    "recent": list(spikes.recent),
                }
                checkpoint.save(folder / "checkpoints" / name, step, _tensors(task, optimizer.optimizer), state)

        if skip_bad_steps and saved is None:
            save(0)
        task.train()
        with _Signals() as signals, profile.within(task):
            batches = iter(source.stream(start, steps, rank=dist.rank(), world=dist.world()))
            for step in range(start, steps):
                with profile("data"):
                    batch = next(batches)
                if step in skipped:
                    continue
                out = step_of(batch, step)
                jump, done = spikes.jumped(float(out.loss.detach())), step + 1
                with profile("logging"):
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
                    # 0 go on, 1 save, a signal's number, or a jump
                    agreed = dist.any_rank(JUMPED if jump else signals.received or int(due))
                    if agreed == JUMPED:
                        if len(skipped) < skip_bad_steps:
                            raise Jumped(jump or "the loss of another rank jumped", step, batch["index"].tolist())
                        say(f"{jump or 'the loss of another rank jumped'} at step {step}")
                    elif agreed and done < steps:
                        save(done)
                        last_save = time.perf_counter()
                        if agreed > 1:
                            raise Interrupted(agreed)
            if start < steps:
                save(steps)
            if signals.received:
                raise Interrupted(signals.received)
        seconds = spent + time.perf_counter() - began
        task.eval()
        speed = steps * source.batch_size / max(seconds, 1e-9)
        return Run(task, steps, seconds, speed, tuple(history.rows), saved.notes if saved else ())

    while True:
        try:
            return once()
        except (NonFinite, Jumped) as bad:
            if len(skipped) >= skip_bad_steps:
                raise
            skipped.append(bad.step)
            optimizer.zero_grad()
            say(f"{str(bad).partition(';')[0]}: going back to the newest checkpoint, and passing over that step")


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
    accumulate: int = 1,
) -> float:
    """How long one step takes, on a copy of the task: at least `steps` steps, more until `seconds` are over.

    Where steps are slow, fewer of them, so that it takes little more than `longest` seconds.
    """
    trial = copy.deepcopy(task)
    model, optimizer = fabric.setup(trial, optim.build(trial))
    if accumulate > 1 and isinstance(trial, Comparing):
        model.mark_forward_method("embed")
    take = Stepper(fabric, model, trial, optimizer, optim, source.batch_size, 50 * steps, seed, accumulate)
    trial.train()
    warm, timed = max(1, steps // 4), 0
    began = entered = time.perf_counter()
    for step, batch in enumerate(source.stream(0, 50 * steps, rank=dist.rank(), world=dist.world())):
        if step < warm and time.perf_counter() - entered > longest / 4:
            warm = max(1, step)
        if step == warm:
            began = time.perf_counter()
        take(batch, step)
        timed = step + 1 - warm
        now = time.perf_counter()
        over = (timed >= steps and now - began > seconds) or (timed >= 1 and now - entered > longest)
        if dist.any_rank(int(over)):
            break
    spent = torch.tensor((time.perf_counter() - began) / timed, device=fabric.device)
    return float(dist.mean(spent))


def _measure(probe: Callable[[Task], Mapping[str, float]], task: Task) -> dict[str, float]:
    """Ask the probe in eval mode, without letting it move the global generator."""
    task.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        found = dict(probe(task))
    task.train()
    return found


# --- what a checkpoint holds --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Saved:
    step: int
    spent: float
    skipped: tuple[int, ...]
    recent: tuple[float, ...]
    notes: tuple[str, ...]


def _tensors(task: Task, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = task.state_dict()
    tensors = {f"task/{name}": state[name] for name in dict.fromkeys(_stored_as(state).values())}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optim/{number}/{name}": value for name, value in state.items() if isinstance(value, Tensor)}
    return {name: value.clone() for name, value in tensors.items()}


def _stored_as(state: Mapping[str, Tensor]) -> dict[str, str]:
    """The name that each tensor is stored under: the first of those that share its memory, as a sum's tasks do."""
    first: dict[tuple[int, torch.Size], str] = {}
    return {name: first.setdefault((value.data_ptr(), value.shape), name) for name, value in state.items()}


def _restore(
    task: Task, optimizer: torch.optim.Optimizer, folder: Path | None, name: str, *, steps: int, seed: int
) -> _Saved | None:
    saved = checkpoint.load(folder / "checkpoints" / name) if folder is not None else None
    if saved is None:
        return None
    for key, value in (("steps", steps), ("seed", seed)):
        if saved.state[key] != value:
            raise UserError(
                f"the checkpoint in {folder} was made with {key} {saved.state[key]}, not {value}; "
                "resume with the same settings or choose another --out"
            )
    stored = _stored_as(task.state_dict())
    task.load_state_dict({name: saved.tensors[f"task/{at}"] for name, at in stored.items()})
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in saved.tensors.items():
        if key.startswith("optim/"):
            _, number, field = key.split("/", 2)
            states.setdefault(int(number), {})[field] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    notes = [f"passed over a damaged checkpoint ({fault})" for fault in saved.damaged]
    before: dict[str, Any] = saved.state["build"]
    notes += [
        f"resumed with {what} {now} where the checkpoint had {before[what]}: results may differ in the last digits"
        for what, now in _build().items()
        if before.get(what, now) != now
    ]
    skipped, recent = tuple(saved.state.get("skipped", ())), tuple(saved.state.get("recent", ()))
    return _Saved(saved.step, float(saved.state["spent"]), skipped, recent, tuple(notes))


def _build() -> dict[str, Any]:
    """What must not change for a resumed run to be bit-identical."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processes": dist.world(),
        "processor": platform.processor() or platform.machine(),
    }


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
    """Ctrl-C and SIGTERM set `received`, and the loop stops at the end of its step; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: the caller keeps its own handlers
                break
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = number

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
