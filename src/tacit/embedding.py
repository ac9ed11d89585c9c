"""`tacit embed`: the embedding of every example, in one Parquet file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tacit.data import open_dataset
from tacit.encoders import load_encoder
from tacit.engine import make_fabric
from tacit.errors import UserError
from tacit.evaluation.features import extract
from tacit.files import whole_file
from tacit.kinds import kind_of

if TYPE_CHECKING:
    from tacit.data import Dataset

ROWS_PER_GROUP = 8192  # embedded and written at a time


def embed_data(encoder: Any, data: Any, settings: dict[str, Any], options: dict[str, Any]) -> int:
    """See `tacit.commands.embed`."""
    ask = SimpleNamespace(**settings)
    out = Path(ask.out)
    if out.exists() and not ask.overwrite:
        raise UserError(f"{out} exists; replace it with --overwrite or choose another --out")
    found = load_encoder(encoder, offline=ask.offline) if isinstance(encoder, str | Path) else encoder
    fabric = make_fabric(device=ask.device, precision="32")
    fabric.to_device(found)
    dataset = open_dataset(data, **{**kind_of(found.spec).reading(found.spec), **_given(options)})
    with whole_file(out) as partial:
        _write(found, dataset, partial, ask.batch_size)
    print(f"{len(dataset):,} embeddings of {found.dim} numbers: {out}")
    return 0


def _write(encoder: Any, dataset: Dataset, path: Path, batch_size: int) -> None:
    own = dataset.columns
    kept = [name for name in own.column_names if name not in {"id", "embedding"}] if own is not None else []
    writer: pq.ParquetWriter | None = None
    try:
        for start in range(0, len(dataset), ROWS_PER_GROUP):
            rows = np.arange(start, min(start + ROWS_PER_GROUP, len(dataset)), dtype=np.int64)
            pooled = extract(encoder, dataset.batch, rows, batch_size=batch_size)["pooled"]
            columns = {
                "id": dataset.ids.slice(start, len(rows)),
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(pooled.ravel()), pooled.shape[1]),
            }
            if own is not None:
                columns |= {name: own.column(name).slice(start, len(rows)) for name in kept}
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
