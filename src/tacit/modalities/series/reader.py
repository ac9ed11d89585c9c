"""Read time series."""

from __future__ import annotations

import math
from dataclasses import replace

from tacit.core.errors import UserError
from tacit.data.listing import File, Listing, Objects
from tacit.data.opened import refuse_twice
from tacit.data.options import Reading
from tacit.data.signs import suffix_of
from tacit.data.source import Source
from tacit.data.store import Keeping, Kept
from tacit.data.tables import Table
from tacit.modalities.reader import Reader
from tacit.modalities.series.options import Options
from tacit.modalities.series.store import open_series
from tacit.modalities.series.tables import file_source, objects_source, table_source

ALIKE = 0.01  # of a step, by which those of two tables may differ

_ARRAYS = (".npy", ".npz")


class SeriesReader(Reader[Options]):
    name = "series"
    options = Options

    def claim(self, listing: Listing, options: Options, reading: Reading, reserved: frozenset[str]) -> Source | None:
        """Claim lists of numbers and long tables without other content; arrays where the modality is named."""
        must = reading.kind == self.name
        if reading.kind not in (None, self.name):
            return None
        if isinstance(listing, File):
            found = file_source(listing.path, must=must) if suffix_of(listing.path.name) in _ARRAYS else None
            return _without_columns(found, options)
        if isinstance(listing, Objects):
            found = None if listing.paths else objects_source(listing.value, listing.name, must=must)
            return _without_columns(found, options)
        if not isinstance(listing, Table) or reading.path_column:
            return None
        if must:
            refuse_twice(listing.streamed.schema.names, listing.name)
        return table_source(listing, options, reserved, must=must)

    def claimed(self, source: Source, options: Options) -> Source:
        if source.by_path and options.series_id_column is not None:
            raise UserError(
                f"--series-id-column {options.series_id_column}: {source.name} holds files, each of which is a series; "
                "leave it out"
            )
        return source

    def join(self, train: Source, test: Source) -> Source:
        steps = [of.step for source in (train, test) for of in source.about or ()]
        if len(steps) > 1 and not math.isclose(*steps, rel_tol=ALIKE):
            raise UserError(
                f"a step is {steps[0]:,.6g} in {train.name}, and {steps[1]:,.6g} in {test.name}; name one of both with "
                "--series-step"
            )
        return replace(super().join(train, test), about=(*(train.about or ()), *(test.about or ())))

    def store(self, source: Source, options: Options, keeping: Keeping) -> Kept:
        return open_series(source, options, keeping)


def _without_columns(source: Source | None, options: Options) -> Source | None:
    """The source of arrays; named columns are none of theirs, as a remark says."""
    named = options.named() if source is not None else ""
    if source is None or not named:
        return source
    return replace(source, remarks=(*source.remarks, f"{named} says nothing of arrays, which have no columns"))


READER = SeriesReader()
