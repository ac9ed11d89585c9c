"""Duplicate examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Copies:
    """For each of n examples, the most likely copy among others."""

    rows: Rows  # [n]
    twin: Rows  # [n] row of the copy, -1 where there is none
    exact: NDArray[np.bool_]  # [n]
    likeness: Floats  # [n] similarity of fine detail; 1 where exact, 0 where nothing was compared
    threshold: float | None  # on likeness; None where only exact copies were sought

    @property
    def found(self) -> NDArray[np.bool_]:
        """Mask of the examples that have a copy, [n]."""
        return self.twin >= 0


def exact_copies(content: NDArray[np.void], rows: Rows, among: Rows) -> Copies:
    """Find the examples of `rows` with the same content as one of `among`; the two are disjoint."""
    assert not len(np.intersect1d(rows, among)), "an example is no copy of itself"
    twin = _same_content(content, rows, among)
    return Copies(rows, twin, twin >= 0, (twin >= 0).astype(np.float32), None)


def _same_content(content: NDArray[np.void], rows: Rows, among: Rows) -> Rows:
    """For each of `rows` [n], the first of `among` with the same content; -1 where there is none."""
    first: dict[bytes, int] = {}
    for row, item in zip(among.tolist(), content[among].tolist(), strict=True):
        first.setdefault(item, row)
    return np.array([first.get(item, -1) for item in content[rows].tolist()], np.int64)
