"""`tacit predict`: what a run's best probe says of every example, learned from all labels there are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tacit.data import open_dataset
from tacit.errors import UserError
from tacit.files import whole_file
from tacit.heads import AT_ONCE, HOW_READ, Chosen, fit_head, labelled_data, open_chosen

if TYPE_CHECKING:
    from tacit.data import Dataset
    from tacit.evaluation.linear import Probe

SUFFIXES = (".csv", ".parquet")
PRECEDES = (
    "the report's verdict precedes this probe, which also learned from the sealed test labels; "
    "its own accuracy was not measured, and is if anything a little higher than the report's"
)


def predict_data(run: str | Path, data: Any, settings: dict[str, Any]) -> pa.Table:
    """See `tacit.commands.predict`."""
    ask = SimpleNamespace(**settings)
    out = None if ask.out is None else _target(Path(ask.out), overwrite=ask.overwrite)
    chosen = open_chosen(run, device=ask.device, offline=ask.offline)
    labelled = labelled_data(chosen, labels=ask.labels, label_column=ask.label_column, labelled=ask.labelled)
    new = {name: getattr(ask, name) for name in HOW_READ if getattr(ask, name, None) is not None}
    dataset = open_dataset(data, **{**chosen.read, **new})
    chosen.check(labelled, dataset)
    probe = fit_head(chosen, labelled)
    table = _predict(chosen, dataset, probe, labelled.classes)
    counts = Counter(table["class"].to_pylist())
    shares = ", ".join(f"{counts[name]:,} x {name}" for name in labelled.classes[:20] if counts[name])
    known = int((labelled.label >= 0).sum())
    print(f"a linear probe on {chosen.arm} ({chosen.depth}), refitted on all {known:,} labels: {PRECEDES}")
    print(f"{len(dataset):,} predictions ({shares}): {out if out is not None else 'not written, for want of --out'}")
    if out is not None:
        _write(table.replace_schema_metadata({"tacit": PRECEDES}), out)
    return table


def _target(out: Path, *, overwrite: bool) -> Path:
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {out}: predictions are written as {' or '.join(SUFFIXES)}; end the name so")
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists; replace it with --overwrite or choose another --out")
    return out


def _predict(chosen: Chosen, dataset: Dataset, probe: Probe, classes: tuple[str, ...]) -> pa.Table:
    parts = []
    for start in range(0, len(dataset), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(dataset)), dtype=np.int64)
        parts.append(probe.probabilities(chosen.features(dataset, rows)))
    probabilities = np.concatenate(parts)  # [N K]
    named = pa.array(classes, pa.string()).take(pa.array(probabilities.argmax(axis=1)))
    columns = [dataset.ids, named, *(pa.array(column) for column in probabilities.T)]
    return pa.Table.from_arrays(columns, names=["id", "class", *(f"p({name})" for name in classes)])


def _write(table: pa.Table, out: Path) -> None:
    write = pa.csv.write_csv if out.suffix.lower() == ".csv" else pa.parquet.write_table
    with whole_file(out) as partial:
        write(table, partial)
