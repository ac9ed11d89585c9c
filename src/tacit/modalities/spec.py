"""The shape of data as an encoder sees it, one class per kind. No torch here: data, encoders and commands share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tacit.modalities.events.catalogue import Catalogue
from tacit.modalities.image.decode import Scale
from tacit.modalities.image.framing import Framing


@dataclass(frozen=True)
class ImageSpec:
    """Square images of `size` px; `mean` and `std` are per channel, of pixel values in [0, 1].

    `alignment` is the variance over places of the data's mean image, as a share of the mean variance inside an image:
    how much alike the images are laid out. Scans, glyphs, portraits and products have 0.3 and more, photos of scenes
    hardly anything. What a crop may cut away depends on it. `framing` says how a picture becomes the square, where an
    encoder that others have trained wants another way than Tacit's: the whole, resized.

    `dataclasses.asdict` gives its JSON form, `ImageSpec.of` reads it back.
    """

    kind: ClassVar[str] = "image"

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    alignment: float = 0.0
    framing: Framing | None = None
    scale: Scale | None = None  # what was black and white in the data's own numbers; None where nobody knows

    def __post_init__(self) -> None:
        assert min(self.size, self.channels) > 0, self
        assert len(self.mean) == len(self.std) == self.channels, self
        assert all(value > 0 for value in self.std), self

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ImageSpec:
        return cls(
            size=int(values["size"]),
            channels=int(values["channels"]),
            mean=tuple(float(value) for value in values["mean"]),
            std=tuple(float(value) for value in values["std"]),
            alignment=float(values.get("alignment", 0.0)),
            framing=framing_of(values.get("framing")),
            scale=None if values.get("scale") is None else Scale(*values["scale"]),
        )


def framing_of(values: Any) -> Framing | None:
    """A framing from its JSON form."""
    return None if values is None else Framing(int(values[0]), bool(values[1]), int(values[2]))


@dataclass(frozen=True)
class TextSpec:
    """Text as an encoder sees it: numbers of `tokenizer`, at most `length` of them at once, the special ones included.

    A document is [CLS] tokens [SEP], cut every `length` numbers; `tokenizer` is the JSON of Hugging Face's tokenizers.
    `vocabulary` numbers can be embedded, which may be more than the tokenizer knows. A special token that a tokenizer
    does not have is -1; `specials` are all that are no part of a text, padding and mask among them.
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
        return cls(str(values["tokenizer"]), specials=tuple(int(n) for n in values["specials"]), **numbers)


@dataclass(frozen=True)
class AudioSpec:
    """Sound as an encoder sees it: one channel of `rate` samples per second, as log-mel frames.

    A frame is `window` samples, the next one `hop` samples later; `mels` bands from `low` to `high` Hz. An encoder sees
    at most `seconds` at once. `mean` and `std` are those of the data's log-mel values. `channels` says what the one
    channel is of a recording of several: mix (their mean), left, right, or separate, each an example of its own.
    """

    kind: ClassVar[str] = "audio"

    rate: int  # Hz
    seconds: float
    window: int  # samples
    hop: int  # samples
    mels: int
    low: float  # Hz
    high: float  # Hz
    mean: float
    std: float
    channels: str | None = None  # None where nobody has said

    def __post_init__(self) -> None:
        assert 0 < self.hop <= self.window, self
        assert self.mels > 0, self
        assert 0 <= self.low < self.high <= self.rate / 2, self
        assert self.seconds > 0, self
        assert self.std > 0, self

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> AudioSpec:
        whole = {name: int(values[name]) for name in ("rate", "window", "hop", "mels")}
        parts = {name: float(values[name]) for name in ("seconds", "low", "high", "mean", "std")}
        return cls(**{**whole, **parts}, channels=values.get("channels"))  # type: ignore[arg-type]


@dataclass(frozen=True)
class ItemSpec:
    """A history of events as an encoder sees it: the numbers of `items` items, at most `length` events at once.

    0 is padding, 1 hides an item, and item i of the `catalogue` is i + 2, so that a catalogue can grow at its end.
    `uses` is how many events the data have of an item, on average: how much can be learned of each.
    """

    kind: ClassVar[str] = "items"
    pad: ClassVar[int] = 0
    mask: ClassVar[int] = 1
    first: ClassVar[int] = 2

    items: int
    length: int = 50
    catalogue: Catalogue | None = None  # None where the items are known by their numbers alone
    uses: float = 0.0  # 0 where it is not known

    def __post_init__(self) -> None:
        assert self.items > 0, self.items
        assert self.length > 1, self.length
        assert self.catalogue is None or len(self.catalogue) == self.items, (len(self.catalogue), self.items)

    @property
    def vocabulary(self) -> int:
        """Numbers that can be embedded."""
        return self.first + self.items

    @property
    def known(self) -> Catalogue:
        return Catalogue.of_numbers(self.items) if self.catalogue is None else self.catalogue

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ItemSpec:
        uses = float(values.get("uses", 0.0))
        return cls(int(values["items"]), int(values["length"]), values.get("catalogue"), uses)


Spec = ImageSpec | TextSpec | AudioSpec | ItemSpec
SPECS: Mapping[str, type[ImageSpec | TextSpec | AudioSpec | ItemSpec]] = {
    spec.kind: spec for spec in (ImageSpec, TextSpec, AudioSpec, ItemSpec)
}


def spec_of(kind: str, values: Mapping[str, Any]) -> Spec:
    """The spec of this kind from its JSON form."""
    return SPECS[kind].of(values)
