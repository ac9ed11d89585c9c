"""From what a person gives, to a `Source`: the one place that tells a folder from a table from an array."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from tacit.core.errors import UserError
from tacit.core.text import whole_signs
from tacit.data.cache import default_root, private_folder
from tacit.data.class_names import with_class_names
from tacit.data.folder import folder_source, holds_files
from tacit.data.hub import library_cache, named_dataset, saved_dataset
from tacit.data.kinds import KINDS, choose_kind, suffix_of
from tacit.data.named import as_column
from tacit.data.opened import TABLE_SUFFIXES, stamps_of
from tacit.data.places import Place, find, is_url
from tacit.data.shards import PACKED, tar_source
from tacit.data.shards import SUFFIX as TAR
from tacit.data.source import Source
from tacit.data.tables import Columns, table_source
from tacit.modalities.audio.segments import stretches
from tacit.modalities.image.arrays import LABEL_NAMES, arrays_source, digits_source, file_source, pil_source
from tacit.modalities.text.texts import file_texts, files_source

DIGITS = "digits"
_NUMBERS = re.compile(r"[-_.]?\d+(-of-.*)?$")  # at the end of a shard's name
_IN_MEMORY = "the data"  # what objects without a name are called in messages


def open_source(data: Any, ask: Columns | None = None, root: Path | None = None) -> Source:
    """Read the listing, not the content. UserError for what cannot be read at all.

    `root` is the cache, where the indices of tar shards are kept.
    """
    ask = ask or Columns()
    choose_kind({}, ask.kind, _IN_MEMORY)
    ask = _one_kind(ask)
    if isinstance(data, str | os.PathLike):
        source = _from_disk(os.fspath(data), ask, private_folder((root or default_root()) / "listings"))
    else:
        source = _from_memory(data, ask)
    span = ask.start_column or ask.end_column
    if span is not None and source.columns is None:
        flag = "start" if ask.start_column else "end"
        raise UserError(f"--{flag}-column {span}: {source.name} is no table; give one of paths, starts and ends")
    if len(source) < 2:
        raise UserError(f"{source.name} holds one example; at least two are needed")
    return source


def _one_kind(ask: Columns) -> Columns:
    """With the kind that a named column tells. UserError where two tell different ones."""
    named = {"image": ask.image_column, "audio": ask.audio_column, "text": ", ".join(ask.text_column)}
    said = {kind: f"--{kind}-column {column}" for kind, column in named.items() if column}
    if ask.start_column or ask.end_column:
        flag = "start" if ask.start_column else "end"
        said.setdefault("audio", f"--{flag}-column {ask.start_column or ask.end_column}")
    for role, column in ask.events.columns.items():
        if column and role != "time":
            said["items"] = f"--{role}-column {column}"
    if len(said) > 1:
        raise UserError(f"{' and '.join(list(said.values())[:2])} exclude each other; choose one")
    for kind, setting in said.items():
        if ask.kind not in (None, kind):
            raise UserError(f"{setting} contradicts --kind {ask.kind}; leave one of them out")
        return replace(ask, kind=kind)
    return ask


def _from_disk(text: str, ask: Columns, listings: Path) -> Source:
    if text.startswith("hf:"):
        return table_source(named_dataset(text), text, ask, root=library_cache())
    if is_url(text):
        return _from_places(find(text, TABLE_SUFFIXES | {TAR}), text.rstrip("/").rpartition("/")[2], ask, listings)
    path = Path(text)
    if text == DIGITS and not path.exists():
        return digits_source()
    if path.is_dir():
        return _from_folder(path, ask, listings)
    if any(sign in text for sign in "*?[") and not path.exists():
        return _from_places(
            [Path(name) for name in sorted(glob.glob(text)) if Path(name).is_file()], path.name, ask, listings
        )
    if not path.exists():
        raise UserError(f"{text}: no such file or folder (and not the built-in {DIGITS!r})")
    if not path.is_file():
        raise UserError(f"{text} is a pipe, a socket or a device, which gives what it has once; save that as a file")
    suffix = suffix_of(path.name)
    if suffix in TABLE_SUFFIXES or suffix == TAR:
        return _from_places([path], path.name, ask, listings)
    if suffix in PACKED:
        raise UserError(f"{text} is compressed, so that no member can be read by itself; unpack it to a .tar first")
    if suffix in {".npy", ".npz"}:
        return file_source(path)
    if suffix in KINDS["text"].suffixes:
        return file_texts(path)
    raise UserError(f"{text}: give a folder, or a file of .parquet, .csv, .jsonl, .tar, .txt, .npz or .npy")


def _from_places(places: Sequence[Place], name: str, ask: Columns, listings: Path) -> Source:
    """Tables of one form, or tar shards."""
    suffixes = {suffix_of(place.name) for place in places}
    if suffixes == {TAR}:
        source = tar_source(places, name, ask.kind, listings)
        span = (ask.start_column, ask.end_column)
        return stretches(source, *span) if any(span) and source.columns is not None else source
    if not suffixes or not suffixes <= TABLE_SUFFIXES:
        raise UserError(f"{name} matches no tables (.parquet, .csv, .jsonl) and no tar shards (.tar)")
    return table_source(places, name, ask)


def _from_folder(path: Path, ask: Columns, listings: Path) -> Source:
    """A folder of files, of shards, or one that Hugging Face's datasets has written."""
    if (path / "dataset_dict.json").is_file():
        splits = sorted(inner.name for inner in path.iterdir() if (inner / "state.json").is_file())
        raise UserError(f"{path} holds the splits {', '.join(splits)}: name one of these folders, and perhaps --test")
    if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        table, files = saved_dataset(path)
        return table_source(table, path.name, ask, stamps_of(files), path)
    for folder, ending in ((path / "data", ".parquet"), (path, ".parquet"), (path, TAR)):
        shards = sorted(folder.glob(f"*{ending}"))
        if shards and (folder != path or not holds_files(path)):
            return _from_places(_of_one_split(shards, path), path.name, ask, listings)
    return folder_source(path, ask.kind)


