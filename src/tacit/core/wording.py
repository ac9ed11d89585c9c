"""Reduce messages to our own words: under `--private` only these are shown.

An error names the file, the row, the class that it is about, and so it should. Under `--private` nothing of the data
may be named, and no list of secret words can promise that. But words from our own sources name nobody. So the message
is matched against the call that made it: the literal texts there, numbers that are formatted as counts, and our own
constants are kept, and `***` replaces everything else.
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
_COUNTED = {",", ",d", "d", ".0f", ".1f", ".2f", ".0%", ".1%"}  # formats of counts, sizes and shares
_MOST_WAYS = 64  # variants of a message with conditions in it
_DEEPEST = 4  # names that refer to other names


class Ours(str):
    """A text that names nothing of the data, as its author asserts: shown unchanged under `--private`."""


class _Piece(NamedTuple):
    """A part of a message: our text, a count, or (both empty) anything."""

    text: str = ""
    counted: bool = False


@contextmanager
def discreet(private: bool = True) -> Iterator[None]:
    """If `private`, reduce errors, warnings and libraries' log lines that leave this block to our own words."""
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
    """A foreign error by its type and place."""
    trace, where = error.__traceback__, ""
    while trace is not None:
        where = f"{_module(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {where}; --private leaves out what it says: to read it, run this without it"


def _module(file: str) -> str:
    """A source file without the folders above its package, which may contain a person's name."""
    parts = Path(file).parts
    packages = [place for place, part in enumerate(parts) if part in ("site-packages", "tacit")]
    return "/".join(parts[packages[-1] :]) if packages else parts[-1]


def private_form(error: UserError | RunFailed) -> str:
    """The message of an error reduced to our own words and counts."""
    if error.args and isinstance(error.args[0], Ours):
        return error.args[0]
    if isinstance(cause := error.__cause__, OSError) and cause.errno and isinstance(error, UserError):
        return f"{LEFT_OUT}: {os.strerror(cause.errno)}{remedy_of(cause)} ({LEFT_OUT} is left out under --private)"
    text = str(error)
    code, at = error.raised_at or (None, 0)
    kept = None if code is None else _ours(text, _ways(code, at))
    if kept is None or not kept.replace(LEFT_OUT, "").strip(" :;,.()'\"-"):
        where = "" if code is None else f" (raised at {_module(code.co_filename)})"
        return f"what is wrong is left out under --private{where}: to read it, run this without it"
    return kept + (f" ({LEFT_OUT} is left out under --private)" if LEFT_OUT in kept else "")


def private_text(text: str, raised_at: tuple[CodeType, int]) -> str:
    """A text as it may be shown, by the call at `raised_at`: `Ours` unchanged, else our own words alone."""
    if isinstance(text, Ours):
        return text
    kept = _ours(text, _ways(*raised_at))
    return LEFT_OUT if kept is None else kept


def _ours(text: str, ways: Sequence[Sequence[_Piece]]) -> str | None:
    """Our part of the text by the first variant that matches, None where none does."""
    for way in ways:
        kept = _laid_beside(text, way)
        if kept is not None:
            return kept
    return None


def _laid_beside(text: str, way: Sequence[_Piece]) -> str | None:
    """Our words and counts in `text`, matched from left to right; None where the variant does not match."""
    kept, at, free = "", 0, False  # free: anything may stand here
    for number, piece in enumerate(way):
        if piece.text:
            last = number == len(way) - 1
            found = text.rfind(piece.text) if last and free else text.find(piece.text, at)
            if found < at or (found != at and not free) or (last and found + len(piece.text) != len(text)):
                return None
            kept, at, free = kept + (LEFT_OUT if free else "") + piece.text, found + len(piece.text), False
        elif piece.counted and not free:
            count = _COUNT.match(text, at)
            if count is None:
                free = True
            else:
                kept, at = kept + count[0], count.end()
        else:
            free = True
    if at < len(text) and not free:
        return None
    return kept + (LEFT_OUT if free else "")


@lru_cache(maxsize=256)
def _ways(code: CodeType, at: int) -> tuple[tuple[_Piece, ...], ...]:
    """The variants of the first argument of the call at this place in our sources; none if unknown."""
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
    """The values of names that are assigned exactly once in the function around a call."""
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
    """The variants of the text of an expression."""

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
    """The text of one of our own constants, such as LONGEST, or of several joined by commas."""
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
    """All combinations of the parts' variants; beyond `_MOST_WAYS`, parts that vary become anything."""
    ways = 1
    plain: list[Sequence[Way]] = []
    for part in parts:
        ways *= len(part)
        plain.append(part if ways <= _MOST_WAYS else _ANYTHING)
    return [tuple(piece for way in chosen for piece in way) for chosen in product(*plain)]


def _joined(way: Way) -> Iterator[_Piece]:
    """Merge neighbouring texts."""
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
