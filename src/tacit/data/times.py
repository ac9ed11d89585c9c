"""When events happened: a column of dates, of numbers that are times, or of places in an order; in seconds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.data.events import Events
from tacit.data.opened import is_text
from tacit.errors import UserError

UNITS = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}
LATEST = 4_102_444_800.0  # the year 2100; what is later was hardly meant
_EARLIEST = 1e8  # seconds of a clock; smaller numbers are an order, unless the column's name says otherwise
_DATES = (pa.timestamp("us"), pa.timestamp("us", "UTC"))
_LONG = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class When:
    """How the order of events is known; `unit` is what one of the column's numbers is in seconds."""

    by: Literal["time", "order", "rows"]
    column: str | None = None
    unit: str = "seconds"

    @property
    def said(self) -> str:
        if self.by == "rows":
            return "in the order of the rows: there is no column of times (order only)"
        if self.by == "order":
            return f"in the order of {self.column!r}, which is no time (order only)"
        return f"in time by {self.column!r}" + (f", in {self.unit}" if self.unit != "seconds" else "")

    def seconds(self, values: pa.Array) -> NDArray[np.float64]:
        """The times, or the places in the order, of these cells [n]; NaN where there is none."""
        values = values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values
        numbers = _numbers(values)
        if numbers is not None:
            return np.asarray(np.where(np.isfinite(numbers), numbers, np.nan) * UNITS[self.unit], np.float64)
        return _dates(values, UNITS[self.unit])


def when_of(events: Events, column: str | None, *, usual: bool) -> When:
    """What a column says of the order; `usual` where its name alone says that it holds times.

    UserError where it holds neither numbers nor dates.
    """
    if column is None:
        return When("rows")
    first = next(iter(events.stream([column])), None)
    if first is None:
        return When("order", column)
    values = first.column(0)
    values = values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values
    held = values.type
    numbers = _numbers(values)
    if numbers is None:
        if not (is_text(held) or pa.types.is_temporal(held)):
            raise UserError(f"--time-column {column} holds {held}; give numbers, or dates such as 2024-05-31")
        if not np.isnan(_dates(values, math.nan)).all():  # something is a date
            return When("time", column)
        numbers = _dates(values, 1.0)
        if np.isnan(numbers).all():
            some = next((value for value in values.to_pylist() if value), None)
            raise UserError(f"--time-column {column}: {some!r} is neither a number nor a date such as 2024-05-31")
    there = numbers[np.isfinite(numbers)]
    middle = float(np.median(np.abs(there))) if len(there) else 0.0
    if middle < _EARLIEST:
        return When("time" if usual else "order", column)
    return When("time", column, next((unit for unit, part in UNITS.items() if middle * part < LATEST), "nanoseconds"))


def _numbers(values: pa.Array) -> NDArray[np.float64] | None:
    """Cells as numbers, NaN where empty; None where they are none."""
    if pa.types.is_temporal(values.type):
        return None
    try:
        if is_text(values.type):
            values = pc.utf8_trim_whitespace(values)
            values = pc.if_else(pc.equal(values, ""), pa.scalar(None, values.type), values)
        return np.asarray(pc.fill_null(values.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False))
    except pa.ArrowException:
        return None


def _dates(values: pa.Array, unit: float) -> NDArray[np.float64]:
    """Cells as seconds since 1970, numbers times `unit` of them; NaN where one is neither a date nor a number."""
    for kind in _DATES:
        try:
            return _seconds(values.cast(kind))
        except pa.ArrowException:
            continue
    encoded = values.cast(pa.string()).dictionary_encode()
    each = np.array([*(_date(text, unit) for text in encoded.dictionary.to_pylist()), np.nan])
    return np.asarray(each[pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)])


def _date(text: str, unit: float) -> float:
    cell = pa.array([text.strip()])
    try:
        return unit * float(cell.cast(pa.float64())[0].as_py())
    except pa.ArrowException:
        for kind in _DATES:
            try:
                return float(_seconds(cell.cast(kind))[0])
            except pa.ArrowException:
                continue
    return np.nan


def _seconds(moments: pa.Array) -> NDArray[np.float64]:
    since = moments.cast(pa.int64()).cast(pa.float64(), safe=False)
    return np.asarray(pc.fill_null(since, np.nan).to_numpy(zero_copy_only=False) / 1e6)


def duration(text: str) -> float:
    """`1800`, `30m`, `12h`, `2d` in seconds. UserError for anything else."""
    said = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if said is None or not float(said[1]):
        raise UserError(f"--session-gap {text} is no length of time; write seconds, or 30m, 12h, 2d")
    return float(said[1]) * _LONG[said[2]]
