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
    spec: LabelSpec
    tables: Mapping[Path, pa.Table]


@dataclass(frozen=True)
class Found(Generic[O]):
    """Examples as they were found in the data, and how their columns are to be read."""

    source: Source
    options: O
    labels: LabelFiles
    notes: Notes  # filled in by what reads
    keeping: Keeping
    again: Callable[[O], Source]  # the same data, found by other options

    def columns(self) -> Columns:
        """The columns of the label files, or else of the data."""
        source, notes, wanted = self.source, self.notes, self.labels.spec
        if self.labels.tables:
            notes.labels_from = f"file {', '.join(file.name for file in self.labels.tables)}"
            return file_columns(source, self.labels.tables, notes, wanted.columns, lists=wanted.lists)
        columns = own_columns(source, wanted.columns, notes.missing, lists=wanted.lists)
        by_folder, column = self.labels.options.by_folder, self.labels.options.label_column
        notes.unlabelled = 0 if by_folder or columns.label is None else columns.label.null_count
        of_data = "the data themselves" if columns.label is not None else ""
        notes.labels_from = f"column {column}" if column else FOLDERS if by_folder else of_data
        return columns


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

    def examples(self, found: Found[O]) -> Examples:
        """The examples and their columns."""
        return Examples(*together(found.source, found.columns(), found.labels.spec, self.wholes))

    @abstractmethod
    def store(self, source: Source, options: O, keeping: Keeping) -> Kept:
        """The decoded examples: from the cache of an earlier run, or decoded now."""

    def holds_next(self, options: O) -> bool:
        """Whether the next events of every example are held out, for targets that predict them."""
        return False
