"""Pairs, as far as torch is not needed: two modalities side by side, each read by its own settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tacit.core.errors import UserError
from tacit.data.signs import Signs
from tacit.modalities.options import ModalityOptions

READS = "pairs"  # what an encoder of this modality reads, for messages

ENCODERS = {"towers": "tacit.modalities.pair.encoder:Towers"}

SIGNS = Signs(nouns="pairs", several=True)

TASKS = ("clip", "siglip")  # that ask for pairs by their name alone
TARGET = "matching"  # that pairs are judged by unless another one is named, with labels or without

# Usual names of columns and fields of captions, beside those that the modality of the second side knows.
CAPTIONS = (
    "captions",
    "caption",
    "texts",
    "text",
    "txt",
    "alt",
    "alt_text",
    "title",
    "name",
    "description",
    "sentence",
)


@dataclass(frozen=True, kw_only=True)
class Options(ModalityOptions):
    """How pairs are read.

    Args:
        sides: the two modalities of a pair, such as image,text or audio,text; by default those that the data show. The
            first is the one that labels describe.
    """

    group = "pairs"

    sides: str | None = None

    @property
    def named_sides(self) -> tuple[str, ...]:
        """The two modalities as named; empty where they are not."""
        return () if self.sides is None else tuple(side.strip() for side in self.sides.split(","))

    def check(self) -> None:
        named = self.named_sides
        if self.sides is not None and (len(named) != 2 or len(set(named)) != 2 or not all(named)):
            raise UserError(f"--sides {self.sides}: name two different modalities, such as image,text")

    def over(self, others: Mapping[str, ModalityOptions]) -> Sided:
        return Sided(sides=self.sides, each=dict(others))


@dataclass(frozen=True, kw_only=True)
class Sided(Options):
    """The options of pairs with those of every modality that may be a side."""

    each: Mapping[str, ModalityOptions] = field(default_factory=dict)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return Options.names()

    def accepted(self) -> frozenset[str]:
        return frozenset(self.names()).union(*(of.names() for of in self.each.values()))
