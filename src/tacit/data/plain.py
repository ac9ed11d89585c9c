"""Arrow's views, of which some of its functions know nothing, as its plain types; Polars hands over such strings."""

from __future__ import annotations

from typing import TypeVar

import pyarrow as pa

Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


def plain(rows: Rows) -> Rows:
    """The same rows; strings, bytes and lists that are views become large strings, bytes and lists."""
    schema = plain_schema(rows.schema)
    if schema.equals(rows.schema):
        return rows
    columns = [_as(values, field.type) for values, field in zip(rows.columns, schema, strict=True)]
    return type(rows).from_arrays(columns, schema=schema)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    fields = [field.with_type(_plain(field.type)) for field in schema]
    return pa.schema(fields, schema.metadata)


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if _lists_views(kind):
        return pa.large_list(_plain(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return kind


def _lists_views(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def _as(values: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    if values.type == kind:
        return values
    if "list_view" not in str(values.type):
        return values.cast(kind)
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    made = [pa.array(chunk.to_pylist(), kind) for chunk in chunks]  # arrow's cast of such lists gives arrays that break
    return pa.chunked_array(made, kind) if isinstance(values, pa.ChunkedArray) else made[0]
