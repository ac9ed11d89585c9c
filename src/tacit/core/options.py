"""Settings as frozen dataclasses: their fields are flags and keyword arguments, `Args` in a docstring is the help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields
from typing import Any, NamedTuple, Self, TypeVar, get_type_hints

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Options:
    """Settings of one concern; every field has a default, by which nothing is said."""

    def check(self) -> None:
        """UserError where a value makes no sense, whatever the data are."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Those of these settings that are its own."""
        return cls(**{name: settings[name] for name in cls.names() if name in settings})

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(of.name for of in fields(cls))

    def given(self) -> dict[str, Any]:
        """Those that are not as they are by default."""
        values = {of.name: (getattr(self, of.name), of.default) for of in fields(self)}
        return {name: value for name, (value, default) in values.items() if not _same(value, default)}


PYTHON_ONLY = {"flag": False}  # metadata of a field that no flag is made of


def is_flag(of: Field[Any]) -> bool:
    return bool(of.metadata.get("flag", True))


def helps(of: Any) -> dict[str, str]:
    """What the `Args` of a docstring say of each setting, in one line each."""
    said = inspect.cleandoc(of.__doc__ or "").partition("\nArgs:\n")[2]
    found = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", said, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


class Setting(NamedTuple):
    """A keyword argument, and the flag that is made of it."""

    type: Any
    default: Any
    help: str
    flag: bool  # False: only Python can give it


def keywords(*several: type[Options]) -> dict[str, Setting]:
    """The settings of these by their names; one that several have says what it means to each."""
    found: dict[str, Setting] = {}
    for of in several:
        hints, said = get_type_hints(of), helps(of)
        for one in fields(of):
            before = found.get(one.name)
            told = said[one.name] if before is None else f"{before.help}. {said[one.name]}"
            first = before or Setting(hints[one.name], one.default, told, is_flag(one))
            found[one.name] = first._replace(help=told)
    return found


def takes(*several: type[Options]) -> Callable[[F], F]:
    """Give a function that ends in `**options` the settings of these as keyword arguments, in signature and help."""

    def with_settings(function: F) -> F:
        own = inspect.signature(function)
        parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        said = helps(function)
        types = {one.name: str(one.type) for of in reversed(several) for one in fields(of)}
        for name, setting in keywords(*several).items():
            how: dict[str, Any] = {"default": setting.default, "annotation": types[name]}
            parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, **how))
            said[name] = setting.help
        head = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")[0]
        lines = [f"    {p.name}: {said[p.name]}" for p in parameters]
        function.__doc__ = "\n".join([head, "Args:", *lines])
        function.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        return function

    return with_settings


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, tuple | list) and isinstance(default, tuple | list):
        return list(value) == list(default)
    return bool(value is default or (type(value) in (str, int, float, bool, tuple, list) and value == default))
