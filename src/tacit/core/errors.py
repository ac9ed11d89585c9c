"""What can go wrong for a person, and the exit code it ends with."""

from __future__ import annotations

import difflib
import errno
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from types import CodeType
from typing import ParamSpec, TypeVar

DISTRIBUTION = "tacit-learn"  # what package indices call Tacit: the short name is another project's

P = ParamSpec("P")
T = TypeVar("T")

_KNOWN, _LONGEST = 1000, 100  # names compared, and their characters: similarity takes quadratic time


class _Located(Exception):
    """Records where in our sources it was raised, so that `wording` can separate our words from the data's."""

    raised_at: tuple[CodeType, int] | None = None

    def __init__(self, *words: object) -> None:
        super().__init__(*words)
        frame = sys._getframe(1)
        self.raised_at = frame.f_code, frame.f_lasti


class UserError(_Located, ValueError):
    """Bad input or usage: one clear line that names the value and the remedy."""

    exit_code = 2


class RunFailed(_Located, RuntimeError):
    """The run itself failed: a non-finite loss, every task collapsed, a full disk."""

    exit_code = 1


class Interrupted(Exception):
    """Ctrl-C or SIGTERM, after a checkpoint was written. Exit code 128 + the signal's number."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}; continue with --resume")
        self.exit_code = 128 + signal_number


@contextmanager
def no_panic(what: str) -> Iterator[None]:
    """UserError where code in Rust panics, such as a tokenizer whose pattern takes for ever: that is no `Exception`."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise UserError(f"{what} cannot be used: {str(error).splitlines()[0][:200]}; choose another") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'simclr'?` where a known name is close, else nothing: to append to an error line."""
    some = [other for other in islice(known, _KNOWN) if len(other) <= _LONGEST]
    close = difflib.get_close_matches(name[:_LONGEST], some, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


_REMEDIES = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "give yourself access to it, or name another place (--out, --cache or TACIT_CACHE)",
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files with ulimit -n"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST, errno.EISDIR), "a file and a folder are in each other's place there"),
    errno.EFBIG: "raise the limit on the size of files with ulimit -f, or name another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its links lead round in a circle",
    errno.EIO: "the disk does not answer as it should; check it",
}


# How libraries in Rust, such as safetensors, and arrow report the system's errors.
_WRAPPED = re.compile(r"\(os error (\d+)\)|\[errno (\d+)\]", re.IGNORECASE)


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk is full, also where a library has wrapped the system's error in one of its own."""
    found = of_system(error)
    return found is not None and found.errno in {errno.ENOSPC, errno.EDQUOT}


def of_system(error: BaseException) -> OSError | None:
    """The system's error, also where a library has wrapped it in one of its own; None for any other."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    number = _WRAPPED.search(str(error)) if isinstance(error, Exception) and not isinstance(error, _Located) else None
    if number is None:
        return None
    code = int(number[1] or number[2])
    return OSError(code, os.strerror(code))


@contextmanager
def writing_to(place: str | os.PathLike[str]) -> Iterator[None]:
    """Name this file or folder in errors of the system within the block: where a file is open, they name none."""
    try:
        yield
    except Exception as error:
        found = of_system(error)
        if found is None or found.filename is not None:
            raise
        raise OSError(found.errno, os.strerror(found.errno or 0), os.fspath(place)) from error


def in_a_line(error: OSError | MemoryError) -> UserError | RunFailed:
    """An error of the operating system as one line: the file, the reason, the remedy."""
    if isinstance(error, MemoryError):
        return RunFailed("out of memory; close other programs, or take a smaller --encoder or --batch-size")
    named = error.filename2 if error.filename2 is not None else error.filename
    name = os.fsdecode(named) if isinstance(named, str | bytes) else ""
    if is_disk_full(error):
        at = f" at {name}" if name else ""
        return RunFailed(f"the disk is full{at}; free some space and try again, a run with --resume")
    reason = " ".join((error.strerror or str(error) or type(error).__name__).split())
    return UserError(f"{name}: {reason}".removeprefix(": ") + remedy_of(error))


def remedy_of(error: OSError) -> str:
    """`; raise the limit on open files`, or nothing: to append to the system's message."""
    remedy = _REMEDIES.get(error.errno or 0)
    return f"; {remedy}" if remedy else ""


def clear_ends(command: Callable[P, T]) -> Callable[P, T]:
    """Wrap a command so that errors of the operating system (a permission, a full disk) become errors of one line."""

    @functools.wraps(command)
    def clear(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:  # the reader of our output has gone, which is no error
            raise
        except (OSError, MemoryError) as error:
            raise in_a_line(error) from error
        except Exception as error:
            refused = of_system(error)
            if refused is None:
                raise
            raise in_a_line(refused) from refused

    return clear
