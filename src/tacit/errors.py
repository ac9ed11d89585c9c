"""What can go wrong for a person, and the exit code it ends with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input or usage: one clear line that names the value and the remedy."""

    exit_code = 2


class RunFailed(RuntimeError):
    """The run itself failed: a non-finite loss, every task collapsed, a full disk."""

    exit_code = 1


class Interrupted(Exception):
    """Ctrl-C or SIGTERM, after a checkpoint was written. Exit code 128 + the signal's number."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}; continue with --resume")
        self.exit_code = 128 + signal_number


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'simclr'?` where a known name is close, else nothing: to append to an error line."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
