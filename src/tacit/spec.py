"""The shape of data as an encoder sees it, one class per kind. No torch here: data, encoders and commands share it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tacit.catalogue import Catalogue
from tacit.framing import Framing
from tacit.pixels import Scale

# What may be said in a file, which may be a stranger's: beyond these, what is made of it takes all memory or for ever.
LARGEST_SIZE, MOST_CHANNELS = 1 << 14, 1 << 10  # px, and of images
LONGEST = 1 << 24  # tokens or events that are seen at once
MOST_FRAMES, LONGEST_FRAME, MOST_MELS, MOST_SAMPLES = 1 << 18, 1 << 16, 1 << 10, 1 << 24  # of sound; samples a second


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
            size=_whole(values, "size", LARGEST_SIZE),
            channels=_whole(values, "channels", MOST_CHANNELS),
            mean=_numbers(values, "mean"),
            std=_numbers(values, "std"),
            alignment=_number(values.get("alignment", 0.0), "alignment"),
            framing=framing_of(values.get("framing")),
            scale=scale_of(values.get("scale")),
        )


def framing_of(values: Any) -> Framing | None:
    """A framing from its JSON form."""
    if values is None:
        return None
    edge, keep, filter_ = values
    if type(edge) is not int or not 0 <= edge <= LARGEST_SIZE or type(filter_) is not int or not 0 <= filter_ < 6:
        raise ValueError(f"framing is {values!r:.40}")
    return Framing(edge, bool(keep), filter_)


def scale_of(values: Any) -> Scale | None:
    """What is black and white, from its JSON form."""
    if values is None:
        return None
    numbers, *ends, bits = values if len(values) == 4 else (*values, 16)  # which an older Tacit did not say
    low, high = (_number(end, "scale") for end in ends)
    if numbers not in ("uint8", "uint16", "int", "float") or not low < high or bits not in (8, 16):
        raise ValueError(f"scale is {values!r:.40}")
    return Scale(numbers, low, high, bits)


def _whole(values: Mapping[str, Any], name: str, most: int) -> int:
    """A count. ValueError for what is none, or more than there can be."""
    value = values[name]
    if type(value) is not int or not 0 < value <= most:
        raise ValueError(f"{name} is {value!r:.40}, where 1 to {most:,} can be")
    return value


def _number(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(float(value)):
        raise ValueError(f"{name} is {value!r:.40}, where a number must be")
    return float(value)


def _numbers(values: Mapping[str, Any], name: str) -> tuple[float, ...]:
    found: Sequence[Any] = values[name]
    if not isinstance(found, list | tuple) or len(found) > MOST_CHANNELS:
        raise ValueError(f"{name} is {found!r:.40}")
    return tuple(_number(value, name) for value in found)


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
        _whole(numbers, "length", LONGEST)
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
        most = {"rate": MOST_SAMPLES, "window": LONGEST_FRAME, "hop": LONGEST_FRAME, "mels": MOST_MELS}
        whole = {name: _whole(values, name, many) for name, many in most.items()}
        parts = {name: _number(values[name], name) for name in ("seconds", "low", "high", "mean", "std")}
        if parts["seconds"] * whole["rate"] > MOST_FRAMES * whole["hop"]:
            raise ValueError(f"seconds is {parts['seconds']:g}, more than {MOST_FRAMES:,} frames")
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
        uses = _number(values.get("uses", 0.0), "uses")
        return cls(int(values["items"]), _whole(values, "length", LONGEST), values.get("catalogue"), uses)


Spec = ImageSpec | TextSpec | AudioSpec | ItemSpec
SPECS: Mapping[str, type[ImageSpec | TextSpec | AudioSpec | ItemSpec]] = {
    spec.kind: spec for spec in (ImageSpec, TextSpec, AudioSpec, ItemSpec)
}


def spec_of(kind: str, values: Mapping[str, Any]) -> Spec:
    """The spec of this kind from its JSON form."""
    return SPECS[kind].of(values)
