"""Turn the data argument into a `Listing`: the one place that tells folders, tables and objects apart."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from tacit.core.errors import UserError
from tacit.core.folders import private_folder
from tacit.data.class_names import with_class_names
from tacit.data.folder import folder_source, holds_files
from tacit.data.hub import library_cache, named_dataset, saved_dataset
from tacit.data.named import as_column
from tacit.data.opened import TABLE_SUFFIXES, stamps_of
from tacit.data.places import Place, find, is_url
from tacit.data.plain import plain
from tacit.data.shards import PACKED, tar_source
from tacit.data.shards import SUFFIX as TAR
from tacit.data.signs import AllSigns, named, suffix_of
from tacit.data.source import Source
from tacit.data.tables import Table

_NUMBERS = re.compile(r"[-_.]?\d+(-of-.*)?$")  # at the end of a shard's name
IN_MEMORY = "the data"  # the name of objects in messages


@dataclass(frozen=True)
class Word:
    """A word that is no file, and may name a modality's built-in data."""

    name: str


@dataclass(frozen=True)
class File:
    """One file that is neither a table nor a shard."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Files:
    """Files of several modalities, in a folder or in tar shards, which are listed a modality at a time."""

    name: str
    of: Callable[[str], Source]  # the files of a modality; UserError where there are none


@dataclass(frozen=True)
class Objects:
    """Objects in memory other than tables: arrays, or a list of texts, paths or images."""

    value: Any
    name: str = IN_MEMORY

    @property
    def paths(self) -> bool:
        """Whether it is a list of strings or paths."""
        listed = isinstance(self.value, list | tuple) and len(self.value) > 0
        return listed and all(isinstance(of, str | os.PathLike) for of in self.value)


Listing: TypeAlias = "Source | Table | File | Files | Objects | Word"
"""Data as given; a `Source` where the endings of files identify the modality."""


class Lister:
    """List the given data; `kind` is the modality that the settings name, `kept` the folder for indices of shards."""

    def __init__(self, signs: AllSigns, kind: str | None, kept: Path) -> None:
        self.signs, self.kind, self.kept = named(signs, kind), kind, kept

    def __call__(self, data: Any) -> Listing:
        """List the examples without reading their content. UserError for what cannot be read at all."""
        return self._from_disk(os.fspath(data)) if isinstance(data, str | os.PathLike) else self._from_memory(data)

    def _from_disk(self, text: str) -> Listing:
        if text.startswith("hf:"):
            return Table(text, named_dataset(text), self.signs, root=library_cache())
        if is_url(text):
            return self._from_places(find(text, TABLE_SUFFIXES | {TAR}), text.rstrip("/").rpartition("/")[2])
        path = Path(text)
        if path.is_dir():
            return self._from_folder(path)
        if any(sign in text for sign in "*?[") and not path.exists():
            places = [Path(name) for name in sorted(glob.glob(text)) if Path(name).is_file()]
            return self._from_places(places, path.name)
        if not path.exists():
            return Word(text)
        if not path.is_file():
            raise UserError(
                f"{text} is a pipe, a socket or a device, which gives what it has once; save that as a file"
            )
        suffix = suffix_of(path.name)
        if suffix in TABLE_SUFFIXES or suffix == TAR:
            return self._from_places([path], path.name)
        if suffix in PACKED:
            raise UserError(f"{text} is compressed, so that no member can be read by itself; unpack it to a .tar first")
        return File(path)

    def _from_places(self, places: Sequence[Place], name: str) -> Listing:
        """Tables with the same columns, or tar shards."""
        suffixes = {suffix_of(place.name) for place in places}
        if suffixes == {TAR}:
            kept = private_folder(self.kept)
            return self._files(name, lambda kind: tar_source(places, name, self.signs, kind, kept))
        if not suffixes or not suffixes <= TABLE_SUFFIXES:
            raise UserError(f"{name} matches no tables (.parquet, .csv, .jsonl) and no tar shards (.tar)")
        return Table(name, places, self.signs)

    def _from_folder(self, path: Path) -> Listing:
        """A folder of files or shards, or one written by Hugging Face's datasets."""
        if (path / "dataset_dict.json").is_file():
            splits = sorted(inner.name for inner in path.iterdir() if (inner / "state.json").is_file())
            raise UserError(
                f"{path} holds the splits {', '.join(splits)}: name one of these folders, and perhaps --test"
            )
        if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
            table, files = saved_dataset(path)
            return Table(path.name, table, self.signs, stamps_of(files), path)
        for folder, ending in ((path / "data", ".parquet"), (path, ".parquet"), (path, TAR)):
            shards = sorted(folder.glob(f"*{ending}"))
            if shards and (folder != path or not holds_files(path, self.signs)):
                return self._from_places(_of_one_split(shards, path), path.name)
        return self._files(path.name, lambda kind: folder_source(path, self.signs, kind))

    def _files(self, name: str, of: Callable[[str | None], Source]) -> Listing:
        """The files of one modality, or of whichever is opened later."""
        several = self.kind is not None and self.signs[self.kind].several
        return Files(name, of) if several else of(self.kind)

    def _from_memory(self, data: Any) -> Listing:
        if hasattr(data, "with_format") and hasattr(data, "features"):  # a datasets.Dataset, its selection applied
            return Table(IN_MEMORY, with_class_names(data.with_format("arrow")[:], data.features), self.signs)
        if _is_column(data):  # of texts, of paths, or of numbers
            return Objects(_listed(data))
        if hasattr(data, "__arrow_c_stream__"):  # pyarrow, pandas, polars
            return Table(IN_MEMORY, _table(data), self.signs)
        if not hasattr(data, "__len__") or isinstance(data, bytes | Set):
            raise UserError(
                f"{type(data).__name__} cannot be read as data: give a folder, a file, a table, arrays, or a list of "
                "paths, images or texts"
            )
        return Objects(data)


