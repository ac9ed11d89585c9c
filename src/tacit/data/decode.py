"""Supervised decoding: an example that crashes, hangs or exhausts memory is noted and never ends the run.

Encoded examples go to worker processes (`tacit.data.worker`) in small batches; a supervisor enforces a time limit, and
each worker limits its own memory. Examples that are decoded already (arrays, PIL objects) are converted here.
"""

from __future__ import annotations

import atexit
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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

from tacit.data import worker
from tacit.data.source import Unreadable


class Segment(NamedTuple):
    """A part of a recording."""

    source: bytes | Path | Unreadable
    start: float = 0.0  # seconds
    end: float = math.inf
    channel: int = -1  # -1: as the plan specifies


Item = Any
"""One example as found: encoded bytes, the `Path` of a file, a tuple of several that make up one, the reason why it
cannot be opened (`Unreadable`), a `Segment` of bytes or a file, or an object that is decoded already."""

COMMAND = [sys.executable, "-P", str(Path(worker.__file__))]
SECONDS_PER_EXAMPLE = 20.0  # until a result or a sign of life; a photograph takes 0.2 s
MEMORY = 2 << 30  # bytes a worker may take for one example; 80 megapixels in CMYK need 1.0 GB
START_SECONDS = 120.0
REST_SECONDS = 5.0  # for which a worker without work is kept

_BATCH_BYTES = 4 << 20  # per request


class Decoded(NamedTuple):
    """One decoded example; where `data` is None, `reason` says why."""

    content: bytes  # 16-byte hash of the example's content; several where a file holds several examples, or none
    data: bytes | None
    reason: str = ""
    found: tuple[str, ...] = ()  # changes made to it that the user should know of


@dataclass(frozen=True)
class Plan:
    """The format that examples are decoded into; each modality has its own, whose fields are sent to its decoder."""

    decoder: ClassVar[str]  # "module:function", a `tacit.data.worker.Decoder`
    batch: ClassVar[int]  # examples per request

    @classmethod
    def answered(cls, content: bytes, result: bytes) -> Decoded:
        """Wrap the decoder's result for one example."""
        return Decoded(content, result)

    def in_memory(self, item: Any) -> Decoded:
        """Convert an example that is decoded already."""
        raise NotImplementedError

    @classmethod
    def probe_in_memory(cls, item: Any, what: str) -> Decoded:
        """Probe an example that is decoded already."""
        raise NotImplementedError


Answered = Callable[[bytes, bytes], Decoded]


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """Worker processes of one modality (default: one per available processor), started on demand, and the thread that
    supervises them.

    Those that are idle at the end rest for a while, for the next pool: several are opened one after the other.
    """

    def __init__(self, form: type[Plan], workers: int | None = None) -> None:
        self._form = form
        self._n = n = workers or _processors()
        self._threads = ThreadPoolExecutor(n, thread_name_prefix="tacit-decode")
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()  # started ones first
        self._live: set[_Worker] = set()
        self._closed = threading.Event()
        rested = _rest.take(form.decoder, n)
        self._live.update(rested)
        for process in [*[None] * (n - len(rested)), *rested]:
            self._idle.put(process)

    def __enter__(self) -> Pool:
        self._watch = threading.Thread(target=self._supervise, daemon=True, name="tacit-supervisor")
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        for process in self._drained():
            self._live.discard(process)
            _rest.add(process)
        for process in list(self._live):
            process.kill()  # also frees the threads that wait for it
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in list(self._live):
            process.close()
        self._watch.join()

    def _drained(self) -> list[_Worker]:
        """The idle workers; whoever still asks for one starts another, which the closed pool ends."""
        idle = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for _ in idle:
            self._idle.put(None)
        return [process for process in idle if process is not None]

    def decode(self, items: Iterable[Item], plan: Plan) -> Iterator[Decoded]:
        """Decode each item, in order."""
        return self._map(items, {**asdict(plan), "probe": ""}, self._form.answered, plan.in_memory)

    def probe(self, items: Iterable[Item], what: str = "header") -> Iterator[Decoded]:
        """Probe each item without decoding it."""
        form = self._form
        return self._map(items, {"probe": what}, Decoded, lambda item: form.probe_in_memory(item, what))

    def why_not(self, item: Item) -> str:
        """Why an item has no readable header; empty where it has one."""
        return next(self.probe([item])).reason

    def _map(
        self,
        items: Iterable[Item],
        settings: dict[str, object],
        answered: Answered,
        in_memory: Callable[[Any], Decoded],
    ) -> Iterator[Decoded]:
        # Keep a few batches in flight, never all of them.
        under_way: deque[Future[list[Decoded]]] = deque()
        for batch in _batches(items, self._form.batch):
            if _is_encoded(batch[0]):
                under_way.append(self._threads.submit(self._decode_batch, batch, settings, answered))
            else:
                under_way.append(self._threads.submit(_in_memory, batch, in_memory))
            if len(under_way) > 2 * self._n:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()

    def _decode_batch(self, batch: list[Item], settings: dict[str, object], answered: Answered) -> list[Decoded]:
        process = self._idle.get()
        try:
            outcomes: list[Decoded] = []
            retried = False
            while len(outcomes) < len(batch):
                if process is None:
                    process = _Worker(self._form.decoder)
                    self._live.add(process)
                    if self._closed.is_set():
                        process.kill()
                    process.wait_until_ready()
                try:
                    for outcome in process.request_batch(batch[len(outcomes) :], settings, answered):
                        outcomes.append(outcome)
                        retried = False
                except (EOFError, OSError):
                    reason = process.end()
                    late = process.late
                    self._live.discard(process)
                    process = None
                    if self._closed.is_set():
                        raise RuntimeError("decoding was stopped") from None
                    # A worker killed from outside is no evidence against the example, which is tried once more.
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

    def __init__(self, decoder: str) -> None:
        self.kind = _kind(decoder)
        package = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        # One example at a time per process: threads inside numpy would only map memory.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [*COMMAND, str(MEMORY), decoder],
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
            self._listener.join(5.0)  # the last lines may still be in the pipe
            message = b"".join(self._errors).decode(errors="replace").strip().rsplit("\n", 1)[-1]
            raise RuntimeError(f"the decoding process does not start: {message or 'it says nothing'}")
        self.deadline = float("inf")

    def request_batch(self, batch: list[Item], settings: dict[str, object], answered: Answered) -> Iterator[Decoded]:
        self.deadline = time.monotonic() + SECONDS_PER_EXAMPLE
        header = json.dumps(settings).encode()
        request = [worker.LENGTH.pack(len(header)), header, worker.LENGTH.pack(len(batch))]
        for item in batch:
            source, *part = item if isinstance(item, Segment) else Segment(item)
            paths = source if isinstance(source, tuple) else (source,)
            payload = source if isinstance(source, bytes) else b"\0".join(os.fsencode(path) for path in paths)
            kind = b"b" if isinstance(source, bytes) else b"p"
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
            yield answered(content, result) if done == b"k" else Decoded(content, None, result.decode())
        self.deadline = float("inf")

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> str:
        """Wait for the dead process and describe how it ended."""
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
        """Close the pipes: a worker that is still alive sees the end of its input and exits."""
        for pipe in (self._process.stdin, self._process.stdout):
            # The reader of what is still buffered may be gone.
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


