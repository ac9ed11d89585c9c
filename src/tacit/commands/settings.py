"""What a command was asked for, as the functions behind it take it."""

from __future__ import annotations

from typing import Any


def settings(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a command but for its data and how they are read."""
    return {name: value for name, value in arguments.items() if name not in {"data", "options"}}
