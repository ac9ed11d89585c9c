"""A long table as a folder of Parquet files, which several processes write and an interrupted one goes on with.

Where a part begins depends on the rows alone, so that any number of processes may go on. Parts appear whole or not at
all; `parts.json` says what they are of, and parts of anything else are not mixed with them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from tacit import dist, ranks
from tacit.errors import UserError
from tacit.files import whole_file, write_whole

PLAN = "parts.json"
LEAST, MOST = 1024, 65536  # rows in a part
SHARED = 64  # parts at least, where these are not too small


def write_parts(
    folder: Path, rows: int, write: Callable[[Path, int, int], int], about: dict[str, Any], *, anew: bool = False
) -> int:
    """Have `write(path, start, stop)` write every part that is not there yet, each process some; the rows in all.

    UserError where the folder holds something else, or everything already, and is not to be written `anew`.
    """
    ranks.from_leader(lambda: _claim(folder, {**about, "rows": rows}, anew))
    parts = parts_of(folder, rows)
    missing = ranks.from_leader(lambda: [number for number, (path, _, _) in enumerate(parts) if not path.exists()])
    if not missing:
        raise UserError(f"{folder} holds all embeddings already; replace it with --overwrite or choose another --out")
    for number in missing[dist.rank() :: dist.world()]:
        path, start, stop = parts[number]
        with whole_file(path) as partial:
            write(partial, start, stop)
    ranks.all_arrived()
    return sum(pq.read_metadata(path).num_rows for path, _, _ in parts) if ranks.leader() else 0


def parts_of(folder: Path, rows: int) -> list[tuple[Path, int, int]]:
    """The file of every part, and the rows it begins and ends with."""
    each = min(max(-(-rows // SHARED), LEAST), MOST)
    starts = range(0, rows, each)
    return [
        (folder / f"part-{number:05d}-of-{len(starts):05d}.parquet", start, min(start + each, rows))
        for number, start in enumerate(starts)
    ]


def is_begun(folder: Path) -> bool:
    """Whether parts have been written here."""
    return (folder / PLAN).exists()


def fingerprint(module: torch.nn.Module) -> str:
    """What tells a network from another one: the hash of its weights."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _claim(folder: Path, about: dict[str, Any], anew: bool) -> None:
    plan = folder / PLAN
    if folder.is_dir() and any(folder.iterdir()) and not plan.exists():
        raise UserError(f"{folder} is not empty and holds no embeddings of Tacit; choose another --out")
    if folder.is_file():
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    if plan.exists() and not anew and json.loads(plan.read_text()) != about:
        raise UserError(
            f"{folder} was begun with another encoder, other data or other settings; replace it with --overwrite or "
            "choose another --out"
        )
    if anew:
        for path in folder.glob("part-*.parquet"):
            path.unlink()
    write_whole(plan, json.dumps(about))
