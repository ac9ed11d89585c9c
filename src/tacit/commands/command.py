"""Wrap commands: settings become one value, errors one line; nothing private is shown."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from tacit.core.errors import clear_ends
from tacit.core.offline import offline
from tacit.core.options import takes
from tacit.core.wording import discreet

P = ParamSpec("P")
S = TypeVar("S")
R = TypeVar("R")
S_contra = TypeVar("S_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Wrap a command: no connections if `offline`, and errors in our own words alone if `private`.

    Errors of the operating system, such as a missing permission, become one line. The folder of a private run stays
    private for every later command.
    """
    signature = inspect.signature(command)

    @functools.wraps(command)
    def within(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs).arguments
        settings = given.get("settings")
        with discreet(_is_private(given)), offline(bool(given.get("offline", getattr(settings, "offline", False)))):
            return clear_ends(command)(*args, **kwargs)

    return within


class OnData(Protocol[S_contra, R_co]):
    """A command whose data are optional."""

    def __call__(self, encoder: Any, data: Any = None, *, settings: S_contra) -> R_co: ...


class OnDataWith(Protocol[P, R_co]):
    """The same with keyword arguments."""

    def __call__(self, encoder: Any, data: Any = None, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class command(Generic[P, S]):  # noqa: N801  (a decorator)
    """Guard a command that takes `settings` as one value, and give it their fields as keyword arguments."""

    def __init__(self, settings: Callable[P, S]) -> None:
        self.settings: Any = settings

    @overload
    def __call__(self, body: OnData[S, R]) -> OnDataWith[P, R]: ...

    @overload
    def __call__(self, body: Callable[[Any, S], R]) -> Callable[Concatenate[Any, P], R]: ...

    @overload
    def __call__(self, body: Callable[[Any, Any, S], R]) -> Callable[Concatenate[Any, Any, P], R]: ...

    def __call__(self, body: Any) -> Any:
        return takes(self.settings)(guarded(body))


def _is_private(given: Mapping[str, Any]) -> bool:
    from tacit.experiment.folder import was_private

    if given.get("private", getattr(given.get("settings"), "private", False)):
        return True
    run = given.get("run", given.get("encoder"))
    return isinstance(run, str | Path) and was_private(Path(run))
