"""Class names as Hugging Face's `datasets` stores them: numbers in the column, names in the metadata, -1 for none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tacit.core.errors import UserError
from tacit.data.named import one_array

_METADATA = b"huggingface"  # the key of a table's schema, which Parquet files keep


def own_class_names(table: pa.Table) -> pa.Table:
    """Replace class numbers by the names in the table's metadata, if there are any."""
    try:
        features = json.loads((table.schema.metadata or {})[_METADATA])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return table
    return with_class_names(table, features) if isinstance(features, dict) else table


def with_class_names(table: pa.Table, features: Mapping[str, Any]) -> pa.Table:
    """Replace class numbers by names, negative ones by null. UserError for numbers without a name."""
    for position, name in enumerate(table.column_names):
        names = _names(features.get(name))
        held = table.schema.field(position).type
        several = pa.types.is_list(held) or pa.types.is_large_list(held) or pa.types.is_fixed_size_list(held)
        if names and pa.types.is_integer(held.value_type if several else held):
            column = one_array(table[name])
            table = table.set_column(position, name, _listed(column, names) if several else _named(column, names, name))
    return table


def _names(feature: Any) -> Sequence[str]:
    """The names of a ClassLabel or of a list of them; empty for anything else."""
    if isinstance(feature, list) and len(feature) == 1:
        return _names(feature[0])
    inner = feature.get("feature") if isinstance(feature, dict) else getattr(feature, "feature", None)
    if inner is not None:
        return _names(inner)
    names = feature.get("names") if isinstance(feature, dict) else getattr(feature, "names", None)
    return [str(name) for name in names] if isinstance(names, list | tuple) else ()


def _named(column: pa.Array, names: Sequence[str], where: str) -> pa.Array:
    strange = pc.max(column).as_py() or 0
    if strange >= len(names):
        raise UserError(
            f"column {where!r} holds the class {strange}, but names {len(names)} classes only ({', '.join(names[:3])}, "
            "...): correct its metadata"
        )
    places = pc.if_else(pc.less(column, pa.scalar(0, column.type)), None, column)
    return pa.array(names, pa.string()).take(places)


def _listed(column: pa.Array, names: Sequence[str]) -> pa.Array:
    rows = [None if row is None else [None if i is None or i < 0 else i for i in row] for row in column.to_pylist()]
    flat = _named(pa.array([i for row in rows if row for i in row], pa.int64()), names, "of lists")
    each = iter(flat.to_pylist())
    return pa.array([None if row is None else [next(each) for _ in row] for row in rows], pa.list_(pa.string()))
