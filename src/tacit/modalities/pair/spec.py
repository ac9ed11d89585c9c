"""The shape of pairs as an encoder sees them: the shapes of both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tacit.core.spec import Spec, SpecOf

if TYPE_CHECKING:
    from tacit.modalities.pair.encoder import Towers  # noqa: F401  (its name is a string below)


@dataclass(frozen=True)
class PairSpec(SpecOf["Towers"]):
    """The specs of two modalities by their names, that of the first side first."""

    kind: ClassVar[str] = "pair"

    sides: Mapping[str, Spec]

    @property
    def parts(self) -> Mapping[str, Spec]:
        return self.sides

    @property
    def first(self) -> str:
        """The side that labels describe, and that stands for a pair where one embedding is wanted."""
        return next(iter(self.sides))

    @property
    def second(self) -> str:
        return [*self.sides][1]

    def __hash__(self) -> int:
        return hash(tuple(self.sides.items()))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> PairSpec:
        from tacit.modalities import modality_named

        return cls({side: modality_named(side).spec.of(spec) for side, spec in values["sides"].items()})
