"""The report's figures (inputs of each task, nearest neighbours, a map) and the writing of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.core import keys
from tacit.core.wording import Ours
from tacit.evaluation import Report
from tacit.evaluation.features import extract
from tacit.evaluation.targets import make_target
from tacit.experiment.architecture import Architecture
from tacit.experiment.folder import environment
from tacit.experiment.opening import Opened
from tacit.modalities.base import Matched
from tacit.report import Figures, Neighbours, Picture, Points, write
from tacit.report.figures import MAPPED, flatten
from tacit.training.loop import Run

QUERIES, NEAREST = 6, 6
SAMPLES = 6  # images per task


def publish(
    report: Report,
    runs: Mapping[str, Sequence[Run]],
    opened: Opened,
    architecture: Architecture,
    folder: Path,
    settings: Mapping[str, Any],
    *,
    encoder: Any = None,
    hurried: bool = False,
) -> Path:
    """Write report.html and report.json into `folder`; returns the page's path. It shows the `settings`.

    Of a task's runs, one per pretraining seed, the first is shown. Where time is short (`hurried`), the map shows
    principal components.
    """
    firsts = {name: of[0] for name, of in runs.items()}
    dataset = opened.dataset
    facts = {
        "name": dataset.name,
        "kind": Ours(dataset.kind),
        "examples": len(dataset),
        "pretrained_on": len(opened.split.pretrain) if runs else 0,
        **opened.modality.facts(dataset.cache),
        "data_hash": opened.data_hash,
        "encoder": architecture.name,
        "encoder_source": dict(architecture.encoder.source),
        "worst_group": settings.get("worst_group"),
        "notes": dataset.notes.as_dict(private=opened.private),
    }
    content = report.with_data(**facts).to_json()
    content["diagnosis"] = dict(report.data.get("diagnosis", {}))
    content["selection"] = content["data"].get("validation", {})
    shown = encoder if encoder is not None else firsts[report.data["selected_arm"]].task.exported["encoder"]
    figures = Figures(history=tuple({**row, "arm": row["task"]} for run in firsts.values() for row in run.history))
    if not opened.private:
        figures = _figures(figures, opened, architecture, firsts, shown, report.verdict.arm, settings, hurried)
    return write(content, figures, folder, private=opened.private)


def _figures(
    figures: Figures,
    opened: Opened,
    architecture: Architecture,
    runs: Mapping[str, Run],
    encoder: Any,
    name: str,
    settings: Mapping[str, Any],
    hurried: bool,
) -> Figures:
    import yaml

    seed, modality = architecture.seed, opened.modality
    rows = _shown_rows(opened, seed)
    pooled = extract(encoder, opened.dataset.batch, rows)["pooled"]
    judged = opened.split.labelled if opened.split.held else None
    both = modality.matched(opened.dataset.cache, encoder, rows)
    given = {key: str(value) for key, value in settings.items() if value not in (None, False)}
    return replace(
        figures,
        gallery=_sought(opened, rows, *both) if both else _gallery(opened, rows, pooled),
        points=(None if judged is None else modality.map_of(encoder, judged, name))
        or (_map_of_both(opened, rows, *both, name, hurried) if both else _map(opened, rows, pooled, name, hurried)),
        recommended=[] if judged is None else modality.recommended(encoder, judged, seed),
        samples={task: _samples(opened, architecture, run) for task, run in runs.items()},
        config=yaml.safe_dump(given, sort_keys=False),
        environment=environment(),
    )


def _shown_rows(opened: Opened, seed: int) -> NDArray[np.int64]:
    """The examples shown: labelled ones first, since a map is read by its labels."""
    chance = np.random.default_rng(keys.fold(seed, "pictures"))
    labelled = np.unique(opened.split.rows)
    if opened.split.held is not None:  # the other sequences have nothing left that was not held out
        labelled = np.intersect1d(labelled, opened.split.pretrain)
    labelled = chance.permutation(labelled)
    others = chance.permutation(np.setdiff1d(opened.split.pretrain, opened.split.rows))
    return np.sort(np.concatenate([labelled, others])[:MAPPED])


def _gallery(opened: Opened, rows: NDArray[np.int64], pooled: NDArray[np.float32]) -> list[Neighbours]:
    """Examples spread evenly over the shown ones, each with its nearest neighbours."""
    unit = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    queries = np.unique(np.linspace(0, len(rows) - 1, QUERIES).astype(int))
    gallery = []
    for query in queries:
        similarity = unit @ unit[query]
        similarity[query] = -np.inf
        nearest = np.argsort(-similarity)[: min(NEAREST, len(rows) - 1)]
        found = [(_heard(opened, int(rows[n])), float(similarity[n])) for n in nearest]
        gallery.append(Neighbours(_heard(opened, int(rows[query])), found, make_target(opened.dataset.target).shared))
    return gallery


def _sought(opened: Opened, rows: NDArray[np.int64], one: Matched, other: Matched) -> list[Neighbours]:
    """Captions spread evenly over the shown examples, each with what it finds; its own is named as it is."""
    gallery = []
    for query in np.unique(np.linspace(0, len(rows) - 1, QUERIES).astype(int)).tolist():
        similarity = one.embedding @ other.embedding[query]
        nearest = np.argsort(-similarity)[: min(NEAREST, len(rows))].tolist()
        names = opened.dataset.ids.take(rows[[query, *nearest]]).to_pylist()
        found = [
            (Picture(one.pictures[n], name, name), float(similarity[n]))
            for n, name in zip(nearest, names[1:], strict=True)
        ]
        gallery.append(Neighbours(Picture(other.pictures[query], names[0], names[0]), found, sought=True))
    return gallery


def _map_of_both(
    opened: Opened, rows: NDArray[np.int64], one: Matched, other: Matched, name: str, hurried: bool
) -> Points:
    """Both sides of the shown examples on one map."""
    flat, method = flatten(np.concatenate([one.embedding, other.embedding]), hurried=hurried)
    ids = opened.dataset.ids.take(rows).to_pylist()
    return Points(
        x=flat[:, 0].tolist(),
        y=flat[:, 1].tolist(),
        label=[side.side for side in (one, other) for _ in rows],
        id=[*ids, *(of if isinstance(of, str) else name for of, name in zip(other.pictures, ids, strict=True))],
        arm=name,
        method=method,
        noun="sides of examples",
    )


def _map(opened: Opened, rows: NDArray[np.int64], pooled: NDArray[np.float32], name: str, hurried: bool) -> Points:
    flat, method = flatten(pooled, hurried=hurried)
    pictures = [_picture(opened, int(row)) for row in rows]
    return Points(
        x=flat[:, 0].tolist(),
        y=flat[:, 1].tolist(),
        label=[picture.label for picture in pictures],
        value=values_of(opened.dataset.target, opened.dataset.truth, rows),
        id=[picture.id for picture in pictures],
        image=[picture.image for picture in pictures],
        arm=name,
        method=method,
    )


def values_of(target: str, truth: NDArray[np.float64] | None, rows: NDArray[np.int64]) -> list[float]:
    """The numeric labels of these rows; empty for other targets."""
    return [] if truth is None or make_target(target).shared else truth[rows].tolist()


def _picture(opened: Opened, row: int) -> Picture:
    dataset = opened.dataset
    [label] = make_target(dataset.target).names_of(dataset, [row])
    [seen] = opened.modality.pictures(dataset.cache, np.array([row]))
    return Picture(seen, label, dataset.ids[row].as_py())


def _heard(opened: Opened, row: int) -> Picture:
    """The image of an example with its sound, if it has one."""
    [sound] = opened.modality.sounds(opened.dataset.cache, np.array([row]))
    return replace(_picture(opened, row), sound=sound)


def _samples(opened: Opened, architecture: Architecture, run: Run) -> dict[str, list[Any]]:
    """The task's preview of a few examples."""
    rows = opened.split.pretrain[np.linspace(0, len(opened.split.pretrain) - 1, SAMPLES).astype(int)]
    batch = opened.dataset.batch(rows)
    batch["key"] = keys.batch_keys(architecture.seed, 0, torch.arange(len(rows)))
    with torch.no_grad():
        pictures = run.task.preview(architecture.fabric.to_device(batch))
    shown = {"original": list(opened.modality.pictures(opened.dataset.cache, rows))}
    return shown | {title: list(opened.modality.shown(opened.dataset.cache, seen)) for title, seen in pictures.items()}
