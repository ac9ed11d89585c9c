"""Several processes as one run: the leader (rank 0) goes first, decides and prints; an error of one ends all.

Agreements go through the rendezvous store of the processes, not through collectives, so that they may take any time:
a process waits for another as long as that one sends heartbeats.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import torch.distributed as td

from tacit.core import gathering
from tacit.core.errors import RunFailed
from tacit.core.leading import is_leader

__all__ = ["from_leader", "is_leader", "leader_first", "leave_to_leader", "meet_by", "united"]

T = TypeVar("T")

# Environment variables in which launchers give the number of processes.
_COUNTS = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES")
_PULSE, _FAILED, _ENDED = "pulse", "failed", "ended"
_SIGN_OF_LIFE = 1.0  # seconds between two of them
_POLL = 0.05  # seconds
_FAREWELL = 3.0  # seconds for the others to read why a process ended


class Store(Protocol):
    """One of torch's stores, shared by the processes."""

    def set(self, key: str, value: str, /) -> None: ...
    def get(self, key: str, /) -> bytes: ...
    def add(self, key: str, value: int, /) -> int: ...
    def check(self, keys: list[str], /) -> bool: ...
    def compare_set(self, key: str, expected: str, wanted: str, /) -> bytes: ...


class _Met(NamedTuple):
    """The rendezvous store, and for how many seconds a process waits for another."""

    store: Store
    patience: float


_met: list[_Met] = []  # of this process, at most one


def meet_by(store: Any, patience: float) -> None:
    """Use this store, which every process has opened, for agreements; wait up to `patience` seconds for one another."""
    _met[:] = [_Met(td.PrefixStore("tacit", store), patience)]  # type: ignore[attr-defined]  # torch's stubs lack it


def meet_anew(patience: float) -> None:
    """The same where the process group was made by others: open a store of our own on the leader's machine."""
    if _met or gathering.world() == 1:
        return
    host, own = os.environ.get("MASTER_ADDR", "127.0.0.1"), timedelta(seconds=patience)
    open_store: Any = partial(td.TCPStore, wait_for_workers=False, timeout=own)  # type: ignore[attr-defined]
    store = open_store(host, 0, is_master=True) if is_leader() else None
    port = [store.port if store else 0]
    td.broadcast_object_list(port)
    meet_by(store or open_store(host, port[0]), patience)


def from_leader(make: Callable[[], T]) -> T:
    """Return on every process what the leader makes, which must be JSON. The others wait and do not call `make`."""
    return make() if gathering.world() == 1 else _from(0, make)


@contextmanager
def leader_first() -> Iterator[None]:
    """The leader runs the block first, then all others, on its results: decoded data, a seal, a plan.

    The block must not need several processes at a time.
    """
    if not is_leader():
        from_leader(_nothing)
    yield
    if is_leader():
        from_leader(_nothing)


def all_arrived() -> None:
    """Wait until every process is here."""
    if gathering.world() > 1:
        for process in range(gathering.world()):
            _from(process, _nothing)


def leave_to_leader() -> None:
    """The leader goes on alone, for as long as it takes; the others exit here with success."""
    if gathering.world() == 1:
        return
    all_arrived()
    others = not is_leader()
    _part(_patience())
    if others:
        raise SystemExit(0)
    os.environ |= {name: "1" for name in _COUNTS if name in os.environ}  # for everything that reads them from now on


@contextmanager
def united() -> Iterator[None]:
    """An error of one process ends all, with one exit code: the first to fail raises it, the others `SystemExit`.

    RunFailed where a process no longer answers and none has reported an error.
    """
    try:
        with _signs_of_life():
            yield
    except BaseException as error:
        if gathering.world() > 1:
            _end(error)
        raise
    if gathering.world() > 1:
        _part(_patience())


def _end(error: BaseException) -> None:
    """Raise the error that replaces `error` on this process, if any."""
    store, own = _store(), gathering.rank()
    lost = isinstance(error, td.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
    code = getattr(error, "exit_code", 130 if isinstance(error, KeyboardInterrupt) else 1)
    if lost:
        _until(lambda: store.check([_FAILED]), _FAREWELL)
    first = _within(_FAREWELL, lambda: store.compare_set(_FAILED, "", f"{own} {code}").decode())
    _part(_FAREWELL)
    speaker, reported = map(int, (first or f"{own} {code}").split())
    if speaker != own:
        raise SystemExit(reported) from error
    if lost:
        raise RunFailed(
            f"process {own} has lost another one, which ended or does not answer; continue with --resume"
        ) from error


def _part(seconds: float) -> None:
    """Leave the group, which wakes the processes that wait for this one; the leader, who may hold the store, is last.

    It waits at most `seconds` for the others.
    """
    store, world, leads = _store(), gathering.world(), is_leader()
    td.destroy_process_group()
    _within(_FAREWELL, lambda: store.add(_ENDED, 1))
    if leads:
        _until(lambda: store.add(_ENDED, 0) >= world, seconds)


def _from(process: int, make: Callable[[], T]) -> T:
    store = _store()
    key = f"turn {store.add(f'turns of {gathering.rank()}', 1)}"
    if gathering.rank() == process:
        value = make()
        store.set(key, json.dumps(value))
        return value
    _await(store, key, process)
    made: T = json.loads(store.get(key))
    return made


def _await(store: Store, key: str, process: int) -> None:
    """Wait for a key as long as the process that must set it lives. SystemExit where a process has failed meanwhile."""
    patience = _patience()

    def look() -> tuple[bool, bool, int]:
        return store.check([key]), store.check([_FAILED]), store.add(f"{_PULSE} {process}", 0)

    pulse, since = -1, time.monotonic()
    while True:
        seen = _within(patience, look)
        there, failed, now = seen or (False, False, pulse)
        if there:
            return
        if failed:
            raise SystemExit(1)
        if now != pulse:
            pulse, since = now, time.monotonic()
        elif seen is None or time.monotonic() - since > patience:
            raise RunFailed(
                f"process {gathering.rank()} waits for process {process}, which ended or shows no sign of life; "
                "continue with --resume"
            )
        time.sleep(_POLL)


@contextmanager
def _signs_of_life() -> Iterator[None]:
    """Send heartbeats to the others within the block, if there are others."""
    if gathering.world() == 1:
        yield
        return
    store, over, own = _store(), threading.Event(), gathering.rank()

    def work() -> None:
        with suppress(RuntimeError):  # the store has gone
            while not over.wait(_SIGN_OF_LIFE):
                store.add(f"{_PULSE} {own}", 1)

    thread = threading.Thread(target=work, daemon=True, name="tacit-alive")
    thread.start()
    try:
        yield
    finally:
        over.set()


def _store() -> Store:
    return _met[0].store


def _patience() -> float:
    """Seconds that a process waits for another."""
    return _met[0].patience


def _until(done: Callable[[], bool], seconds: float) -> None:
    """Wait until `done()` or for `seconds`."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and not _within(_FAREWELL, done):
        time.sleep(_POLL)


def _within(seconds: float, call: Callable[[], T]) -> T | None:
    """The result of the call, or None if it fails or takes longer: the store may lie in a stopped process."""
    answer: list[T] = []

    def work() -> None:
        try:
            answer.append(call())
        except RuntimeError:
            return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0] if answer else None


def _nothing() -> None:
    return None
