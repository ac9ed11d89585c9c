"""The ingredients of pretext tasks. A modality has a task if it has all ingredients that the task needs.

A modality derives from `Ingredients` and overrides those that it has. Each ingredient is made when a task takes it,
so that no task pays for those of another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from torch import Tensor

from tacit.core.masks import MaskSchedule
from tacit.core.types import Batch, Encoder, ViewMaker

if TYPE_CHECKING:
    from tacit.tasks.masked import Masked

MaskMaker = Callable[[Batch, Tensor], Tensor]
"""Draws which tokens are hidden: (view, progress of the training in [0, 1]) -> [B N] bool."""

Turns = Mapping[str, Callable[[Batch], Batch]]
"""Distinguishable transformations, by the names that a report shows; the first is the identity."""

E_co = TypeVar("E_co", bound=Encoder, covariant=True)


class Target(NamedTuple):
    """The prediction target of every token, with its decoder and loss.

    `of(batch)` is float [B N P], or identities [B N]; `width` is P, or how many identities there are. `decoder` answers
    from states [M D] in place of a new linear layer. `loss` compares states [M D] and truth, [M P] or [M], itself (a
    sampled softmax) and returns [M]; nothing is decoded then. `picture` turns predicted tokens [B N P] and their batch
    into images [B C H W] or frames [B T M], for the report.
    """

    of: Callable[[Batch], Tensor]
    width: int
    decoder: Callable[[Tensor], Tensor] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    picture: Callable[[Tensor, Batch], Tensor] | None = None


class Books(NamedTuple):
    """The shape of a product quantiser: a code from each of `number` books of `codes`."""

    number: int
    codes: int


class Vocabulary(NamedTuple):
    """The identities of tokens: how many there are, and the most tokens of an example."""

    size: int
    longest: int


class Pieces(NamedTuple):
    """The pieces of an example: how many, and `put(batch, order [B P])`, which puts piece order[:, p] in place p."""

    number: int
    put: Callable[[Batch, Tensor], Batch]


class Colours(NamedTuple):
    """What an example loses in grey: `without(batch)` removes it, `of(batch)` is it, of every token [B N P]."""

    width: int  # P
    without: Callable[[Batch], Batch]
    of: Callable[[Batch], Tensor]


@dataclass(frozen=True)
class Ingredients(Generic[E_co]):
    """A modality's ingredients for one encoder and `task`, since the best ones may differ between tasks.

    `hiding` is the user's own mask schedule. A task's `needs` refer to the names of the methods below.
    """

    encoder: E_co
    task: str = ""
    hiding: MaskSchedule | None = None

    def views(self) -> ViewMaker:
        """Strongly augmented views of an example, for contrast."""
        raise NotImplementedError

    def sides(self) -> Mapping[str, ViewMaker]:
        """A weakly augmented example of each side of a pair, by the name of the side."""
        raise NotImplementedError

    def parts(self) -> ViewMaker:
        """Strongly augmented views of a small part of an example."""
        raise NotImplementedError

    def noisy(self) -> ViewMaker:
        """An example with most of its tokens left out."""
        raise NotImplementedError

    def dropout(self) -> ViewMaker:
        """The unchanged example, for an encoder whose own dropout makes two views of it."""
        raise NotImplementedError

    def whole(self) -> ViewMaker:
        """A weakly augmented example, for tasks that predict its content."""
        raise NotImplementedError

    def masks(self) -> MaskMaker:
        """The mask maker: which tokens to hide."""
        raise NotImplementedError

    def blocks(self) -> MaskMaker:
        """The mask maker of large blocks: as many tokens in every row."""
        raise NotImplementedError

    def corrupt(self) -> Callable[[Batch, Tensor], Batch]:
        """Hides the tokens under a mask in the batch itself, for encoders without a mask token of their own."""
        raise NotImplementedError

    def target(self) -> Target:
        """The content of a token: pixels, frames, words, items."""
        raise NotImplementedError

    def codes(self) -> Target:
        """Codes of tokens by a random, untrained quantiser."""
        raise NotImplementedError

    def vocabulary(self) -> Vocabulary:
        """The identities of tokens."""
        raise NotImplementedError

    def attributes(self) -> Target:
        """The attributes of a token beside its identity."""
        raise NotImplementedError

    def ahead(self) -> int:
        """How many tokens ahead to predict, in a sequence."""
        raise NotImplementedError

    def turns(self) -> Turns:
        """Transformations of an example that the task distinguishes."""
        raise NotImplementedError

    def slabs(self) -> Turns:
        """Parts of an example that the task tells apart; the first is no identity here."""
        raise NotImplementedError

    def pieces(self) -> Pieces:
        """The pieces of an example that can be put in another order."""
        raise NotImplementedError

    def colours(self) -> Colours:
        """The colours of an example."""
        raise NotImplementedError

    def quantiser(self) -> Books:
        """The shape of the quantiser of an encoder's latents."""
        raise NotImplementedError

    def generator(self) -> Masked:
        """Masked prediction on a smaller encoder, whose predictions replace tokens."""
        raise NotImplementedError

    @classmethod
    def offered(cls) -> frozenset[str]:
        """The ingredients that this modality has."""
        return frozenset(name for name in NAMES if getattr(cls, name) is not getattr(Ingredients, name))

    def take(self, name: str) -> Any:
        """The ingredient of this name."""
        return getattr(self, name)()


NAMES = frozenset(
    name for name, method in vars(Ingredients).items() if callable(method) and not name.startswith("_")
) - {"offered", "take"}
