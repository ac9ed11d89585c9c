"""`tacit predict`: what a run's best probe says of every example, learned from all labels there are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tacit.commands.command import command
from tacit.core.errors import UserError
from tacit.core.files import check_place, check_target, first_line, whole_file
from tacit.data.text import write_csv
from tacit.dataset import open_dataset
from tacit.experiment.heads import AT_ONCE, Chosen, fit_head, labelled_data, learned_target, open_chosen
from tacit.experiment.reading import overridden, tell
from tacit.experiment.settings import PredictSettings

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


@command(PredictSettings)
def predict(run: str, data: Any, settings: PredictSettings) -> pa.Table:
    """Predict the class, the labels or the number of every example or patient, by the run's target.

    Columns by the run's target: `id`, `class`, `p(CLASS)` for each class; of several labels each `id`, `labels` (those
    above one half, parted by the run's separator), `p(LABEL)` for each; of numbers `id`, `prediction`. They come from a
    linear probe on the encoder and depth that the run chose, refitted on all labels of the run's data, also the sealed
    ones. The verdict in the report precedes this refit: its figures come from probes that saw fewer labels, so they
    tend to be a little low for this one, which is not scored again.

    The data are read as the run read its own: the same columns, channel, rate, tokenizer and size.

    Args:
        run: A run folder. It remembers how its data and labels were read.
        data: What to predict: a folder of images, a table, arrays, or the built-in `digits`.
    """
    target = None if settings.out is None else _target(Path(settings.out), overwrite=settings.overwrite)
    chosen = open_chosen(run, device=settings.device, offline=settings.offline, trust=settings.trust)
    taught = labelled_data(
        chosen, labels=settings.labels, label_column=settings.label_column, labelled=settings.labelled
    )
    given, private = settings.reading(), settings.private or bool(chosen.settings.get("private"))
    dataset = open_dataset(data, **chosen.reading(given))
    tell(dataset, overridden(chosen.encoder, given), private=bool(chosen.settings.get("private")))
    chosen.check(taught, dataset)
    learned, predicted = learned_target(taught), _predict(chosen, dataset, fit_head(chosen, taught))
    ids = dataset.ids
    if settings.by_group:
        if dataset.group is None:
            raise UserError("--by-group: these data do not say by themselves what belongs together; leave it out")
        first, predicted = pooled(predicted, dataset.group)
        ids = ids.take(pa.array(first))
    columns = learned.columns(predicted, taught.classes, chosen.settings.get("multilabel") or SEPARATOR)
    table = pa.table({"id": ids, **columns})
    known = int((taught.label >= 0).sum())
    print(
        f"{learned.protocols['linear']} on {chosen.arm} ({chosen.depth}), refitted on all {known:,} labels: {PRECEDES}"
    )
    where = target if target is not None else "not written, for want of --out"
    shown = "" if private else f" ({_in_short(next(iter(columns.values())))})"
    print(f"{len(table):,} predictions{shown}: {where}")
    if target is not None:
        _write(table.replace_schema_metadata({"tacit": PRECEDES}), target)
    return table


def _target(out: Path, *, overwrite: bool) -> Path:
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {out}: predictions are written as {' or '.join(SUFFIXES)}; end the name so")
    check_target(out, overwrite=overwrite, is_own=_is_own, by="tacit predict")
    check_place(out)
    return out


def _is_own(out: Path) -> bool:
    """Whether Tacit wrote this file of predictions."""
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


def pooled(predicted: Values, group: NDArray[np.int64]) -> tuple[NDArray[np.int64], Values]:
    """The first example of each of G groups, in order, and the mean over each group's answers [G ...]."""
    _, first, of = np.unique(group, return_index=True, return_inverse=True)
    total = np.zeros((len(first), *predicted.shape[1:]))
    np.add.at(total, of, predicted)
    mean = total / np.bincount(of).reshape(-1, *[1] * (predicted.ndim - 1))
    order = np.argsort(first)
    mean = mean[order] if predicted.dtype.kind == "f" else np.rint(mean[order])
    return first[order], mean.astype(predicted.dtype)


def _in_short(answers: Values) -> str:
    """The range of numbers; for other answers their counts, the most frequent first."""
    if answers.dtype.kind == "f":
        return f"{answers.min():,.6g} to {answers.max():,.6g}"
    counts = Counter(answers.tolist()).most_common(SHOWN)
    return ", ".join(f"{count:,} x {answer or 'none'}" for answer, count in counts)


def _write(table: pa.Table, out: Path) -> None:
    write = write_csv if out.suffix.lower() == ".csv" else pq.write_table
    with whole_file(out) as partial:
        write(table, partial)