def _of_one_split(shards: list[Path], folder: Path) -> list[Path]:
    """The shards, whose names are alike up to their numbers. UserError where they are of several splits."""
    names = {shard: _NUMBERS.sub("", shard.stem) for shard in shards}
    if len(set(names.values())) > 1:
        first = {name: shard for shard, name in reversed(names.items())}
        known = ", ".join(f"'{first[name].with_name(name)}*{first[name].suffix}'" for name in sorted(first))
        raise UserError(f"{folder} holds several splits: name the files of one ({known}), and perhaps --test")
    return shards


def _from_memory(data: Any, ask: Columns) -> Source:
    if hasattr(data, "with_format") and hasattr(data, "features"):  # a datasets.Dataset, its selection applied
        return table_source(with_class_names(data.with_format("arrow")[:], data.features), _IN_MEMORY, ask)
    if hasattr(data, "__arrow_c_stream__"):  # pyarrow, pandas, polars
        return table_source(_table(data), _IN_MEMORY, ask)
    if isinstance(data, Mapping):
        named = {str(name): value for name, value in data.items()}
        return arrays_source(
            {name: value if name in LABEL_NAMES else _array(value) for name, value in named.items()}, _IN_MEMORY
        )
    if isinstance(data, list | tuple) and data:
        if all(isinstance(item, Image.Image) for item in data):
            return pil_source(data)
        if all(isinstance(item, str | os.PathLike) for item in data):
            return _from_strings([os.fspath(item) for item in data], ask)
    if ask.kind == "audio":
        raise UserError(f"{type(data).__name__}: give sounds as a folder, a table, or a list of paths to files")
    return arrays_source({"x": _array(data)}, _IN_MEMORY)


def _table(data: Any) -> pa.Table:
    """A data frame as arrow's. UserError where a column mixes types."""
    try:
        return pa.table(data)
    except (pa.ArrowException, TypeError) as error:
        if hasattr(data, "items"):  # a frame of pandas, of which a column may mix its types
            return pa.table({str(name): as_column(column) for name, column in data.items()})
        said = " ".join(str(error).split())[:200]
        raise UserError(f"the data frame cannot be read: {said}; give each column values of one type") from None


def _from_strings(data: list[str], ask: Columns) -> Source:
    """Paths to files, or texts."""
    if ask.kind != "text":
        source = table_source(pa.table({"file": data}), _IN_MEMORY, Columns(ask.kind, path_column="file"))
        return replace(source, read={})
    if all(len(item) < 4096 and "\n" not in item and os.path.isfile(item) for item in data):
        return files_source([Path(item) for item in data], _IN_MEMORY)
    whole = [whole_signs(item) for item in data]  # arrow takes no halves of surrogate pairs
    source = table_source(pa.table({"text": whole}), _IN_MEMORY, Columns("text", text_column=("text",)))
    return replace(source, read={})


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
