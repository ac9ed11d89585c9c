"""The spec of histories of events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tacit.core.spec import LONGEST, SpecOf, number, whole
from tacit.modalities.events.catalogue import Catalogue

if TYPE_CHECKING:
    from tacit.modalities.events.encoder import ItemEncoder  # noqa: F401  (the base class names it)


@dataclass(frozen=True)
class ItemSpec(SpecOf["ItemEncoder"]):
    """Histories of events as an encoder sees them: numbers of `items` items, at most `length` events at once.

    0 is padding, 1 is the mask, and item i of the `catalogue` is i + 2, so that a catalogue can grow at its end. `uses`
    is the mean number of events per item in the data.
    """

    kind: ClassVar[str] = "items"
    pad: ClassVar[int] = 0
    mask: ClassVar[int] = 1
    first: ClassVar[int] = 2

    items: int
    length: int = 50
    catalogue: Catalogue | None = None  # None where items have numbers only
    uses: float = 0.0  # 0 where unknown

    def __post_init__(self) -> None:
        assert self.items > 0, self.items
        assert self.length > 1, self.length
        assert self.catalogue is None or len(self.catalogue) == self.items, (len(self.catalogue), self.items)

    @property
    def vocabulary(self) -> int:
        """Size of the embedding table."""
        return self.first + self.items

    @property
    def known(self) -> Catalogue:
        return Catalogue.of_numbers(self.items) if self.catalogue is None else self.catalogue

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ItemSpec:
        uses = number(values.get("uses", 0.0), "uses")
        return cls(int(values["items"]), whole(values, "length", LONGEST), values.get("catalogue"), uses)
