"""Which examples of a data set are pretrained on, evaluated, or sealed."""

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
    """Rows of a dataset by their use; `labelled` is None where there are no labels to evaluate with."""

    pretrain: Rows
    rows: Rows  # the dataset row of each labelled position
    labelled: Labelled | None = None
    seal: Seal | None = None
    untested: int = 0  # sealed examples that cannot be tested: missing from the data, or unlabelled
    held: object | None = None  # what the modality holds out within examples; opaque to all others
