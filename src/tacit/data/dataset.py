"""What a data set is once it is open, whatever it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tacit.core.spec import Spec
from tacit.data.known import Spans
from tacit.data.notes import Notes
from tacit.data.store import Store
from tacit.evaluation.targets import USUAL

if TYPE_CHECKING:
    from tacit.core.types import Batch


@dataclass(frozen=True)
class Dataset:
    """N examples ready for training: everything per example is aligned with the rows of the cache."""

    name: str
    kind: str
    spec: Spec
    cache: Store
    ids: pa.Array  # string [N]: path from the data folder, or whatever names an example
    label: NDArray[np.int64]  # [N] class numbers, or strata of targets without classes; -1 where unlabelled
    classes: tuple[str, ...]  # names of the classes, or of the labels of which an example can have several
    group: NDArray[np.int64] | None  # [N] patient, person, ...: never parted by a split
    split: NDArray[np.int8] | None  # [N] TRAIN, TEST, VALIDATION where the data or the person give a split
    columns: pa.Table | None  # the input's own columns but for the content, [N] rows
    notes: Notes
    target: str = USUAL
    truth: NDArray[np.float64] | None = None  # [N] numbers (regression), [N L] 0 and 1 (multilabel); NaN: unlabelled
    subgroup: NDArray[np.int64] | None = None  # [N] part of the population, -1 where none
    subgroups: tuple[str, ...] = ()  # their names
    pair: NDArray[np.int64] | None = None  # [N] the pair of each, -1 where none
    numbered: bool = False  # whether the ids are the numbers of rows, which name nothing elsewhere
    spans: Spans | None = None  # of target tokens: the stretches of recordings whose frames are labelled
    reading: Mapping[str, Any] = field(default_factory=dict)  # by which columns, as settings of `open_dataset`

    def __len__(self) -> int:
        return len(self.cache)

    @property
    def content(self) -> NDArray[np.void]:
        """A 16-byte hash of each example's content, [N]: equal where two examples are exact copies."""
        return self.cache.content

    @property
    def data_hash(self) -> str:
        """Names the content of all examples in their order."""
        return self.cache.data_hash

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """What `tacit.core.types.Batch` says of this kind of data, and `index` [B], of these rows."""
        return self.cache.batch(rows)
