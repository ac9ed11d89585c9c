"""The command line: the public functions of `tacit.commands`, their signatures read by jsonargparse.

`tacit run DATA --labels few.csv` calls `tacit.run(DATA, labels="few.csv")`. Flags may be written with dashes, switches
need no value, and a list's flag may be repeated. Settings also come from `--config FILE.yaml`; `--print_config` writes
them.
"""

from __future__ import annotations

import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any, NoReturn, get_type_hints

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # type: ignore[attr-defined]  # not in its __all__

from tacit import commands
from tacit.core.budget import start_clock
from tacit.core.errors import Interrupted, RunFailed, UserError, in_a_line, nearest
from tacit.core.plain_yaml import read_plain_yaml
from tacit.core.wording import discreet

COMMANDS: dict[str, Callable[..., Any]] = {
    "run": commands.run,
    "inspect": commands.inspect,
    "pretrain": commands.pretrain,
    "evaluate": commands.evaluate,
    "compare": commands.compare,
    "predict": commands.predict,
    "next-labels": commands.next_labels,
    "embed": commands.embed,
    "export": commands.export,
    "fill-mask": commands.fill_mask,
    "recommend": commands.recommend,
    "tasks": commands.tasks,
    "doctor": commands.doctor,
    "clean": commands.clean,
}

NOT_ASKED = {"data", "as_before", "progress", "reads"}  # settings of open_dataset that are no flags


class _Parser(ArgumentParser):
    """Errors in one line with the nearest valid name; flags shown with dashes."""

    known: set[str] = set()  # noqa: RUF012  (filled per parser)
    private = False

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text = " ".join(str(message).split())
        unknown = re.search(r"unrecognized arguments: (--?)?([\w-]+)", text) or re.search(
            r"(?:Key|key|Option) [\"'](?:\w+\.)*()(\w+)[\"'] is not (?:expected|accepted)", text
        )
        if unknown:
            name = unknown[2].replace("-", "_")
            dashes = "--" if unknown[1] else ""
            close = nearest(name, self.known).replace("_", "-")
            text = f"unknown setting {dashes}{unknown[2]}{close}; `{self.prog} --help` lists them"
        elif self.private:  # what was given for a setting may name something
            named = re.search(r"[Kk]ey \"(\w+)\"", text)
            what = f"--{named[1].replace('_', '-')}" if named and named[1] in self.known else "a setting"
            text = f"{what} was given a value that it does not take; `{self.prog} --help` lists them"
        print(f"tacit: error: {text}", file=sys.stderr)
        raise SystemExit(2)

    def format_help(self, formatter: Any = None) -> str:
        shown = super().format_help(formatter) if formatter else super().format_help()
        return re.sub(r"--(?!print_config)[a-z_]+", lambda flag: flag[0].replace("_", "-"), shown)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 done, 1 the run failed, 2 bad input or usage, 130 or 143 interrupted."""
    # Threads that wait busily are a third faster on an idle machine, and four to eight times slower on a busy one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    start_clock()
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # a file's name may have signs that the terminal has not
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with discreet(_is_private(words)):
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
        told = in_a_line(error)
        code = _complain(told, told.exit_code)
        try:
            sys.stdout.flush()
        except OSError:
            _silence()  # what cannot be written now cannot be written at the end either
    raise SystemExit(code)


def _silence() -> None:
    """Nothing more goes to standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(error: object, code: int) -> int:
    print(f"tacit: error: {error}", file=sys.stderr)
    return code


def _call(words: list[str]) -> int:
    if words and words[0] in {"--version", "-V"}:
        from importlib.metadata import version

        print(f"tacit {version('tacit')}")
        return 0
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_overview())
        return 0
    name, *rest = words
    if name not in COMMANDS:
        raise UserError(f"no command named {name!r}{nearest(name, COMMANDS)}; `tacit --help` lists them")
    command = COMMANDS[name]
    settings = vars(_parse(name, command, rest))
    several = _variadic(command)
    before = list(inspect.signature(command).parameters)
    leading = [settings.pop(name) for name in before[: before.index(several)]] if several else []
    outcome = command(*leading, *settings.pop(several, ()), **settings)
    return outcome if isinstance(outcome, int) else getattr(outcome, "exit_code", 0)


def _variadic(command: Callable[..., Any]) -> str:
    """The name of a command's `*parameter`, or nothing."""
    parameters = inspect.signature(command).parameters.values()
    return next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL), "")


