"""Examples that have a copy among others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Copies:
    """For each of the n examples asked about, the other that is most likely its copy."""

    rows: Rows  # [n]
    twin: Rows  # [n] row of the copy, -1 where there is none
    exact: NDArray[np.bool_]  # [n]
    likeness: Floats  # [n] of the fine detail; 1 where exact, 0 where nothing was compared
    threshold: float | None  # of likeness; None where only exact copies were looked for

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which of the n have a copy."""
        return self.twin >= 0


def exact_copies(content: NDArray[np.void], rows: Rows, among: Rows) -> Copies:
    """Those of the examples `rows` whose content is that of one of the examples `among`, which holds none of them."""
    assert not len(np.intersect1d(rows, among)), "an example is no copy of itself"
    twin = _same_content(content, rows, among)
    return Copies(rows, twin, twin >= 0, (twin >= 0).astype(np.float32), None)


def _same_content(content: NDArray[np.void], rows: Rows, among: Rows) -> Rows:
    """The first of `among` with the content of each of `rows` [n], -1 where none has."""
    first: dict[bytes, int] = {}
    for row, item in zip(among.tolist(), content[among].tolist(), strict=True):
        first.setdefault(item, row)
    return np.array([first.get(item, -1) for item in content[rows].tolist()], np.int64)
