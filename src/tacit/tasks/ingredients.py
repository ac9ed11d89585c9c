"""What pretext tasks are made of. A modality has a task where it has all that the task needs.

A modality derives from `Ingredients` and overrides what it has. Each ingredient is made when a task asks for it, so
that no task pays for those of another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from torch import Tensor

from tacit.core.masks import Hiding
from tacit.core.types import Batch, Encoder, ViewMaker

if TYPE_CHECKING:
    from tacit.tasks.masked import Masked

MaskMaker = Callable[[Batch, Tensor], Tensor]
"""Draws which tokens are hidden: what is seen, and the progress of the training in [0, 1] -> [B N] bool."""

Turns = Mapping[str, Callable[[Batch], Batch]]
"""Transformations that can be told apart, by the names that a report shows; the first leaves an example as it is."""

E_co = TypeVar("E_co", bound=Encoder, covariant=True)


class Target(NamedTuple):
    """What is predicted of every token, and how an answer is made and judged.

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


@dataclass(frozen=True)
class Ingredients(Generic[E_co]):
    """What a modality gives for one encoder; for `task`, of which something else may have been measured to train well.

    `hiding` is a person's own mask schedule. The names of the methods below are what a task's `needs` speak of.
    """

    encoder: E_co
    task: str = ""
    hiding: Hiding | None = None

    def views(self) -> ViewMaker:
        """Views that differ much and still are of the same example, to be compared."""
        raise NotImplementedError

    def dropout(self) -> ViewMaker:
        """The example as it is, for an encoder whose own dropout makes two views of it."""
        raise NotImplementedError

    def whole(self) -> ViewMaker:
        """The example varied little, since the task reads what is in it."""
        raise NotImplementedError

    def masks(self) -> MaskMaker:
        """Which tokens to hide."""
        raise NotImplementedError

    def corrupt(self) -> Callable[[Batch, Tensor], Batch]:
        """Hides the tokens under a mask in the batch itself, for encoders without a mask token of their own."""
        raise NotImplementedError

    def target(self) -> Target:
        """What a token holds: pixels, frames, words, items."""
        raise NotImplementedError

    def codes(self) -> Target:
        """Codes of tokens by a quantiser that nothing has been learned for."""
        raise NotImplementedError

    def attributes(self) -> Target:
        """What is known of a token beside its identity."""
        raise NotImplementedError

    def ahead(self) -> int:
        """How many tokens ahead lies what is predicted, where tokens come one after the other."""
        raise NotImplementedError

    def turns(self) -> Turns:
        """Transformations of an example that are told apart."""
        raise NotImplementedError

    def quantiser(self) -> Books:
        """The shape of the quantiser of an encoder's latents."""
        raise NotImplementedError

    def generator(self) -> Masked:
        """Masked prediction on a smaller encoder, whose answers are put in place of tokens."""
        raise NotImplementedError

    @classmethod
    def offered(cls) -> frozenset[str]:
        """The ingredients that this modality has."""
        return frozenset(name for name in NAMES if getattr(cls, name) is not getattr(Ingredients, name))

    def take(self, name: str) -> Any:
        """The ingredient of a name."""
        return getattr(self, name)()


NAMES = frozenset(
    name for name, method in vars(Ingredients).items() if callable(method) and not name.startswith("_")
) - {"offered", "take"}
