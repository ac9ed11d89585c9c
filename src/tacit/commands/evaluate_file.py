"""`tacit evaluate FILE.parquet|FILE.npz`: evaluate stored embeddings, without any model and without torch.

The first file is judged; it, or a label file, has the labels. Files given with --against are baselines on the same
draws of the same examples. What needs the raw input cannot be compared with, and the verdict says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tacit.core.budget import command_began, judging_deadline
from tacit.core.errors import UserError
from tacit.core.wording import Ours
from tacit.data.embeddings import ID, SUFFIXES, Vectors, are_vectors, join_vectors, read_vectors
from tacit.data.joining import FILE_NAMES
from tacit.data.label_spec import FLAGS, LabelSpec
from tacit.data.labels import Columns, file_columns, read_labels
from tacit.data.layouts import with_folder_labels
from tacit.data.named import Missing
from tacit.data.notes import Notes
from tacit.data.options import FOLDERS, LabelOptions
from tacit.data.resolved import Labels, resolve
from tacit.evaluation import Arm, Labelled, Report, Seal, count_read, evaluate, seal
from tacit.evaluation.arms import target_of
from tacit.evaluation.features import Stored
from tacit.evaluation.targets import make_target
from tacit.experiment.folder import environment, mark_report, report_folder
from tacit.experiment.log import Log
from tacit.experiment.settings import EvaluateSettings, Reading
from tacit.experiment.split import kept_whole
from tacit.modalities import file_endings
from tacit.report import private_report

if TYPE_CHECKING:
    from tacit.core.types import Batch

MISSING = ("raw input", "the untrained architecture")  # not available from embeddings
TRAINED = ("training from scratch",)  # nor is this, where the target is learned from labels
OWN = ("label", "group", "split")  # the columns that need no flag
_TAKEN = set(LabelOptions.names()) - {"test"}  # settings that apply to embeddings


def evaluate_file(source: Any, data: Any, settings: EvaluateSettings) -> Report:
    """Evaluate a file of embeddings, or a dict of arrays; see `tacit evaluate`."""
    if data is not None:
        raise UserError(f"{source} holds embeddings, which are judged without data: leave {data} out")
    options = _label_options(settings)
    labels, label_spec = options.labels, options.label_spec()
    label_spec = label_spec.for_modality(None, labelled=True, unnamed=False, held=False)
    out = report_folder(settings.out, overwrite=settings.overwrite)
    deadline = judging_deadline(settings.budget, command_began())
    sources = [source, *(settings.against or ())]
    _check(sources)
    with Log(private=settings.private) as log:
        names = _names(label_spec)
        lists = names["label"] if make_target(label_spec.target).lists else None
        label_columns = list(names.values())
        tables = read_labels([path for path in options.files if str(path) != FOLDERS])
        keys = [name for table in tables.values() for name in table.column_names if name not in (ID, *label_columns)]
        judged = read_vectors(source, label_columns, lists=lists, keys=keys)
        files, lines = join_vectors([judged, *(read_vectors(of, label_columns, lists=lists) for of in sources[1:])])
        lines = [] if settings.private else lines
        first, notes = files[0], Notes(listed=len(files[0]), missing=Missing(label_spec.kept))
        columns, split = _columns(first, label_spec, labels, notes, tables)
        known = resolve(columns, label_spec, split, named(first), notes)
        given = Seal.load(settings.seal) if settings.seal is not None else None
        labelled, rows, sealed = _labelled(first, known, notes, seed=settings.seed, given=given)
        summary = f"{len(first):,} embeddings; {make_target(known.target).describe(known, private=settings.private)}"
        lines = [] if settings.private else lines  # which name files
        for line in [Ours(summary), *lines, *notes.lines(private=settings.private)]:
            log(line)
        if given is not None:
            log(f"{len(labelled.test):,} of {len(given.items):,} sealed examples are here with a label, and are tested")
        sealed = replace(sealed, reads=1) if settings.seal is None else count_read(settings.seal)
        with log.working("judging") as tell:
            report = evaluate(
                [*_arms(sources, files, rows, private=settings.private), *_rules(labelled)],
                labelled,
                primary=settings.primary_budget,
                budgets=settings.label_budgets,
                metric=settings.metric,
                margin=settings.margin,
                seed=sealed.seed,
                missing=(*MISSING, *(TRAINED if target_of(labelled).needs_labels else ())),
                deadline=deadline,
                progress=tell,
            )
        report = report.with_data(seal_reads=sealed.reads, worst_group=label_spec.columns.get("subgroup"))
        print(private_report(report) if settings.private else report)
        if out is not None:
            mark_report(out)
            report.keep(out, sealed)
            found = notes.as_dict(private=settings.private)
            print(f"\nreport: {_publish(report, first, known, settings, found, lines, out)}")
        return private_report(report) if settings.private else report


def named(file: Vectors) -> pa.Array:
    """The ids, or the rows' numbers where there are none."""
    return file.ids if file.ids is not None else pa.array([f"row {number}" for number in range(len(file))])


