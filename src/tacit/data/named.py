"""Convert columns of any type to names, see `tacit.core.naming`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.core import naming
from tacit.core.columns import LISTED
from tacit.core.errors import UserError

_EXACT = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}  # below this, floats of so many bits represent every whole number
_MIDNIGHT = r"([0-9]{4}-[0-9]{2}-[0-9]{2}) 00:00:00(\.0*)?$"  # a date, as tables store it


@dataclass
class Missing:
    """Words that mean a missing value, except those kept as names, and how often each was found."""

    kept: tuple[str, ...] = ()
    found: dict[str, Counter[str]] = field(default_factory=dict)  # by the role of the column

    def means(self, name: str) -> bool:
        return name not in self.kept and naming.missing(name)

    def out_of(self, text: pa.Array, key: str) -> pa.Array:
        """Replace words for missing values by null, and count them."""
        counts = pc.value_counts(text.drop_null())
        words = {of["values"]: of["counts"] for of in counts.to_pylist() if self.means(of["values"])}
        if not words:
            return text
        self.found.setdefault(key, Counter()).update(words)
        return pc.if_else(pc.is_in(text, pa.array(list(words), pa.string())), None, text)


def as_text(values: pa.Array | pa.ChunkedArray, *, lists: bool = False) -> pa.Array:
    """Convert values of any type to names, null where missing.

    With `lists`, a list of labels becomes one string in which `LISTED` terminates each label.
    """
    values = one_array(values)
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_nested(values.type):
        return _joined(values, lists)
    try:
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_finite(values), values, None)
            if pc.all(pc.equal(values, pc.floor(values))).as_py() is not False:
                values = _as_integers(values)
        text = values.cast(pa.string())
        if pa.types.is_timestamp(values.type):
            text = pc.replace_substring_regex(text, _MIDNIGHT, r"\1")
    except pa.ArrowException:
        raise UserError(f"labels must be text or numbers, not {values.type}") from None
    text = _plain(text)
    return pc.if_else(pc.equal(text, ""), None, text)


def holds_rounded(values: pa.Array | pa.ChunkedArray) -> str:
    """The first number that has lost its last digits, so that several names may have become one; else empty."""
    values = one_array(values)
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary
    if pa.types.is_floating(values.type):
        exact = _EXACT[values.type.bit_width]
        values = values.cast(pa.float64())
        large = pc.and_(pc.is_finite(values), pc.greater_equal(pc.abs(values), exact))
        first = next(iter(values.filter(large).to_pylist()), None)
        return "" if first is None else f"{first:.0f}"
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        some = values.filter(pc.match_substring_regex(values, naming.ROUNDED))
        return next((text for text in some.to_pylist() if naming.rounded(text)), "")
    return ""


def refuse_rounded(values: pa.Array | pa.ChunkedArray, what: str) -> None:
    """UserError where numbers that name something have lost their last digits."""
    if lost := holds_rounded(values):
        raise UserError(
            f"{what} holds {lost}, whose last digits are lost, as in columns of floats and in spreadsheets: several "
            "would become one; write these numbers whole, or as text"
        )


def as_numpy(values: Any) -> Any:
    """A tensor, a masked array or a pandas series as an array, NaN where numbers are masked; anything else as it is."""
    if hasattr(values, "detach") and hasattr(values, "to_dense"):  # torch, on any device
        values = values.detach().to_dense().cpu()
        return (values.float() if values.is_floating_point() and values.itemsize < 4 else values).numpy()
    if isinstance(values, np.ma.MaskedArray):
        gaps = values.dtype.kind in "fiu" and np.ma.is_masked(values)
        return np.ma.filled(values.astype(np.float64), np.nan) if gaps else np.ma.getdata(values)
    return values.to_numpy() if hasattr(values, "to_numpy") and hasattr(values, "ndim") else values


def as_column(values: Any) -> pa.Array:
    """Convert arrow, pandas, polars, numpy, torch or a list with gaps to an arrow column.

    Values of mixed types become names. UserError where there is not one value per row.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return one_array(values)
    values = as_numpy(values) if hasattr(values, "detach") else values
    if hasattr(values, "to_arrow"):
        return one_array(values.to_arrow())
    if isinstance(values, np.ma.MaskedArray):
        values = values.tolist()
    if isinstance(values, np.ndarray) and values.dtype.kind == "S":
        values = [name.decode("utf-8", "replace") for name in values.tolist()]
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise UserError(f"one value for each row is expected, not {list(values.shape)}")
    if not hasattr(values, "__len__") or isinstance(values, str | bytes | Set | Mapping):  # nothing in order
        raise UserError(f"one value for each row is expected, not a {type(values).__name__}; pass a list or an array")
    try:
        found = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        found = pa.array([naming.name_of(value) for value in values], pa.string())
    if pa.types.is_binary(found.type):
        found = pa.array([naming.name_of(value) for value in values], pa.string())
    return one_array(found)


def table_as_text(table: NDArray[np.generic]) -> pa.Array:
    """Convert a table of 0 and 1 [N L] to lists of labels: the numbers of the columns that hold a 1."""
    if not np.isin(table, (0, 1)).all():
        raise UserError(
            f"labels {list(table.shape)} hold other numbers than 0 and 1: give a 1 for each label that fits"
        )
    return pa.array(["".join(f"{i}{LISTED}" for i in np.flatnonzero(row)) or LISTED for row in table], pa.string())


def one_array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(values, pa.ChunkedArray):
        return values
    return pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)


def distinct(text: pa.Array) -> bool:
    """Whether all names are present and distinct."""
    return text.null_count == 0 and len(pc.unique(text)) == len(text)


def _as_integers(values: pa.Array) -> pa.Array:
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid:  # too large for any integer
        return values


def _plain(text: pa.Array) -> pa.Array:
    """Normalise texts as names; only those that may change are processed one by one."""
    odd = pc.match_substring_regex(text, naming.UNCOMMON)
    if not pc.any(odd).as_py():
        return text
    encoded = text.dictionary_encode()
    names = pa.array([None if word is None else naming.plain(word) for word in encoded.dictionary.to_pylist()])
    return names.cast(pa.string()).take(encoded.indices)


def _joined(values: pa.Array, lists: bool) -> pa.Array:
    if not lists or not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
        hint = "" if lists else "; lists of labels are read with --target multilabel"
        raise UserError(f"labels must be text or numbers, not {values.type}{hint}")
    names = iter(as_text(values.flatten()).to_pylist())
    lengths = pc.list_value_length(values).to_pylist()
    cells = [None if n is None else [next(names) for _ in range(n)] for n in lengths]
    return pa.array(
        [None if cell is None else "".join(f"{name}{LISTED}" for name in cell if name) or LISTED for cell in cells],
        pa.string(),
    )
