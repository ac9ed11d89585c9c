"""The output of a running command: a live line on a terminal, plain lines elsewhere, all of it in log.txt."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from tacit.core.budget import clock
from tacit.core.errors import UserError, writing_to
from tacit.core.leading import is_leader
from tacit.core.stages import Stage, watched
from tacit.core.wording import private_text

if TYPE_CHECKING:
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger
    from rich.progress import Progress, TaskID

_PLAIN_EVERY = 10.0  # seconds between plain progress lines


class Log(AbstractContextManager["Log"]):
    """`log("text")` prints a line, `log.training` shows one task's training; only the leader prints.

    If `private`, a line that is not `Ours` shows only the literal words of the call (see `wording`).
    """

    def __init__(
        self, file: Path | None = None, *, quiet: bool = False, tensorboard: Path | None = None, private: bool = False
    ) -> None:
        self._private = private
        if not is_leader():
            file, quiet, tensorboard = None, True, None
        self._board = _board(tensorboard) if tensorboard else None
        self._file: TextIO | None = file.open("a", encoding="utf-8") if file else None
        self._quiet = quiet
        self._live: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        self._last_plain = 0.0

    def __enter__(self) -> Log:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            self._live = Progress(
                TextColumn("{task.description:<12}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self._board is not None:
            self._board.finalize("finished")
        if self._file is not None:
            with suppress(OSError):  # every line was flushed; one that could not be has been reported
                self._file.close()

    def __call__(self, text: str = "") -> None:
        if self._private:
            frame = sys._getframe(1)
            text = private_text(text, (frame.f_code, frame.f_lasti))
        self._record(text)
        if self._quiet:
            return
        if self._live is not None:
            self._live.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def training(self, row: dict[str, float | int | str], steps: int, *, batch_size: int) -> None:
        """Show one line of a task's history."""
        name, step, seconds = str(row["task"]), int(row["step"]), float(row["seconds"])
        if self._board is not None:
            figures = {key: value for key, value in row.items() if key not in {"task", "step"}}
            self._board.log_metrics({f"{name}/{key}": float(value) for key, value in figures.items()}, step)
        left = seconds / step * (steps - step)
        note = f"loss {float(row['loss']):.4f}  {step * batch_size / max(seconds, 1e-9):,.0f} examples/s"
        if "probe" in row:
            note += f"  probe {100 * float(row['probe']):.1f} %"
        note += f"  {clock(left)} left" if step < steps else f"  done in {clock(seconds)}"
        self._record(f"{name}: step {step} of {steps}  {note}")
        if self._live is not None:
            if name not in self._bars:
                self._bars[name] = self._live.add_task(name, total=steps, note="")
            self._live.update(self._bars[name], completed=step, note=note)
        elif not self._quiet and (step == steps or time.monotonic() - self._last_plain > _PLAIN_EVERY):
            self._last_plain = time.monotonic()
            print(f"  {name}: step {step} of {steps}  {note}", file=sys.stderr, flush=True)

    @contextmanager
    def working(self, what: str) -> Iterator[Callable[[float, str], None]]:
        """Show the progress of long work: its own stages (`stages`), and the fraction that the block reports.

        The block calls the yielded function with the fraction done and the current step. On a terminal that is one
        bar, elsewhere a line now and then.
        """
        began, fraction, doing = time.monotonic(), 0.0, ""
        bar = None
        if self._live is not None:
            bar = self._live.add_task(what, total=100, note="")

        def show(stage: Stage | None = None) -> None:
            counts: list[str] = []
            at = stage
            while at is not None:
                counts.insert(0, str(at))
                at = at.above
            text = ": ".join(part for part in (doing, ", ".join(counts)) if part)
            note = f"{text}  {clock(time.monotonic() - began)}"
            if self._live is not None and bar is not None:
                self._live.update(bar, completed=round(100 * fraction), note=note)
            elif not self._quiet and time.monotonic() - self._last_plain > _PLAIN_EVERY:
                self._last_plain = time.monotonic()
                line = f"{what}: {fraction:.0%}  {note}"
                self._record(line)
                print(f"  {line}", file=sys.stderr, flush=True)

        def tell(done: float, now: str) -> None:
            nonlocal fraction, doing
            fraction, doing = max(fraction, done), now
            show()

        try:
            with watched(show):
                yield tell
            fraction, doing = 1.0, "done"
        finally:
            if self._live is not None and bar is not None:
                self._live.update(bar, completed=round(100 * fraction), note=f"in {clock(time.monotonic() - began)}")

    def _record(self, text: str) -> None:
        if self._file is not None:
            with writing_to(self._file.name):
                self._file.write(text + "\n")
                self._file.flush()


def _board(folder: Path) -> TensorBoardLogger:
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    try:
        return TensorBoardLogger(folder.parent, name=folder.name, version="")
    except ModuleNotFoundError:
        raise UserError("--tensorboard needs a package that writes its files: pip install tensorboardX") from None
