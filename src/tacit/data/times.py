"""Times of events in seconds, from a column of dates, of numeric times, or of positions in an order.

The unit of numbers is inferred from the magnitude of all of them: a time from 1973 to 2100 in one unit is none in
another. Where a column mixes units, each number is converted by its own, and this is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.data.opened import is_text
from tacit.data.streamed import Streamed

UNITS = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}
LATEST = 4_102_444_800.0  # the year 2100; later times are implausible
_EARLIEST = 1e8  # seconds since 1970; smaller numbers are an order, unless the column is named for times
_BETWEEN = 0.01  # share of numbers that are times in no unit, above which the column does not mix units

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_DATE = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?"  # as arrow parses it, without the zone
_ZONE = r"(Z|[+-]\d\d(:?\d\d)?)"

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class When:
    """How events are ordered; `unit` is the unit of the column's numbers."""

    by: Literal["time", "order", "rows"]
    column: str | None = None
    unit: str = "seconds"
    mixed: bool = False  # whether the unit is inferred for each number
    calendar: bool = False  # whether 20240531 is a date
    remark: str = ""

    @property
    def description(self) -> str:
        if self.by == "rows":
            return "in the order of the rows: there is no column of times (order only)"
        if self.by == "order":
            return f"in the order of {self.column!r}, which is no time (order only)"
        unit = f", in {self.unit}" if self.unit != "seconds" and not self.mixed else ""
        return f"in time by {self.column!r}{unit}{self.remark}"

    def seconds(self, values: pa.Array) -> Seconds:
        """The times, or positions in the order, of these cells [n]; NaN where missing."""
        cells = _cells(values)
        numbers = cells.numbers
        if self.calendar:
            numbers = _of_calendar(numbers)
        elif self.mixed:
            size = np.abs(numbers)
            parts = [np.where(_within(size, part), numbers * part, 0.0) for part in UNITS.values()]
            known = np.any([_within(size, part) for part in UNITS.values()], axis=0)
            numbers = np.where(known, np.sum(parts, axis=0), numbers * UNITS[self.unit])
        else:
            numbers = numbers * UNITS[self.unit]
        return np.where(np.isnan(cells.dates), numbers, cells.dates)


def when_of(events: Streamed, column: str | None, *, usual: bool) -> When:
    """Infer the order of events from a whole column; `usual` where the column is named for times.

    UserError where it holds neither numbers nor dates.
    """
    if column is None:
        return When("rows")
    held = events.schema.field(column).type
    held = held.value_type if pa.types.is_dictionary(held) else held
    dated = pa.types.is_timestamp(held) or pa.types.is_date(held)
    number = pa.types.is_integer(held) or pa.types.is_floating(held) or pa.types.is_decimal(held)
    if not (dated or number or is_text(held) or pa.types.is_null(held)):
        raise UserError(f"--time-column {column} holds {held}; give numbers, or dates such as 2024-05-31")
    if dated:
        return When("time", column)
    found = _tally(batch.column(0) for batch in events.stream([column]))
    if found.dates:
        remark = "; dates without a zone are taken for UTC" if found.zones and found.zones < found.dates else ""
        mixed = found.numbers > 0
        if mixed:
            remark = f", {found.numbers:,} of which are numbers, converted by their size{remark}"
        return When("time", column, mixed=mixed, remark=remark)
    if found.strange is not None and not found.numbers:
        raise UserError(f"--time-column {column}: {found.strange!r} is neither a number nor a date such as 2024-05-31")
    if found.calendar:
        return When("time", column, calendar=True, remark=", whose numbers are dates such as 20240531")
    unit = found.unit
    if unit is None:
        remark = ", whose numbers are too small for dates and taken for seconds" if found.numbers else ""
        return When("time", column, remark=remark) if usual else When("order", column)
    zeros = f"; {found.zeros:,} are 0, which is 1970" if found.zeros else ""
    if len(found.units) < 2:
        return When("time", column, unit, remark=zeros)
    counts = " and ".join(f"{name} ({count:,})" for name, count in found.units.items())
    remark = f", whose numbers are {counts}, each converted by its size{zeros}"
    return When("time", column, unit, mixed=True, remark=remark)


def units_of(numbers: pa.Array) -> dict[str, int]:
    """Counts of these numbers by unit of time, where they mix units; else empty."""
    found = _tally([numbers])
    return found.units if found.unit is not None and len(found.units) > 1 else {}


class _Cells(NamedTuple):
    """Cells [n] as numbers, and as dates in seconds since 1970; NaN where a cell is not one."""

    numbers: Seconds
    dates: Seconds
    zones: int = 0  # dates with a time zone
    strange: str | None = None  # the first text that is neither


