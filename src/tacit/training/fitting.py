"""The largest batch that fits into memory, found by trying."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tacit.training.stepping import OutOfMemory, is_out_of_memory

SHARE = 0.8  # of the free memory; the rest is for everything else
MOST = 4096  # examples; larger batches were not seen to learn more
LONGEST = 10.0  # seconds of a step above which no larger batch is tried


def most_that_fit(seconds: Callable[[int], float], start: int, most: int) -> int:
    """The largest batch of start, 2 start, 4 start, ... up to `most` whose step fits into memory.

    `seconds(batch_size)` takes real steps, returns the time of one, and raises `OutOfMemory` or torch's own error. No
    larger batch is tried where a step takes long. `OutOfMemory` where not even `start` fits.
    """
    fits = 0
    size = start
    while size <= min(most, MOST) or not fits:
        try:
            with limited(int(SHARE * free_memory())):
                spent = seconds(size)
        except (RuntimeError, MemoryError) as error:
            if not (isinstance(error, OutOfMemory) or is_out_of_memory(error)):
                raise
            if not fits:
                raise
            break
        fits = size
        size *= 2
        if spent > LONGEST / 2:  # the next would take about twice as long
            break
    return fits


def free_memory() -> int:
    """Bytes still available to this process, by the system and by its control group."""
    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    limit = group / "memory.max"
    if limit.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, int(text) - int((group / "memory.current").read_text()))
    return max(0, free)


@contextmanager
def limited(extra: int) -> Iterator[None]:
    """Limit this process to `extra` more bytes of mapped memory within the context (Linux only); more is an error.

    So a batch that is too large raises an error, and the system does not kill the process.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = psutil.Process().memory_info().vms
    most = mapped + extra if before[1] == resource.RLIM_INFINITY else min(mapped + extra, before[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
