"""Rows of JSON as a table: columns come and go, and a column may hold now a number and now a word."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa


def table_of(rows: list[dict[str, Any]], without: Collection[str] = ()) -> pa.Table:
    """The rows as columns; values of mixed types become the text that JSON has for them."""
    names = list(dict.fromkeys(name for row in rows for name in row if name not in without))
    return pa.table({name: _array([row.get(name) for row in rows]) for name in names})


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return pa.array([None if value is None else _said(value) for value in values], pa.string())


def _said(value: Any) -> str:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else json.dumps(value)


def concatenated(parts: Sequence[pa.Table], sizes: Sequence[int]) -> pa.Table:
    """The parts, of these sizes: what one of them lacks is null there, what differs in type becomes text."""
    names = list(dict.fromkeys(name for part in parts for name in part.column_names))
    columns = {}
    for name in names:
        chunks = [
            part[name].combine_chunks() if name in part.column_names else pa.nulls(size)
            for part, size in zip(parts, sizes, strict=True)
        ]
        tables = [pa.table({name: chunk}) for chunk in chunks]
        try:
            columns[name] = pa.concat_tables(tables, promote_options="permissive")[name]
        except pa.ArrowException:
            columns[name] = pa.chunked_array([_array_of_text(chunk) for chunk in chunks])
    return pa.table(columns)


def _array_of_text(values: pa.Array) -> pa.Array:
    return pa.array([None if value is None else _said(value) for value in values.to_pylist()], pa.string())
