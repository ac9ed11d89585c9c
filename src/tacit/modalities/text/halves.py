"""Two texts in each row of a table, each an example of its own: the two sentences that a score compares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.data.source import Source, digest
from tacit.modalities.text.documents import Document


def halved(source: Source, halves: Sequence[Source], columns: Sequence[str]) -> tuple[Source, NDArray[np.int64]]:
    """List the texts of each row in order; also return the row of `source` that each belongs to, [N].

    `halves` are the same data, each read by one of the `columns`. Ids end in the column's name; the whole of a text is
    its row.
    """
    rows = np.repeat(np.arange(len(source)), len(halves))
    ids = source.ids.take(pa.array(rows))
    names = pa.array([f"#{column}" for column in columns] * len(source), pa.string())

    def items() -> Iterator[Document]:
        return chain.from_iterable(zip(*(half.items() for half in halves), strict=True))

    def taken(of: pa.Array | pa.Table | None) -> pa.Array | pa.Table | None:
        return None if of is None else of.take(pa.array(rows))

    found = replace(
        source,
        ids=pc.binary_join_element_wise(ids, names, ""),
        fingerprint=digest(half.fingerprint.encode() for half in halves),
        items=items,
        sample=lambda k: [text for half in halves for text in half.sample(k // len(halves))],
        columns=taken(source.columns),
        label=taken(source.label),
        split=None if source.split is None else source.split[rows],
        whole=ids,
    )
    return found, rows
