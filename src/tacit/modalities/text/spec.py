"""Text as an encoder sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tacit.core.spec import LONGEST, SpecOf, whole

if TYPE_CHECKING:
    from tacit.modalities.text.encoder import TextEncoder  # noqa: F401  (the base class names it)


@dataclass(frozen=True)
class TextSpec(SpecOf["TextEncoder"]):
    """Text as an encoder sees it: numbers of `tokenizer`, at most `length` of them at once, the special ones included.

    A document is [CLS] tokens [SEP], cut every `length` numbers; `tokenizer` is the JSON of Hugging Face's tokenizers.
    `vocabulary` numbers can be embedded, perhaps more than the tokenizer has. A special token that a tokenizer does not
    have is -1; `specials` are all numbers that are not text, padding and mask among them.
    """

    kind: ClassVar[str] = "text"

    tokenizer: str
    length: int
    vocabulary: int
    pad: int
    cls: int
    sep: int
    mask: int
    unknown: int
    specials: tuple[int, ...]

    def __post_init__(self) -> None:
        assert self.length > 2, self.length
        assert 0 <= self.pad < self.vocabulary, (self.pad, self.vocabulary)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TextSpec:
        named = ("length", "vocabulary", "pad", "cls", "sep", "mask", "unknown")
        numbers = {name: int(values[name]) for name in named}
        whole(numbers, "length", LONGEST)
        return cls(str(values["tokenizer"]), specials=tuple(int(n) for n in values["specials"]), **numbers)
