"""`tacit predict`: what a run's best probe says of every example, learned from all labels there are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tacit.core.errors import UserError
from tacit.core.files import check_place, check_target, first_line, whole_file
from tacit.data.text import write_csv
from tacit.dataset import open_dataset
from tacit.experiment.heads import AT_ONCE, Chosen, fit_head, labelled_data, learned_target, open_chosen
from tacit.experiment.reading import check_names, overridden, tell

if TYPE_CHECKING:
    from tacit.dataset import Dataset
    from tacit.evaluation.targets.base import Predictor, Values

SUFFIXES = (".csv", ".parquet")
SEPARATOR = "|"  # between several labels, where the run's came as lists
SHOWN = 20  # different answers in the terminal
PRECEDES = (
    "the report's verdict precedes this probe, which also learned from the sealed test labels; "
    "how good it is itself was not measured: if anything a little better than the report's figures"
)


def predict_data(run: str | Path, data: Any, settings: dict[str, Any], options: dict[str, Any]) -> pa.Table:
    """See `tacit.commands.predict`."""
    ask = SimpleNamespace(**settings)
    check_names(options)
    out = None if ask.out is None else _target(Path(ask.out), overwrite=ask.overwrite)
    chosen = open_chosen(run, device=ask.device, offline=ask.offline, trust=ask.trust)
    labelled = labelled_data(chosen, labels=ask.labels, label_column=ask.label_column, labelled=ask.labelled)
    dataset = open_dataset(data, **chosen.reading(options))
    tell(dataset, overridden(chosen.encoder, options), private=bool(chosen.asked.get("private")))
    chosen.check(labelled, dataset)
    target, predicted = learned_target(labelled), _predict(chosen, dataset, fit_head(chosen, labelled))
    columns = target.columns(predicted, labelled.classes, chosen.asked.get("multilabel") or SEPARATOR)
    table = pa.table({"id": dataset.ids, **columns})
    known = int((labelled.label >= 0).sum())
    private = ask.private or chosen.asked.get("private")
    print(
        f"{target.protocols['linear']} on {chosen.arm} ({chosen.depth}), refitted on all {known:,} labels: {PRECEDES}"
    )
    where = out if out is not None else "not written, for want of --out"
    told = "" if private else f" ({_in_short(next(iter(columns.values())))})"
    print(f"{len(dataset):,} predictions{told}: {where}")
    if out is not None:
        _write(table.replace_schema_metadata({"tacit": PRECEDES}), out)
    return table


def _target(out: Path, *, overwrite: bool) -> Path:
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {out}: predictions are written as {' or '.join(SUFFIXES)}; end the name so")
    check_target(out, overwrite=overwrite, is_own=_is_own, by="tacit predict")
    check_place(out)
    return out


def _is_own(out: Path) -> bool:
    """Whether a file holds predictions that Tacit has written."""
    if out.suffix.lower() == ".parquet":
        return b"tacit" in (pq.read_metadata(out).metadata or {})
    columns = first_line(out).replace('"', "").split(",")
    return columns == ["id", "prediction"] or (
        columns[:2] in (["id", "class"], ["id", "labels"]) and columns[-1].startswith("p(")
    )


def _predict(chosen: Chosen, dataset: Dataset, probe: Predictor) -> Values:
    """[N ...]."""
    parts = []
    for start in range(0, len(dataset), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(dataset)), dtype=np.int64)
        parts.append(probe(chosen.features(dataset, rows)))
    return np.concatenate(parts)


def _in_short(answers: Values) -> str:
    """The range of numbers; of anything else how often each occurs, the commonest first."""
    if answers.dtype.kind == "f":
        return f"{answers.min():,.6g} to {answers.max():,.6g}"
    counts = Counter(answers.tolist()).most_common(SHOWN)
    return ", ".join(f"{count:,} x {answer or 'none'}" for answer, count in counts)


def _write(table: pa.Table, out: Path) -> None:
    write = write_csv if out.suffix.lower() == ".csv" else pq.write_table
    with whole_file(out) as partial:
        write(table, partial)
