"""Hugging Face data sets: by name through its library, or folders of `save_to_disk`, for which it is not needed.

Both are memory-mapped arrow files.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from tacit.core.errors import UserError
from tacit.data.class_names import with_class_names
from tacit.data.opened import reading


def named_dataset(source: str) -> pa.Table:
    """The table of `hf:NAME` or `hf:NAME:SPLIT`, by default the split train; downloaded once, by the library itself."""
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"{source}: data sets by name need a library; install with: pip install 'tacit-learn[hub]'"
        ) from None
    name, _, split = source.removeprefix("hf:").partition(":")
    try:
        found = datasets.load_dataset(name)
    except Exception as error:  # of many libraries: network, files, parsers
        message = " ".join(str(error).split())[:200]
        raise UserError(f"{source} cannot be loaded ({type(error).__name__}: {message}); check the name") from None
    if (split or "train") not in found:
        raise UserError(f"{source} has no split {split or 'train'!r}; name one as hf:{name}:SPLIT: {', '.join(found)}")
    chosen = found[split or "train"]
    return with_class_names(chosen.with_format("arrow")[:], chosen.features)


def library_cache() -> Path:
    """The library's download folder, where the paths in its tables lead."""
    import datasets

    return Path(datasets.config.HF_CACHE_HOME)


def saved_dataset(folder: Path) -> tuple[pa.Table, list[Path]]:
    """The table in a folder, and its files."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        features = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))["features"] or {}
        files = [folder / Path(entry["filename"]).name for entry in state["_data_files"]]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder} is damaged or no data set of save_to_disk; save it again") from None
    if state.get("_indices_files"):
        raise UserError(f"{folder} holds a selection by indices; save it after flatten_indices()")
    parts = []
    for file in files:
        with reading(file):
            parts.append(pa.ipc.open_stream(pa.memory_map(str(file))).read_all())
    if not parts:
        raise UserError(f"{folder} holds no data")
    return with_class_names(pa.concat_tables(parts), features), files
