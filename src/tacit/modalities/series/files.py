"""CSV files of which each is a series: the columns and the step of the first file are those of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from tacit.core.errors import UserError
from tacit.data.named import one_array
from tacit.data.opened import read_table
from tacit.data.source import Unreadable
from tacit.data.streamed import in_memory
from tacit.data.times import when_of
from tacit.modalities.series.options import Options
from tacit.modalities.series.tables import TIME_NAMES, Steps, Values, as_numbers, plain, step_of

MOST_COUNTED = 2  # columns, up to which a first line of 0, 1, ... above whole numbers is taken for numbers too


class CsvFiles:
    """Reads a series [T C] from each CSV file: the columns and the step of the first file are those of all."""

    def __init__(self, options: Options) -> None:
        self.named = bool(options.channels)
        self.names: list[str] | None = list(options.channels) or None  # empty where there is no line of names
        self.time = options.series_time_column
        self.steps = Steps(options.series_step)
        self.counted = 0  # files whose first line may be one of numbers, or count the columns

    @property
    def remarks(self) -> list[str]:
        taken = "numbers like all others" if self.names == [] else "names of columns"
        counted = f"{self.counted:,} files begin with a line that counts 0, 1, ..., which was taken for {taken}"
        return [*([counted] if self.counted else []), *self.steps.remarks]

    def __call__(self, path: Path) -> Values | Unreadable:
        try:
            table = read_table(path)
            values = {name: as_numbers(table[name]) for name in table.column_names}
            self.counted += _counts(table.column_names)
            if _is_row(table.column_names, values):
                return self._without_names(table.column_names, values)
            _leave_out_index(values)
            time = self._time_column(values)
            seconds = (
                None if time is None else when_of(in_memory(table), time, usual=True).seconds(one_array(table[time]))
            )
        except (UserError, OSError) as error:
            return Unreadable(str(error).rpartition(": ")[2][:200])
        chosen = self._channels([name for name in values if name != time])
        if isinstance(chosen, Unreadable):
            return chosen
        columns = [values[name] for name in chosen]
        for name, column in zip(chosen, columns, strict=True):
            if column is None:
                return Unreadable(f"column {name!r} holds something that is no number; --series-column names others")
        series = np.stack([column for column in columns if column is not None], 1)
        self.names = chosen
        return series if seconds is None else self._at_steps(seconds, series)

    def _without_names(self, first: Sequence[str], values: Mapping[str, Values | None]) -> Values | Unreadable:
        """A file whose first line is one of numbers too."""
        if self.names:
            return Unreadable("it has no line of names above its numbers")
        self.names = []
        head = as_numbers(pa.array(first, pa.string()))
        assert head is not None
        return np.stack(
            [np.append(one, of) for one, of in zip(head, values.values(), strict=True) if of is not None], 1
        )

    def _time_column(self, values: Mapping[str, Values | None]) -> str | None:
        """The column of times: the one that is named, one of a usual name, or a first column of dates."""
        if self.time is not None:
            if self.time not in values:
                raise UserError(f"it has no column {self.time!r} of times")
            return self.time
        others = [name for name in values if name not in (self.names or ()) or not self.named]
        usual = next((name for name in others if plain(name) in TIME_NAMES), None)
        if usual is not None and len(values) > 1:
            return usual
        first = next(iter(values), None)
        return first if first in others and len(values) > 1 and values[first] is None else None

    def _channels(self, there: list[str]) -> list[str] | Unreadable:
        """The channels of a file with these columns, in the order of the first file's."""
        if not there:
            return Unreadable("it has no column of numbers")
        if self.names is None:
            return there
        missing = [name for name in self.names if name not in there]
        if missing or (not self.named and len(there) > len(self.names)):
            return Unreadable(
                f"its columns are {', '.join(there)}, and not {', '.join(self.names) or 'without names'} as in the "
                "first file; --series-column names those to read"
            )
        return self.names

    def _at_steps(self, time: Values, series: Values) -> Values | Unreadable:
        known = np.isfinite(time)
        order = np.argsort(time, kind="stable")
        order = order[known[order]]
        if not len(order):
            return Unreadable("none of its rows has a time")
        time, series = time[order], series[order]
        if self.steps.step is None:
            self.steps.step = step_of(np.zeros(len(time), np.int64), time)
        return self.steps.on_grid(time, series)


def _is_row(names: Sequence[str], values: Mapping[str, Values | None]) -> bool:
    """Whether the first line of a file holds numbers, as all others, and no names."""
    head = as_numbers(pa.array(names, pa.string()))
    if head is None or not np.isfinite(head).any() or any(of is None for of in values.values()):
        return False
    return not _counts(names) or (
        len(names) <= MOST_COUNTED and all(of is not None and (of == np.floor(of)).all() for of in values.values())
    )


def _counts(names: Sequence[str]) -> bool:
    """Whether these count the columns, as pandas calls those without names."""
    some = [name for name in names if name.strip()]
    numbers = [str(number) for number in range(len(some) + 1)]
    return some in (numbers[:-1], numbers[1:])


def _leave_out_index(values: dict[str, Values | None]) -> None:
    """Leave out a first column without a name that counts the rows, as pandas writes it."""
    first = next(iter(values), "x")
    counts = values.get(first)
    unnamed = len(values) > 1 and (not first.strip() or first.startswith("Unnamed:"))
    if unnamed and counts is not None and (counts - counts[:1] == np.arange(len(counts))).all():
        del values[first]
