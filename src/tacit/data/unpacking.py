"""Read Parquet files batch by batch, with a limit on how far they may unpack.

A column of one value repeated a million times takes a few bytes on disk and megabytes in memory. Streams may reach a
thousand times the size of their file; what is read at once has to fit into free memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from tacit.data.places import Place, size_of
from tacit.data.plain import plain

_ROWS = 4096  # at most, read at a time
_TIMES = 1000  # bytes per byte of a file, at most: tables of a nearly constant label give hundreds
_ALWAYS = 1 << 30  # bytes always allowed, however small the file


def batches(file: pq.ParquetFile, place: Place, rows: int = _ROWS, **which: Any) -> Iterator[pa.RecordBatch]:
    """The batches of `iter_batches`. OSError once they exceed the allowed ratio to the file's size."""
    left = max(_ALWAYS, _TIMES * size_of(place))
    for batch in file.iter_batches(rows, **which):
        left -= batch.nbytes
        if left < 0:
            raise OSError(f"it unpacks to more than {_TIMES:,} times its size, as a bomb does")
        yield plain(batch)


def read_columns(file: pq.ParquetFile, place: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """Read these columns, or all, into memory. OSError where they do not fit, or are a decompression bomb."""
    names = None if columns is None else list(columns)
    free, taken, parts = psutil.virtual_memory().available, 0, []
    for batch in batches(file, place, columns=names):
        taken += batch.nbytes
        if taken > free:
            raise OSError(f"its columns take more than the {free / 1e9:.1f} GB of memory that are free")
        parts.append(batch)
    if not parts:
        return plain(file.read(names))
    return pa.Table.from_batches(parts).replace_schema_metadata(file.schema_arrow.metadata)