def _kind(decoder: str) -> tuple[object, ...]:
    """What a worker is started with, by which another may take its place; paths are relative to where that was."""
    try:
        here = os.getcwd()
    except OSError:  # which has been removed
        here = ""
    return decoder, MEMORY, *COMMAND, here, os.environ.get("PYTHONPATH")


class _Rest:
    """Idle workers between two pools: to start one takes as long as to decode hundreds of images."""

    def __init__(self) -> None:
        self._resting: list[tuple[float, _Worker]] = []  # since when, on the clock of `time.monotonic`
        self._lock = threading.Lock()
        atexit.register(self.dismiss, 0.0)

    def add(self, process: _Worker) -> None:
        with self._lock:
            self._resting.append((time.monotonic(), process))
        timer = threading.Timer(REST_SECONDS + 0.1, self.dismiss)
        timer.daemon = True
        timer.start()

    def take(self, decoder: str, most: int) -> list[_Worker]:
        """At most so many workers with this decoder."""
        with self._lock:
            alike = [entry for entry in self._resting if entry[1].kind == _kind(decoder)][:most]
            self._resting = [entry for entry in self._resting if entry not in alike]
        return [process for _, process in alike]

    def dismiss(self, seconds: float = REST_SECONDS) -> None:
        """End those that have rested for so long."""
        now = time.monotonic()
        with self._lock:
            gone = [process for since, process in self._resting if now - since >= seconds]
            self._resting = [entry for entry in self._resting if entry[1] not in gone]
        for process in gone:
            process.close()


_rest = _Rest()


def end_idle_workers() -> None:
    """End those that no pool has, at once."""
    _rest.dismiss(0.0)


def _is_encoded(item: Item) -> bool:
    source = _source(item)
    return isinstance(source, bytes | Path) or (isinstance(source, tuple) and not isinstance(source, Unreadable))


def _source(item: Item) -> Item:
    return item.source if isinstance(item, Segment) else item


def _batches(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Group consecutive items that are all encoded or all decoded, at most `most` and few enough for one request."""
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


def _in_memory(batch: list[Item], of: Callable[[Any], Decoded]) -> list[Decoded]:
    return [_one_in_memory(_source(item), of) for item in batch]


def _one_in_memory(item: Item, of: Callable[[Any], Decoded]) -> Decoded:
    if isinstance(item, Unreadable):
        return Decoded(bytes(16), None, item.reason)
    try:
        return of(item)
    except (ValueError, OSError, SyntaxError) as error:
        return Decoded(bytes(16), None, str(error)[:200])
