"""Sort events in any order into histories on disk; memory grows with the number of users and items only.

Events are spooled into one file per `TOGETHER` users, and each file is sorted by itself. Events of equal time keep the
order of the rows. For a k-core, users and items with fewer than k events are then removed until none is left.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tacit.data.store import mapped
from tacit.data.times import LATEST
from tacit.modalities.events.interactions import Part, renumbered
from tacit.modalities.events.store import COLUMNS

TOGETHER = 1 << 13  # users sorted together
_AT_ONCE = 1 << 20  # events processed at a time, approximately

Array = NDArray[Any]


@dataclass(frozen=True)
class Form:
    """The columns of events, and how histories are split into sessions."""

    ordered: bool  # whether there is a column of times or positions
    timed: bool  # whether it holds times
    weighted: bool
    gap: float | None  # seconds without an event after which a new session begins

    @property
    def dtype(self) -> np.dtype[Any]:
        """The record of a spooled event."""
        kinds = {"user": "<i4", "item": "<i4", "time": "<f8" if self.ordered else "", "weight": "<f4"}
        kinds |= {} if self.weighted else {"weight": ""}
        return np.dtype([(name, kind) for name, kind in kinds.items() if kind])


def spool(parts: Iterable[Part], folder: Path, form: Form, number: dict[str, int], found: Counter[str]) -> None:
    """Write the events to one file per `TOGETHER` users; adds new items to `number`.

    Counts unusable events in `found`: those without a user, an item or a time, and those without weight.
    """
    for part in parts:
        items = renumbered(part.items, number)[part.item]
        usable = (part.user >= 0) & (items >= 0)
        if form.ordered:
            assert part.time is not None
            usable &= ~np.isnan(part.time)
        found["events"] += len(usable)
        found["unplaced"] += int((~usable).sum())
        if form.weighted:
            assert part.weight is not None
            found["weightless"] += int((usable & (part.weight <= 0)).sum())
            usable &= part.weight > 0
        rows = np.empty(int(usable.sum()), form.dtype)
        columns = {"user": part.user, "item": items, "time": part.time, "weight": part.weight}
        for name in form.dtype.names or ():
            rows[name] = columns[name][usable]  # type: ignore[index]
        where = rows["user"] // TOGETHER
        order = np.argsort(where, kind="stable")
        cuts = np.flatnonzero(np.diff(where[order])) + 1
        for chunk in np.split(order, cuts) if len(order) else ():
            with (folder / f"{where[chunk[0]]}.spool").open("ab") as file:
                file.write(rows[chunk].tobytes())


def sort(spooled: Path, users: int, folder: Path, form: Form, found: Counter[str], done: Callable[[int], None]) -> None:
    """Write events, times, weights, starts and owners of the histories; removes the spooled files.

    Counts in `found` repeated rows, which are left out, events of equal time, and other oddities.
    """
    total = 0
    with ExitStack() as files:
        opened = {
            name: files.enter_context((folder / f"{name}.bin").open("wb")) for name in (*COLUMNS, "starts", "owner")
        }
        opened["starts"].write(bytes(8))
        for first in range(0, users, TOGETHER):
            path = spooled / f"{first // TOGETHER}.spool"
            if path.exists():
                total = _sorted(np.fromfile(path, form.dtype), form, opened, total, found)
                path.unlink()
            done(min(first + TOGETHER, users))
    for name, there in {"times": form.ordered, "weights": form.weighted}.items():
        if not there:
            (folder / f"{name}.bin").unlink()


def _sorted(rows: Array, form: Form, files: Mapping[str, IO[bytes]], total: int, found: Counter[str]) -> int:
    """Write the events of some users; returns the total number of events so far."""
    rows = rows[np.lexsort((rows["time"], rows["user"])) if form.ordered else np.argsort(rows["user"], kind="stable")]
    if form.ordered:
        rows = _once(rows, found)
    user = rows["user"]
    begins = np.ones(len(rows), np.bool_)
    begins[1:] = user[1:] != user[:-1]
    found["single"] += int((np.diff(np.flatnonzero(begins), append=len(rows)) == 1).sum())
    pairs = np.sort(user.astype(np.int64) << 32 | rows["item"])
    found["repeats"] += int((pairs[1:] == pairs[:-1]).sum())
    if form.ordered:
        found["tied"] += int((~begins[1:] & (rows["time"][1:] == rows["time"][:-1])).sum())
    if form.timed:
        found["odd_times"] += int(((rows["time"] < 0) | (rows["time"] > LATEST)).sum())
    if form.gap is not None:
        begins[1:] |= np.diff(rows["time"]) > form.gap
    starts = np.flatnonzero(begins)
    files["events"].write(np.ascontiguousarray(rows["item"], np.int32).tobytes())
    if form.ordered:
        files["times"].write(np.ascontiguousarray(rows["time"], np.float64).tobytes())
    if form.weighted:
        files["weights"].write(np.ascontiguousarray(rows["weight"], np.float32).tobytes())
    files["starts"].write((total + np.append(starts[1:], len(rows))).astype(np.int64).tobytes())
    files["owner"].write(user[starts].astype(np.int32).tobytes())
    return total + len(rows)


def _once(rows: Array, found: Counter[str]) -> Array:
    """Drop rows that repeat an earlier one, from rows sorted by user and time."""
    tied = np.zeros(len(rows) + 1, np.bool_)
    tied[1:-1] = (rows["user"][1:] == rows["user"][:-1]) & (rows["time"][1:] == rows["time"][:-1])
    among = np.flatnonzero(tied[1:] | tied[:-1])  # events with neighbours of equal time
    names = [name for name in ("weight", "item", "time", "user") if name in (rows.dtype.names or ())]
    order = among[np.lexsort([rows[name][among] for name in names])]
    again = np.ones(max(0, len(order) - 1), np.bool_)
    for name in names:
        again &= rows[name][order[1:]] == rows[name][order[:-1]]
    found["repeated_rows"] += int(again.sum())
    kept = np.ones(len(rows), np.bool_)
    kept[order[1:][again]] = False
    return rows[kept]


# ---------------------------------------------------------------- the core


def keep_core(folder: Path, k: int, n_items: int, protected: int, found: Counter[str]) -> NDArray[np.int32]:
    """Remove users and items with fewer than k events until none is left; the new number of each item, -1 if removed.

    Items below `protected` keep their numbers, even where they no longer occur.
    """
    events, starts, owner = _opened(folder)
    users_in = np.ones(int(owner.max(initial=-1)) + 1, np.bool_)
    items_in = np.ones(n_items, np.bool_)
    while True:
        users, items = np.zeros(len(users_in), np.int64), np.zeros(n_items, np.int64)
        for _, user, item in _chunks(events, starts, owner):
            alive = users_in[user] & items_in[item]
            np.add.at(users, user[alive], 1)
            np.add.at(items, item[alive], 1)
        still_users, still_items = users >= k, items >= k
        if (still_users == users_in).all() and (still_items == items_in).all():
            break
        users_in, items_in = still_users, still_items
    listed = items_in.copy()
    listed[:protected] = True
    renumber = np.where(listed, np.cumsum(listed) - 1, -1).astype(np.int32)
    _filter(folder, lambda user, item: users_in[user] & items_in[item], renumber, found)
    return renumber


def _filter(
    folder: Path, keeps: Callable[[Array, Array], Array], renumber: NDArray[np.int32], found: Counter[str]
) -> None:
    """Rewrite the histories with the events that are kept and items renumbered; drops empty histories."""
    events, starts, owner = _opened(folder)
    others = {
        name: np.memmap(folder / f"{name}.bin", dtype, "r")
        for name, dtype in COLUMNS.items()
        if name != "events" and (folder / f"{name}.bin").exists()
    }
    total = 0
    with ExitStack() as files:
        names = ("events", *others, "starts", "owner")
        opened = {name: files.enter_context((folder / f"{name}.new").open("wb")) for name in names}
        opened["starts"].write(bytes(8))
        for rows, user, item in _chunks(events, starts, owner):
            kept = keeps(user, item)
            begin, end = int(starts[rows.start]), int(starts[rows.stop])
            opened["events"].write(renumber[item[kept]].tobytes())
            for name, column in others.items():
                opened[name].write(column[begin:end][kept].tobytes())
            before = np.concatenate([[0], np.cumsum(kept)])
            lengths = np.diff(before[starts[rows.start : rows.stop + 1] - begin])
            there = lengths > 0
            opened["starts"].write((total + np.cumsum(lengths[there])).astype(np.int64).tobytes())
            opened["owner"].write(owner[rows][there].tobytes())
            total += int(lengths.sum())
    found["out_of_core"] += int(starts[-1]) - total
    for name in names:
        (folder / f"{name}.new").replace(folder / f"{name}.bin")


def _opened(folder: Path) -> tuple[Array, Array, Array]:
    return (
        mapped(folder / "events.bin", COLUMNS["events"]),
        np.fromfile(folder / "starts.bin", np.int64),
        np.fromfile(folder / "owner.bin", np.int32),
    )


def _chunks(events: Array, starts: Array, owner: Array) -> Iterator[tuple[slice, Array, Array]]:
    """Iterate over blocks of histories: their slice, and the user and item of each event."""
    first = 0
    while first < len(owner):
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + _AT_ONCE, side="right")) - 1)
        rows, bounds = slice(first, last), starts[first : last + 1]
        yield rows, np.repeat(owner[rows], np.diff(bounds)), np.asarray(events[bounds[0] : bounds[-1]])
        first = last


def contents(folder: Path, ids: Iterable[str]) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """A 16-byte hash of the item ids of each history [N], and the number of occurrences of each item [n]."""
    events, starts, owner = _opened(folder)
    names = b"".join(hashlib.blake2b(item.encode(), digest_size=8).digest() for item in ids)
    named = np.frombuffer(names, np.uint64)
    counts = np.zeros(len(named), np.int64)
    digests = []
    for rows, _, item in _chunks(events, starts, owner):
        np.add.at(counts, item, 1)
        data = memoryview(named[item].tobytes())
        bounds = (8 * (starts[rows.start : rows.stop + 1] - starts[rows.start])).tolist()
        digests += [hashlib.blake2b(data[begin:end], digest_size=16).digest() for begin, end in pairwise(bounds)]
    return np.frombuffer(b"".join(digests), "V16"), counts
