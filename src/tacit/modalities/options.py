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
    columns: ClassVar[tuple[str, ...]] = ()  # that name a column of its content, and so say whose a table is
    kept_with: ClassVar[tuple[str, ...]] = ()  # by which later data of the same columns are read too
    kept: ClassVar[tuple[str, ...]] = ()  # by which later data are read too, and of which no spec tells
    of_labels: ClassVar[tuple[str, ...]] = ()  # that say which part of an example a label means
    of_learning: ClassVar[tuple[str, ...]] = ()  # that say what is learned from, and nothing of what is read later
    paths: ClassVar[tuple[str, ...]] = ()  # that may lead to other files
    together: ClassVar[tuple[str, ...]] = ()  # of how much is looked at together: another training may take more
    # Values by which a setting of all modalities is its own.
    own_words: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        own = super().of(settings)
        others = [name for name, words in cls.own_words.items() if settings.get(name) not in words]
        return replace(own, **dict.fromkeys(others)) if others else own

    def named(self) -> str:
        """The setting that says that the data are of this modality, as on the command line; empty for none."""
        return next((flag(name, getattr(self, name)) for name in self.columns if getattr(self, name)), "")

    def settled(self, before: Mapping[str, Any], names: Collection[str]) -> tuple[Self, list[str]]:
        """With the columns that an earlier reading took, where no others are named; and those not among `names`."""
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
    said = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return f"--{name.replace('_', '-')} {said}"
