"""Child processes that already hold torch: one server imports it once, every child is a cheap copy of that server."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

OUTPUT = "printed.txt"
LIMIT = 300.0  # seconds after which a child counts as hung


@cache
def server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preload"])
    return context


def start(function: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    process = server().Process(target=function, args=arguments)
    process.start()
    return process


def finish(*processes: ForkServerProcess) -> list[int]:
    """Exit codes; a hung child is ended and fails the test."""
    for process in processes:
        process.join(LIMIT)
    hung = [process for process in processes if process.is_alive()]
    for process in hung:
        process.kill()
        process.join()
    assert not hung, "a child process hung"
    return [int(process.exitcode or 0) for process in processes]


class Done(NamedTuple):
    """How a program has ended, and what it has printed."""

    code: int
    out: str


def run_anew(program: str, *words: str, folder: Path, package: Path | None = None) -> Done:
    """Run a Python program in `folder`, in a process that holds the libraries but nothing of this Tacit.

    It imports the Tacit beside it in `package`, where there is one.
    """
    done = finish(start(_anew, program, words, folder, package))
    return Done(done[0], (folder / OUTPUT).read_text())


def _anew(program: str, words: Sequence[str], folder: Path, package: Path | None) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tacit"]:
        del sys.modules[name]
    if package is not None:
        sys.path.insert(0, str(package))
        os.environ |= {"PYTHONPATH": str(package), "TACIT_CACHE": str(folder / "cache")}
    os.chdir(folder)
    with open(OUTPUT, "w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        sys.argv = ["-c", *words]
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})


def two_ranks(function: Callable[..., None], *arguments: Any) -> list[int]:
    """Run `function(*arguments)` as two ranks, as torchrun would start them; their exit codes."""
    return finish(*start_ranks(function, *arguments))


def start_ranks(function: Callable[..., None], *arguments: Any) -> list[ForkServerProcess]:
    port = free_port()
    return [start(_within, _of_torchrun(rank, port), function, *arguments) for rank in range(2)]


def two_tasks(function: Callable[..., None], *arguments: Any) -> list[int]:
    """Run `function(*arguments)` as two tasks of a job of SLURM, as srun would start them; their exit codes."""
    port = free_port()
    return finish(*(start(_within, _of_slurm(task, port), function, *arguments) for task in range(2)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _of_torchrun(rank: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "tests",
    }


def _of_slurm(task: int, port: int) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "tests",
        "SLURM_NODELIST": "localhost",
        "SLURM_NNODES": "1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(task),
        "SLURM_LOCALID": str(task),
        "SLURM_NODEID": "0",
        "MASTER_PORT": str(port),
    }


def _within(environment: dict[str, str], function: Callable[..., None], *arguments: Any) -> None:
    os.environ |= environment
    function(*arguments)
