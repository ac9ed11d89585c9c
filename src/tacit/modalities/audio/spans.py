"""Labels of segments, in a file beside recordings: each segment that it names becomes an example.

What no segment covers remains for pretraining, in examples without a label. What all label rows of a recording agree on
(its group, its split) holds for these too, so that a split holds out whole recordings.

With --target tokens recordings stay whole, and their segments give the class of each frame.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tacit.core.errors import UserError
from tacit.data.label_spec import LabelSpec
from tacit.data.labels import Columns, LabelRows, label_rows, own_columns, per_example, placed
from tacit.data.named import Missing
from tacit.data.notes import Notes
from tacit.data.resolved import Labels, Spans, not_ignored
from tacit.data.source import TEST, Source
from tacit.data.store import Kept
from tacit.evaluation.targets import make_target
from tacit.evaluation.targets.base import LabelTexts
from tacit.modalities.audio.recordings import Recordings
from tacit.modalities.audio.segments import OTHERWISE, SPAN, Seconds, as_seconds, cut, headers

LEAST = 0.2  # seconds between two segments that make an example

FRAMES = (
    "--target tokens needs to know where in recordings each label holds: give --labels FILE with the columns "
    "file,start,end,label"
)

Part = tuple[float, float]  # where a segment begins and ends, in seconds


def span_columns(tables: Mapping[Path, pa.Table], start: str | None, end: str | None) -> dict[str, str]:
    """The columns of label files that delimit a row's segment: those named, or both usual ones, or none."""
    there = {name for table in tables.values() for name in table.column_names}
    named = {key: name for key, name in zip(SPAN, (start, end), strict=True) if name is not None}
    named = named or dict(zip(SPAN, SPAN, strict=True))
    return named if there.issuperset(named.values()) else {}


class Named(NamedTuple):
    """The label rows that name a segment of a recording of the source."""

    labels: LabelRows
    begins: Seconds  # [R]
    ends: Seconds  # [R]


def read_spans(
    source: Source, tables: Mapping[Path, pa.Table], spans: Mapping[str, str], specification: LabelSpec, notes: Notes
) -> Named:
    """Read the label rows of segments. Raises UserError for a value that is no number of seconds."""
    labels = label_rows(
        source, tables, notes, {**specification.columns, **spans}, lists=make_target(specification.target).lists
    )
    files, missing = ", ".join(map(str, tables)), (0.0, math.inf)
    begins, ends = (
        as_seconds(labels.texts.pop(key, pa.nulls(len(labels.rows))), value, f"{files}, column {spans.get(key)!r},")
        for key, value in zip(SPAN, missing, strict=True)
    )
    return Named(labels, begins, ends)


def marked(source: Source, named: Named, notes: Notes, root: Path) -> tuple[Source, Columns]:
    """The named segments and what lies between them as examples, with the columns of these."""
    labels, begins, ends = named
    rows = list(zip(labels.rows.tolist(), begins.tolist(), ends.tolist(), strict=True))
    parts = _parts(rows, headers(source, root)[:, 1].tolist())
    place = {part: number for number, part in enumerate(parts)}
    of, *seconds = (np.array(values) for values in zip(*parts, strict=True))
    found = cut(source, of, *seconds)
    columns = placed(found, labels._replace(rows=np.array([place[row] for row in rows], np.int64)), notes)
    shared = {}
    for key, alike in _alike(source, labels).items():
        own = getattr(columns, key)
        shared[key] = pc.coalesce(own, alike.take(pa.array(of)))
    left = len(parts) - len(set(rows))
    remark = f"each row of the label file is a stretch of a recording; what none covers is {left:,} more examples"
    remark = f"{remark}; {OTHERWISE}"
    return replace(found, remarks=(*found.remarks, remark)), replace(columns, **shared)


def _alike(source: Source, labels: LabelRows) -> dict[str, pa.Array]:
    """The columns other than labels of each recording, string [N], null where its rows differ."""
    found = {}
    for key in labels.texts.keys() - {"label"}:
        text, differs = per_example(labels.texts[key], labels.rows, len(source))
        found[key] = pc.if_else(pa.array(differs), None, text)
    return found


def _parts(named: Iterable[tuple[int, float, float]], lengths: list[float]) -> list[tuple[int, float, float]]:
    """The segments of each recording, by its number, and what lies between them; all of one without any."""
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
    """The gaps between the spans of a recording that are long enough for an example."""
    reached = 0.0
    inside = sorted((begin, end) for begin, end in spans if 0 <= begin < min(end, length))
    for begin, end in [*inside, (length, length)]:
        if begin - reached >= LEAST:
            yield reached, begin
        reached = max(reached, end)


# ---------------------------------------------------------------- frames


def whole_columns(source: Source, named: Named) -> Columns:
    """The columns of recordings whose frames are labelled: each is its own group, unless rows name another.

    Raises UserError where rows of one recording contradict each other.
    """
    for key in named.labels.texts.keys() - {"label"}:
        differs = per_example(named.labels.texts[key], named.labels.rows, len(source))[1]
        if differs.any():
            name = source.ids[int(differs.argmax())].as_py()
            raise UserError(f"--target tokens keeps recordings whole, but rows of {name} differ in their {key}")
    columns = replace(
        own_columns(replace(source, label=None), named.labels.own, Missing()), **_alike(source, named.labels)
    )
    return replace(columns, group=source.ids) if columns.group is None else columns


def with_spans(resolved: Labels, kept: Kept, *, named: Named, specification: LabelSpec, notes: Notes) -> Labels:
    """Add the classes of the segments of those recordings that were stored.

    A recording's own class is the one that most of its time belongs to.
    """
    recordings, n = kept.cache, len(kept.rows)
    assert isinstance(recordings, Recordings)
    place = np.full(int(max(kept.rows.max(), named.labels.rows.max())) + 1, -1, np.int64)
    place[kept.rows] = np.arange(n)
    row = place[named.labels.rows]
    text = not_ignored(named.labels.texts["label"], specification, notes).filter(pa.array(row >= 0))
    begin, end, row = named.begins[row >= 0], named.ends[row >= 0], row[row >= 0]
    end = np.minimum(end, recordings.lengths[row] / recordings.spec.rate)
    training = np.ones(n, bool) if resolved.split is None else resolved.split != TEST
    found = make_target(specification.target).read_labels(LabelTexts(text, training[row]))
    notes.left_out(found)
    fits = (found.label >= 0) & (begin >= 0) & (begin < end)
    spans = Spans(row[fits], begin[fits], end[fits], found.label[fits])
    seconds = np.zeros((n, len(found.classes)))
    np.add.at(seconds, (spans.row, spans.label), spans.end - spans.begin)
    label = np.where(seconds.any(axis=1), seconds.argmax(axis=1), -1)
    return replace(resolved, label=label, classes=found.classes, spans=spans)
