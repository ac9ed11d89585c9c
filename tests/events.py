"""Small tables of events for the tests of histories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tacit.dataset import Dataset
from tacit.modalities.events.store import Histories

Row = dict[str, Any]


def events(n: int = 200, users: int = 20, items: int = 30, seed: int = 0, **columns: str) -> list[Row]:
    """Rows in no order: whole ids, times at which several events may happen. `columns` rename user, item, timestamp."""
    rng = np.random.default_rng(seed)
    values = {
        "user": rng.integers(0, users, n),
        "item": rng.integers(0, items, n),
        "timestamp": 1_600_000_000 + rng.integers(0, n, n),
    }
    named = {columns.get(name, name): value.tolist() for name, value in values.items()}
    return [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]


def write(rows: list[Row], path: Path) -> Path:
    """The rows as a file of the kind that its name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        lines = [",".join(rows[0]), *(",".join("" if v is None else str(v) for v in row.values()) for row in rows)]
        path.write_text("\n".join(lines))
    return path


def histories_of(dataset: Dataset) -> Histories:
    assert isinstance(dataset.cache, Histories)
    return dataset.cache


def as_told(dataset: Dataset) -> dict[str, list[Any]]:
    """The ids of every history's items, by the history's name."""
    found, known = histories_of(dataset), dataset.spec.known  # type: ignore[union-attr]
    rows = found.seen(np.arange(len(found)))
    return {name: known.items(items) for name, items in zip(dataset.ids.to_pylist(), rows, strict=True)}


def by_hand(rows: list[Row], key: str | None = "timestamp") -> dict[str, list[Any]]:
    """The same by the most naive means: rows said twice once, sorted by user and time, ties in the rows' order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        mine = found.setdefault(str(row["user"]), [])
        if key is None or row not in mine:
            mine.append(row)
    return {
        user: [row["item"] for row in (sorted(mine, key=lambda row: row[key]) if key else mine)]
        for user, mine in found.items()
    }
