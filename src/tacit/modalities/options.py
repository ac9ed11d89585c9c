"""What a modality's options are: the settings of `open_dataset` that mean something to its data alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from tacit.core.options import Options


@dataclass(frozen=True, kw_only=True)
class ModalityOptions(Options):
    """Settings of one modality."""

    # Lists of its own settings:
    columns: ClassVar[tuple[str, ...]] = ()  # that name a column of its content, and so claim a table
    kept_with: ClassVar[tuple[str, ...]] = ()  # by which later data of the same columns are read too
    kept: ClassVar[tuple[str, ...]] = ()  # by which later data are read too, and which no spec holds
    of_labels: ClassVar[tuple[str, ...]] = ()  # that choose which part of an example a label describes
    of_learning: ClassVar[tuple[str, ...]] = ()  # that choose the data to learn from, and leave later data alone
    paths: ClassVar[tuple[str, ...]] = ()  # that may hold paths of other files
    together: ClassVar[tuple[str, ...]] = ()  # of how much is processed at once: another run may take more
    # Of a setting that all modalities share, the values by which it belongs to this one.
    own_words: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        own = super().of(settings)
        others = [name for name, words in cls.own_words.items() if settings.get(name) not in words]
        return replace(own, **dict.fromkeys(others)) if others else own

    def over(self, others: Mapping[str, ModalityOptions]) -> ModalityOptions:
        """These options with those of all modalities, where examples are made of those of several."""
        return self

    def as_captions(self) -> ModalityOptions:
        """These options where examples describe those of another modality."""
        return self

    def accepted(self) -> frozenset[str]:
        """The settings that mean something to data of this modality."""
        return frozenset(self.names())

    def named(self) -> str:
        """The setting that claims the data for this modality, as on the command line; empty for none."""
        return next((flag(name, getattr(self, name)) for name in self.columns if getattr(self, name)), "")

    def settled(self, before: Mapping[str, Any], names: Collection[str]) -> tuple[Self, list[str]]:
        """These options with the columns of earlier data where none are named, and the columns missing from `names`."""
        lost: list[str] = []
        found: dict[str, Any] = {}
        for name in self.names():
            if name.endswith("_column") and not getattr(self, name) and before.get(name):
                columns = [before[name]] if isinstance(before[name], str) else list(before[name])
                missing = [column for column in columns if column not in names]
                lost += missing
                if not missing:
                    found[name] = before[name]
        return replace(self, **found), lost


def flag(name: str, value: Any) -> str:
    """A setting as it is written on the command line."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return f"--{name.replace('_', '-')} {text}"
