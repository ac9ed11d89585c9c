"""The command line: the public functions of `tacit.commands`, their signatures as flags.

`tacit run DATA --labels few.csv` calls `tacit.run(DATA, labels="few.csv")`. Flags may be written with dashes, switches
need no value, and a list's flag may be repeated. Settings also come from `--config FILE.yaml`; `--print_config` writes
them. A command's file is read for its help and run only when it is called, because it imports torch.
"""

from __future__ import annotations

import ast
import inspect
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from tacit.commands import COMMANDS
from tacit.core.budget import start_clock
from tacit.core.command_line import function_at, is_private
from tacit.core.errors import DISTRIBUTION, Interrupted, RunFailed, UserError, in_a_line, nearest
from tacit.core.wording import discreet


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 done, 1 the run failed, 2 bad input or usage, 130 or 143 interrupted."""
    # Threads that wait busily are a third faster on an idle machine, and four to eight times slower on a busy one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    start_clock()
    words = list(sys.argv[1:] if argv is None else argv)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (closed before we began)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # a file's name may have characters that the terminal lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        _check_here()
        with discreet(is_private(words)):
            code = _call(words)
        sys.stdout.flush()
    except (UserError, RunFailed, Interrupted) as error:
        code = _complain(error, error.exit_code)
    except KeyboardInterrupt:
        code = _complain("interrupted; continue with --resume", 130)
    except BrokenPipeError:  # the reader of our output has gone
        _silence()
        code = 0
    except (OSError, MemoryError) as error:
        failure = in_a_line(error)
        code = _complain(failure, failure.exit_code)
        try:
            sys.stdout.flush()
        except OSError:
            _silence()  # what cannot be written now cannot be written at the end either
    raise SystemExit(code)


def _check_here() -> None:
    """UserError where the current folder has been deleted, which ends the libraries below torch."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the current folder has been deleted; change to another") from None


def _silence() -> None:
    """Send nothing more to standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(error: object, code: int) -> int:
    print(f"tacit: error: {error}", file=sys.stderr)
    return code


def _call(words: list[str]) -> int:
    if words and words[0] in {"--version", "-V"}:
        from importlib.metadata import version

        print(f"tacit {version(DISTRIBUTION)}")
        return 0
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_overview())
        return 0
    name, *rest = words
    if name not in COMMANDS:
        raise UserError(f"no command named {name!r}{nearest(name, COMMANDS)}; `tacit --help` lists them")
    from tacit.flags import describe, parse  # and with it what parses: help alone takes half of that time

    described = describe(name)
    settings = vars(parse(name, described, rest))
    several = settings.pop(described.several, ())
    places = [settings.pop(flag.name) for flag in described.flags if not flag.group] if several else []
    module, _, function = COMMANDS[name].partition(":")
    outcome = getattr(import_module(module), function)(*places, *several, **settings)
    return outcome if isinstance(outcome, int) else getattr(outcome, "exit_code", 0)


def _overview() -> str:
    lines = ["usage: tacit COMMAND ...", "", "Self-supervised learning with proof of transfer.", ""]
    for name, place in COMMANDS.items():
        doc = inspect.cleandoc(ast.get_docstring(function_at(place)) or "")
        lines.append(f"  {name:<11} {doc.splitlines()[0]}")
    lines += ["", "tacit COMMAND --help explains each. Start with: tacit run digits"]
    return "\n".join(lines)