def _label_options(settings: Reading) -> LabelOptions:
    """The label options. UserError for settings that do not apply to embeddings."""
    given = settings.reading()
    for name in given:
        if name not in _TAKEN:
            hint = "; mark the test rows in a column 'split'" if name == "test" else ""
            raise UserError(
                f"--{name.replace('_', '-')} says nothing about embeddings, which are read as they are{hint}"
            )
    return LabelOptions(**given)


def _check(sources: Sequence[Any]) -> None:
    if not are_vectors(sources[0]):
        raise UserError(f"give the data to judge {sources[0]} on: tacit evaluate {sources[0]} DATA")
    for source in sources:
        if not are_vectors(source):
            raise UserError(
                f"{source} is no file of embeddings ({', '.join(sorted(SUFFIXES))}), which meet only their like: "
                f"write it with `tacit embed {source} DATA --out FILE.parquet` first"
            )
    paths = [str(source) for source in sources if not isinstance(source, Mapping)]
    twice = next((path for i, path in enumerate(paths) if path in paths[:i]), None)
    if twice is not None:
        raise UserError(f"{twice} is named twice; name each file once")


def _names(label_spec: LabelSpec) -> dict[str, str]:
    """The columns by their role: as the user named them, or the default names."""
    usual = {key: key for key in (*OWN, *make_target(label_spec.target).takes)}
    if {"holdout", "time"} & label_spec.columns.keys():
        del usual["split"]
    return {**usual, **label_spec.columns}


def _columns(
    file: Vectors, label_spec: LabelSpec, labels: Any, notes: Notes, tables: Mapping[Path, pa.Table] | None = None
) -> tuple[Columns, NDArray[np.int8] | None]:
    """The label columns: from the label file or the folders in the ids if requested, else the file's own.

    Also returns the split given by folders named train and test.
    """
    files = LabelOptions(labels=labels).files
    by_folder = [str(path) for path in files] == [FOLDERS]
    by_file = bool(files) and not by_folder
    if by_folder and "label" in label_spec.columns:
        raise UserError("--labels folders and --label-column exclude each other; choose one")
    if files and file.ids is None:
        raise UserError(f"{file.name} has no {ID!r} to join labels by: add it, or put the labels into 'label'")
    found: dict[str, pa.Array] = {}
    split = None
    names = _names(label_spec)
    for key, name in names.items():
        if name in file.columns and not (key == "label" and files):
            found[key] = notes.missing.out_of(file.columns[name], key)
        elif key in label_spec.columns and not by_file:
            raise UserError(f"{FLAGS[key]} {name}: {file.name} has no such column (it has: {', '.join(file.names)})")
    notes.labels_from = f"column {names['label']}"
    if by_file:
        notes.labels_from = f"file {', '.join(path.name for path in files)}"
        wanted = {key: name for key, name in label_spec.columns.items() if key not in found}
        lists = make_target(label_spec.target).lists
        keys = (ID, *FILE_NAMES)
        joined = file_columns(
            file.source(file_endings()), tables or {}, notes, wanted, lists=lists, keys=keys, least=0.0
        )
        found |= {key: column for key, column in vars(joined).items() if column is not None}
    elif by_folder:
        notes.labels_from = FOLDERS
        source = with_folder_labels(file.source(), notes.missing)
        found["label"], split = notes.missing.out_of(source.label, "label"), source.split
    if "label" not in found:
        raise UserError(
            f"{file.name} has no column 'label' (it has: {', '.join(file.names)}): name it with --label-column, or "
            "give --labels FILE with the columns id,label"
        )
    if found["label"].null_count == len(file):
        raise UserError(f"none of the {len(file):,} embeddings of {file.name} has a label: fill in the label column")
    return Columns(**found), split


