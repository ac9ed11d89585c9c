"""The largest batch that fits into memory, found by trying."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tacit.training.stepping import OutOfMemory, is_out_of_memory

SHARE = 0.8  # of the memory that is free now; the rest is for what is not training
MOST = 4096  # examples, beyond which larger batches were not seen to learn more
LONGEST = 10.0  # seconds of a step, beyond which no larger batch is tried


def most_that_fit(seconds: Callable[[int], float], start: int, most: int) -> int:
    """The largest of start, 2 start, 4 start, ... up to `most` of which a step fits into memory.

    `seconds(batch_size)` takes real steps, says how long one took, and raises `OutOfMemory` or what torch raises. None
    larger is tried where a step takes long. `OutOfMemory` where not even `start` fits.
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
    """Bytes that this process can still have, by the system and by its control group."""
    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    limit = group / "memory.max"
    if limit.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, int(text) - int((group / "memory.current").read_text()))
    return max(0, free)


@contextmanager
def limited(extra: int) -> Iterator[None]:
    """Within, this process may map at most `extra` bytes more than now, where Linux is; asking for more is an error.

    So a batch that is too large is refused, and does not have the system end the process.
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