def _cells(values: pa.Array) -> _Cells:
    values = values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values
    nothing = np.full(len(values), np.nan)
    if pa.types.is_temporal(values.type):
        return _Cells(nothing, _since_1970(values))
    if not is_text(values.type):
        return _Cells(_as_floats(values), nothing)
    texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    is_number, local, zoned = (
        pc.fill_null(pc.match_substring_regex(texts, pattern), False)
        for pattern in (_NUMBER, f"{_DATE}$", f"{_DATE}{_ZONE}$")
    )
    numbers = _as_floats(pc.if_else(is_number, texts, None).cast(pa.float64()))
    texts = pc.replace_substring_regex(texts, r"(\.\d{6})\d+", r"\1")
    dates = _parsed(pc.if_else(local, texts, None), pa.timestamp("us"))
    there = _parsed(pc.if_else(zoned, texts, None), pa.timestamp("us", "UTC"))
    dates = np.where(np.isnan(dates), there, dates)
    strange = np.isnan(numbers) & np.isnan(dates) & pc.is_valid(texts).to_numpy(zero_copy_only=False)
    first = values[int(strange.argmax())].as_py() if strange.any() else None
    return _Cells(numbers, dates, int((~np.isnan(there)).sum()), first)


def _parsed(texts: pa.Array, kind: pa.DataType) -> Seconds:
    """Parse texts as seconds since 1970, NaN where one is no valid date."""
    try:
        return _since_1970(texts.cast(kind))
    except pa.ArrowException:
        encoded = texts.dictionary_encode()
        each = [np.nan, *(_one(text, kind) for text in encoded.dictionary)]
        at = 1 + pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        return np.asarray(np.array(each)[at], np.float64)


def _one(text: pa.Scalar, kind: pa.DataType) -> float:
    try:
        return float(_since_1970(pa.array([text.as_py()]).cast(kind))[0])
    except pa.ArrowException:
        return np.nan


def _since_1970(moments: pa.Array) -> Seconds:
    zone = moments.type.tz if pa.types.is_timestamp(moments.type) else None
    whole = moments.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
    return _as_floats(whole) / 1e6


def _as_floats(values: pa.Array) -> Seconds:
    """Convert to floats, NaN where missing or not finite."""
    found = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.where(np.isfinite(found), found, np.nan)


def _within(size: Seconds, part: float) -> NDArray[np.bool_]:
    """Mask of numbers that are times from 1973 to 2100 in a unit."""
    return np.asarray((size * part >= _EARLIEST) & (size * part < LATEST))


def _of_calendar(numbers: Seconds) -> Seconds:
    """Parse numbers such as 20240531 or 20240531123000 as seconds since 1970, NaN where one is no date."""
    long = numbers >= 1e10
    day, clock = np.where(long, numbers // 1e6, numbers), np.where(long, numbers % 1e6, 0.0)
    year, month, date = day // 1e4, day // 100 % 100, day % 100
    hour, minute, second = clock // 1e4, clock // 100 % 100, clock % 100
    fits = (numbers == np.floor(numbers)) & (year >= 1900) & (year <= 2100) & (month >= 1) & (month <= 12)
    fits &= (date >= 1) & (date <= 31) & (hour < 24) & (minute < 60) & (second < 60)
    months = np.where(fits, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]").astype(np.int64) + date - 1
    return np.where(fits, days * 86400 + hour * 3600 + minute * 60 + second, np.nan)


@dataclass
class _Tally:
    """Counts over a whole column."""

    numbers: int = 0
    dates: int = 0
    zones: int = 0
    strange: str | None = None
    all_of_calendar: bool = True

    def __post_init__(self) -> None:
        self.within: Counter[str] = Counter()  # numbers that are times from 1973 to 2100
        self.below: Counter[str] = Counter()  # numbers before 2100
        self.small = self.zeros = 0

    def add(self, values: pa.Array) -> None:
        cells = _cells(values)
        there = cells.numbers[~np.isnan(cells.numbers)]
        self.numbers += len(there)
        self.dates += int((~np.isnan(cells.dates)).sum())
        self.zones += cells.zones
        self.strange = self.strange if self.strange is not None else cells.strange
        self.all_of_calendar = self.all_of_calendar and not np.isnan(_of_calendar(there)).any()
        size = np.abs(there)
        self.small += int((size < _EARLIEST).sum())
        self.zeros += int((size == 0).sum())
        for name, part in UNITS.items():
            self.within[name] += int(_within(size, part).sum())
            self.below[name] += int((size * part < LATEST).sum())

    @property
    def calendar(self) -> bool:
        return bool(self.numbers) and self.all_of_calendar

    @property
    def unit(self) -> str | None:
        """The unit in which the median is a time; None where it is too small for any."""
        if 2 * self.small >= self.numbers:
            return None
        return next((name for name, below in self.below.items() if 2 * below >= self.numbers), "nanoseconds")

    @property
    def units(self) -> dict[str, int]:
        """Counts of numbers by unit; empty where too many fit none."""
        found = {name: count for name, count in self.within.items() if count}
        between = self.numbers - self.small - sum(found.values())
        return found if between <= _BETWEEN * self.numbers else {}


def _tally(columns: Iterable[pa.Array]) -> _Tally:
    found = _Tally()
    for values in columns:
        found.add(values)
    return found
