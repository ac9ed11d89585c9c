"""Parameters and settings of the commands as flags: their help, and the settings that words come to."""

from __future__ import annotations

import ast
import collections.abc
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, NoReturn, Union, get_args, get_origin

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # type: ignore[attr-defined]  # not in its __all__
from jsonargparse import DefaultHelpFormatter as HelpFormatter

import tacit.experiment.settings as concerns
from tacit.commands import COMMANDS
from tacit.core.command_line import function_at, is_private, values_of
from tacit.core.errors import UserError, nearest
from tacit.core.options import helps_of, keywords
from tacit.core.plain_yaml import read_plain_yaml

FIRST = "the most used"  # flags of several groups


class Flag(NamedTuple):
    """A parameter of a command, as the command line takes it."""

    name: str
    hint: Any  # its type
    default: Any  # `...` where it must be given
    help: str
    group: str = concerns.OWN  # the heading of its help; "" for what is given by its place

    @property
    def members(self) -> tuple[Any, ...]:
        """The types that its value may have."""
        return get_args(self.hint) if get_origin(self.hint) in (Union, UnionType) else (self.hint,)

    @property
    def takes_list(self) -> bool:
        return any(get_origin(one) in _LISTS for one in self.members)


class Described(NamedTuple):
    """A command as its file describes it."""

    doc: str
    flags: list[Flag]
    several: str = ""  # the name of its `*parameter`


class _Help(HelpFormatter):
    """Help without types, with each default."""

    def _get_help_string(self, action: Any) -> str:
        text = action.help or ""
        if action.option_strings and action.default not in (None, False, "==SUPPRESS==", [], (), float("inf")):
            text += f" (default: {action.default})"
        return text


_KINDS = {"int": "a whole number", "float": "a number", "str": "a word", "bool": "true or false"}  # of values


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
        elif self.private:  # the value of a setting may name something
            named = re.search(r"[Kk]ey \"(\w+)\"", text)
            what = f"--{named[1].replace('_', '-')}" if named and named[1] in self.known else "a setting"
            text = f"{what} was given a value that it does not take; `{self.prog} --help` lists them"
        elif wrong := re.match(r'Parser key "(\w+)": (.*)(?:Got value|Given value): (.*)', text):
            kinds = [_KINDS.get(kind, "") for kind in re.findall(r"Expected an? <class '(\w+)'>", wrong[2])]
            words = re.findall(r"'(\w+)'", " ".join(re.findall(r"typing\.Literal\[(.*?)\]", wrong[2])))
            wanted = " or ".join(dict.fromkeys([*filter(None, kinds), *words])) or "another value"
            text = f"--{wrong[1].replace('_', '-')} {wrong[3]}: give {wanted}"
        print(f"tacit: error: {text}", file=sys.stderr)
        raise SystemExit(2)

    def format_help(self, formatter: Any = None) -> str:
        shown = super().format_help(formatter) if formatter else super().format_help()
        shown = re.sub(r", --[a-z_]+\+ \S+", "", shown)  # which `_normal` writes
        return re.sub(r"--(?!print_config)[a-z_]+", lambda flag: flag[0].replace("_", "-"), shown)


def parse(name: str, described: Described, words: list[str]) -> Namespace:
    """The settings of a command from its words; SystemExit, with a line, where they are none."""
    flags = {flag.name: flag for flag in described.flags}
    places = [*(flag.name if flag.default is ... else f"[{flag.name}]" for flag in flags.values() if not flag.group)]
    places += [f"{described.several} ..."] if described.several else []
    parser = _Parser(
        prog=f"tacit {name}",
        usage=f"tacit {' '.join([name, *places])} [--FLAG VALUE ...]",
        description=described.doc.partition("\nArgs:")[0].strip(),
        formatter_class=_Help,
        exit_on_error=True,
        default_env=False,
    )
    parser.add_argument("--config", action=ActionConfigFile, help="A YAML file of settings.")
    for flag in flags.values():
        if not flag.group:
            optional: dict[str, Any] = {} if flag.default is ... else {"nargs": "?", "default": flag.default}
            parser.add_argument(flag.name, type=flag.hint, help=flag.help, **optional)
    if described.several:
        parser.add_argument(described.several, nargs="+", help="one or more")
    for title in [FIRST, *concerns.GROUPS]:
        of = [flag for flag in flags.values() if flag.group == title]
        group = parser.add_argument_group(title) if of else parser
        for flag in of:
            needed: dict[str, Any] = {"required": True} if flag.default is ... else {"default": flag.default}
            needed |= {"metavar": ""} if flag.hint is bool else {}
            group.add_argument(f"--{flag.name}", type=flag.hint, help=flag.help, **needed)
    for file in values_of(words, "--config"):
        _check_config(Path(file))
    parser.private = is_private(words)
    parser.known = {*flags, "config", "print_config", "help"}
    parsed = parser.parse_args(_normal(words, flags))
    parsed.pop("config", None)
    return parsed


