"""How a modality reads data: which data are its own, what an example is, and where decoded examples are stored.

Separate from `Modality`, so that data are opened without torch: to find their modality, every reader is tried.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Generic, NamedTuple, TypeVar

import pyarrow as pa

from tacit.data.label_spec import LabelSpec
from tacit.data.labels import Columns, file_columns, own_columns, together
from tacit.data.listing import Listing
from tacit.data.notes import Notes
from tacit.data.options import FOLDERS, LabelOptions, Reading
from tacit.data.resolved import Labels
from tacit.data.source import Source, join
from tacit.data.store import Keeping, Kept
from tacit.modalities.options import ModalityOptions

O = TypeVar("O", bound=ModalityOptions)  # noqa: E741


class LabelFiles(NamedTuple):
    """The settings of the labels, and the tables of the label files."""

    options: LabelOptions
    asked: LabelSpec
    tables: Mapping[Path, pa.Table]


def _as_resolved(labels: Labels, kept: Kept) -> Labels:
    return labels


@dataclass(frozen=True)
class Examples:
    """The source of the examples, and their columns beside the content."""

    source: Source
    columns: Columns
    finish: Callable[[Labels, Kept], Labels] = field(default=_as_resolved)  # the labels, once examples are decoded


class Reader(ABC, Generic[O]):
    """Reads data of one modality by its options `O`."""

    name: ClassVar[str]
    options: type[O]
    wholes: ClassVar[str] = ""  # what examples may be parts of; a split keeps the parts of one together
    grouped_by: ClassVar[str] = ""  # the column that groups examples where no other is named
    own_time: ClassVar[bool] = False  # whether the time column orders events within an example, and makes no split

    def claim(self, listing: Listing, options: O, reading: Reading, reserved: frozenset[str]) -> Source | None:
        """The examples of these data; None where they are of another modality. UserError where they cannot be read.

        `reserved` are columns of labels, groups, splits and times: none is content unless an option names it.
        """
        return None

    def claimed(self, source: Source, options: O) -> Source:
        """Complete a source that was found by the suffixes of files or by columns of encoded examples."""
        return source

    def several(self, source: Source) -> bool:
        """Whether one of these files may hold several examples."""
        return False

    def before_labels(self, options: O, tables: Mapping[Path, pa.Table]) -> O:
        """The options for `claim`, without those that apply to the label files instead."""
        return options

    def join(self, train: Source, test: Source) -> Source:
        """Two sources as one, the second held out as the test split."""
        return join(train, test)

    def examples(
        self,
        source: Source,
        labels: LabelFiles,
        options: O,
        notes: Notes,
        keeping: Keeping,
        again: Callable[[O], Source],
    ) -> Examples:
        """The examples and their columns; `again` reads the same data by other options."""
        columns = read_columns(source, labels, notes)
        return Examples(*together(source, columns, labels.asked, self.wholes))

    @abstractmethod
    def store(self, source: Source, options: O, keeping: Keeping) -> Kept:
        """The decoded examples: from the cache of an earlier run, or decoded now."""

    def holds_next(self, options: O) -> bool:
        """Whether the next events of every example are held out, for targets that predict them."""
        return False


def read_columns(source: Source, labels: LabelFiles, notes: Notes) -> Columns:
    """Read the columns of the examples from the label files, or else from the data; fills in `notes`."""
    wanted, lists = labels.asked, labels.asked.lists
    if labels.tables:
        notes.labels_from = f"file {', '.join(file.name for file in labels.tables)}"
        return file_columns(source, labels.tables, notes, wanted.columns, lists=lists)
    columns = own_columns(source, wanted.columns, notes.missing, lists=lists)
    by_folder, column = labels.options.by_folder, labels.options.label_column
    notes.unlabelled = 0 if by_folder or columns.label is None else columns.label.null_count
    found = "the data themselves" if columns.label is not None else ""
    notes.labels_from = f"column {column}" if column else FOLDERS if by_folder else found
    return columns
