"""An open data set of any modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tacit.core.spec import Spec
from tacit.data.notes import Notes
from tacit.data.resolved import Spans
from tacit.data.store import Store
from tacit.evaluation.targets import USUAL

if TYPE_CHECKING:
    from tacit.core.types import Batch


@dataclass(frozen=True)
class Dataset:
    """N examples ready for training; every per-example array is aligned with the rows of the cache."""

    name: str
    kind: str
    spec: Spec
    cache: Store
    ids: pa.Array  # string [N]: path below the data folder, or another name of the example
    label: NDArray[np.int64]  # [N] class numbers, or strata for targets without classes; -1 where unlabelled
    classes: tuple[str, ...]  # names of the classes, or of the labels of a multilabel target
    group: NDArray[np.int64] | None  # [N] patient, person, ...; a split keeps each group whole
    split: NDArray[np.int8] | None  # [N] TRAIN, TEST, VALIDATION where the data or the person give a split
    columns: pa.Table | None  # columns of the input other than the content, [N] rows
    notes: Notes
    target: str = USUAL
    truth: NDArray[np.float64] | None = None  # [N] numbers (regression), [N L] 0 and 1 (multilabel); NaN: unlabelled
    subgroup: NDArray[np.int64] | None = None  # [N] subgroup of the population, -1 where none
    subgroups: tuple[str, ...] = ()  # their names
    pair: NDArray[np.int64] | None = None  # [N] the pair of each, -1 where none
    numbered: bool = False  # whether the ids are row numbers, which mean nothing in other data
    spans: Spans | None = None  # for frame labels: the labelled segments of recordings
    reading: Mapping[str, Any] = field(
        default_factory=dict
    )  # the columns that were read, as settings of `open_dataset`

    def __len__(self) -> int:
        return len(self.cache)

    @property
    def content(self) -> NDArray[np.void]:
        """A 16-byte hash of each example's content, [N]; exact copies have equal hashes."""
        return self.cache.content

    @property
    def data_hash(self) -> str:
        """A hash of the content of all examples in order."""
        return self.cache.data_hash

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """These rows as a `tacit.core.types.Batch` of the modality, with `index` [B]."""
        return self.cache.batch(rows)
