"""What of a message is ours: under `--private` that alone is said.

An error names the file, the row, the class that it is about, and so it should. Under `--private` nothing of the data
may be named, and no list of secret words can promise that. What can be told apart is where words come from: those that
stand in our own sources name nobody. So the message is laid beside the call that made it; texts that stand there,
numbers that are written as counts, and our own constants are kept, and `***` stands for everything else.
"""

from __future__ import annotations

import ast
import linecache
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import product
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple, TextIO

from tacit.core.errors import Interrupted, RunFailed, UserError, remedy_of

LEFT_OUT = "***"
_COUNT = re.compile(r"[-+]?\d[\d,]*(\.\d+)?%?")
_COUNTED = {",", ",d", "d", ".0f", ".1f", ".2f", ".0%", ".1%"}  # how counts, sizes and shares are written
_MOST_WAYS = 64  # in which a message with conditions in it can come out
_DEEPEST = 4  # names that stand for names


class Ours(str):
    """A text that names nothing of the data, by whoever says so: it is told under `--private` as it is."""


class _Piece(NamedTuple):
    """A part of a message: our text, or a count, or (both empty) anything at all."""

    text: str = ""
    counted: bool = False


@contextmanager
def discreet(private: bool = True) -> Iterator[None]:
    """Errors, warnings and libraries' log lines that leave this block name nothing, where it is `private`."""
    if not private:
        yield
        return
    import logging

    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            yield
    except UserError as error:
        raise UserError(Ours(private_form(error))) from None
    except RunFailed as error:
        raise RunFailed(Ours(private_form(error))) from None
    except (Interrupted, BrokenPipeError):  # which name nothing
        raise
    except Exception as error:
        raise RunFailed(Ours(_of_others(error))) from None
    finally:
        logging.disable(level)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"{category.__name__} at {_module(filename)}:{lineno}; --private leaves out what it says", file=sys.stderr)


def _of_others(error: Exception) -> str:
    """An error that is none of ours, by its kind and place."""
    trace, where = error.__traceback__, ""
    while trace is not None:
        where = f"{_module(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {where}; --private leaves out what it says: to read it, run this without it"


def _module(file: str) -> str:
    """A source file without the folders above its package, which may bear a person's name."""
    parts = Path(file).parts
    packages = [place for place, part in enumerate(parts) if part in ("site-packages", "tacit")]
    return "/".join(parts[packages[-1] :]) if packages else parts[-1]


def private_form(error: UserError | RunFailed) -> str:
    """The message of an error without anything but our own words and counts."""
    if error.args and isinstance(error.args[0], Ours):
        return error.args[0]
    if isinstance(cause := error.__cause__, OSError) and cause.errno and isinstance(error, UserError):
        return f"{LEFT_OUT}: {os.strerror(cause.errno)}{remedy_of(cause)} ({LEFT_OUT} is left out under --private)"
    text = str(error)
    code, at = error.said_at or (None, 0)
    said = None if code is None else _ours(text, _ways(code, at))
    if said is None or not said.replace(LEFT_OUT, "").strip(" :;,.()'\"-"):
        where = "" if code is None else f" (raised at {_module(code.co_filename)})"
        return f"what is wrong is left out under --private{where}: to read it, run this without it"
    return said + (f" ({LEFT_OUT} is left out under --private)" if LEFT_OUT in said else "")


def private_text(text: str, said_at: tuple[CodeType, int]) -> str:
    """A text as it may be told, by the call at this place that was given it: `Ours` whole, else our words alone."""
    if isinstance(text, Ours):
        return text
    said = _ours(text, _ways(*said_at))
    return LEFT_OUT if said is None else said


def _ours(text: str, ways: Sequence[Sequence[_Piece]]) -> str | None:
    """The text as the first way in which it can have come out, None where there is none."""
    for way in ways:
        said = _laid_beside(text, way)
        if said is not None:
            return said
    return None


def _laid_beside(text: str, way: Sequence[_Piece]) -> str | None:
    """Our words and counts in `text`, taken from left to right; None where our words do not stand in it so."""
    said, at, free = "", 0, False  # free: anything may stand here
    for number, piece in enumerate(way):
        if piece.text:
            last = number == len(way) - 1
            found = text.rfind(piece.text) if last and free else text.find(piece.text, at)
            if found < at or (found != at and not free) or (last and found + len(piece.text) != len(text)):
                return None
            said, at, free = said + (LEFT_OUT if free else "") + piece.text, found + len(piece.text), False
        elif piece.counted and not free:
            count = _COUNT.match(text, at)
            if count is None:
                free = True
            else:
                said, at = said + count[0], count.end()
        else:
            free = True
    if at < len(text) and not free:
        return None
    return said + (LEFT_OUT if free else "")


