"""The shape of data as an encoder sees it. No torch here: data, encoders and commands share it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeAlias, TypeVar

if TYPE_CHECKING:
    from tacit.core.encoder import OwnEncoder

LONGEST = 1 << 24  # tokens or events at once that a file may declare: more would exhaust memory or time
MANY = 1 << 10  # numbers of a list
E = TypeVar("E", bound="OwnEncoder")
E_co = TypeVar("E_co", bound="OwnEncoder", covariant=True)

FIRST = 2  # in the `tokens` of a batch, item i of a catalogue is FIRST + i; 0 is padding, 1 the mask


@dataclass(frozen=True)
class SpecOf(Generic[E_co]):
    """The shape of the data as an encoder `E_co` of a modality sees it; every modality has its own.

    `dataclasses.asdict` gives its JSON form, `of` reads it back.
    """

    kind: ClassVar[str]  # the modality's name

    @property
    def parts(self) -> Mapping[str, Spec]:
        """The specs of the modalities that an example is made of; empty where it is of one alone."""
        return {}

    @property
    def short(self) -> str:
        """A short form for people, where it stands for a setting."""
        return "the encoder's own"

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        raise NotImplementedError(cls)


Spec: TypeAlias = "SpecOf[OwnEncoder]"

# ---------------------------------------------------------------- numbers from an untrusted file


def whole(values: Mapping[str, Any], name: str, most: int) -> int:
    """Read a count. ValueError for any other value, or one above `most`."""
    value = values[name]
    if type(value) is not int or not 0 < value <= most:
        raise ValueError(f"{name} is {value!r:.40}, where 1 to {most:,} can be")
    return value


def number(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(float(value)):
        raise ValueError(f"{name} is {value!r:.40}, where a number must be")
    return float(value)


def numbers(values: Mapping[str, Any], name: str) -> tuple[float, ...]:
    found: Sequence[Any] = values[name]
    if not isinstance(found, list | tuple) or len(found) > MANY:
        raise ValueError(f"{name} is {found!r:.40}")
    return tuple(number(value, name) for value in found)
