"""Options of `open_dataset` that apply to every modality."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.core.errors import UserError
from tacit.core.options import Options

if TYPE_CHECKING:
    from tacit.data.label_spec import LabelSpec

FOLDERS = "folders"  # given in place of a label file to use class folders


@dataclass(frozen=True, kw_only=True)
class Reading(Options):
    """Where the data lie, and where they are kept once they are decoded.

    Args:
        kind: what the data are, where they do not say by themselves (image, volume, text, audio, series, items, pair)
        path_column: the table's column of paths to images or sounds
        cache: the folder for decoded data; default: the user's own cache folder
        max_bad: the fraction of unreadable files from which on the data are refused
        patience: seconds; if decoding takes longer, a sample of the images stands for all, and nothing is cached
    """

    group = "data"

    kind: str | None = None
    path_column: str | None = None
    max_bad: float = 0.05
    patience: float = math.inf
    cache: str | None = None

    def check(self) -> None:
        if not 0 <= self.max_bad <= 1:
            raise UserError(f"--max-bad {self.max_bad:g} is no fraction; choose 0 to 1, such as 0.05")


@dataclass(frozen=True, kw_only=True)
class LabelOptions(Options):
    """Labels, groups and splits, and how they are read.

    Args:
        labels: a CSV or Parquet file of file,label, or of file,start,end,label where stretches of sounds are labelled;
            or "folders" for class folders; without it, or --label-column, there are no labels. Several files count
            as one.
        label_column: the column of labels, in the table that is the data or in the label file
        ignore_label: a value that means that there is no label, such as "unknown"
        keep_label: a word that is the name of a class or group here, though elsewhere it means that there is none, such
            as NA, None or a folder unlabeled
        group_column: the column that says what belongs together (patient, person); a group is never on two sides of a
            split. Of sounds it is the column speaker, where there is one of six speakers or more and no split is named
        split_column: the column that says train, val or test
        test: further data, held out as the test split
        target: what a label says: a class (classification, the default), one of ordered classes, such as a grade
            (ordinal), any of several (multilabel), a number (regression), what belongs together and is to be found
            again (retrieval), the one partner (pairs), how much the two of a pair are alike, as a number (similarity),
            or the class of a token of the sentence that --group-column names (tokens); the run's own where a run is
            judged. Of events without labels what comes next, of all that a user has not used (recommendation, the
            default) or of everything (repeats)
        multilabel: the sign between the labels of one cell, such as "|"; a cell that holds nothing else means none of
            them, an empty one is unlabelled. Implies the target multilabel, which lists of labels in a Parquet file
            need no sign for.
        worst_group: the column of parts of the population (hospital, sex) that are scored separately
        holdout: COLUMN=VALUE: the examples of this value are the test split, such as site=B
        time_column: the column of times (numbers, or dates such as 2024-05-31): the latest 30 % of the labelled
            examples are the test split, and whatever else is as late is not pretrained on either
    """

    group = "labels and splits"

    labels: str | Sequence[str] | None = None
    label_column: str | None = None
    target: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    time_column: str | None = None
    test: Any = None
    holdout: str | None = None
    multilabel: str | None = None
    ignore_label: Sequence[str] = ()
    keep_label: Sequence[str] = ()
    worst_group: str | None = None

    @property
    def files(self) -> list[Path]:
        """The label files, or "folders" alone."""
        if self.labels is None:
            return []
        files = [self.labels] if isinstance(self.labels, str | os.PathLike) else self.labels
        if not isinstance(files, list | tuple) or not all(isinstance(file, str | os.PathLike) for file in files):
            raise UserError(
                f"labels= names files, and is a {type(self.labels).__name__} here; pass labels in memory with "
                "the data, as {'x': examples, 'y': labels}"
            )
        return [Path(file) for file in files]

    @property
    def by_folder(self) -> bool:
        """Whether class folders are the labels."""
        return [str(file) for file in self.files] == [FOLDERS]

    def check(self) -> None:
        self.label_spec()

    def label_spec(self) -> LabelSpec:
        """The label specification. UserError where an option is invalid, or two contradict each other."""
        from tacit.data.label_spec import label_spec_of  # which imports what counts labels

        if self.by_folder and self.label_column is not None:
            raise UserError("--labels folders and --label-column exclude each other; choose one")
        return label_spec_of(self)
