"""Supervised decoding: images and sounds that crash, hang or swell cost a note each, never the run.

Encoded examples go to worker processes (`tacit.data.worker`) in small batches; each worker is watched for time and
limits its own memory. Images already decoded (arrays, PIL objects) are only resized, in this process.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import tacit
from tacit.data import worker
from tacit.modalities.audio import decode as sounds
from tacit.modalities.image import decode as pixels
from tacit.modalities.image.framing import Framing
from tacit.modalities.text.documents import Unreadable


class Stretch(NamedTuple):
    """A part of a recording."""

    source: bytes | Path | Unreadable
    start: float = 0.0  # seconds
    end: float = math.inf
    channel: int = -1  # the one that is meant; -1: as the plan says


Item = bytes | Path | Unreadable | Stretch | NDArray[np.generic] | Image.Image
"""One example as it is found: an encoded image or sound, where it lies or why it is not opened, or pixels ([H W] or
[H W C])."""

COMMAND = [sys.executable, "-P", str(Path(worker.__file__))]
SECONDS_PER_EXAMPLE = 20.0  # until an answer or a sign of life; a photograph takes 0.2 s
MEMORY = 2 << 30  # bytes a worker may take for one example; 80 megapixels in CMYK need 1.0 GB
START_SECONDS = 120.0

_BATCH_BYTES = 4 << 20  # per request


@dataclass(frozen=True)
class Plan:
    """What every image is made into: [channels size size] of dtype `uint8` or `uint16`."""

    decoder: ClassVar[str] = "image"
    batch: ClassVar[int] = 64  # examples per request

    size: int  # px
    channels: int
    dtype: str
    framing: Framing | None = None
    scale: pixels.Scale | None = None
    strict: bool = False  # as an encoder reads, which refuses what does not fit it

    @property
    def nbytes(self) -> int:
        """Bytes per image."""
        return self.channels * self.size * self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class SoundPlan:
    """What every sound is made into: int16 samples of one channel, long ones in a file of `folder` where one is given.

    An answer of few samples carries them itself, so that a hundred thousand words need no hundred thousand files.
    """

    decoder: ClassVar[str] = "sound"
    batch: ClassVar[int] = 16  # of `worker.INLINE` bytes each at most

    rate: int  # Hz
    channels: str
    most: float | None = None  # seconds that are decoded
    folder: str = ""


class Decoded(NamedTuple):
    """One example's outcome; `data` is None where `reason` says why."""

    content: bytes  # 16-byte hash of what the example is made of
    data: bytes | None
    reason: str = ""
    found: tuple[str, ...] = ()  # what was done to an image, see `pixels.FINDINGS`


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """Workers (default: one per processor at hand), started when first needed, and the thread that watches them."""

    def __init__(self, workers: int | None = None) -> None:
        self._n = n = workers or _processors()
        self._threads = ThreadPoolExecutor(n, thread_name_prefix="tacit-decode")
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()  # started ones first
        self._live: set[_Worker] = set()
        self._closed = threading.Event()
        for _ in range(n):
            self._idle.put(None)

    def __enter__(self) -> Pool:
        self._watch = threading.Thread(target=self._supervise, daemon=True, name="tacit-supervisor")
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        for process in list(self._live):
            process.kill()  # also frees the threads that wait for it
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in list(self._live):
            process.close()
        self._watch.join()

    def decode(self, items: Iterable[Item], plan: Plan | SoundPlan) -> Iterator[Decoded]:
        """What becomes of each item, in their order."""
        settings = {**asdict(plan), "decoder": plan.decoder, "probe": ""}
        return self._map(_batches(items, plan.batch), settings, plan if isinstance(plan, Plan) else None)

    def probe(self, items: Iterable[Item]) -> list[pixels.Header]:
        """The headers of those images that have a readable one."""
        answers = (outcome.data for outcome in self._asked(items, Plan, "header"))
        return [pixels.Header(*json.loads(answer)) for answer in answers if answer is not None]

    def values(self, items: Iterable[Item]) -> Iterator[pixels.Values]:
        """The numbers of those images that have no black and white of their own."""
        for outcome in self._asked(items, Plan, "values"):
            if outcome.data is not None and (said := json.loads(outcome.data)) is not None:
                numbers, low, high, some = said
                yield pixels.Values(numbers, low, high, np.array(some, np.float64))

    def probe_sounds(self, items: Iterable[Item]) -> Iterator[sounds.Header | None]:
        """The headers of all these sounds, None where there is no readable one."""
        answers = (outcome.data for outcome in self._asked(items, SoundPlan, "header"))
        return (None if answer is None else sounds.Header(*json.loads(answer)) for answer in answers)

    def why_not(self, item: Item, of: type[Plan] | type[SoundPlan]) -> str:
        """Why an item has no readable header; nothing where it has one."""
        return next(self._asked([item], of, "header")).reason

    def _asked(self, items: Iterable[Item], of: type[Plan] | type[SoundPlan], what: str) -> Iterator[Decoded]:
        return self._map(_batches(items, of.batch), {"decoder": of.decoder, "probe": what}, what)

    def _map(
        self, batches: Iterable[list[Item]], settings: dict[str, object], plan: Plan | str | None
    ) -> Iterator[Decoded]:
        # A few batches are under way at any time, never all of them.
        under_way: deque[Future[list[Decoded]]] = deque()
        for batch in batches:
            if _is_encoded(batch[0]):
                under_way.append(self._threads.submit(self._ask, batch, settings))
            else:
                under_way.append(self._threads.submit(_in_memory, batch, plan))
            if len(under_way) > 2 * self._n:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()

    def _ask(self, batch: list[Item], settings: dict[str, object]) -> list[Decoded]:
        process = self._idle.get()
        try:
            outcomes: list[Decoded] = []
            retried = False
            while len(outcomes) < len(batch):
                if process is None:
                    process = _Worker()
                    self._live.add(process)
                    if self._closed.is_set():
                        process.kill()
                    process.wait_until_ready()
                try:
                    for outcome in process.ask(batch[len(outcomes) :], settings):
                        outcomes.append(outcome)
                        retried = False
                except (EOFError, OSError):
                    reason = process.end()
                    late = process.late
                    self._live.discard(process)
                    process = None
                    if self._closed.is_set():
                        raise RuntimeError("decoding was stopped") from None
                    # A worker that was killed from outside says nothing about the example: it gets a second chance.
                    if late or retried:
                        outcomes.append(Decoded(bytes(16), None, reason))
                    retried = not (late or retried)
            return outcomes
        finally:
            self._idle.put(process)

    def _supervise(self) -> None:
        while not self._closed.wait(0.1):
            for process in list(self._live):
                if time.monotonic() > process.deadline:
                    process.late = True
                    process.kill()


