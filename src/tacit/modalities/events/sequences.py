"""The histories of a source of events: found where an earlier run has left them, or sorted now."""

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

LENGTH = 50  # events, unless asked for
_LENGTHS = (2, LONGEST)


def open_histories(source: Source, ask: Options, keeping: Keeping) -> Kept:
    """The histories of this source, sorted now unless an earlier run has done it.

    UserError where there are no events, or more of them than may be have no user, item or time.
    """
    length, when = ask.length, source.about.when
    if length is not None and not _LENGTHS[0] <= length <= _LENGTHS[1]:
        raise UserError(f"--length {length} is out of range; choose {_LENGTHS[0]} to {_LENGTHS[1]:,} events")
    if ask.session_gap is not None and when.by != "time":
        raise UserError(f"--session-gap {ask.session_gap} needs times, and {source.name} is {when.said}; leave it out")
    given = _given(ask.catalogue)
    table = [] if ask.item_table is None else [said.decode() for said in stamps_of([Path(ask.item_table)])]
    known = [source.fingerprint, FORMAT, ask.session_gap, ask.k_core, table, None if given is None else given.digest]
    length = length or _own_length(ask.catalogue)
    # Content tells the items of histories alone: all that names the listing tells their times.
    kept = keep(
        source,
        "histories",
        known,
        keeping,
        lambda folder: Histories.load(folder, length, ask.held),
        lambda folder: _make(source, ask, given, folder, keeping)._replace(form=known),
    )
    events, unplaced = kept.counts["events"], kept.counts["unplaced"]
    if unplaced > keeping.max_bad * events:
        raise UserError(
            f"{unplaced:,} of {events:,} events of {source.name} lack a user, an item or a time, more than --max-bad "
            f"{keeping.max_bad:g} allows; mend them, or raise --max-bad"
        )
    histories = kept.cache
    assert isinstance(histories, Histories)
    if ask.held == "time":
        histories.moments()
    part = None if ask.session_gap is None else _sessions(histories.owner)
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
    """The number of each history among those of its user, from 1 on."""
    place = np.arange(len(owner))
    begins = np.ones(len(owner), np.bool_)
    begins[1:] = owner[1:] != owner[:-1]
    return np.asarray(place - np.maximum.accumulate(np.where(begins, place, 0)) + 1)


def _make(source: Source, ask: Options, given: Catalogue | None, folder: Path, keeping: Keeping) -> Written:
    """Sort into the folder."""
    about, progress = source.about, keeping.progress
    gap = None if ask.session_gap is None else duration(ask.session_gap)
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
    if ask.k_core is not None:
        renumber = sorting.keep_core(folder, ask.k_core, len(ids), before, found)
        ids = [item for item, new in zip(ids, renumber.tolist(), strict=True) if new >= 0]
    content, counts = sorting.contents(folder, ids)
    if not len(content):
        left = f"; --k-core {ask.k_core} leaves none" if ask.k_core is not None else ""
        raise UserError(f"{source.name} holds no event that can be used{left}")
    content.tofile(folder / CONTENT)
    found["once"] = int((counts == 1).sum())
    catalogue, remarks = with_attributes(ids, about.whole if given is None else given.whole, ask.item_table, given)
    describe(folder, catalogue, hash_of(content), ordered=form.ordered, timed=form.timed, weighted=form.weighted)
    if given is not None and len(ids) > before:
        remarks = (*remarks, f"{len(ids) - before:,} items are new to the catalogue of {before:,}")
    return Written([], counts=found, remarks=remarks)
