"""Files of arrays, read without unpickling and without unpacking more than there is room for."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil


@contextmanager
def arrays_in(path: Path) -> Iterator[Any]:
    """The arrays of a `.npz` file. ValueError where they would take more memory than there is; nothing is unpickled."""
    with zipfile.ZipFile(path) as archive:
        size, free = sum(member.file_size for member in archive.infolist()), psutil.virtual_memory().available
    if size > free:
        raise ValueError(f"its arrays take {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except MemoryError:
        raise ValueError("its arrays take more memory than there is") from None