class _Worker:
    """One decoding process and the pipes to it."""

    def __init__(self) -> None:
        package = str(Path(tacit.__path__[0]).parent)
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        # One example at a time per process: threads inside numpy would only map memory.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [*COMMAND, str(MEMORY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **threads, "PYTHONPATH": path},
        )
        self._errors: deque[bytes] = deque(maxlen=20)
        self._listener = threading.Thread(target=self._collect_errors, daemon=True)
        self._listener.start()
        self.deadline = time.monotonic() + START_SECONDS
        self.late = False

    def wait_until_ready(self) -> None:
        if self._pipe("stdout").read(len(worker.READY)) != worker.READY:
            self.end()
            self._listener.join(5.0)  # the last words may still lie in the pipe
            said = b"".join(self._errors).decode(errors="replace").strip().rsplit("\n", 1)[-1]
            raise RuntimeError(f"the decoding process does not start: {said or 'it says nothing'}")
        self.deadline = float("inf")

    def ask(self, batch: list[Item], settings: dict[str, object]) -> Iterator[Decoded]:
        self.deadline = time.monotonic() + SECONDS_PER_EXAMPLE
        header = json.dumps(settings).encode()
        request = [worker.LENGTH.pack(len(header)), header, worker.LENGTH.pack(len(batch))]
        for item in batch:
            source, *part = item if isinstance(item, Stretch) else Stretch(item)  # type: ignore[arg-type]
            payload = os.fsencode(source) if isinstance(source, Path) else source
            assert isinstance(payload, bytes)
            kind = b"p" if isinstance(source, Path) else b"b"
            request += [worker.QUESTION.pack(kind, *part, len(payload)), payload]
        self._pipe("stdin").write(b"".join(request))
        self._pipe("stdin").flush()
        for _ in batch:
            done = b"w"
            while done == b"w":
                done, content, length = worker.ANSWER.unpack(self._read(worker.ANSWER.size))
                self.deadline = time.monotonic() + SECONDS_PER_EXAMPLE
            result = self._read(length)
            self.deadline = time.monotonic() + SECONDS_PER_EXAMPLE
            yield _as_decoded(content, result, settings) if done == b"k" else Decoded(content, None, result.decode())
        self.deadline = float("inf")

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> str:
        """Wait for the dead process and say how it ended."""
        self.close()
        code = self._process.wait()
        if self.late:
            return f"took longer than {SECONDS_PER_EXAMPLE:g} s to decode"
        if code >= 0:
            return f"crashed the decoder (exit code {code})"
        try:
            return f"crashed the decoder ({signal.Signals(-code).name})"
        except ValueError:
            return f"crashed the decoder (signal {-code})"

    def close(self) -> None:
        """Let go of the pipes: a worker that is still alive sees the end of its input and leaves."""
        for pipe in (self._process.stdin, self._process.stdout):
            # What was still to be written may have no reader any more.
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()
        self._process.wait()

    def _pipe(self, name: str) -> IO[bytes]:
        pipe = getattr(self._process, name)
        assert pipe is not None
        return pipe  # type: ignore[no-any-return]

    def _read(self, n: int) -> bytes:
        data = self._pipe("stdout").read(n)
        if len(data) < n:
            raise EOFError
        return data

    def _collect_errors(self) -> None:
        with self._pipe("stderr") as pipe:
            for line in pipe:
                self._errors.append(line)


