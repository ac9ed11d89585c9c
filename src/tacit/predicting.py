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
from numpy.typing import NDArray

from tacit.data import open_dataset
from tacit.encoders import load_encoder
from tacit.engine import make_fabric
from tacit.errors import UserError
from tacit.evaluation import Report
from tacit.evaluation.features import extract
from tacit.evaluation.linear import Probe, fit_probe
from tacit.evaluation.selection import FINAL
from tacit.files import whole_file
from tacit.workspace import settings_of

if TYPE_CHECKING:
    from tacit.data import Dataset

AT_ONCE = 8192  # examples embedded at a time
SUFFIXES = (".csv", ".parquet")
HOW_READ = ("kind", "image_column", "path_column", "cache", "max_bad")  # what new data share with those of the run
HOW_LABELLED = ("labels", "label_column", "ignore_label", "group_column", "test", "target", "multilabel")
PREDICTED = ("classification", "tokens")  # the targets whose answer is one class
PRECEDES = (
    "the report's verdict precedes this probe, which also learned from the sealed test labels; "
    "its own accuracy was not measured, and is if anything a little higher than the report's"
)


def predict_data(run: str | Path, data: Any, settings: dict[str, Any]) -> pa.Table:
    """See `tacit.commands.predict`."""
    ask = SimpleNamespace(**settings)
    out = None if ask.out is None else _target(Path(ask.out), overwrite=ask.overwrite)
    folder = Path(run)
    asked, chosen = settings_of(folder), Report.load(folder).data
    encoder = load_encoder(folder, offline=ask.offline)
    make_fabric(device=ask.device, precision="32").to_device(encoder)
    read = {name: asked[name] for name in HOW_READ if asked.get(name) is not None} | {"image_size": encoder.spec.size}
    labelled = _labelled(folder, asked, ask, read)
    new = {name: getattr(ask, name) for name in HOW_READ if getattr(ask, name, None) is not None}
    dataset = open_dataset(data, **{**read, **new})
    for opened in (labelled, dataset):
        if opened.spec.channels != encoder.spec.channels:
            kinds = {1: "grey", 3: "colour"}
            raise UserError(
                f"the run learned from {kinds[encoder.spec.channels]} images, but those of {opened.name} are "
                f"{kinds[opened.spec.channels]}: convert them"
            )
    depth = (chosen.get("representation") or {}).get(chosen["selected_arm"], FINAL)
    probe = _fit(encoder, labelled, depth, seed=asked.get("seed", 0))
    table = _predict(encoder, dataset, depth, probe, labelled.classes)
    counts = Counter(table["class"].to_pylist())
    shares = ", ".join(f"{counts[name]:,} x {name}" for name in labelled.classes[:20] if counts[name])
    known = int((labelled.label >= 0).sum())
    print(f"a linear probe on {chosen['selected_arm']} ({depth}), refitted on all {known:,} labels: {PRECEDES}")
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


def _labelled(folder: Path, asked: dict[str, Any], ask: SimpleNamespace, read: dict[str, Any]) -> Dataset:
    """The run's data with all labels, the sealed ones too, read as the run read them or as `ask` says."""
    source = ask.labelled if ask.labelled is not None else asked["data"]
    how = {name: asked[name] for name in HOW_LABELLED if asked.get(name) is not None}
    if ask.labelled is not None:
        how.pop("test", None)
    if ask.labels is not None:
        how = {**how, "labels": ask.labels, "label_column": None}  # which was a column of the other file
    if ask.label_column is not None:
        how["label_column"] = ask.label_column
    for name, value in [("data", source), *how.items()]:
        if isinstance(value, str) and value.startswith("<"):
            raise UserError(f"{folder} does not remember its {name}, an object in Python: pass it as labelled=")
    dataset = open_dataset(source, **{**read, **how})
    if dataset.target not in PREDICTED:
        raise UserError(f"{folder} was judged by {dataset.target}; predict knows {' and '.join(PREDICTED)} alone")
    if not dataset.classes:
        raise UserError(f"{folder} has no labels to learn from; name them with --labels FILE or --label-column")
    return dataset


def _features(encoder: Any, dataset: Dataset, rows: NDArray[np.int64], depth: str) -> NDArray[np.float32]:
    """[N D] at the depth that the evaluation chose; where `extract` left it out, it equals the final one."""
    found = extract(encoder, dataset.batch, rows)
    return found.get(depth, found[FINAL])


def _fit(encoder: Any, labelled: Dataset, depth: str, *, seed: int) -> Probe:
    rows = np.flatnonzero(labelled.label >= 0)
    parts = [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]
    features = np.concatenate([_features(encoder, labelled, part, depth) for part in parts])
    groups = None if labelled.group is None else labelled.group[rows]
    return fit_probe(features, labelled.label[rows], n_classes=len(labelled.classes), groups=groups, seed=seed)


def _predict(encoder: Any, dataset: Dataset, depth: str, probe: Probe, classes: tuple[str, ...]) -> pa.Table:
    parts = []
    for start in range(0, len(dataset), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(dataset)), dtype=np.int64)
        parts.append(probe.probabilities(_features(encoder, dataset, rows, depth)))
    probabilities = np.concatenate(parts)  # [N K]
    named = pa.array(classes, pa.string()).take(pa.array(probabilities.argmax(axis=1)))
    columns = [dataset.ids, named, *(pa.array(column) for column in probabilities.T)]
    return pa.Table.from_arrays(columns, names=["id", "class", *(f"p({name})" for name in classes)])


def _write(table: pa.Table, out: Path) -> None:
    write = pa.csv.write_csv if out.suffix.lower() == ".csv" else pa.parquet.write_table
    with whole_file(out) as partial:
        write(table, partial)
