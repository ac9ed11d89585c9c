"""Every channel of a recording as an example of its own: the two sides of a call, the microphones of an array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.data.decode import Item, Segment
from tacit.data.source import Source, digest
from tacit.modalities.audio.segments import headers


def separated(source: Source, root: Path) -> tuple[Source, NDArray[np.int64]]:
    """List the channels of all recordings in order, and the example of `source` that each belongs to, [N].

    The ids of several channels of a recording end in #1, #2, ...; the headers are read once and stored in `root`.
    """
    counts = headers(source, root)[:, 0].astype(np.int64).clip(min=1)
    rows = np.repeat(np.arange(len(source)), counts)
    channel = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    at = pa.array(rows)
    alone = pa.array(counts[rows] == 1)
    ids = source.ids.take(at)
    numbered = pc.binary_join_element_wise(ids, pa.array((channel + 1).astype(str), pa.string()), "#")

    def items() -> Iterator[Item]:
        for item, count in zip(source.items(), counts.tolist(), strict=True):
            part = item if isinstance(item, Segment) else Segment(item)
            yield from (part._replace(channel=number) for number in range(count))

    def sample(k: int) -> list[Item]:
        parts = [item if isinstance(item, Segment) else Segment(item) for item in source.sample(k)]
        return [part._replace(channel=0) for part in parts]

    several = len(rows) > len(source)
    remark = f"each channel is an example of its own: {len(source):,} recordings have {len(rows):,}"
    found = replace(
        source,
        ids=pc.if_else(alone, ids, numbered),
        fingerprint=digest([source.fingerprint.encode(), b"separate", counts.tobytes()]),
        items=items,
        sample=sample,
        columns=None if source.columns is None else source.columns.take(at),
        label=None if source.label is None else source.label.take(at),
        split=None if source.split is None else source.split[rows],
        whole=(source.ids if source.whole is None else source.whole).take(at) if several else source.whole,
        remarks=(*source.remarks, remark) if several else source.remarks,
    )
    return found, rows
