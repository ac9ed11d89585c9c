"""Open the histories of a source of events: from the cache of an earlier run, or sorted now."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.core.spec import SpecOf
from tacit.data.opened import stamps_of
from tacit.data.source import Source
from tacit.data.store import CONTENT, Keeping, Kept, Written, hash_of, keep
from tacit.modalities.events import sorting
from tacit.modalities.events.attributes import with_attributes
from tacit.modalities.events.catalogue import FILE_NAME, Catalogue
from tacit.modalities.events.options import Options, duration
from tacit.modalities.events.spec import ItemSpec
from tacit.modalities.events.store import FORMAT, LONGEST, Histories, describe

LENGTH = 50  # events, by default
_LENGTHS = (2, LONGEST)


def open_histories(source: Source, options: Options, keeping: Keeping) -> Kept:
    """Load the histories of this source, or sort them now where no earlier run has.

    UserError where there are no events, or too many lack a user, an item or a time.
    """
    length, when = options.length, source.about.when
    if length is not None and not _LENGTHS[0] <= length <= _LENGTHS[1]:
        raise UserError(f"--length {length} is out of range; choose {_LENGTHS[0]} to {_LENGTHS[1]:,} events")
    if options.session_gap is not None and when.by != "time":
        raise UserError(
            f"--session-gap {options.session_gap} needs times, and {source.name} is {when.description}; leave it out"
        )
    given = _given(options.catalogue)
    table = [] if options.item_table is None else [stamp.decode() for stamp in stamps_of([Path(options.item_table)])]
    known = [
        source.fingerprint,
        FORMAT,
        options.session_gap,
        options.k_core,
        table,
        None if given is None else given.digest,
    ]
    length = length or _own_length(options.catalogue)
    # Content hashes cover the items of histories only; times are covered by everything that names the listing.
    kept = keep(
        source,
        "histories",
        known,
        keeping,
        lambda folder: Histories.load(folder, length, options.held),
        lambda folder: _make(source, options, given, folder, keeping)._replace(form=known),
    )
    events, unplaced = kept.counts["events"], kept.counts["unplaced"]
    if unplaced > keeping.max_bad * events:
        raise UserError(
            f"{unplaced:,} of {events:,} events of {source.name} lack a user, an item or a time, more than --max-bad "
            f"{keeping.max_bad:g} allows; mend them, or raise --max-bad"
        )
    histories = kept.cache
    assert isinstance(histories, Histories)
    if options.held == "time":
        histories.moments()
    part = None if options.session_gap is None else _sessions(histories.owner)
    return replace(kept, rows=histories.owner.astype(np.int64), part=part)


def _own_length(catalogue: str | SpecOf[Any] | None) -> int:
    return catalogue.length if isinstance(catalogue, ItemSpec) else LENGTH


def _given(catalogue: str | SpecOf[Any] | None) -> Catalogue | None:
    if isinstance(catalogue, ItemSpec):
        return catalogue.known
    if not isinstance(catalogue, str | Path):
        return None
    places = (Path(catalogue) / inner / FILE_NAME for inner in ("", "encoder"))
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(f"--catalogue {catalogue}: there is no {FILE_NAME}; name a run or an exported encoder of items")
    return Catalogue.load(found)


def _sessions(owner: NDArray[np.int32]) -> NDArray[np.int64]:
    """The number of each session of its user, from 1."""
    place = np.arange(len(owner))
    begins = np.ones(len(owner), np.bool_)
    begins[1:] = owner[1:] != owner[:-1]
    return np.asarray(place - np.maximum.accumulate(np.where(begins, place, 0)) + 1)


def _make(source: Source, options: Options, given: Catalogue | None, folder: Path, keeping: Keeping) -> Written:
    """Sort the events into the folder."""
    about, progress = source.about, keeping.progress
    gap = None if options.session_gap is None else duration(options.session_gap)
    form = sorting.Form(about.when.by != "rows", about.when.by == "time", about.weighted, gap)
    number = {} if given is None else dict(given.number)
    before, found = len(number), Counter[str]()
    spooled = folder / "spooled"
    spooled.mkdir()
    sorting.spool(source.items(), spooled, form, number, found)
    if not found["events"] - found["unplaced"] - found["weightless"]:
        raise UserError(f"{source.name} holds no event with a user, an item and a time")
    sorting.sort(
        spooled,
        len(source),
        folder,
        form,
        found,
        lambda users: None if progress is None else progress(users, len(source)),
    )
    spooled.rmdir()
    ids = list(number)
    if options.k_core is not None:
        renumber = sorting.keep_core(folder, options.k_core, len(ids), before, found)
        ids = [item for item, new in zip(ids, renumber.tolist(), strict=True) if new >= 0]
    content, counts = sorting.contents(folder, ids)
    if not len(content):
        left = f"; --k-core {options.k_core} leaves none" if options.k_core is not None else ""
        raise UserError(f"{source.name} holds no event that can be used{left}")
    (folder / CONTENT).write_bytes(content.tobytes())
    found["once"] = int((counts == 1).sum())
    catalogue, remarks = with_attributes(ids, about.whole if given is None else given.whole, options.item_table, given)
    describe(folder, catalogue, hash_of(content), ordered=form.ordered, timed=form.timed, weighted=form.weighted)
    if given is not None and len(ids) > before:
        remarks = (*remarks, f"{len(ids) - before:,} items are new to the catalogue of {before:,}")
    return Written([], counts=found, remarks=remarks)
