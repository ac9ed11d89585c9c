"""Decodes images in worker processes: the plan for all of them, and the headers and values of some."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from tacit.data.decode import Decoded, Item, Pool
from tacit.data.decode import Plan as AnyPlan
from tacit.data.worker import content_hash
from tacit.modalities.image import decode as pixels
from tacit.modalities.image import worker
from tacit.modalities.image.framing import Framing


@dataclass(frozen=True)
class Plan(AnyPlan):
    """What every image is decoded to: [channels size size] of dtype `uint8` or `uint16`."""

    decoder: ClassVar[str] = "tacit.modalities.image.worker:answer"
    batch: ClassVar[int] = 64

    size: int  # px
    channels: int
    dtype: str
    framing: Framing | None = None
    scale: pixels.Scale | None = None
    strict: bool = False  # refuse images that do not fit the encoder they are read for

    @property
    def nbytes(self) -> int:
        """Bytes per image."""
        return self.channels * self.size * self.size * np.dtype(self.dtype).itemsize

    @classmethod
    def answered(cls, content: bytes, result: bytes) -> Decoded:
        contents, found, squares = worker.answered(content, result)
        return Decoded(contents, squares, "", found)

    def in_memory(self, item: Any) -> Decoded:
        """Decode a PIL image, or pixels [H W] or [H W C]."""
        found: set[str] = set()
        form = (self.size, self.channels, np.dtype(self.dtype), self.framing)
        how: dict[str, Any] = {"scale": self.scale, "strict": self.strict, "found": found}
        if isinstance(item, Image.Image):
            pixels.look_at(item, found)  # before its pixels are loaded
            content = _content_of(item)
            square = pixels.to_square(item, *form, **how)
        else:
            content = _content_of(item)
            square = pixels.array_to_square(item, *form, **how)
        return Decoded(content, square.tobytes(), "", tuple(sorted(found)))

    @classmethod
    def probe_in_memory(cls, item: Any, what: str) -> Decoded:
        content = _content_of(item)
        if not isinstance(item, Image.Image):
            return Decoded(content, json.dumps(pixels.probe_array(item)).encode())
        if what == "values":
            return Decoded(content, worker.as_json(pixels.values(item)))
        return Decoded(content, json.dumps(pixels.probe(item)).encode())


def headers(pool: Pool, items: Iterable[Item]) -> list[pixels.Header]:
    """The headers of those images that have a readable one."""
    answers = (outcome.data for outcome in pool.probe(items))
    return [pixels.Header(*json.loads(answer)) for answer in answers if answer is not None]


def values(pool: Pool, items: Iterable[Item]) -> Iterator[pixels.Values]:
    """The numbers of those images whose type defines no black and white."""
    for outcome in pool.probe(items, "values"):
        if outcome.data is not None and (summary := json.loads(outcome.data)) is not None:
            numbers, low, high, some = summary
            yield pixels.Values(numbers, low, high, np.array(some, np.float64))


def _content_of(item: Any) -> bytes:
    """The content hash of an image in memory: of a PIL image, whose pixels are loaded, or of an array."""
    if isinstance(item, Image.Image):
        item.load()
        return content_hash(pixels.identity(item))
    return content_hash(f"{item.dtype} {item.shape}".encode() + item.tobytes())