def _labelled(
    file: Vectors, known: Labels, notes: Notes, *, seed: int, given: Seal | None
) -> tuple[Labelled, NDArray[np.int64], Seal]:
    """The labelled examples with their split, the rows of the file that they are, and the seal.

    Which examples are sealed depends on their groups or ids, so that other embeddings of the same examples are judged
    on the same ones; equal embeddings stay together, as copies of one example would.
    """
    content, first, same = np.unique(file.content, return_index=True, return_inverse=True)
    notes.duplicates = len(file) - len(content)
    if len(content) < 2:
        raise UserError(f"all {len(file):,} embeddings of {file.name} are equal: the encoder has collapsed")
    group: NDArray[Any] | None = known.group
    content = content[same]
    if file.ids is not None:
        ids = np.array(file.ids.to_pylist())
        if group is None and known.split is None:  # a split that was given may part copies: those do not train
            group = ids[first[same]]
        content = np.array([hashlib.blake2b(name.encode(), digest_size=16).digest() for name in ids.tolist()], "V16")
    group = kept_whole(group, known)
    sealed = given or seal(
        make_target(known.target).balanced(known.label), group, content, seed=seed, split=known.split
    )
    places = sealed.place(group, content, split=known.split)
    if sealed.items and not ((known.label >= 0) & places.sealed).any():
        raise UserError("none of the sealed embeddings has a label here: name the label file of the seal as well")
    free = places.free & ~np.isin(same, same[places.sealed])
    rows = np.flatnonzero((known.label >= 0) & (free | places.sealed))
    labelled = Labelled(
        fetch=_index,
        y=known.label[rows],
        classes=known.classes,
        group=rows if known.group is None else known.group[rows],
        train=np.flatnonzero(free[rows]),
        test=np.flatnonzero(places.sealed[rows]),
        target=known.target,
        truth=None if known.truth is None else known.truth[rows],
        subgroup=None if known.subgroup is None else known.subgroup[rows],
        subgroups=known.subgroups,
        types=None if known.token is None else known.token[rows],
        side=None if known.side is None else known.side[rows],
        pair=None if known.pair is None else known.pair[rows],
        content=content[rows],
    )
    return labelled, rows, sealed


def _index(positions: NDArray[np.int64]) -> Batch:
    import torch

    return {"index": torch.from_numpy(positions)}


def _arms(sources: Sequence[Any], files: Sequence[Vectors], rows: NDArray[np.int64], *, private: bool) -> list[Arm]:
    """The first file as the candidate, the others as its baselines; named by the shortest unique file names.

    If `private`, they are named by their position.
    """
    stems = ["embeddings" if isinstance(source, Mapping) else Path(source).stem for source in sources]
    arms = []
    for number, (source, file, stem) in enumerate(zip(sources, files, stems, strict=True)):
        name = (
            stem if stems.count(stem) == 1 else f"{stem} {number + 1}" if isinstance(source, Mapping) else str(source)
        )
        name = f"embeddings {number + 1}" if private else name
        arms.append(
            Arm(
                name,
                "baseline" if number else "pretrained",
                (Stored(file.values if len(rows) == len(file) else file.values[rows]),),
                encoder=f"embeddings of {file.values.shape[1]} numbers",
                public=None if number else False,  # a file does not say who made it
                own=private,
            )
        )
    return arms


def _rules(labelled: Labelled) -> list[Arm]:
    """The baselines of the target that need no features."""
    rules = target_of(labelled).rules(labelled)
    return [Arm(name, "baseline", rule=rule, encoder="no features", own=True) for name, rule in rules.items()]


def _publish(
    report: Report,
    file: Vectors,
    known: Labels,
    settings: EvaluateSettings,
    notes: Mapping[str, Any],
    joined: Sequence[str],
    folder: Path,
) -> Path:
    """Write report.html and report.json, with a map of the labelled embeddings."""
    from tacit.experiment.publish import values_of
    from tacit.report import Figures, Points, write
    from tacit.report.figures import MAPPED, flatten

    facts = {
        "name": file.name,
        "kind": Ours("embeddings"),
        "examples": len(file),
        "dimensions": file.values.shape[1],
        "joined": list(joined),
        "notes": dict(notes),
    }
    content = report.with_data(**facts).to_json()
    content["selection"] = content["data"].get("validation", {})
    figures = None
    if not settings.private:
        rows = np.sort(np.random.default_rng(settings.seed).permutation(np.flatnonzero(known.label >= 0))[:MAPPED])
        flat, method = flatten(file.values[rows])
        points = Points(
            x=flat[:, 0].tolist(),
            y=flat[:, 1].tolist(),
            label=make_target(known.target).names_of(known, rows.tolist()),
            value=values_of(known.target, known.truth, rows),
            id=[] if file.ids is None else file.ids.take(pa.array(rows)).to_pylist(),
            arm=report.verdict.arm,
            method=method,
        )
        figures = Figures(points=points, environment=environment())
    folder.mkdir(parents=True, exist_ok=True)
    return write(content, figures, folder, private=settings.private)
