"""Options, signs and encoder names of time series, available without importing torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tacit.core.errors import UserError, nearest
from tacit.data.signs import Signs
from tacit.modalities.options import ModalityOptions

LENGTHS = (8, 16_384)  # steps of a window, least and most
RELATIVE = ("data", "series")  # whose mean and deviation normalise values

READS = "time series"  # the input of an encoder of this modality, in messages

ENCODERS = {
    "series_convnet": "tacit.modalities.series.convnet:SeriesConvNet",
    "series_causal": "tacit.modalities.series.convnet:SeriesConvNet",
    "patchtst_nano": "tacit.modalities.series.patchtst:PatchTST",
    "patchtst_tiny": "tacit.modalities.series.patchtst:PatchTST",
    "patchtst_small": "tacit.modalities.series.patchtst:PatchTST",
    "patchtst_base": "tacit.modalities.series.patchtst:PatchTST",
}

SIGNS = Signs(nouns="time series", when_named=frozenset([".csv", ".tsv", ".csv.gz", ".tsv.gz"]))


@dataclass(frozen=True, kw_only=True)
class Options(ModalityOptions):
    """How time series are read.

    Args:
        series_column: the table's column of lists of numbers, each a series; several are the channels of one. Of a long
            table, which has a row for every moment, its column of values, or several; of CSV files, each a series,
            those that are channels. Default: the one column of lists, or of a usual name; of files all columns of
            numbers
        series_id_column: the column of a long table that says which series a row belongs to; default: one of a usual
            name
        series_time_column: the column of a long table or of CSV files that says when; times may be irregular. Default:
            one of a usual name, else the rows' order
        series_step: how far apart values lie in time once they are at regular steps, in seconds where times are dates;
            default: the median of the data, and of later data that of the training data
        length: Of time series, how many steps, 8 to 16,384; default: as many as nearly all have, at most 1,024. Longer
            ones are embedded in several windows
        relative_to: whose mean and deviation the values of a series are taken relative to: the whole data's (data) or
            its own (series); default: its own where series lie far apart beside what happens in each, else the data's
    """

    group = "series"
    columns: ClassVar[tuple[str, ...]] = ("series_column", "series_id_column", "series_time_column")
    together: ClassVar[tuple[str, ...]] = ("length",)

    series_column: str | Sequence[str] | None = None
    series_id_column: str | None = None
    series_time_column: str | None = None
    series_step: float | None = None
    length: int | None = None
    relative_to: str | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """The named columns of values."""
        return (self.series_column,) if isinstance(self.series_column, str) else tuple(self.series_column or ())

    @property
    def long(self) -> bool:
        """Whether the options declare a long table, with a row per moment."""
        return self.series_id_column is not None or self.series_time_column is not None

    def check(self) -> None:
        if self.series_step is not None and not 0 < self.series_step < math.inf:
            raise UserError(f"--series-step {self.series_step} is no length of time; give a number above 0")
        if self.relative_to not in (None, *RELATIVE):
            near = nearest(str(self.relative_to), RELATIVE)
            raise UserError(f"--relative-to {self.relative_to} is none{near}; choose from {', '.join(RELATIVE)}")
