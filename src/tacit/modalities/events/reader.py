"""Read tables of events."""

from __future__ import annotations

import pyarrow as pa

from tacit.core.errors import UserError
from tacit.data.listing import Listing
from tacit.data.opened import is_text, refuse_twice
from tacit.data.options import Reading
from tacit.data.source import Source
from tacit.data.store import Keeping, Kept
from tacit.data.tables import Table, is_bytes
from tacit.modalities.events.interactions import are_events, interactions_source
from tacit.modalities.events.options import Options
from tacit.modalities.events.sequences import open_histories
from tacit.modalities.reader import Reader


class EventReader(Reader[Options]):
    name = "items"
    options = Options
    wholes = "users"
    own_time = True

    def claim(self, listing: Listing, options: Options, reading: Reading, reserved: frozenset[str]) -> Source | None:
        """Claim tables with columns of users and items that fit no other modality; one example per user."""
        must = reading.kind == self.name
        if not isinstance(listing, Table) or (reading.path_column and not must):
            return None
        if isinstance(listing.data, pa.Table):
            refuse_twice(listing.data.column_names, listing.name)
        if not must and (listing.names() is None or not _of_events_alone(listing)):
            return None  # what cannot be read is reported by the reader that tries
        return interactions_source(listing.streamed, options, listing.name)

    def join(self, train: Source, test: Source) -> Source:
        remedy = "what is tested of events is each user's last, or the latest; see --holdout"
        raise UserError(f"--test {test.name}: {remedy}")

    def store(self, source: Source, options: Options, keeping: Keeping) -> Kept:
        return open_histories(source, options, keeping)

    def holds_next(self, options: Options) -> bool:
        return options.held != "none"


def _of_events_alone(listing: Table) -> bool:
    """Whether a table has columns of users and items, and none of encoded examples, usual texts or paths."""
    schema = listing.streamed.schema
    texts = {name for of in listing.signs.values() for name in of.texts}
    held = [(field.name.lower(), field.type) for field in schema]
    if not are_events(schema) or any(is_bytes(kind) or (name in texts and is_text(kind)) for name, kind in held):
        return False

    def first(column: str) -> pa.Array | None:
        batch = next(iter(listing.streamed.stream([column])), None)
        return None if batch is None else batch.column(0)

    return not listing.leads_to_files(schema, first)


READER = EventReader()
