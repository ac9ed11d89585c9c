"""Settings as frozen dataclasses: their fields are flags and keyword arguments, `Args` in a docstring is the help."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, make_dataclass
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Generic,
    NamedTuple,
    ParamSpec,
    Self,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from tacit.core.errors import UserError, nearest

P = ParamSpec("P")
S = TypeVar("S")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of one concern; every field has a default that means "not set"."""

    group: ClassVar[str] = "data"  # the heading of its flags in help

    def check(self) -> None:
        """UserError where a value makes no sense, whatever the data are."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Take the settings that are fields of this class."""
        return cls(**{name: settings[name] for name in cls.names() if name in settings})

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(of.name for of in fields(cls))

    def given(self) -> dict[str, Any]:
        """The settings that differ from their defaults."""
        values = {of.name: (getattr(self, of.name), of.default) for of in fields(self)}
        return {name: value for name, (value, default) in values.items() if not _same(value, default)}


PYTHON_ONLY = {"flag": False}  # metadata of a field that has no flag


def is_flag(of: Field[Any]) -> bool:
    return bool(of.metadata.get("flag", True))


def helps(of: Any) -> dict[str, str]:
    """The help of each setting, from the `Args` in the docstring of a class or function."""
    return helps_of(inspect.cleandoc(of.__doc__ or ""))


def helps_of(doc: str) -> dict[str, str]:
    """The help of each setting in one line, from the `Args` of a docstring."""
    args = doc.partition("\nArgs:\n")[2]
    found = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", args, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


class Setting(NamedTuple):
    """A keyword argument and its flag."""

    type: Any
    default: Any  # `...` where it must be given
    help: str
    group: str
    flag: bool  # False: only Python can give it


_JOINED = "setting"  # metadata of a field that `joined` has made: its help from several classes


def keywords(*several: type[Any]) -> dict[str, Setting]:
    """The settings of these classes by name; the help of a shared one says what it means to each class.

    An inherited field has the help and the group of the class that defines it.
    """
    found: dict[str, Setting] = {}
    for of in several:
        hints = get_type_hints(of)
        for one in fields(of):
            setting = one.metadata.get(_JOINED) or _setting(of, one, hints[one.name])
            before = found.get(one.name)
            found[one.name] = before._replace(help=f"{before.help}. {setting.help}") if before else setting
    return found


def _setting(of: type[Any], one: Field[Any], hint: Any) -> Setting:
    home: Any = next(base for base in of.__mro__ if one.name in inspect.get_annotations(base))
    default = ... if one.default is MISSING else one.default
    return Setting(hint, default, helps(home)[one.name], home.group, is_flag(one))


def joined(name: str, *several: type[Options], without: Collection[str] = ()) -> type[Options]:
    """A class of all settings of these classes, each once."""
    made = [
        (of, setting.type, field(default=setting.default, metadata={_JOINED: setting, "flag": setting.flag}))
        for of, setting in keywords(*several).items()
        if of not in without
    ]
    return make_dataclass(name, made, bases=(Options,), frozen=True, kw_only=True)


class takes(Generic[P, S]):  # noqa: N801  (a decorator)
    """Give a function that takes one `settings` value the fields of its class as keyword arguments.

    They appear in its signature, so that editors complete them, and in its help.
    """

    def __init__(self, settings: Callable[P, S]) -> None:
        self.settings: Any = settings

    @overload
    def __call__(self, body: Callable[[Any, S], R]) -> Callable[Concatenate[Any, P], R]: ...

    @overload
    def __call__(self, body: Callable[[Any, Any, S], R]) -> Callable[Concatenate[Any, Any, P], R]: ...

    def __call__(self, body: Any) -> Any:
        own = [p for p in inspect.signature(body).parameters.values() if p.name != "settings"]
        known = keywords(self.settings)
        lists = {name for name, of in known.items() if _takes_lists_alone(of.type)}

        @functools.wraps(body)
        def called(*args: Any, **given: Any) -> Any:
            beside = {p.name: given.pop(p.name) for p in own if p.name in given}
            for name in given:
                if name not in known:
                    raise UserError(f"{body.__name__} takes no {name}{nearest(name, known)}")
                if name in lists and isinstance(given[name], str):  # one, and not its letters
                    given[name] = [given[name]]
            return body(*args, **beside, settings=self.settings(**given))

        keyword, empty = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty
        more = [
            inspect.Parameter(name, keyword, default=empty if of.default is ... else of.default, annotation=of.type)
            for name, of in known.items()
        ]
        head = inspect.cleandoc(body.__doc__ or "").partition("\nArgs:\n")[0]
        texts = {**{name: of.help for name, of in known.items()}, **helps(body)}
        lines = [f"    {name}: {texts[name]}" for name in (*(p.name for p in own), *known)]
        called.__doc__ = "\n".join([head, "Args:", *lines])
        called.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
        return called


def _takes_lists_alone(hint: Any) -> bool:
    members = {hint, *get_args(hint)}
    return str not in members and any(get_origin(one) in (list, Sequence) for one in members)


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, tuple | list) and isinstance(default, tuple | list):
        return list(value) == list(default)
    return bool(value is default or (type(value) in (str, int, float, bool, tuple, list) and value == default))