# ---------------------------------------------------------------- a command's file


def describe(name: str) -> Described:
    """The help and the parameters of a command, read from its file."""
    found = function_at(COMMANDS[name])
    doc = inspect.cleandoc(ast.get_docstring(found) or "")
    helps, flags = helps_of(doc), list[Flag]()
    arguments = found.args
    missing = len(arguments.args) - len(arguments.defaults)
    for number, argument in enumerate(arguments.args):
        if argument.arg != "settings":
            default = ... if number < missing else ast.literal_eval(arguments.defaults[number - missing])
            flags.append(Flag(argument.arg, _hint(argument.annotation), default, helps.get(argument.arg, ""), ""))
    for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if argument.arg != "settings":
            default = ... if value is None else ast.literal_eval(value)
            flags.append(Flag(argument.arg, _hint(argument.annotation), default, helps[argument.arg]))
    for argument in (*arguments.args, *arguments.kwonlyargs):
        if argument.arg == "settings":
            assert isinstance(argument.annotation, ast.Name)
            found_in = keywords(getattr(concerns, argument.annotation.id))
            flags += [
                Flag(setting, _plain(of.type), of.default, of.help, of.group)
                for setting, of in found_in.items()
                if of.flag
            ]
    flags = [flag._replace(group=FIRST) if flag.group and flag.name in concerns.COMMON else flag for flag in flags]
    order = {name: number for number, name in enumerate(concerns.COMMON)}
    flags.sort(key=lambda flag: order.get(flag.name, len(order)) if flag.group == FIRST else 0)
    return Described(doc, flags, "" if arguments.vararg is None else arguments.vararg.arg)


def _plain(hint: Any) -> Any:
    """A type without those of its members that only Python can give."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    written = [one for one in get_args(hint) if one in _WRITTEN or get_origin(one) in (Literal, *_LISTS)]
    return Union[tuple(written)]  # noqa: UP007  (of values)


_WRITTEN = (str, int, float, bool, type(None))
_LISTS = (list, tuple, collections.abc.Sequence)
_TYPES: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "Sequence": Sequence}


def _hint(node: ast.expr | None) -> Any:
    """The type that an annotation names; Any for one that only Python can give."""
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Name(id=name):
            return _TYPES.get(name, Any)
        case ast.BinOp(left=left, right=right):
            return Union[_hint(left), _hint(right)]  # noqa: UP007  (of values)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            return Literal[ast.literal_eval(inner)]
        case ast.Subscript(value=ast.Name(id=name), slice=inner):
            return _TYPES[name][_hint(inner)]
    return Any


# ---------------------------------------------------------------- words


def _check_config(file: Path) -> None:
    """UserError where settings could grow beyond their file; whatever else is wrong the parser says."""
    try:
        read_plain_yaml(file)
    except OSError:
        return
    except ValueError as error:
        raise UserError(f"--config {file} cannot be read as settings: {error}") from None


def _normal(words: list[str], flags: dict[str, Flag]) -> list[str]:
    """Dashes to underscores in flags, `--switch` to `--switch=true`, and a repeated list's `--flag` to `--flag+`."""
    out: list[str] = []
    given = [word.partition("=")[0].lstrip("-").replace("-", "_") for word in words if word.startswith("--")]
    for position, word in enumerate(words):
        written = re.fullmatch(r"--([A-Za-z][\w-]*)(=.*)?", word, re.DOTALL)
        if written is None:
            out.append(word)
            continue
        name, value = written[1].replace("-", "_"), written[2] or ""
        flag = flags.get(name)
        following = words[position + 1] if position + 1 < len(words) else ""
        if flag is not None and flag.hint is bool and not value and following.lower() not in {"true", "false"}:
            value = "=true"
        more = flag is not None and flag.takes_list and (str not in flag.members or given.count(name) > 1)
        out.append(f"--{name if flag is not None else written[1]}{'+' if more else ''}{value}")
    return [re.sub(r"^--print-config", "--print_config", word) for word in out]
