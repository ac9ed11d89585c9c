"""Child processes that already hold torch: one server imports it once, every child is a cheap copy of that server."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

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
