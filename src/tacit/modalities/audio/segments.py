"""Stretches of recordings as examples of their own: each row of a table one, or each span that a label file names."""

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
from tacit.data.decode import Item, Pool, Stretch
from tacit.data.source import Source, digest, spread
from tacit.data.store import Damaged, read_sealed, write_sealed
from tacit.modalities.audio import decode, decoding
from tacit.modalities.audio.options import WHOLE

SPAN = ("start", "end")  # the usual names of columns that say which stretch of a file is meant
OTHERWISE = f"if that is not meant, --start-column {WHOLE} reads whole files"

Seconds = NDArray[np.float64]


def stretches(source: Source, start: str | None, end: str | None) -> Source:
    """Sounds of which only a stretch is meant, from the seconds in one column to those in the other.

    A missing start is the beginning of the file, a missing end its end. UserError for what is no number of seconds.
    """
    begins = _column_seconds(source, "start", start, 0.0)
    ends = _column_seconds(source, "end", end, math.inf)
    columns = " and ".join(filter(None, [start, end]))
    remark = f"each row is a stretch of its file, in seconds by {columns}; {OTHERWISE}"
    found = cut(source, np.arange(len(source)), begins, ends)
    named = {f"{flag}_column": column for flag, column in (("start", start), ("end", end)) if column is not None}
    return replace(found, remarks=(*source.remarks, remark), read={**source.read, **named})


def cut(source: Source, of: NDArray[np.int64], begins: Seconds, ends: Seconds) -> Source:
    """Stretches of the recordings of a source, [N]: of which of them each is, in rising order, and its seconds.

    The ids end in #BEGIN-END, but for whole recordings.
    """
    at, counts = pa.array(of), np.bincount(of, minlength=len(source))
    spans = [f"#{begin:.10g}-{end:.10g}" for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    whole = pa.array((begins == 0) & np.isinf(ends))
    recording = source.ids.take(at)

    def items() -> Iterator[Item]:
        parts = zip(begins.tolist(), ends.tolist(), strict=True)
        for item, count in zip(source.items(), counts.tolist(), strict=True):
            yield from (Stretch(item, begin, end) for begin, end in islice(parts, count))

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
    """The numbers of a column, `missing` where it is empty. UserError, saying `where`, for something else."""
    try:
        texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
        texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
        found = pc.fill_null(texts.cast(pa.float64()), missing).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        raise UserError(f"{where} holds something there that is no number; {OTHERWISE}") from None
    return np.where(np.isnan(found), missing, found)


def headers(source: Source, root: Path) -> NDArray[np.float64]:
    """Channels and seconds of each recording [N 2], 0 where nothing can be read; read once and kept in `root`."""
    form = [source.fingerprint, "headers sealed", decode.VERSION, decode.versions()]
    memo = private_folder(root / "listings") / f"{digest([json.dumps(form).encode()])}.json"
    with filelock.FileLock(memo.with_suffix(".lock")):
        try:
            known = read_sealed(memo)
        except Damaged:
            known = None
        if known is None:
            with Pool(decoding.Plan) as pool:
                found = decoding.headers(pool, source.items())
                known = {"headers": [(0, 0.0) if h is None else (h.channels, h.seconds) for h in found]}
            write_sealed(memo, known)
        return np.array(known["headers"], np.float64).reshape(-1, 2)
