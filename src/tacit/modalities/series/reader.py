"""Read time series."""

from __future__ import annotations

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
            return file_source(listing.path, must=must) if suffix_of(listing.path.name) in _ARRAYS else None
        if isinstance(listing, Objects):
            return None if listing.paths else objects_source(listing.value, listing.name, must=must)
        if not isinstance(listing, Table) or reading.path_column:
            return None
        if must:
            refuse_twice(listing.streamed.schema.names, listing.name)
        return table_source(listing, options, reserved, must=must)

    def store(self, source: Source, options: Options, keeping: Keeping) -> Kept:
        return open_series(source, options, keeping)


READER = SeriesReader()
