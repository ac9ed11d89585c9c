"""Read tables of interactions: find the columns of users, items and times, and convert rows to numbers.

Events may be in any order; `tacit.modalities.events.sequences` sorts them by user and time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.core import naming
from tacit.core.errors import UserError
from tacit.data.named import as_text, refuse_rounded
from tacit.data.opened import is_text
from tacit.data.source import Source, digest
from tacit.data.streamed import Streamed
from tacit.data.times import When, when_of
from tacit.modalities.events.options import Options

USER_NAMES = (
    *("user", "userid", "uid", "customer", "customerid", "visitor", "visitorid", "member", "memberid", "client"),
    *("clientid", "account", "accountid", "reviewerid", "profileid", "sessionid", "session"),
)
ITEM_NAMES = (
    *("item", "itemid", "iid", "movie", "movieid", "product", "productid", "asin", "sku", "article", "articleid"),
    *("track", "trackid", "song", "songid", "book", "bookid", "video", "videoid", "business", "businessid", "newsid"),
)
TIME_NAMES = ("timestamp", "time", "datetime", "date", "ts", "eventtime", "createdat", "unixreviewtime", "ratedat")
ORDER_NAMES = ("position", "order", "rank", "step", "sequencenumber", "eventindex", "index")
_SETTINGS = {"user": "--user-column", "item": "--item-column", "time": "--time-column", "event": "--event-column"}


@dataclass(frozen=True)
class Roles:
    """The columns of a table of events; without a time column, its rows are in order."""

    user: str
    item: str
    time: str | None = None
    event: str | None = None

    @property
    def named(self) -> list[str]:
        return [column for column in (self.user, self.item, self.time, self.event) if column is not None]


class Part(NamedTuple):
    """A part of the events, n of them; where a cell is empty, a number is -1 and a time NaN."""

    user: NDArray[np.int32]  # [n] numbers of `Source.ids`
    item: NDArray[np.int32]  # [n] numbers in `items`
    items: list[str | None]  # ids
    time: NDArray[np.float64] | None  # [n] seconds, or positions in an order
    weight: NDArray[np.float32] | None  # [n]


@dataclass(frozen=True)
class Interactions:
    """Facts about a source's events, known before they are sorted."""

    when: When
    whole: bool  # whether item ids are whole numbers
    weighted: bool


def are_events(schema: pa.Schema) -> bool:
    """Whether there are columns with usual names for users and items."""
    names = {plain(column) for column in schema.names}
    return bool(names & set(USER_NAMES) and names & set(ITEM_NAMES))


def roles_of(schema: pa.Schema, options: Options, name: str) -> Roles:
    """The columns named by options, else those with usual names.

    UserError where a named column is missing, or there is none of users or items.
    """
    columns = {role: getattr(options, f"{role}_column") for role in _SETTINGS}
    for role, column in columns.items():
        if column is not None and column not in schema.names:
            there = ", ".join(schema.names)
            raise UserError(f"{_SETTINGS[role]} {column}: {name} has no such column (it has: {there})")
    known_as = {plain(column): column for column in reversed(schema.names)}
    usual = {"user": USER_NAMES, "item": ITEM_NAMES, "time": (*TIME_NAMES, *ORDER_NAMES)}
    found = {role: column for role, column in columns.items() if column is not None}
    for role, names in usual.items():
        found.setdefault(role, next((known_as[name] for name in names if name in known_as), ""))
    user, item = found["user"], found["item"]
    if not (user and item):
        role = "item" if user else "user"
        raise UserError(
            f"{name} has no column of {role}s that is known by its name (of {', '.join(schema.names)}): name it with "
            f"{_SETTINGS[role]}"
        )
    if user == item:
        raise UserError(
            f"{user!r} cannot be the column of users and of items; name two with --user-column, --item-column"
        )
    return Roles(user, item, found["time"] or None, found.get("event"))


def plain(column: str) -> str:
    """Normalise a column name for comparison: `User_ID` and `user_id:token` become userid."""
    return column.partition(":")[0].lower().replace("_", "").replace("-", "").replace(" ", "")


