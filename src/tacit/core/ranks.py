"""Several processes as one run: the leader, who is rank 0, goes first, decides and speaks; an error of one ends all.

What is agreed upon here goes through the store by which the processes found each other, so that it may take as long as
it takes: those who wait for a process go on waiting while it shows signs of life.
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
from tacit.core.leading import leader

__all__ = ["from_leader", "leader", "leader_first", "leave_to_leader", "meet_by", "united"]

T = TypeVar("T")

# How many processes there are, as launchers say it.
_COUNTS = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES")
_PULSE, _FAILED, _ENDED = "pulse", "failed", "ended"
_SIGN_OF_LIFE = 1.0  # seconds between two of them
_POLL = 0.05  # seconds
_FAREWELL = 3.0  # seconds for the others to read why a process ended


class Store(Protocol):
    """What the processes share, one of torch's stores."""

    def set(self, key: str, value: str, /) -> None: ...
    def get(self, key: str, /) -> bytes: ...
    def add(self, key: str, value: int, /) -> int: ...
    def check(self, keys: list[str], /) -> bool: ...
    def compare_set(self, key: str, expected: str, wanted: str, /) -> bytes: ...


class _Met(NamedTuple):
    """By what the processes found each other, and for how many seconds one waits for another."""

    store: Store
    patience: float


_met: list[_Met] = []  # of this process, at most one


def meet_by(store: Any, patience: float) -> None:
    """The processes agree by this store, which each of them has opened, and wait so many seconds for one another."""
    _met[:] = [_Met(td.PrefixStore("tacit", store), patience)]  # type: ignore[attr-defined]  # torch's stubs lack it


def meet_anew(patience: float) -> None:
    """The same where others have had the processes find each other: by a store of our own on the leader's machine."""
    if _met or gathering.world() == 1:
        return
    host, own = os.environ.get("MASTER_ADDR", "127.0.0.1"), timedelta(seconds=patience)
    open_store: Any = partial(td.TCPStore, wait_for_workers=False, timeout=own)  # type: ignore[attr-defined]
    store = open_store(host, 0, is_master=True) if leader() else None
    port = [store.port if store else 0]
    td.broadcast_object_list(port)
    meet_by(store or open_store(host, port[0]), patience)


def from_leader(make: Callable[[], T]) -> T:
    """What the leader makes, on every process; it must be JSON. The others wait for it and do not call `make`."""
    return make() if gathering.world() == 1 else _from(0, make)


@contextmanager
def leader_first() -> Iterator[None]:
    """The leader runs the block, then all others, on what it has left for them: decoded data, a seal, a plan.

    Nothing in the block may need several processes at a time.
    """
    if not leader():
        from_leader(_nothing)
    yield
    if leader():
        from_leader(_nothing)


def all_arrived() -> None:
    """Wait until every process is here."""
    if gathering.world() > 1:
        for process in range(gathering.world()):
            _from(process, _nothing)


def leave_to_leader() -> None:
    """The processes part: the leader goes on alone, for as long as it takes, and the others end here, well."""
    if gathering.world() == 1:
        return
    all_arrived()
    others = not leader()
    _part(_patience())
    if others:
        raise SystemExit(0)
    os.environ |= {name: "1" for name in _COUNTS if name in os.environ}  # whatever is asked from now on


@contextmanager
def united() -> Iterator[None]:
    """An error of one process ends all, with one exit code: the first to fail raises it, the others `SystemExit`.

    RunFailed where a process does not answer any more and none has said why.
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
    """Raise what this process ends with in place of `error`, if anything."""
    store, own = _store(), gathering.rank()
    lost = isinstance(error, td.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
    code = getattr(error, "exit_code", 130 if isinstance(error, KeyboardInterrupt) else 1)
    if lost:
        _until(lambda: store.check([_FAILED]), _FAREWELL)
    first = _within(_FAREWELL, lambda: store.compare_set(_FAILED, "", f"{own} {code}").decode())
    _part(_FAREWELL)
    speaker, said = map(int, (first or f"{own} {code}").split())
    if speaker != own:
        raise SystemExit(said) from error
    if lost:
        raise RunFailed(
            f"process {own} has lost another one, which ended or does not answer; continue with --resume"
        ) from error


def _part(seconds: float) -> None:
    """Leave the group, which wakes those that wait for this process; the leader, who may hold the store, as the last.

    Unless the others take longer than these seconds.
    """
    store, world, leads = _store(), gathering.world(), leader()
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
    """Wait for a key as long as the process lives that is to set it. SystemExit where one has failed meanwhile."""
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
    """Have the others know that this process lives, as long as it is one of several."""
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
    """Seconds that a process waits for another one."""
    return _met[0].patience


def _until(done: Callable[[], bool], seconds: float) -> None:
    """Wait until it is done, or for so long."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and not _within(_FAREWELL, done):
        time.sleep(_POLL)


def _within(seconds: float, call: Callable[[], T]) -> T | None:
    """What the call returns, None where it fails or takes longer: the store may lie in a process that is stopped."""
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
