"""Names and attributes of items, from a table with their ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tacit.core.errors import UserError
from tacit.data.opened import read_table
from tacit.modalities.events.catalogue import Catalogue, as_id
from tacit.modalities.events.interactions import ITEM_NAMES, plain

NAMES = (
    "title",
    "name",
    "itemname",
    "itemtitle",
    "movietitle",
    "producttitle",
    "productname",
    "trackname",
    "songtitle",
)
MOST = 4096  # attributes at most, the most frequent
FEWEST = 2  # items with an attribute, at least
_SHOWN = 3  # items shown in a remark
_SIGNS = ("|", ";")  # separators of values in a cell


def with_attributes(
    ids: Sequence[str], whole: bool, table: str | None, given: Catalogue | None
) -> tuple[Catalogue, tuple[str, ...]]:
    """The catalogue of these ids, with names and attributes from a table, and remarks for the user.

    Without a table, names and attributes come from the catalogue `given`. UserError where the table has no id column.
    """
    array = pa.array(ids, pa.string())
    if table is None:
        return Catalogue(array, whole=whole, **_padded(given, len(ids))), ()
    name, columns, found = _rows(Path(table), ids)
    names = None if name is None else pa.array([_text(found.get(item, {}).get(name)) for item in ids], pa.string())
    cells = [set(_values(found.get(item, {}), columns)) for item in ids]
    counts = Counter(value for cell in cells for value in cell)
    common = [value for value, n in counts.most_common(MOST) if FEWEST <= n < len(found)]
    place = {value: number for number, value in enumerate(common)}
    lists = [sorted(place[value] for value in cell if value in place) for cell in cells]
    sides = {there: [item for item in ids if (item in found) is there] for there in (True, False)}
    remarks = [f"{len(common):,} attributes of items from {Path(table).name}: " + ", ".join(columns)] if columns else []
    remarks.append(
        f"{len(sides[True]):,} of {len(ids):,} items are in {Path(table).name}{_some(sides[True])}, "
        f"{len(sides[False]):,} are not{_some(sides[False])}"
    )
    attributes = pa.array(lists, pa.list_(pa.int32())) if common else None
    return Catalogue(array, whole=whole, names=names, attributes=attributes, n_attributes=len(common)), tuple(remarks)


def _some(ids: Sequence[str]) -> str:
    return f" ({', '.join(ids[:_SHOWN])}{', ...' if len(ids) > _SHOWN else ''})" if ids else ""


def _padded(given: Catalogue | None, n: int) -> dict[str, Any]:
    """Names and attributes of a catalogue, padded to n items."""
    if given is None:
        return {}
    more = n - len(given)

    def longer(column: pa.Array | None) -> pa.Array | None:
        return None if column is None else pa.concat_arrays([column, pa.nulls(more, column.type)])

    return {
        "names": longer(given.names),
        "attributes": longer(given.attributes),
        "n_attributes": given.n_attributes,
    }


def _rows(path: Path, ids: Sequence[str]) -> tuple[str | None, list[str], dict[str, dict[str, Any]]]:
    """The name column, the attribute columns, and the row of each of these ids."""
    table = read_table(path)
    usual = {plain(column): column for column in reversed(table.column_names)}
    key = next((usual[name] for name in (*ITEM_NAMES, "id") if name in usual), None)
    if key is None:
        there = ", ".join(table.column_names)
        raise UserError(
            f"--item-table {path} has no column of items that is known by its name (of {there}): call it 'item'"
        )
    wanted = set(ids)
    found = {as_id(row[key]): row for row in table.to_pylist() if as_id(row[key]) in wanted}
    if not found:
        raise UserError(f"--item-table {path}: none of the items occurs in its column {key!r}")
    name = next((usual[known] for known in NAMES if known in usual), None)
    return name, [column for column in table.column_names if column not in (key, name)], found


def _values(row: dict[str, Any], columns: Sequence[str]) -> Iterator[str]:
    """`column=value` for every value in these cells."""
    for column in columns:
        cell = row.get(column)
        values = cell if isinstance(cell, list | np.ndarray) else [cell]
        if isinstance(cell, str):
            sign = next((sign for sign in _SIGNS if sign in cell), None)
            values = [cell] if sign is None else cell.split(sign)
        yield from (f"{column}={as_id(value)}" for value in values if value is not None and as_id(value))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
