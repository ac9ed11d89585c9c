"""The words of a command line, and the functions that they call, before anything is imported to parse them."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

from tacit.core.plain_yaml import read_plain_yaml

SOURCE = Path(__file__).parent.parent


def values_of(words: list[str], flag: str) -> list[str]:
    """The values that a flag has on the command line."""
    pairs = pairwise([*words, ""])
    return [word.partition("=")[2] if "=" in word else after for word, after in pairs if word.partition("=")[0] == flag]


def is_private(words: list[str]) -> bool:
    """Whether --private is given here or in a file of settings, even with a value that makes no sense."""
    values = [word.partition("=")[2].lower() or "true" for word in words if word.partition("=")[0] == "--private"]
    for file in map(Path, values_of(words, "--config")):
        try:
            settings = read_plain_yaml(file)
        except (OSError, ValueError):
            continue
        values += [str(settings.get("private", False)).lower()] if isinstance(settings, dict) else []
    return any(word != "false" for word in values)


def function_at(place: str) -> ast.FunctionDef:
    """The function that "package.module:function" names, read from its file."""
    module, _, name = place.partition(":")
    file = SOURCE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
