"""From what a person gives, to a `Source`: the one place that tells a folder from a table from an array."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from tacit.data.arrays import arrays_source, digits_source, file_source, pil_source
from tacit.data.folder import folder_source
from tacit.data.kinds import choose_kind
from tacit.data.source import Source
from tacit.data.tables import TABLE_SUFFIXES, table_source
from tacit.errors import UserError

DIGITS = "digits"
_IN_MEMORY = "the data"  # what objects without a name are called in messages


def open_source(
    data: Any, kind: str | None = None, image_column: str | None = None, path_column: str | None = None
) -> Source:
    """Read the listing, not the content. UserError for what cannot be read at all."""
    choose_kind({}, kind, _IN_MEMORY)
    if isinstance(data, str | os.PathLike):
        source = _from_disk(os.fspath(data), kind, image_column, path_column)
    else:
        source = _from_memory(data, kind, image_column, path_column)
    if len(source) < 2:
        raise UserError(f"{source.name} holds one example; at least two are needed")
    return source


def _from_disk(text: str, kind: str | None, image_column: str | None, path_column: str | None) -> Source:
    path = Path(text)
    if text == DIGITS and not path.exists():
        return digits_source()
    if path.is_dir():
        return folder_source(path, kind)
    if any(sign in text for sign in "*?[") and not path.exists():
        shards = [Path(name) for name in sorted(glob.glob(text))]
        if not shards or not all(shard.suffix.lower() in TABLE_SUFFIXES for shard in shards):
            raise UserError(f"{text} matches no tables (.parquet, .csv, .jsonl)")
        return table_source(shards, path.name, kind, image_column, path_column)
    if not path.exists():
        raise UserError(f"{text}: no such file or folder (and not the built-in {DIGITS!r})")
    if path.suffix.lower() in TABLE_SUFFIXES:
        return table_source(path, path.name, kind, image_column, path_column)
    if path.suffix.lower() in {".npy", ".npz"}:
        return file_source(path)
    raise UserError(f"{text}: give a folder, or a file of .parquet, .csv, .jsonl, .npz or .npy")


def _from_memory(data: Any, kind: str | None, image_column: str | None, path_column: str | None) -> Source:
    if hasattr(data, "with_format") and hasattr(data, "features"):  # a datasets.Dataset, its selection applied
        table = _with_class_names(data.with_format("arrow")[:], data.features)
        return table_source(table, _IN_MEMORY, kind, image_column, path_column)
    if hasattr(data, "__arrow_c_stream__"):  # pyarrow, pandas, polars
        return table_source(pa.table(data), _IN_MEMORY, kind, image_column, path_column)
    if isinstance(data, Mapping):
        return arrays_source({str(name): _array(value) for name, value in data.items()}, _IN_MEMORY)
    if isinstance(data, list | tuple) and data:
        if all(isinstance(item, Image.Image) for item in data):
            return pil_source(data)
        if all(isinstance(item, str | os.PathLike) for item in data):
            paths = pa.table({"file": [str(item) for item in data]})
            return table_source(paths, _IN_MEMORY, kind, None, "file")
    return arrays_source({"x": _array(data)}, _IN_MEMORY)


def _array(value: Any) -> np.ndarray[Any, Any]:
    if hasattr(value, "detach"):  # a torch tensor, wherever it lies
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except ValueError:
        raise UserError("images of different sizes: give them as a list of PIL images or of paths") from None
    if array.dtype == object:
        raise UserError(f"cannot read {type(value).__name__} as data; give arrays, tables, paths or PIL images")
    return array


def _with_class_names(table: pa.Table, features: Mapping[str, Any]) -> pa.Table:
    """`datasets` stores classes as numbers and their names apart."""
    for position, (name, feature) in enumerate(features.items()):
        names = getattr(feature, "names", None)
        if names and pa.types.is_integer(table.schema.field(name).type):
            texts = [names[i] if i is not None and i >= 0 else None for i in table[name].to_pylist()]
            table = table.set_column(position, name, pa.array(texts, pa.string()))
    return table
