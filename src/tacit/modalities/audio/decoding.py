"""Decode recordings, or read their headers, in the decoding processes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from tacit.data.decode import Item, Pool
from tacit.data.decode import Plan as AnyPlan
from tacit.modalities.audio import decode


@dataclass(frozen=True)
class Plan(AnyPlan):
    """The format that sounds are decoded into: int16 samples of one channel, long ones in a file of `folder` if given.

    A short sound is part of the answer itself, so that a hundred thousand words need no hundred thousand files.
    """

    decoder: ClassVar[str] = "tacit.modalities.audio.decode:answer"
    batch: ClassVar[int] = 16  # of `decode.INLINE` bytes each at most

    rate: int  # Hz
    channels: str
    most: float | None = None  # seconds that are decoded
    folder: str = ""


def headers(pool: Pool, items: Iterable[Item]) -> Iterator[decode.Header | None]:
    """Read the headers of these sounds; None where a header cannot be read."""
    answers = (outcome.data for outcome in pool.probe(items))
    return (None if answer is None else decode.Header(*json.loads(answer)) for answer in answers)
