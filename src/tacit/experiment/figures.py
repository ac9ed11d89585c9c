"""The report's pictures: what each task saw, nearest neighbours, a map; and the writing of the report itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.core import keys
from tacit.evaluation import Report
from tacit.evaluation.features import extract
from tacit.evaluation.targets import make_target
from tacit.experiment.experiment import Study
from tacit.experiment.folder import environment
from tacit.experiment.settings import Device, Folder, Judging, Seed, Settings, Transductive
from tacit.report import Figures, Neighbours, Picture, Points, write
from tacit.report.figures import MAPPED, flatten
from tacit.training.loop import Run

QUERIES, NEAREST = 6, 6
SAMPLES = 6  # images per task


def publish(
    study: Study,
    report: Report,
    runs: Mapping[str, Sequence[Run]],
    folder: Path,
    *,
    encoder: Any = None,
    hurried: bool = False,
) -> Path:
    """Write report.html and report.json into `folder`; returns the page's path.

    Of a task's runs, one for each pretraining seed, the first is pictured. Where time is short (`hurried`), the map
    shows principal components.
    """
    firsts = {name: of[0] for name, of in runs.items()}
    dataset = study.dataset
    facts = {
        "name": dataset.name,
        "kind": dataset.kind,
        "examples": len(dataset),
        "pretrained_on": len(study.split.pretrain) if runs else 0,
        **study.modality.facts(dataset.cache),
        "data_hash": study.data_hash,
        "encoder": study.encoder.name,
        "encoder_source": dict(study.encoder.source),
        "worst_group": study.options.get("worst_group"),
        "notes": dataset.notes.as_dict(private=study.ask.private),
    }
    content = report.with_data(**facts).to_json()
    content["diagnosis"] = dict(report.data.get("diagnosis", {}))
    content["selection"] = content["data"].get("validation", {})
    shown = encoder if encoder is not None else firsts[report.data["selected_arm"]].task.exported["encoder"]
    return write(
        content, _figures(study, firsts, shown, report.verdict.arm, hurried), folder, private=study.ask.private
    )


def _figures(study: Study, runs: Mapping[str, Run], encoder: Any, name: str, hurried: bool) -> Figures:
    import yaml

    history = tuple({**row, "arm": row["task"]} for run in runs.values() for row in run.history)
    if study.ask.private:
        return Figures(history=history)
    rows = _shown_rows(study)
    pooled = extract(encoder, study.dataset.batch, rows)["pooled"]
    concerns: tuple[Any, ...] = (Settings,) if runs else (Seed, Transductive, Judging, Device, Folder)
    names = [field.name for concern in concerns for field in fields(concern)]
    asked = {name: getattr(study.ask, name) for name in names if getattr(study.ask, name) not in (None, False)}
    judged = study.split.labelled if study.split.held else None
    return Figures(
        history=history,
        gallery=_gallery(study, rows, pooled),
        points=(None if judged is None else study.modality.map_of(encoder, judged, name))
        or _map(study, rows, pooled, name, hurried),
        recommended=[] if judged is None else study.modality.recommended(encoder, judged, study.ask.seed),
        samples={task: _samples(study, run) for task, run in runs.items()},
        config=yaml.safe_dump({key: str(value) for key, value in asked.items()}, sort_keys=False),
        environment=environment(),
    )


def _shown_rows(study: Study) -> NDArray[np.int64]:
    """The examples shown: labelled ones first, since a map is read by its labels."""
    chance = np.random.default_rng(keys.fold(study.ask.seed, "pictures"))
    labelled = np.unique(study.split.rows)
    if study.split.held is not None:  # of the others nothing is left that was not held out
        labelled = np.intersect1d(labelled, study.split.pretrain)
    labelled = chance.permutation(labelled)
    others = chance.permutation(np.setdiff1d(study.split.pretrain, study.split.rows))
    return np.sort(np.concatenate([labelled, others])[:MAPPED])


def _gallery(study: Study, rows: NDArray[np.int64], pooled: NDArray[np.float32]) -> list[Neighbours]:
    """Examples spread evenly over the shown ones, each with the others most like it."""
    unit = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    queries = np.unique(np.linspace(0, len(rows) - 1, QUERIES).astype(int))
    gallery = []
    for query in queries:
        similarity = unit @ unit[query]
        similarity[query] = -np.inf
        nearest = np.argsort(-similarity)[: min(NEAREST, len(rows) - 1)]
        found = [(_heard(study, int(rows[n])), float(similarity[n])) for n in nearest]
        gallery.append(Neighbours(_heard(study, int(rows[query])), found, make_target(study.dataset.target).shared))
    return gallery


def _map(study: Study, rows: NDArray[np.int64], pooled: NDArray[np.float32], name: str, hurried: bool) -> Points:
    flat, method = flatten(pooled, hurried=hurried)
    pictures = [_picture(study, int(row)) for row in rows]
    return Points(
        x=flat[:, 0].tolist(),
        y=flat[:, 1].tolist(),
        label=[picture.label for picture in pictures],
        value=values_of(study.dataset.target, study.dataset.truth, rows),
        id=[picture.id for picture in pictures],
        image=[picture.image for picture in pictures],
        arm=name,
        method=method,
    )


def values_of(target: str, truth: NDArray[np.float64] | None, rows: NDArray[np.int64]) -> list[float]:
    """The numbers that these rows are labelled with; none where labels are no numbers."""
    return [] if truth is None or make_target(target).shared else truth[rows].tolist()


def _picture(study: Study, row: int) -> Picture:
    dataset = study.dataset
    [label] = make_target(dataset.target).names_of(dataset, [row])
    [seen] = study.modality.pictures(dataset.cache, np.array([row]))
    return Picture(seen, label, dataset.ids[row].as_py())


def _heard(study: Study, row: int) -> Picture:
    """The picture of an example with its sound, if it has one."""
    [sound] = study.modality.sounds(study.dataset.cache, np.array([row]))
    return replace(_picture(study, row), sound=sound)


def _samples(study: Study, run: Run) -> dict[str, list[Any]]:
    """What the task made of a few examples."""
    rows = study.split.pretrain[np.linspace(0, len(study.split.pretrain) - 1, SAMPLES).astype(int)]
    batch = study.dataset.batch(rows)
    batch["key"] = keys.batch_keys(study.ask.seed, 0, torch.arange(len(rows)))
    with torch.no_grad():
        pictures = run.task.preview(study.fabric.to_device(batch))
    shown = {"original": list(study.modality.pictures(study.dataset.cache, rows))}
    return shown | {title: list(study.modality.shown(study.dataset.cache, seen)) for title, seen in pictures.items()}
