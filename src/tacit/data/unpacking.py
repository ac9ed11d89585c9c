"""Parquet files, read batch by batch and no further than a file of their size can mean.

A column that holds one value a million times takes a few bytes, and a megabyte each time it is unpacked. What is
streamed may become a thousand times its file; what is read at once has to fit into the memory that is free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from tacit.data.places import Place, size_of

_ROWS = 4096  # read at a time, at most
_TIMES = 1000  # bytes from one of a file at most: tables of a label that hardly changes give hundreds
_ALWAYS = 1 << 30  # bytes that are no bomb, however small the file


def batches(file: pq.ParquetFile, place: Place, rows: int = _ROWS, **which: Any) -> Iterator[pa.RecordBatch]:
    """The batches that `iter_batches` gives. OSError once they are more than a file of this size can mean."""
    left = max(_ALWAYS, _TIMES * size_of(place))
    for batch in file.iter_batches(rows, **which):
        left -= batch.nbytes
        if left < 0:
            raise OSError(f"it unpacks to more than {_TIMES:,} times its size, as a bomb does")
        yield batch


def read_columns(file: pq.ParquetFile, place: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """These columns, or all of them, in memory. OSError where they do not fit, or are a bomb."""
    names = None if columns is None else list(columns)
    free, taken, parts = psutil.virtual_memory().available, 0, []
    for batch in batches(file, place, columns=names):
        taken += batch.nbytes
        if taken > free:
            raise OSError(f"its columns take more than the {free / 1e9:.1f} GB of memory that are free")
        parts.append(batch)
    if not parts:
        return file.read(names)
    return pa.Table.from_batches(parts).replace_schema_metadata(file.schema_arrow.metadata)
