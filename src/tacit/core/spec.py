"""The shape of data as an encoder sees it. No torch here: data, encoders and commands share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeAlias, TypeVar

if TYPE_CHECKING:
    from tacit.core.encoder import OwnEncoder

E = TypeVar("E", bound="OwnEncoder")
E_co = TypeVar("E_co", bound="OwnEncoder", covariant=True)


@dataclass(frozen=True)
class SpecOf(Generic[E_co]):
    """What an encoder of a modality, an `E_co`, knows of its data; every modality has its own.

    `dataclasses.asdict` gives its JSON form, `of` reads it back.
    """

    kind: ClassVar[str]  # the modality's name

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        raise NotImplementedError(cls)


Spec: TypeAlias = "SpecOf[OwnEncoder]"
