"""What a command was asked for, as the functions behind it take it; and what holds for all commands alike."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tacit.core.errors import clear_ends
from tacit.core.offline import offline
from tacit.core.wording import discreet

Given = ParamSpec("Given")
Found = TypeVar("Found")


def settings(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a command but for its data and how they are read."""
    return {name: value for name, value in arguments.items() if name not in {"data", "options", "reading"}}


def guarded(command: Callable[Given, Found]) -> Callable[Given, Found]:
    """A command that opens no connection where it is `offline`, and whose errors name nothing where it is `private`.

    What the system refuses, such as a permission, is an error of one line. What a run that was private leaves is
    private too, whatever is done with it.
    """
    signature = inspect.signature(command)

    @functools.wraps(command)
    def within(*args: Given.args, **kwargs: Given.kwargs) -> Found:
        given = signature.bind(*args, **kwargs).arguments
        with discreet(_is_private(given)), offline(bool(given.get("offline"))):
            return clear_ends(command)(*args, **kwargs)

    return within


def _is_private(given: Mapping[str, Any]) -> bool:
    from tacit.experiment.folder import was_private

    if given.get("private"):
        return True
    run = given.get("run", given.get("encoder"))
    return isinstance(run, str | Path) and was_private(Path(run))
