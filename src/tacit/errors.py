"""What can go wrong for a person, and the exit code it ends with."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from types import CodeType

_KNOWN, _LONGEST = 1000, 100  # names that are looked at, and their characters: likeness takes the square of them


class _Said(Exception):
    """Knows where in our sources its words were put together, which tells ours from those of the data (`wording`)."""

    said_at: tuple[CodeType, int] | None = None

    def __init__(self, *words: object) -> None:
        super().__init__(*words)
        frame = sys._getframe(1)
        self.said_at = frame.f_code, frame.f_lasti


class UserError(_Said, ValueError):
    """Bad input or usage: one clear line that names the value and the remedy."""

    exit_code = 2


class RunFailed(_Said, RuntimeError):
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
