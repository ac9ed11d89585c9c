"""A long table as a folder of Parquet files, written by several processes and resumable.

Where a part begins depends on the rows alone, so that any number of processes may resume. Parts appear whole or not at
all; `parts.json` names their source, and parts of another source are not mixed with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from tacit.core import folders, gathering, ranks
from tacit.core.errors import UserError
from tacit.core.files import whole_file
from tacit.core.records import read_record, reading, write_record

PLAN = "parts.json"
LEAST, MOST = 1024, 65536  # rows in a part
SHARED = 64  # parts at least, where these are not too small


def write_parts(
    folder: Path, rows: int, write: Callable[[Path, int, int], int], about: dict[str, Any], *, anew: bool = False
) -> int:
    """Call `write(path, start, stop)` for every missing part, shared among the processes; returns the rows in all.

    UserError where the folder holds another table, or a complete one, unless it is written `anew`.
    """
    ranks.from_leader(lambda: _claim(folder, {**about, "rows": rows}, anew))
    parts = parts_of(folder, rows)
    missing = ranks.from_leader(lambda: [number for number, (path, _, _) in enumerate(parts) if not _is_whole(path)])
    if not missing:
        raise UserError(f"{folder} holds all embeddings already; replace it with --overwrite or choose another --out")
    for number in missing[gathering.rank() :: gathering.world()]:
        path, start, stop = parts[number]
        with whole_file(path) as partial:
            write(partial, start, stop)
    ranks.all_arrived()
    return sum(_rows(path) for path, _, _ in parts) if ranks.is_leader() else 0


def _rows(path: Path) -> int:
    with reading(path, "delete it, and embed again"):
        return int(pq.read_metadata(path).num_rows)


def _is_whole(path: Path) -> bool:
    """Whether a part exists and is whole, by the checksums of its pages."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return bool(sum(batch.num_rows for batch in file.iter_batches()) == file.metadata.num_rows)
    except (OSError, ValueError, pa.ArrowException):
        return False


def parts_of(folder: Path, rows: int) -> list[tuple[Path, int, int]]:
    """The file of every part, with its first and last row."""
    each = min(max(-(-rows // SHARED), LEAST), MOST)
    starts = range(0, rows, each)
    return [
        (folder / f"part-{number:05d}-of-{len(starts):05d}.parquet", start, min(start + each, rows))
        for number, start in enumerate(starts)
    ]


def is_begun(folder: Path) -> bool:
    """Whether parts have been written here."""
    if folders.marked(folder) == "embeddings":
        return True
    try:
        return bool(read_record(folder / PLAN).keys() >= {"data", "encoder", "rows"})
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def fingerprint(module: torch.nn.Module) -> str:
    """The hash of a network's weights."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_parts(folder: Path) -> None:
    """UserError where parts must not be written here: only Tacit's own folders of embeddings are resumed."""
    if folder.is_symlink() and not folder.exists():
        raise UserError(f"--out {folder} is a link that leads nowhere; choose another --out")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file; name a folder, or a file that ends in .parquet")
    if folder.is_dir() and any(folder.iterdir()) and not is_begun(folder):
        raise UserError(f"{folder} is not empty and holds no embeddings of Tacit; choose another --out")


def _claim(folder: Path, about: dict[str, Any], anew: bool) -> None:
    check_parts(folder)
    plan = folder / PLAN
    folder.mkdir(parents=True, exist_ok=True)
    begun = [path for path, _, _ in parts_of(folder, about["rows"]) if path.exists()]
    if begun and not plan.exists() and not anew:
        raise UserError(f"{plan} is missing, which says what {begun[0].name} is of; replace it with --overwrite")
    if plan.exists() and not anew and _planned(plan) != about:
        raise UserError(
            f"{folder} was begun with another encoder, other data or other settings; replace it with --overwrite or "
            "choose another --out"
        )
    folders.mark(folder, "embeddings", [PLAN, *(path.name for path, _, _ in parts_of(folder, about["rows"]))])
    if anew:
        folders.remove(folder, [f"part-{'[0-9]' * 5}-of-{'[0-9]' * 5}.parquet"])
    write_record(plan, about)


def _planned(plan: Path) -> Any:
    with reading(plan, "replace the embeddings with --overwrite"):
        return read_record(plan)
