"""Recordings through the decoding processes: what all of them are made into, and their headers."""

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
    """What every sound is made into: int16 samples of one channel, long ones in a file of `folder` where one is given.

    An answer of few samples carries them itself, so that a hundred thousand words need no hundred thousand files.
    """

    decoder: ClassVar[str] = "tacit.modalities.audio.decode:answer"
    batch: ClassVar[int] = 16  # of `decode.INLINE` bytes each at most

    rate: int  # Hz
    channels: str
    most: float | None = None  # seconds that are decoded
    folder: str = ""


def headers(pool: Pool, items: Iterable[Item]) -> Iterator[decode.Header | None]:
    """The headers of all these sounds, None where there is no readable one."""
    answers = (outcome.data for outcome in pool.probe(items))
    return (None if answer is None else decode.Header(*json.loads(answer)) for answer in answers)