def _is_column(data: Any) -> bool:
    """Whether these are single values of one column, of pyarrow, pandas, polars or numpy."""
    if isinstance(data, pa.Array | pa.ChunkedArray):
        return not pa.types.is_struct(data.type)
    if isinstance(data, np.ndarray):
        return data.ndim == 1 and data.dtype.kind in "OUST"
    return hasattr(data, "dtype") and not hasattr(data, "detach") and np.ndim(data) == 1


def _listed(column: Any) -> Any:
    """Texts as a list, missing ones empty; any others as a list of the objects, or as they are."""
    values = column.to_pylist() if isinstance(column, pa.Array | pa.ChunkedArray) else list(column)
    texts = [isinstance(value, str | os.PathLike) for value in values]
    if any(texts) and as_column(column).null_count == len(texts) - sum(texts):
        return [os.fspath(value) if one else "" for value, one in zip(values, texts, strict=True)]
    return values if getattr(getattr(column, "dtype", None), "kind", "") == "O" else column


def _of_one_split(shards: list[Path], folder: Path) -> list[Path]:
    """Check that the shards' names differ in numbers only. UserError where they are of several splits."""
    names = {shard: _NUMBERS.sub("", shard.stem) for shard in shards}
    if len(set(names.values())) > 1:
        first = {name: shard for shard, name in reversed(names.items())}
        known = ", ".join(f"'{first[name].with_name(name)}*{first[name].suffix}'" for name in sorted(first))
        raise UserError(f"{folder} holds several splits: name the files of one ({known}), and perhaps --test")
    return shards


def _table(data: Any) -> pa.Table:
    """Convert a data frame to arrow. UserError where a column mixes types."""
    try:
        return plain(pa.table(data))
    except (pa.ArrowException, TypeError) as error:
        if hasattr(data, "items"):  # a frame of pandas, of which a column may mix its types
            return pa.table({str(name): as_column(column) for name, column in data.items()})
        message = " ".join(str(error).split())[:200]
        raise UserError(f"the data frame cannot be read: {message}; give each column values of one type") from None