def _overview() -> str:
    lines = ["usage: tacit COMMAND ...", "", "Self-supervised learning with proof of transfer.", ""]
    lines += [f"  {name:<11} {(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    lines += ["", "tacit COMMAND --help explains each. Start with: tacit run digits"]
    return "\n".join(lines)


def _parse(name: str, command: Callable[..., Any], words: list[str]) -> Namespace:
    summary = inspect.cleandoc(command.__doc__ or "").partition("\nArgs:")[0].strip()
    parser = _Parser(prog=f"tacit {name}", description=summary, exit_on_error=True, default_env=False)
    parameters = dict(inspect.signature(command).parameters)
    takes_data_options = parameters.pop("options", None) is not None
    takes_reading = parameters.pop("reading", None) is not None
    optional = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty]
    skipped: set[str | int] = {*(p.name for p in optional)}
    skipped |= {"options"} if takes_data_options else {"reading"} if takes_reading else set()
    parser.add_function_arguments(_typed(command), as_group=False, as_positional=True, skip=skipped)
    for parameter in optional:  # which the parser would make a flag
        help_ = re.search(rf"^ +{parameter.name}: (.+(?:\n {{12}}.+)*)", command.__doc__ or "", re.MULTILINE)
        parser.add_argument(parameter.name, nargs="?", default=parameter.default, help=help_[1] if help_ else None)
    if takes_data_options or takes_reading:
        from tacit.dataset import READING, open_dataset

        flags = dict(inspect.signature(open_dataset).parameters)
        left_out = {*NOT_ASKED, *(flags.keys() - set(READING) if takes_reading else ())}
        parser.add_function_arguments(_typed(open_dataset), skip={*left_out, *parameters})
        parameters |= {k: v for k, v in flags.items() if k not in left_out}
    if several := _variadic(command):
        parser.add_argument(several, nargs="+", help="one or more")
    for file in _named(words, "--config"):
        _check_config(Path(file))
    parser.add_argument("--config", action=ActionConfigFile, help="a YAML file of settings")
    parser.private = _is_private(words)
    parser.known = {*parameters, "config", "print_config", "help"}
    parsed = parser.parse_args(_normal(words, parameters))
    parsed.pop("config", None)
    return parsed


def _named(words: list[str], flag: str) -> list[str]:
    """The values that a flag has on the command line."""
    pairs = pairwise([*words, ""])
    return [word.partition("=")[2] if "=" in word else after for word, after in pairs if word.partition("=")[0] == flag]


def _is_private(words: list[str]) -> bool:
    """Whether --private is said here, or in a file of settings; also where what is said is of no sense."""
    said = [word.partition("=")[2].lower() or "true" for word in words if word.partition("=")[0] == "--private"]
    for file in map(Path, _named(words, "--config")):
        try:
            settings = read_plain_yaml(file)
        except (OSError, ValueError):
            continue
        said += [str(settings.get("private", False)).lower()] if isinstance(settings, dict) else []
    return any(word != "false" for word in said)


def _check_config(file: Path) -> None:
    """UserError where settings could grow beyond their file; whatever else is wrong the parser says."""
    try:
        read_plain_yaml(file)
    except OSError:
        return
    except ValueError as error:
        raise UserError(f"--config {file} cannot be read as settings: {error}") from None


def _typed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A copy whose parameters are annotated by types, not by their names.

    To find out what a name means, the parser would run the imports meant for type checkers, which load torch.
    """
    function = inspect.unwrap(function)
    assert isinstance(function, FunctionType)
    copy = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__kwdefaults__, copy.__doc__, copy.__module__ = function.__kwdefaults__, function.__doc__, function.__module__
    names = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    copy.__annotations__ = get_type_hints(SimpleNamespace(__annotations__=names), function.__globals__)
    return copy


def _normal(words: list[str], parameters: dict[str, inspect.Parameter]) -> list[str]:
    """Dashes to underscores in flags, `--switch` to `--switch=true`, and a repeated list's `--flag` to `--flag+`."""
    out: list[str] = []
    flags = [word.partition("=")[0].lstrip("-").replace("-", "_") for word in words if word.startswith("--")]
    for position, word in enumerate(words):
        flag = re.fullmatch(r"--([A-Za-z][\w-]*)(=.*)?", word, re.DOTALL)
        if flag is None:
            out.append(word)
            continue
        name, value = flag[1].replace("-", "_"), flag[2] or ""
        kind = str(parameters[name].annotation) if name in parameters else ""
        repeated = flags.count(name) > 1 and "Sequence[str]" in kind
        following = words[position + 1] if position + 1 < len(words) else ""
        if kind == "bool" and not value and following.lower() not in {"true", "false"}:
            value = "=true"
        elif repeated or kind.startswith(("list", "Sequence", "tuple[str, ...]")):
            name += "+"
        out.append(f"--{name if name in parameters or name.rstrip('+') in parameters else flag[1]}{value}")
    return [re.sub(r"^--print-config", "--print_config", word) for word in out]