def _as_decoded(content: bytes, result: bytes, settings: dict[str, object]) -> Decoded:
    if settings["decoder"] != Plan.decoder or settings["probe"]:
        return Decoded(content, result)
    (bits,) = worker.FOUND.unpack_from(result)
    found = tuple(name for number, name in enumerate(pixels.FINDINGS) if bits >> number & 1)
    return Decoded(content, result[worker.FOUND.size :], "", found)


def _is_encoded(item: Item) -> bool:
    return isinstance(_source(item), bytes | Path)


def _source(item: Item) -> Item:
    return item.source if isinstance(item, Stretch) else item


def _batches(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Runs of items of the same nature, `most` and few enough to be sent as one request."""
    batch: list[Item] = []
    nbytes = 0
    for item in items:
        full = len(batch) == most or nbytes > _BATCH_BYTES
        if batch and (full or _is_encoded(item) != _is_encoded(batch[0])):
            yield batch
            batch, nbytes = [], 0
        batch.append(item)
        encoded = _source(item)
        nbytes += len(encoded) if isinstance(encoded, bytes) else 0
    if batch:
        yield batch


def _in_memory(batch: list[Item], plan: Plan | str | None) -> list[Decoded]:
    return [_one_in_memory(item, plan) for item in batch]


def _one_in_memory(item: Item, plan: Plan | str | None) -> Decoded:
    """The same for what is in memory, by a plan or, by its name, what a worker would be asked."""
    item = _source(item)
    if isinstance(item, Unreadable):
        return Decoded(bytes(16), None, item.reason)
    found: set[str] = set()
    try:
        if isinstance(item, Image.Image):
            if isinstance(plan, Plan):
                pixels.look_at(item, found)  # before its pixels are loaded
            item.load()
            content = worker.content_hash(pixels.identity(item))
            if isinstance(plan, Plan):
                square = pixels.to_square(item, *_form(plan), scale=plan.scale, strict=plan.strict, found=found)
            elif plan == "values":
                return Decoded(content, worker.told(pixels.values(item)))
            else:
                return Decoded(content, json.dumps(pixels.probe(item)).encode())
        else:
            assert isinstance(item, np.ndarray)
            content = worker.content_hash(f"{item.dtype} {item.shape}".encode() + item.tobytes())
            if not isinstance(plan, Plan):
                return Decoded(content, json.dumps(pixels.probe_array(item)).encode())
            square = pixels.array_to_square(item, *_form(plan), scale=plan.scale, strict=plan.strict, found=found)
    except (ValueError, OSError, SyntaxError) as error:
        return Decoded(bytes(16), None, str(error)[:200])
    return Decoded(content, square.tobytes(), "", tuple(sorted(found)))


def _form(plan: Plan) -> tuple[int, int, np.dtype[Any], Framing | None]:
    return plan.size, plan.channels, np.dtype(plan.dtype), plan.framing
