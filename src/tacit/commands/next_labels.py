"""`tacit next-labels`: which examples to label next, so that few labels go far.

While labels are few: the most typical example of each of the largest clusters without a label, TypiClust (Hacohen et
al. 2022). Once they are many: those between two classes for the linear probe, margin sampling (Scheffer et al. 2001).
Both are scikit-activeml's. Nothing that is sealed, of a sealed group, labelled already, or a copy of either is ever
proposed, and no sealed label is learned from: a test set that steers what is labelled is no test any more.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tacit.commands.command import command
from tacit.core import keys
from tacit.core.errors import UserError
from tacit.core.files import check_place, check_target, first_line, whole_file
from tacit.core.naming import plain
from tacit.data.joining import ROW
from tacit.data.label_spec import target_named, target_settings
from tacit.data.text import write_csv
from tacit.dataset import READING, TEST, open_dataset
from tacit.evaluation import Seal
from tacit.evaluation.probes.linear import fit_probe
from tacit.evaluation.sealing import FILE_NAME as SEAL
from tacit.evaluation.sealing import content_digests
from tacit.evaluation.targets import Target, make_target
from tacit.experiment.heads import Chosen, open_chosen, remembered
from tacit.experiment.reading import overridden, tell
from tacit.experiment.settings import NextLabelsSettings
from tacit.modalities import those

if TYPE_CHECKING:
    from tacit.dataset import Dataset

Method = Literal["auto", "typiclust", "margin"]
NO_COLUMN = "none"  # the setting for "no such column"
SWITCH = 5  # labels per class from which on `auto` takes the margin; docs/experiments.md
NEIGHBOURS = 20  # by whose density typicality is measured, as in the paper
LARGEST_POOL = 50_000  # most candidates
EXACT_UP_TO = 500  # clusters; more are found by halving, which takes seconds where k-means takes minutes
SHOWN = 10  # proposals in the terminal
REMEDIES = {"labels": "name all label files by --labels", "test": "name the test data by --test"}

Features = NDArray[np.float32]
Rows = NDArray[np.int64]


class Known(NamedTuple):
    """The labels of all examples of a dataset, [N] each."""

    name: NDArray[np.object_]  # of its class; None where nobody has labelled it
    teaches: NDArray[np.bool_]  # labelled, and neither sealed nor ignored
    free: NDArray[np.bool_]  # neither sealed nor beside the seal


class Chose(NamedTuple):
    """Candidates by number, the most wanted first, what they scored, and why they were taken."""

    picked: Rows
    score: NDArray[np.float64]
    why: list[str]


@command(NextLabelsSettings)
def next_labels(run: str, data: Any, settings: NextLabelsSettings) -> pa.Table:
    """Choose the examples to label next, and write a file to fill in.

    While labels are few, the most typical examples of clusters without any (TypiClust), from no label at all on; once
    they are many, those that the linear probe finds hardest to tell (margin). What is sealed, of a sealed group,
    labelled already, or a copy of such is never proposed, and sealed labels are not learned from. Targets other than
    classes have no margin, and keep to TypiClust.

    Columns: `file`, an empty `label`, `why`, `score` (the higher the better, by one method). Once filled in, as far as
    you like, name the file with a further --labels. The run's own labels are read as it read them; --labels adds
    others, and any setting of how data are read takes the place of the run's.

    Args:
        run: A run folder, of `tacit run` or `tacit pretrain`. It remembers how its data and labels were read.
        data: The run's data, or these with more: a folder of images, a table, arrays, or the built-in `digits`.
    """
    options = settings.reading()
    target_file = _checked(settings)
    chosen = open_chosen(run, device=settings.device, offline=settings.offline, judged=False, trust=settings.trust)
    dataset, known = _read(chosen, data, options)
    chosen.check(dataset)
    tell(dataset, overridden(chosen.encoder, options), private=bool(chosen.settings.get("private")))
    seed = keys.fold(chosen.settings.get("seed", 0), "next labels")
    labelled, candidates = _sides(dataset, known, seed)
    features = chosen.features(dataset, np.concatenate([labelled, candidates]))
    labelled, candidates, features = _distinct(labelled, candidates, features)
    n = min(settings.n, len(_some(dataset, candidates)))
    teachers = known.teaches[labelled]
    classes, y = np.unique(known.name[labelled[teachers]].astype(str), return_inverse=True)
    target = make_target(target_named(**target_settings(options, chosen.settings)))
    chosen_method, because = choose_method(settings.method, len(y), len(classes), target)
    if chosen_method == "margin":
        group = None if dataset.group is None else dataset.group[labelled[teachers]]
        taught, pool = features[: len(labelled)][teachers], features[len(labelled) :]
        probe = fit_probe(taught, y.astype(np.int64), n_classes=len(classes), groups=group, seed=seed)
        chose = by_margin(probe.probabilities(pool), n, classes.tolist())
    else:
        chose = by_typicality(features, len(labelled), n, seed=seed)
    rows = candidates[chose.picked]
    table = _table(dataset, rows, chose, chosen, options)
    of_classes = f" of {len(classes)} classes" if target.by_class else ""
    print(
        f"{len(y):,} labels{of_classes} to learn from, {len(candidates):,} candidates, "
        f"read at {chosen.arm} ({chosen.depth}): {chosen_method}, {because}"
    )
    if not (settings.private or chosen.settings.get("private")):
        for name, why in zip(table.column(0)[:SHOWN].to_pylist(), chose.why, strict=False):
            print(f"  {name}: {why}")
    where = (
        f"{target_file}; fill in the labels and name it with --labels"
        if target_file
        else "not written, for want of --out"
    )
    print(f"{len(rows):,} to label: {where}")
    if target_file is not None:
        with whole_file(target_file) as partial:
            write_csv(table, partial)
    return table


def choose_method(method: str, labels: int, classes: int, target: Target) -> tuple[str, str]:
    """The method to use, and why in words. UserError where it cannot be used."""
    if not target.by_class or target.of_parts:
        if method == "margin":
            raise UserError(
                f"the margin lies between two classes, and labels of {target.name} have none; use --method typiclust"
            )
        return "typiclust", "as asked" if method == "typiclust" else f"as labels of {target.name} have no margin"
    if method == "margin" and classes < 2:
        raise UserError(
            f"the margin lies between two classes, and the labels to learn from have {classes}; use --method typiclust"
        )
    if method != "auto":
        return method, "as asked"
    if classes < 2:
        return "typiclust", "as there are no two classes to lie between"
    if labels < SWITCH * classes:
        return "typiclust", f"as there are fewer than {SWITCH} labels per class"
    return "margin", f"as there are {SWITCH} labels per class or more"


def by_typicality(features: Features, labelled: int, n: int, *, seed: int) -> Chose:
    """TypiClust: the most typical candidate of each of the `n` largest clusters without a labelled example.

    `features` [L + N D] of the `labelled` L and then of the N candidates, no two rows alike; L + n clusters by k-means;
    typicality is the inverse of the mean distance to the nearest neighbours inside the cluster.
    """
    from skactiveml.pool import TypiClust
    from sklearn.cluster import BisectingKMeans, KMeans

    y = np.full(len(features), np.nan)
    y[:labelled] = 0  # that there is one is all that counts
    query = TypiClust(
        random_state=seed % 2**32,
        cluster_algo=KMeans if labelled + n <= EXACT_UP_TO else BisectingKMeans,
        k=NEIGHBOURS,
    )
    picked, utilities = query.query(features, y, batch_size=n, return_utilities=True)
    why = ["the most typical of a cluster without labels"] * n
    return Chose(picked.astype(np.int64) - labelled, utilities[np.arange(n), picked], why)


def by_margin(probabilities: NDArray[np.float64], n: int, classes: list[str]) -> Chose:
    """The `n` candidates whose two likeliest classes are closest, by their probabilities [N K]."""
    from skactiveml.pool import uncertainty_scores

    score = uncertainty_scores(probabilities, method="margin_sampling")  # 1 less the margin
    picked = np.argsort(-score, kind="stable")[:n]
    likeliest = np.argsort(-probabilities[picked], axis=1, kind="stable")[:, :2]
    why = [
        f"between {classes[one]} ({probabilities[row, one]:.2f}) and {classes[two]} ({probabilities[row, two]:.2f})"
        for row, (one, two) in zip(picked, likeliest, strict=True)
    ]
    return Chose(picked, score[picked], why)


def _checked(settings: NextLabelsSettings) -> Path | None:
    """The file to write. UserError for invalid settings."""
    n, method, out = settings.n, settings.method, settings.out
    if find_spec("skactiveml") is None:
        raise UserError("choosing what to label needs scikit-activeml; install with: pip install 'tacit-learn[active]'")
    if method not in get_args(Method):
        raise UserError(f"no method named {method!r}; choose {', '.join(get_args(Method))}")
    if n < 1:
        raise UserError(f"--n {n} is nothing to label; ask for at least 1")
    if out is None:
        return None
    file = Path(out)
    if file.suffix.lower() != ".csv":
        raise UserError(f"--out {file}: a file to fill in is written as .csv; end the name so")
    if file.is_file() and not settings.overwrite:
        raise UserError(f"{file} exists, perhaps with labels filled in; choose another --out, or --overwrite it")
    check_target(file, overwrite=settings.overwrite, is_own=_is_own, by="tacit next-labels")
    check_place(file)
    return file


def _is_own(out: Path) -> bool:
    """Whether Tacit wrote this file of proposals, with or without labels filled in."""
    columns = first_line(out).replace('"', "").split(",")
    return len(columns) > 3 and columns[0] == "file" and columns[-2:] == ["why", "score"]


def _read(chosen: Chosen, data: Any, options: dict[str, Any]) -> tuple[Dataset, Known]:
    """The data as the run read its own, and what is known by the run's labels and those of `labels`.

    Labels are texts here, whatever the target: one alone, or one to be ignored, shows that somebody looked.
    """
    given = dict(options)
    more, ignored = given.pop("labels", None), {*_ignored(chosen.settings), *_ignored(given)}
    if more is not None and not chosen.settings.trusted:
        given["labels"], more = more, None  # a stranger's label file is not opened; the person's own takes its place
    by_column = ("label_column", "group_column", "split_column", "time_column", *those("of_labels"))
    names = ("test", "labels", "holdout", "keep_label", *by_column)
    overrides = {name: given.pop(name) for name in names if name in given}
    own = remembered(chosen.folder, chosen.settings, overrides, names, REMEDIES)
    mere = {name: given.pop(name) for name in list(given) if name in READING}
    read = {**chosen.learned, **chosen.reading(mere), **given}
    read |= {"ignore_label": (), "target": "_texts", "multilabel": None}
    dataset = open_dataset(data, **read, **own)
    name = _names(dataset)
    if more is not None:
        whole = [setting for setting in those("of_labels") if own.get(setting) == NO_COLUMN]
        shared = {setting: own[setting] for setting in ("label_column", "keep_label", "test", *whole) if setting in own}
        later = _names(open_dataset(data, **read, **shared, labels=more))
        name = np.where(later == None, name, later)  # noqa: E711  (item by item)
    free = np.ones(len(dataset), np.bool_) if dataset.split is None else dataset.split != TEST
    if (chosen.folder / SEAL).exists():
        free &= Seal.load(chosen.folder).place(dataset.group, dataset.content, split=dataset.split).free
    teaches = free & np.array([label is not None and label not in ignored for label in name], np.bool_)
    return dataset, Known(name, teaches, free)


def _ignored(settings: dict[str, Any]) -> list[str]:
    return [plain(str(label)) for label in settings.get("ignore_label") or ()]


def _names(dataset: Dataset) -> NDArray[np.object_]:
    """The label of every example as it was written, None where it has none."""
    return np.array([*dataset.classes, None], np.object_)[dataset.label]  # label -1 takes the last


def _sides(dataset: Dataset, known: Known, seed: int) -> tuple[Rows, Rows]:
    """Rows that are labelled, and rows that may be proposed: free, without a label, and no copy of one with a label."""
    has = np.array([label is not None for label in known.name], np.bool_)
    digests = content_digests(dataset.content)
    taken = {digests[row] for row in np.flatnonzero(has)}
    fresh = np.array([digest not in taken for digest in digests], np.bool_)
    candidates = _some(dataset, np.flatnonzero(known.free & fresh))
    if len(candidates) > LARGEST_POOL:
        print(f"{len(candidates):,} candidates; looking at {LARGEST_POOL:,} of them, drawn at random")
        candidates = np.sort(np.random.default_rng(seed).choice(candidates, LARGEST_POOL, replace=False))
    return np.flatnonzero(has & known.free), candidates


def _some(dataset: Dataset, candidates: Rows) -> Rows:
    if not len(candidates):
        raise UserError(f"nothing in {dataset.name} is left to label: all of it is labelled, sealed or a copy of such")
    return candidates


def _distinct(labelled: Rows, candidates: Rows, features: Features) -> tuple[Rows, Rows, Features]:
    """Without examples that the encoder cannot tell from an earlier one, such as copies; labelled ones come first."""
    first = np.sort(np.unique(features, axis=0, return_index=True)[1])
    split = int(np.searchsorted(first, len(labelled)))
    return labelled[first[:split]], candidates[first[split:] - len(labelled)], features[first]


def _table(dataset: Dataset, rows: Rows, chose: Chose, chosen: Chosen, options: dict[str, Any]) -> pa.Table:
    """`file`, the empty columns to fill in, named as the run's label files name them, `why` and `score`.

    Where only their rows name examples, `row` in place of `file`.
    """
    settings = {**chosen.settings, **options}
    blank = [settings.get("label_column") or "label"]
    if settings.get("labels") not in (None, "folders"):  # else groups and split are columns of the data
        blank += [settings[name] for name in ("group_column", "split_column") if settings.get(name)]
    columns = {ROW if dataset.numbered else "file": dataset.ids.take(pa.array(rows))}
    columns |= {name: pa.nulls(len(rows), pa.string()) for name in blank}
    return pa.table({**columns, "why": chose.why, "score": chose.score})
