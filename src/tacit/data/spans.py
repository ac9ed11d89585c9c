"""Labels of stretches, in a file beside recordings: each stretch that it names becomes an example of its recording.

What no stretch covers stays material to pretrain on, in examples without a label. All that is said of a recording's
stretches alike (its group, its split) is said of these too, so that what a split holds out is held out whole.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tacit.data.asked import LISTS, Asked
from tacit.data.labels import Columns, per_example, placed, told_by
from tacit.data.notes import Notes
from tacit.data.source import Source
from tacit.data.stretches import SPAN, as_seconds, cut, headers

LEAST = 0.2  # seconds between two stretches that are worth an example

Part = tuple[float, float]  # where a stretch begins and ends, in seconds


def span_columns(tables: Mapping[Path, pa.Table], start: str | None, end: str | None) -> dict[str, str]:
    """The columns of label files that say which stretch a row means: those named, or both usual ones, or none."""
    there = {name for table in tables.values() for name in table.column_names}
    named = {key: name for key, name in zip(SPAN, (start, end), strict=True) if name is not None}
    named = named or dict(zip(SPAN, SPAN, strict=True))
    return named if there.issuperset(named.values()) else {}


def marked(
    source: Source, tables: Mapping[Path, pa.Table], spans: Mapping[str, str], asked: Asked, notes: Notes, root: Path
) -> tuple[Source, Columns]:
    """The stretches that label files name and what lies between them as examples, and what is known of these."""
    told = told_by(source, tables, notes, {**asked.columns, **spans}, lists=asked.target in LISTS)
    files = ", ".join(map(str, tables))
    missing = {"start": 0.0, "end": math.inf}
    begins, ends = (
        as_seconds(told.texts.pop(key, pa.nulls(len(told.rows))), missing[key], f"{files}, column {spans.get(key)!r},")
        for key in SPAN
    )
    named = list(zip(told.rows.tolist(), begins.tolist(), ends.tolist(), strict=True))
    parts = _parts(named, headers(source, root)[:, 1].tolist())
    place = {part: number for number, part in enumerate(parts)}
    told = told._replace(rows=np.array([place[part] for part in named], np.int64))
    of, *seconds = (np.array(values) for values in zip(*parts, strict=True))
    found = cut(source, of, *seconds)
    columns = placed(found, told, notes)
    shared = {}
    for key in told.texts.keys() - {"label"}:
        alike, differs = per_example(told.texts[key], of[told.rows], len(source))
        shared[key] = pc.coalesce(getattr(columns, key), pc.if_else(pa.array(differs), None, alike).take(pa.array(of)))
    left = len(parts) - len(set(named))
    remark = f"each row of the label file is a stretch of a recording; what none covers is {left:,} more examples"
    return replace(found, remarks=(*found.remarks, remark)), replace(columns, **shared)


def _parts(named: Iterable[tuple[int, float, float]], lengths: list[float]) -> list[tuple[int, float, float]]:
    """The stretches of each recording, by its number, and what lies between them; the whole of one without any."""
    spans: defaultdict[int, set[Part]] = defaultdict(set)
    for row, begin, end in named:
        spans[row].add((begin, end))
    parts: list[tuple[int, float, float]] = []
    for row, length in enumerate(lengths):
        mine = spans.get(row)
        inside = sorted({*mine, *between(mine, length)}) if mine else [(0.0, math.inf)]
        parts += [(row, *part) for part in inside]
    return parts


def between(spans: Iterable[Part], length: float) -> Iterator[Part]:
    """What none of the spans of a recording covers, where that is long enough."""
    reached = 0.0
    inside = sorted((begin, end) for begin, end in spans if 0 <= begin < min(end, length))
    for begin, end in [*inside, (length, length)]:
        if begin - reached >= LEAST:
            yield reached, begin
        reached = max(reached, end)
