"""Segments of recordings as examples: one for each row of a table, or for each span in a label file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.core.folders import private_folder
from tacit.data.decode import Item, Pool, Segment
from tacit.data.source import Source, digest, spread
from tacit.data.store import Damaged, read_sealed, write_sealed
from tacit.modalities.audio import decode, decoding
from tacit.modalities.audio.options import WHOLE

SPAN = ("start", "end")  # the usual names of the columns that delimit a segment of a file
OTHERWISE = f"if that is not meant, --start-column {WHOLE} reads whole files"

Seconds = NDArray[np.float64]


def segments_of(source: Source, start: str | None, end: str | None) -> Source:
    """Cut each sound to a segment, from the seconds in one column to those in the other.

    A missing start is the beginning of the file, a missing end its end. Raises UserError for a value that is no number.
    """
    begins = _column_seconds(source, "start", start, 0.0)
    ends = _column_seconds(source, "end", end, math.inf)
    columns = " and ".join(filter(None, [start, end]))
    remark = f"each row is a stretch of its file, in seconds by {columns}; {OTHERWISE}"
    found = cut(source, np.arange(len(source)), begins, ends)
    named = {f"{flag}_column": column for flag, column in (("start", start), ("end", end)) if column is not None}
    return replace(found, remarks=(*source.remarks, remark), read={**source.read, **named})


def cut(source: Source, of: NDArray[np.int64], begins: Seconds, ends: Seconds) -> Source:
    """Cut segments [N] from the recordings of a source: `of` names the recording of each, in rising order.

    The ids end in #BEGIN-END, except for whole recordings.
    """
    at, counts = pa.array(of), np.bincount(of, minlength=len(source))
    spans = [f"#{begin:.10g}-{end:.10g}" for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    whole = pa.array((begins == 0) & np.isinf(ends))
    recording = source.ids.take(at)

    def items() -> Iterator[Item]:
        parts = zip(begins.tolist(), ends.tolist(), strict=True)
        for item, count in zip(source.items(), counts.tolist(), strict=True):
            yield from (Segment(item, begin, end) for begin, end in islice(parts, count))

    def sample(k: int) -> list[Item]:
        chosen = set(spread(len(of), k))
        return [item for row, item in enumerate(items()) if row in chosen]

    return replace(
        source,
        ids=pc.binary_join_element_wise(recording, pc.if_else(whole, "", pa.array(spans, pa.string())), ""),
        fingerprint=digest([source.fingerprint.encode(), of.tobytes(), begins.tobytes(), ends.tobytes()]),
        items=items,
        sample=sample,
        columns=None if source.columns is None else source.columns.take(at),
        label=None if source.label is None else source.label.take(at),
        split=None if source.split is None else source.split[of],
        whole=recording,
    )


def _column_seconds(source: Source, flag: str, column: str | None, missing: float) -> Seconds:
    if column is None:
        return np.full(len(source), missing)
    if source.columns is None or column not in source.columns.column_names:
        there = "none" if source.columns is None else ", ".join(source.columns.column_names)
        raise UserError(f"--{flag}-column {column}: {source.name} has no such column (it has: {there})")
    return as_seconds(source.columns[column], missing, f"--{flag}-column {column}: {source.name}")


def as_seconds(values: pa.Array | pa.ChunkedArray, missing: float, where: str) -> Seconds:
    """Read a column as numbers, `missing` where it is empty. Raises UserError, naming `where`, for anything else."""
    try:
        texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
        texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
        found = pc.fill_null(texts.cast(pa.float64()), missing).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        raise UserError(f"{where} holds something there that is no number; {OTHERWISE}") from None
    return np.where(np.isnan(found), missing, found)


def headers(source: Source, root: Path) -> NDArray[np.float64]:
    """Channels and seconds of each recording [N 2], 0 where it cannot be read; read once and stored in `root`."""
    form = [source.fingerprint, "headers sealed", decode.VERSION, decode.versions()]
    memo = private_folder(root / "listings") / f"{digest([json.dumps(form).encode()])}.json"
    with filelock.FileLock(memo.with_suffix(".lock")):
        try:
            stored = read_sealed(memo)
        except Damaged:
            stored = None
        if stored is None:
            with Pool(decoding.Plan) as pool:
                found = decoding.headers(pool, source.items())
                stored = {"headers": [(0, 0.0) if h is None else (h.channels, h.seconds) for h in found]}
            write_sealed(memo, stored)
        return np.array(stored["headers"], np.float64).reshape(-1, 2)
