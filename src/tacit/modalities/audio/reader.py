"""Read recordings: as whole files, segments or separate channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from tacit.core.errors import UserError
from tacit.data.labels import together
from tacit.data.source import Source
from tacit.data.store import Keeping, Kept
from tacit.modalities.audio.channels import separated
from tacit.modalities.audio.options import SEPARATE, WHOLE, Options
from tacit.modalities.audio.segments import SPAN, segments_of
from tacit.modalities.audio.spans import FRAMES, marked, read_spans, span_columns, whole_columns, with_spans
from tacit.modalities.audio.store import open_recordings
from tacit.modalities.reader import Examples, Found, Reader


class AudioReader(Reader[Options]):
    name = "audio"
    options = Options
    wholes = "recordings"
    grouped_by = "speaker"

    def claimed(self, source: Source, options: Options) -> Source:
        """Cut recordings into the segments that columns of the source name."""
        start, end = options.span
        there = () if source.columns is None else source.columns.column_names
        if not (start or end or options.whole) and "path_column" in source.read and set(SPAN) <= set(there):
            start, end = SPAN
        if (start or end) and source.columns is None:
            flag = "start" if start else "end"
            raise UserError(
                f"--{flag}-column {start or end}: {source.name} is no table; give one of paths, starts and ends"
            )
        if options.whole and source.read:
            source = replace(source, read={**source.read, "start_column": WHOLE})
        return segments_of(source, start, end) if start or end else source

    def before_labels(self, options: Options, tables: Mapping[Path, pa.Table]) -> Options:
        # Columns of label files name the segment of each label; the data need not have them.
        ours = not options.whole and span_columns(tables, *options.span)
        return replace(options, start_column=None, end_column=None) if ours else options

    def examples(self, found: Found[Options]) -> Examples:
        source, labels, options, notes = found.source, found.labels, found.options, found.notes
        specification, frames = labels.spec, labels.spec.of_parts
        spans = {} if options.whole else span_columns(labels.tables, *options.span)
        named = (
            read_spans(source, labels.tables, spans, specification, notes) if spans and source.whole is None else None
        )
        if frames and named is None:
            raise UserError(FRAMES)
        if frames and options.channels == SEPARATE:
            raise UserError(f"--channels {SEPARATE} and --target tokens exclude each other; choose one")
        if named is None:
            columns = found.columns()
        else:
            notes.labels_from = f"file {', '.join(file.name for file in labels.tables)}"
            if frames:
                columns = whole_columns(source, named)
                finish = partial(with_spans, named=named, specification=specification, notes=notes)
                return Examples(*together(source, columns, specification, self.wholes), finish)
            source, columns = marked(source, named, notes, found.keeping.root)
            notes.listed = len(source)
        if options.channels == SEPARATE:
            source, of = separated(source, found.keeping.root)
            columns, notes.listed = columns.take(of), len(source)
        return Examples(*together(source, columns, specification, self.wholes))

    def store(self, source: Source, options: Options, keeping: Keeping) -> Kept:
        rate, seconds, channels = options.rate, options.seconds, options.channels
        return open_recordings(source, keeping, rate=rate, seconds=seconds, channels=channels)


READER = AudioReader()
