"""Columns of names: their codes, their order, and the first names of a selection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

LISTED = "\x1f"  # ends each label of a list
NAMED = 20

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Few:
    """A count of names, and the first of them."""

    count: int = 0
    first: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.count > 0


def few(names: Iterable[str], count: int) -> Few:
    return Few(count, tuple(islice(names, NAMED)))


def few_of(names: Sequence[str], which: NDArray[np.bool_]) -> Few:
    """The names that `which` marks, in alphabetical order."""
    found = sorted(name for name, here in zip(names, which, strict=True) if here)
    return few(found, len(found))


def codes_of(encoded: pa.DictionaryArray) -> Codes:
    """Codes in the dictionary, -1 where null."""
    codes: Codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def by_name(name: str) -> tuple[int, float, str]:
    """The order of classes and of other values: numbers by value, then words."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def first_of(names: Sequence[str]) -> str:
    """`'a' and 2 more`."""
    return f"{names[0]!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