@lru_cache(maxsize=256)
def _ways(code: CodeType, at: int) -> tuple[tuple[_Piece, ...], ...]:
    """The ways in which the first argument of the call at this place of our sources can come out; none if unknown."""
    line, end_line, column, end_column = next(
        places for number, places in enumerate(code.co_positions()) if number == at // 2
    )
    source = "".join(linecache.getlines(code.co_filename))
    if not source or line is None:
        return ()
    for node in ast.walk(tree := ast.parse(source)):
        if isinstance(node, ast.Call) and node.args:
            place = (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)
            if place == (line, end_line, column, end_column):
                names = _assigned_once(tree, node)
                module = next((m for m in list(sys.modules.values()) if _file(m) == code.co_filename), None)
                found = _pieces(node.args[0], names, module, _DEEPEST)
                return tuple(tuple(_joined(way)) for way in found)
    return ()


def _file(module: Any) -> str | None:
    return getattr(module, "__file__", None) if getattr(module, "__name__", "").startswith("tacit") else None


def _assigned_once(tree: ast.Module, call: ast.Call) -> dict[str, ast.expr]:
    """The values of names that the function around a call sets exactly once."""
    around: ast.AST | None = None
    for node in ast.walk(tree):  # from outside in: the last one is the innermost
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(inner is call for inner in ast.walk(node)):
            around = node
    if around is None:
        return {}
    stored = [n.id for n in ast.walk(around) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    arguments = {n.arg for n in ast.walk(around) if isinstance(n, ast.arg)}
    return {
        node.targets[0].id: node.value
        for node in ast.walk(around)
        if isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
        and stored.count(node.targets[0].id) == 1
        and node.targets[0].id not in arguments
    }


Way = tuple[_Piece, ...]
_ANYTHING: list[Way] = [(_Piece(),)]


def _pieces(node: ast.expr, names: dict[str, ast.expr], module: Any, deep: int) -> list[Way]:
    """The ways in which an expression can come out as text."""

    def of(inner: ast.expr) -> list[Way]:
        return _pieces(inner, names, module, deep)

    if isinstance(node, ast.Constant):
        return [(_Piece(str(node.value)),)] if node.value not in ("", None) else [()]
    if isinstance(node, ast.JoinedStr):
        return _product([of(value) for value in node.values])
    if isinstance(node, ast.FormattedValue):
        spec = node.format_spec
        if isinstance(spec, ast.JoinedStr):
            how = "".join(str(part.value) for part in spec.values if isinstance(part, ast.Constant))
            return [(_Piece(counted=True),)] if how in _COUNTED else _ANYTHING
        return of(node.value) if node.conversion == -1 else _ANYTHING
    if isinstance(node, ast.IfExp):
        return [*of(node.body), *of(node.orelse)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _product([of(node.left), of(node.right)])
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and isinstance(node.left, ast.Constant):
        return [*of(node.left), ()]  # 's' * (n != 1)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len":
        return [(_Piece(counted=True),)]
    if isinstance(node, ast.Name) and node.id in names and deep:
        return _pieces(names[node.id], {n: v for n, v in names.items() if n != node.id}, module, deep - 1)
    known = _constant(node, module)
    return _ANYTHING if known is None else [(_Piece(known),)]


def _constant(node: ast.expr, module: Any) -> str | None:
    """The text of one of our own constants, such as LONGEST, or of several with commas between them."""
    if isinstance(node, ast.Name) and re.fullmatch(r"_?[A-Z][A-Z0-9_]*", node.id):
        value = getattr(module, node.id, None)
        return str(value) if isinstance(value, str | int | float) else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join" and node.args:
        between, of = node.func.value, node.args[0]
        if isinstance(between, ast.Constant) and isinstance(of, ast.Name) and of.id.isupper():
            value = getattr(module, of.id, None)
            if isinstance(value, tuple | list | dict) and all(isinstance(each, str) for each in value):
                return str(between.value).join(value)
    return None


def _product(parts: Sequence[Sequence[Way]]) -> list[Way]:
    """Every way of one after the other; beyond too many, what is not always alike is anything."""
    ways = 1
    plain: list[Sequence[Way]] = []
    for part in parts:
        ways *= len(part)
        plain.append(part if ways <= _MOST_WAYS else _ANYTHING)
    return [tuple(piece for way in chosen for piece in way) for chosen in product(*plain)]


def _joined(way: Way) -> Iterator[_Piece]:
    """With neighbouring texts as one."""
    text = ""
    for piece in way:
        if piece.text:
            text += piece.text
            continue
        if text:
            yield _Piece(text)
        text = ""
        yield piece
    if text:
        yield _Piece(text)
