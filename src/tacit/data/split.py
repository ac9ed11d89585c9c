"""Which examples of a data set are learned from, which are judged, and which are kept apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tacit.evaluation import Labelled, Seal

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Rows of a dataset by what they may be used for; `labelled` is None where there are no labels to judge with."""

    pretrain: Rows
    rows: Rows  # the dataset row of each labelled position
    labelled: Labelled | None = None
    seal: Seal | None = None
    untested: int = 0  # sealed examples that cannot be tested: no longer in the data, or without a label
    held: object | None = None  # what the modality holds out within examples; nobody else looks into it