def interactions_source(events: Streamed, options: Options, name: str) -> Source:
    """A source with one example per user, in order of first occurrence.

    UserError where columns are missing, or hold invalid users, items, times or weights.
    """
    roles, weights = roles_of(events.schema, options, name), event_weights(options.event_weight)
    if weights and roles.event is None:
        raise UserError("--event-weight says what words of a column weigh: name it with --event-column")
    number: dict[str, int] = {}
    for batch in events.stream([roles.user]):
        _numbers(batch.column(0), number, roles.user)
    if not number:
        raise UserError(f"{name} has no rows with a user in {roles.user!r}")
    ids = pa.array(list(number), pa.string())
    when = when_of(events, roles.time, usual=roles.time is not None and plain(roles.time) in TIME_NAMES)
    held = events.schema.field(roles.item).type
    held = held.value_type if pa.types.is_dictionary(held) else held

    def items() -> Iterator[Part]:
        for batch in events.stream(roles.named):
            found = dict(zip(batch.schema.names, batch.columns, strict=True))
            words, item = as_words(found[roles.item], roles.item)
            yield Part(
                _numbers(found[roles.user], number, roles.user),
                item,
                words,
                None if roles.time is None else when.seconds(found[roles.time]),
                None if roles.event is None else _weights(found[roles.event], weights, roles.event),
            )

    stamps = events.stamps or (memoryview(batch.serialize()) for batch in events.stream(roles.named))
    identity = [*roles.named, str(dict(weights))]
    return Source(
        name=name,
        kind="items",
        ids=ids,
        key=roles.user,
        aliases=USER_NAMES,
        by_path=False,
        fingerprint=digest(chain([b"items 2", "\0".join(identity).encode()], stamps)),
        items=items,
        sample=lambda k: [],
        whole=ids if options.session_gap is not None else None,
        remarks=(
            *events.remarks,
            f"users by {roles.user!r}, items by {roles.item!r}, {when.description}",
        ),
        about=Interactions(when, pa.types.is_integer(held), roles.event is not None),
        read=_read(roles, options),
    )


def _read(roles: Roles, options: Options) -> dict[str, Any]:
    """The settings that read other tables by the same columns."""
    columns = {"user": roles.user, "item": roles.item, "time": roles.time, "event": roles.event}
    found: dict[str, Any] = {f"{role}_column": column for role, column in columns.items() if column is not None}
    if options.event_weight:
        found["event_weight"] = list(options.event_weight)
    return found if options.session_gap is None else {**found, "session_gap": options.session_gap}


def as_words(values: pa.Array, column: str, *, ids: bool = True) -> tuple[list[str | None], NDArray[np.int32]]:
    """Encode ids of any type: the distinct texts, and the number of each cell among them, [n], -1 where empty.

    A word for a missing value is no id.
    """
    held = values.type.value_type if isinstance(values, pa.DictionaryArray) else values.type
    if pa.types.is_nested(held) or pa.types.is_binary(held) or pa.types.is_large_binary(held):
        raise UserError(f"column {column!r} holds {held}, no ids; give text or whole numbers")
    encoded = values if isinstance(values, pa.DictionaryArray) else values.dictionary_encode()
    words = encoded.dictionary
    if ids:
        refuse_rounded(words, f"column {column!r}")
    if pa.types.is_floating(words.type):
        try:
            words = pc.if_else(pc.is_finite(words), words, None).cast(pa.int64())
        except pa.ArrowInvalid:
            raise UserError(f"column {column!r} holds fractions, no ids; give text or whole numbers") from None
    texts = [None if text is None or (ids and naming.missing(text)) else text for text in as_text(words).to_pylist()]
    found = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    there = np.array([text is not None for text in [*texts, None]], np.bool_)
    return texts, np.where(there[found], found, -1).astype(np.int32)


def _numbers(values: pa.Array, number: dict[str, int], column: str) -> NDArray[np.int32]:
    """The number of each id, [n], with new ids numbered on; -1 where a cell is empty."""
    words, found = as_words(values, column)
    return renumbered(words, number)[found]


def renumbered(words: Sequence[str | None], number: dict[str, int]) -> NDArray[np.int32]:
    """The number of each of these texts, with new ones numbered on, and a last -1 for empty cells."""
    return np.array([*(-1 if word is None else number.setdefault(word, len(number)) for word in words), -1], np.int32)


def _weights(values: pa.Array, weights: Mapping[str, float], column: str) -> NDArray[np.float32]:
    """The weight of each event [n]: by its word, or the number in the cell where no words are given; else 1."""
    if weights:
        words, found = as_words(values, column, ids=False)
        return np.array([*(weights.get(word or "", 1.0) for word in words), 1.0], np.float32)[found]
    values = values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values
    try:
        if is_text(values.type):
            values = pc.if_else(pc.equal(values, ""), None, values)
        numbers = pc.fill_null(values.cast(pa.float32()), 1.0).to_numpy(zero_copy_only=False)
        return np.where(np.isnan(numbers), np.float32(1.0), numbers)
    except pa.ArrowException:
        words = [word for word in pc.unique(values).to_pylist() if word][:3]
        raise UserError(
            f"--event-column {column} holds words ({', '.join(map(str, words))}): say what they weigh, such as "
            f"--event-weight {words[0]}=1"
        ) from None


def event_weights(texts: Sequence[str]) -> dict[str, float]:
    """Parse weights such as `view=1`. UserError where one is invalid."""
    found: dict[str, float] = {}
    for text in texts:
        word, _, weight = text.rpartition("=")
        if not word.strip() or re.fullmatch(r"\d+(\.\d+)?", weight.strip()) is None:
            raise UserError(f"--event-weight {text}: write the word and its weight, 0 or more, such as purchase=3")
        found[word.strip()] = float(weight)
    return found
