"""A run's encoder for use: the chosen representation, and a probe fitted to all labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.core.encoder import OwnEncoder
from tacit.core.errors import UserError
from tacit.data.label_spec import target_named, target_settings
from tacit.dataset import open_dataset
from tacit.evaluation import Report
from tacit.evaluation.features import extract
from tacit.evaluation.selection import FINAL
from tacit.evaluation.targets import Supervised, make_target
from tacit.experiment.folder import CONFIG, RunSettings, leads_out, settings_of
from tacit.experiment.reading import as_trained, open_encoder
from tacit.formats.head import Head
from tacit.modalities import modality_of, those
from tacit.training.engine import make_fabric

if TYPE_CHECKING:
    from tacit.dataset import Dataset
    from tacit.evaluation.targets.base import Predictor

AT_ONCE = 8192  # examples embedded at a time
HOW_KEPT = ("cache", "max_bad")  # settings that any data share with those of the run
HOW_LEARNED = those("of_learning")  # how the run's own data were filtered and described
PLACES = {"cache", *those("paths")}
HOW_LABELLED = (
    *("labels", "label_column", "ignore_label", "keep_label", "group_column"),
    *those("of_labels"),
    *("test", "target", "multilabel"),
)


class Chosen(NamedTuple):
    """A run's encoder on its device, and the representation that the evaluation chose."""

    folder: Path
    settings: RunSettings  # of the run
    encoder: OwnEncoder
    arm: str
    depth: str

    @property
    def read(self) -> dict[str, Any]:
        """How the run read its data, for `open_dataset`."""
        return self.reading({})

    def reading(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The same with some settings overridden."""
        return {**self._of_run(HOW_KEPT), **as_trained(self.encoder, given)}

    @property
    def learned(self) -> dict[str, Any]:
        """How the run read its training data: sequences of its own core alone."""
        return {**self.read, **self._of_run(HOW_LEARNED)}

    def _of_run(self, names: Iterable[str]) -> dict[str, Any]:
        """The run's settings of these names; an untrusted folder must not choose paths on this machine."""
        given = {name: self.settings[name] for name in names if self.settings.get(name) is not None}
        return given if self.settings.trusted else {name: value for name, value in given.items() if name not in PLACES}

    def features(self, dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """[N D] at the chosen depth; where `extract` left it out, it equals the final one."""
        parts = []
        for start in range(0, len(rows), AT_ONCE):
            found = extract(self.encoder, dataset.batch, rows[start : start + AT_ONCE])
            parts.append(found.get(self.depth, found[FINAL]))
        return np.concatenate(parts)

    def check(self, *datasets: Dataset) -> None:
        """UserError where some are of another kind than the run's, or their images grey and the run's in colour."""
        own = self.encoder.spec
        for opened in datasets:
            if opened.spec.kind != own.kind:
                raise UserError(f"the run learned from data of kind {own.kind}; {opened.name} is of {opened.spec.kind}")
            if reason := modality_of(own).explain(own, opened.spec, opened.name):
                raise UserError(f"the run learned from {reason}")


def open_chosen(
    run: str | Path, *, device: str = "auto", offline: bool = False, judged: bool = True, trust: bool = False
) -> Chosen:
    """Open the encoder and representation that a run chose; the final one where it was not `judged` and need not be.

    Files that its settings name are opened if the user made the folder on this machine, or with `trust`.
    UserError where the folder holds no finished run.
    """
    folder = Path(run)
    settings = settings_of(folder, trust=trust)
    data = {"selected_arm": settings["task"]} if not judged and "task" in settings else Report.load(folder).data
    encoder = open_encoder(folder, offline=offline)
    make_fabric(device=device, precision="32").to_device(encoder)
    arm = data["selected_arm"]
    return Chosen(folder, settings, encoder, arm, (data.get("representation") or {}).get(arm, FINAL))


def remembered(
    run: Path, settings: RunSettings, overrides: Mapping[str, Any], names: Iterable[str], remedies: Mapping[str, str]
) -> dict[str, Any]:
    """The settings of these names: `overrides`, or else those of the run, if set.

    UserError where a setting of the run was an object in Python, which no file holds, or leads out of a folder that the
    user neither made on this machine nor trusts. `remedies` maps a name to how the user can set it.
    """
    given = {name: settings.get(name) for name in names} | dict(overrides)
    given = {name: value for name, value in given.items() if value is not None}
    for name in (name for name in given if name not in overrides):
        value, remedy = given[name], remedies.get(name, f"name it by --{name.replace('_', '-')}")
        if isinstance(value, str) and value.startswith("<"):
            raise UserError(f"{run} does not remember its {name}, an object in Python: {remedy}")
        if not settings.trusted and leads_out(name, value):
            raise UserError(
                f"{run} was not made here by you, or was changed since, and its {CONFIG} names its {name}: "
                f"{str(value)!r}, which was not opened; {remedy}, or say --trust to open what the folder names"
            )
    return given


def labelled_data(
    chosen: Chosen, *, labels: str | None = None, label_column: str | None = None, labelled: Any = None
) -> Dataset:
    """The run's data with all labels, including sealed ones, read as the run read them unless overridden here.

    UserError where there are none, or where nothing is learned for the run's target.
    """
    _check_learned(chosen, target_named(**target_settings(chosen.settings)))
    overrides: dict[str, Any] = {}
    names = ["data", *HOW_LABELLED]
    if labelled is not None:
        overrides["data"] = labelled
        names.remove("test")
    if labels is not None:
        overrides |= {"labels": labels, "label_column": None}  # which was a column of the other file
    if label_column is not None:
        overrides["label_column"] = label_column
    remedies = {"data": "pass it as labelled= (--labelled)", "test": "name all labelled data by --labelled"}
    options = remembered(chosen.folder, chosen.settings, overrides, names, remedies)
    dataset = open_dataset(options.pop("data"), **{**chosen.learned, **options})
    _check_learned(chosen, dataset.target)  # which the data may have decided
    if dataset.spans is not None:
        raise UserError(
            f"{chosen.folder} was judged by frames, and there is no head for these: load its encoder instead"
        )
    if not (dataset.label >= 0).any():
        raise UserError(f"{chosen.folder} has no labels to learn from; name them with --labels FILE or --label-column")
    return dataset


def _check_learned(chosen: Chosen, target: str) -> None:
    """UserError where there is nothing to learn for a target."""
    if not isinstance(make_target(target, 0), Supervised):
        raise UserError(
            f"{chosen.folder} was judged by {target}, and nothing is learned for that: write the embeddings with "
            "tacit embed, and search them by cosine"
        )


def learned_target(labelled: Dataset) -> Supervised:
    """The target of these labels, with probabilities wherever it has them."""
    target = make_target(labelled.target, len(labelled.classes))
    assert isinstance(target, Supervised)
    return replace(target, scores=True)


def fit_head(chosen: Chosen, labelled: Dataset) -> Predictor:
    """Fit the linear probe to all labelled examples."""
    rows = np.flatnonzero(labelled.label >= 0)
    answers = labelled.label if labelled.truth is None else labelled.truth
    groups = None if labelled.group is None else labelled.group[rows]
    X = chosen.features(labelled, rows)
    return learned_target(labelled).fit(X, answers[rows], groups, chosen.settings.get("seed", 0))


def open_head(run: str | Path, trust: bool = False, **labels: Any) -> tuple[OwnEncoder, Head]:
    """A run's encoder, and the probe of `tacit predict` as a head; `labels` as `labelled_data` takes them."""
    chosen = open_chosen(run, offline=True, trust=trust)
    labelled = labelled_data(chosen, **labels)
    chosen.check(labelled)
    probe = fit_head(chosen, labelled)
    deep = modality_of(labelled.spec).deep(labelled.cache)
    known = int((labelled.label >= 0).sum())
    link = learned_target(labelled).link
    head = Head(probe.W, probe.b, link, labelled.target, labelled.classes, chosen.depth, deep, known)
    return chosen.encoder, head
