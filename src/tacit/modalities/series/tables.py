"""Sources of series: lists in a table, long tables with a row per moment, arrays, CSV files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.core import naming
from tacit.core.archives import arrays_in
from tacit.core.errors import UserError
from tacit.data.labels import LABEL_NAMES
from tacit.data.named import as_column, as_numpy, as_text
from tacit.data.opened import OpenTable, is_text, row_ids
from tacit.data.places import stamp_of
from tacit.data.source import ROWS, Source, Unreadable, digest, spread
from tacit.data.tables import Table, is_bytes
from tacit.data.times import when_of
from tacit.modalities.series.options import Options

Values = NDArray[np.float64]

# Usual names of columns, normalised by `plain`.
SERIES_NAMES = (
    *("series", "timeseries", "values", "value", "signal", "sequence", "ts", "trace", "wave", "waveform", "curve"),
    *("x", "data", "ecg", "eeg", "ppg", "readings", "measurements", "target"),
)
VECTOR_NAMES = ("embedding", "embeddings", "vector", "vectors", "features", "emb", "probabilities", "scores", "bbox")
ID_NAMES = ("id", "seriesid", "uniqueid", "tsid", "series", "sensorid", "sensor", "unit", "unitid")
TIME_NAMES = ("time", "timestamp", "datetime", "date", "ts", "ds", "t", "step", "timestep")
VALUE_NAMES = ("value", "values", "y", "reading", "measurement")
PLAIN_NAMES = (*LABEL_NAMES, "id", "name", "split", "group", "subject", "patient")  # text columns that are no content

SERIES = "series"
ARRAY_NAMES = (SERIES, "x", "X", "data", "values", "arr_0")
TARGET_NAMES = ("y", "Y", "label", "labels", "target", "targets", "arr_1")

UNEVEN = 20  # steps per value of a series, beyond which its times are too sparse to be one series
REGULAR = 0.01  # of a step, by which regular times may deviate


def plain(column: str) -> str:
    """Normalise a column name for comparison: `Series_ID` becomes seriesid."""
    return column.lower().replace("_", "").replace("-", "").replace(" ", "")


@dataclass
class Steps:
    """How the times of series became regular steps; counted while the series are read."""

    step: float | None = None
    resampled: int = 0  # series
    averaged: int = 0  # values of equal times

    def on_grid(self, time: Values, values: Values) -> Values | Unreadable:
        """Bring values [n C] at ascending times [n] to regular steps [T C]; NaN where there is no measurement."""
        assert self.step is not None
        if len(time) < 2:
            return values
        place = (time - time[0]) / self.step
        last = round(float(place[-1]))
        if last + 1 > UNEVEN * len(time):
            return Unreadable(f"its {len(time):,} values lie {last:.7g} usual steps apart")
        nearest = np.rint(place).astype(np.int64)
        if np.abs(place - nearest).max() <= REGULAR and (np.diff(nearest) > 0).all():
            found = np.full((last + 1, values.shape[1]), np.nan)
            found[nearest] = values
            return found
        self.resampled += 1
        self.averaged += int((np.diff(time) == 0).sum())
        grid, found = np.arange(last + 1, dtype=np.float64), np.full((last + 1, values.shape[1]), np.nan)
        for channel in range(values.shape[1]):
            known = np.isfinite(values[:, channel])
            if known.any():
                at, where = np.unique(place[known], return_inverse=True)  # average values of equal time
                mean = np.bincount(where, values[known, channel]) / np.bincount(where)
                found[:, channel] = np.interp(grid, at, mean)
        return found

    @property
    def remarks(self) -> list[str]:
        """What was done to the values, for the user."""
        found = []
        if self.resampled:
            found.append(
                f"{self.resampled:,} series were measured at other times than every {self.step:,.6g}, and are brought "
                "to it along straight lines; --series-step names another step"
            )
        if self.averaged:
            found.append(
                f"{self.averaged:,} values have the time of another one of the same series, and are averaged with it"
            )
        return found


# ---------------------------------------------------------------- columns of numbers


def as_numbers(values: pa.ChunkedArray | pa.Array) -> Values | None:
    """The numbers of a column, NaN where a cell is empty; None where a cell is no number."""
    if is_text(values.type):
        texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
        words = pc.unique(texts.filter(pc.invert(pc.fill_null(pc.match_substring_regex(texts, r"^[-+.\d]"), False))))
        missing = [word for word in words.to_pylist() if word is None or not word or naming.missing(word)]
        values = pc.if_else(pc.is_in(texts, value_set=pa.array(missing, pa.string())), None, texts)
    try:
        found = values.cast(pa.float64(), safe=not pa.types.is_integer(values.type))
        return np.asarray(
            found.to_numpy() if isinstance(found, pa.ChunkedArray) else found.to_numpy(zero_copy_only=False)
        )
    except pa.ArrowException:
        return None


# ---------------------------------------------------------------- a column of lists


def is_list(kind: pa.DataType, *, nested: bool = False) -> bool:
    """Whether a type is a list of numbers, or a list of such lists."""
    kind = _stored(kind)
    if not _is_any_list(kind):
        return False
    inner = kind.value_type
    return is_number(inner) or (not nested and _is_any_list(inner) and is_list(inner, nested=True))


def _is_any_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _stored(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def list_column(schema: pa.Schema, taken: frozenset[str], reserved: frozenset[str]) -> str | None:
    """The single list column of a table, where it can only hold series; `taken` are usual names of other modalities."""
    lists = [field for field in schema if is_list(field.type) and field.name not in reserved]
    if len(lists) != 1 or any(is_bytes(field.type) for field in schema):
        return None
    name, kind = str(lists[0].name), _stored(lists[0].type)
    usual = plain(name) in SERIES_NAMES and name.lower() not in LABEL_NAMES
    if name.lower() in taken - {"sequence", "data"} or plain(name) in VECTOR_NAMES:
        return None
    words = [field.name for field in schema if is_text(field.type) and field.name.lower() not in PLAIN_NAMES]
    if any(word.lower() in taken for word in words):
        return None
    if not usual and (words or not pa.types.is_floating(kind.value_type)):
        return None
    return name


def lists_source(listing: Table, columns: Sequence[str]) -> Source:
    """One series per row, from lists in these columns; several columns are channels."""
    table, name = listing.opened, listing.name
    for column in columns:
        kind = table.schema.field(column).type
        if not is_list(kind):
            raise UserError(f"--series-column {column}: {name} holds {kind} there; give lists of numbers")
    axes = [_channel_axis(table, column) for column in columns]
    others = table.read([c for c in table.schema.names if c not in columns])
    ids, key = row_ids(others, table.rows)
    stamps = table.stamps or [_hashed(table, column) for column in columns]
    return Source(
        name=name,
        kind="series",
        ids=ids,
        key=key,
        by_path=False,
        fingerprint=digest(chain([b"series 1", "\0".join(columns).encode()], stamps)),
        items=lambda: _cells([table.stream(column) for column in columns], axes),
        sample=lambda k: list(_cells([table.sample(column, k) for column in columns], axes)),
        columns=others,
        remarks=table.remarks,
        read={"series_column": list(columns)},
    )


def _hashed(table: OpenTable, column: str) -> bytes:
    state = hashlib.blake2b(digest_size=16)
    for chunk in table.stream(column):
        state.update(pa.record_batch([chunk], ["x"]).serialize())
    return state.digest()


def _cells(columns: Sequence[Iterator[pa.Array]], axes: Sequence[int]) -> Iterator[Values | Unreadable]:
    """The series [T C] of each row, from lists [T] of its columns, or a list of lists whose `axes` are the channels."""
    for row in zip(*(chain.from_iterable(map(_lists, of)) for of in columns), strict=True):
        parts: list[Values] = []
        for cell, axis in zip(row, axes, strict=True):
            if cell is None:
                parts = []
                break
            parts += [cell] if cell.ndim == 1 else list(cell if axis == 0 else cell.T)
        if not parts:
            yield Unreadable("it is empty, or its channels differ in length")
        elif len({len(part) for part in parts}) > 1:
            yield Unreadable("its channels differ in length")
        else:
            yield np.stack(parts, 1)


def channel_axis(shapes: NDArray[np.int64]) -> int:
    """Which axis of series of these shapes [N 2] counts channels: the one that is alike in most, else the shorter."""
    if not len(shapes):
        return 0
    alike = [np.unique(shapes[:, axis], return_counts=True)[1].max() for axis in (0, 1)]
    if alike[0] != alike[1]:
        return int(np.argmax(alike))
    return int(shapes[:, 1].sum() < shapes[:, 0].sum())


def _channel_axis(table: OpenTable, column: str) -> int:
    """The same of a column of lists of lists; 0 of one of lists."""
    if not _is_any_list(_stored(table.schema.field(column).type).value_type):
        return 0
    shapes = [_shapes(chunk) for of in table.stream(column) for chunk in getattr(of, "chunks", [of])]
    return channel_axis(np.concatenate(shapes) if shapes else np.empty((0, 2), np.int64))


def _shapes(chunk: pa.Array) -> NDArray[np.int64]:
    """How many lists each cell holds, and how long its first one is, [n 2]; of cells that hold some."""
    chunk = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
    outer, inner = pc.list_value_length(chunk), pc.fill_null(pc.list_value_length(chunk.flatten()), 0)
    outer = pc.fill_null(outer, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    first = (np.cumsum(outer) - outer)[outer > 0]
    lengths = inner.to_numpy(zero_copy_only=False).astype(np.int64)
    return np.stack([outer[outer > 0], lengths[first]], 1)


def _lists(chunk: pa.Array | pa.ChunkedArray) -> Iterator[Values | None]:
    """The lists of a column as arrays [T], or [a b] for nested lists; None where missing or ragged."""
    if isinstance(chunk, pa.ChunkedArray):
        for part in chunk.chunks:
            yield from _lists(part)
        return
    chunk = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
    if pa.types.is_fixed_size_list(chunk.type):
        chunk = chunk.cast(pa.large_list(chunk.type.value_field))
    if pa.types.is_nested(chunk.type.value_type):
        for cell in chunk.to_pylist():
            try:
                yield None if cell is None else np.array(cell, np.float64).reshape(len(cell), -1)
            except (ValueError, TypeError):
                yield None
        return
    values = np.asarray(chunk.values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    offsets, there = chunk.offsets.to_numpy(), chunk.is_valid().to_numpy(zero_copy_only=False)
    for known, begin, end in zip(there.tolist(), offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        yield values[begin:end] if known else None


# ---------------------------------------------------------------- long tables: a row per moment


@dataclass(frozen=True)
class Roles:
    """The columns of a long table."""

    of: str
    time: str | None
    values: tuple[str, ...]

    @property
    def named(self) -> list[str]:
        return [self.of, *([self.time] if self.time else []), *self.values]


def long_roles(schema: pa.Schema, options: Options, name: str, *, must: bool) -> Roles | None:
    """The columns of a long table by options, else by usual names; None where some are missing."""
    known = {plain(column): column for column in reversed(schema.names)}

    def usual(names: Sequence[str]) -> str | None:
        return next((known[one] for one in names if one in known), None)

    for flag in ("series_id_column", "series_time_column"):
        column = getattr(options, flag)
        if column is not None and column not in schema.names:
            there = ", ".join(schema.names)
            raise UserError(f"--{flag.replace('_', '-')} {column}: {name} has no such column (it has: {there})")
    of = options.series_id_column or usual(ID_NAMES)
    time = options.series_time_column or usual(TIME_NAMES)
    values = options.channels or tuple(filter(None, [usual(VALUE_NAMES)]))
    if of is None or not values or (time is None and not must) or len({of, time, *values}) < 2 + len(values):
        return None
    return Roles(of, time, values)


def long_source(listing: Table, roles: Roles, step: float | None, reserved: frozenset[str]) -> Source:
    """One series per id, in order of first occurrence, with values in order of time.

    Irregular times are resampled to this step, else to the median one, by linear interpolation. Other columns are kept
    where they are constant within each series; UserError where one is not that is named for labels, groups or splits.
    """
    streamed, name = listing.streamed, listing.name
    whole = listing.opened.read(streamed.schema.names)
    encoded = as_text(whole[roles.of]).dictionary_encode()
    of = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    values = []
    for column in roles.values:
        found = as_numbers(whole[column])
        if found is None:
            raise UserError(f"--series-column {column}: {name} holds something there that is no number")
        values.append(found)
    time = np.arange(len(of), dtype=np.float64)
    if roles.time is not None:
        when = when_of(streamed, roles.time, usual=True)
        time = np.concatenate([when.seconds(chunk) for chunk in whole[roles.time].chunks] or [time[:0]])
    placed = (of >= 0) & np.isfinite(time)
    order = np.lexsort((time, of))
    order = order[placed[order]]
    if not len(order):
        raise UserError(f"{name} holds no row with an id and a time")
    of, time, table = of[order], time[order], np.stack(values, 1)[order]
    numbers, first = np.unique(of, return_index=True)
    bounds = np.append(first, len(of))
    steps = Steps(step or step_of(of, time))
    remarks = [f"series by {roles.of!r}, values {', '.join(map(repr, roles.values))}"]
    timed = f"in time by {roles.time!r}, a step is {steps.step:,.6g}"
    remarks.append(timed if roles.time else "in the order of the rows")
    if (~placed).any():
        remarks.append(f"{int((~placed).sum()):,} rows lack an id or a time, and are left out")

    def items() -> Iterator[Values | Unreadable]:
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            part = table[begin:end]
            yield part if roles.time is None else steps.on_grid(time[begin:end], part)

    others = _constant(whole, roles, encoded)
    for column in reserved:
        if column in whole.column_names and column not in (*roles.named, *(others.column_names if others else ())):
            raise UserError(
                f"column {column!r} of {name} varies within a series, which has one label, one group and one split: "
                "give one row for each series in a file, --labels FILE"
            )
    ids = encoded.dictionary.take(pa.array(numbers))
    stamps = streamed.stamps or [of.tobytes(), time.tobytes(), table.tobytes()]
    return Source(
        name=name,
        kind="series",
        ids=ids,
        key=roles.of,
        by_path=False,
        fingerprint=digest(chain([b"long series 1", repr((roles.named, step)).encode()], stamps)),
        items=items,
        sample=lambda k: [],
        columns=others.take(pa.array(numbers)) if others is not None else None,
        remarks=(*streamed.remarks, "; ".join(remarks)),
        about=(steps,) if roles.time else None,
        read={
            "series_column": list(roles.values),
            "series_id_column": roles.of,
            **({"series_time_column": roles.time} if roles.time else {}),
        },
    )


def step_of(of: NDArray[np.int64], time: Values) -> float:
    """The median time between consecutive values of a series."""
    gaps = np.diff(time)[(of[1:] == of[:-1]) & (np.diff(time) > 0)]
    return float(np.median(gaps)) if len(gaps) else 1.0


def _constant(whole: pa.Table, roles: Roles, encoded: pa.DictionaryArray) -> pa.Table | None:
    """Other columns that are constant within each series, with one row per id."""
    of = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    known = of >= 0
    numbers, first = np.unique(of[known], return_index=True)
    rows = np.flatnonzero(known)[first]
    kept: dict[str, Any] = {}
    for column in whole.column_names:
        if column in roles.named or pa.types.is_nested(whole.schema.field(column).type):
            continue
        codes = pc.fill_null(as_text(whole[column]).dictionary_encode().indices, -1).to_numpy(zero_copy_only=False)
        alike = np.full(len(encoded.dictionary), -1, codes.dtype)
        alike[numbers] = codes[rows]
        if (codes[known] == alike[of[known]]).all():
            kept[column] = whole[column].take(pa.array(rows))
    return pa.table(kept) if kept else None


# ---------------------------------------------------------------- arrays


def file_source(path: Path, *, must: bool) -> Source | None:
    """Read a `.npy` file of series, or a `.npz` with an array of series and perhaps one of labels. Never unpickles."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays: dict[str, Any] = {"x": loaded}
        else:
            loaded.close()
            with arrays_in(path) as inside:
                arrays = {name: inside[name] for name in inside.files}
    except Exception:  # whatever a forged header makes numpy raise; other readers of arrays report it
        return None
    return arrays_source(arrays, path.name, stamp_of(path), must=must)


def objects_source(data: Any, name: str, *, must: bool) -> Source | None:
    """Read arrays in memory: [N T], [N C T], or a list of arrays [T] or [C T] of any lengths; alone, or as x with y."""
    if isinstance(data, Mapping):
        return arrays_source({str(key): value for key, value in data.items()}, name, None, must=must)
    return arrays_source({"x": data}, name, None, must=must)


def arrays_source(arrays: Mapping[str, Any], name: str, stamp: bytes | None, *, must: bool) -> Source | None:
    """Find series by the usual names of arrays, and labels under y or label. None where there are no series."""
    found = next((key for key in ARRAY_NAMES if key in arrays), None)
    if found is None or not (must or found == SERIES):
        return None  # numbers [N T] may also be flattened images or features
    series = _listed(arrays[found])
    if series is None:
        if must:
            raise UserError(f"{name}: give series as numbers [N T] or [N C T], or a list of arrays [T] or [C T]")
        return None
    labels = next((arrays[key] for key in TARGET_NAMES if arrays.get(key) is not None), None)
    label = None if labels is None else as_text(as_column(as_numpy(labels)), lists=True)
    if label is not None and len(label) != len(series):
        raise UserError(f"{name}: {len(series)} series need {len(series)} labels, got {len(label)}")
    stamps = [stamp] if stamp is not None else (np.ascontiguousarray(of).tobytes() for of in series)

    shapes = [of.shape for of in series if of.ndim == 2] if isinstance(series, list) else [series.shape[1:]]
    axis = channel_axis(np.array([of for of in shapes if len(of) == 2], np.int64).reshape(-1, 2))

    def one(row: int) -> Values | Unreadable:
        values = np.asarray(series[row], np.float64)
        return values[:, None] if values.ndim == 1 else values.T if axis == 0 else values

    return Source(
        name=name,
        kind="series",
        ids=pa.array(np.arange(len(series)).astype(str), pa.string()),
        key=ROWS,
        by_path=False,
        fingerprint=digest(chain([b"series arrays 1"], stamps)),
        items=lambda: map(one, range(len(series))),
        sample=lambda k: [one(row) for row in spread(len(series), k)],
        label=label,
    )


def _listed(values: Any) -> Any:
    """Series as an array or list of rows; None where there are none."""
    values = as_numpy(values)
    if isinstance(values, list | tuple) and values:
        rows = [as_numpy(of) for of in values]
        if not all(isinstance(of, np.ndarray | list | tuple) for of in rows):
            return None
        arrays = [np.asarray(of) for of in rows]
        fits = all(of.ndim in (1, 2) and of.dtype.kind in "fiu" for of in arrays)
        return arrays if fits else None
    if isinstance(values, str | bytes | os.PathLike) or not hasattr(values, "ndim"):
        return None
    return values if values.ndim in (2, 3) and values.dtype.kind in "fiu" and len(values) else None


# ---------------------------------------------------------------- tables of either form


def table_source(listing: Table, options: Options, reserved: frozenset[str], *, must: bool) -> Source | None:
    """The series of a table of lists or a long table; None where it may be of another modality."""
    schema = listing.streamed.schema if must or listing.names() is not None else None
    if schema is None:
        return None
    for channel in options.channels:
        if channel not in schema.names:
            there = ", ".join(schema.names)
            raise UserError(f"--series-column {channel}: {listing.name} has no such column (it has: {there})")
    taken = frozenset(name for of in listing.signs.values() for name in (*of.columns, *of.texts))
    if must:
        lists = [name for name in options.channels if name in schema.names and is_list(schema.field(name).type)]
        if not options.long and (len(lists) == len(options.channels) > 0):
            return lists_source(listing, options.channels)
        if not options.long and not options.channels:
            alone = [field.name for field in schema if is_list(field.type) and field.name not in reserved]
            if len(alone) == 1:
                return lists_source(listing, alone)
            if len(alone) > 1:
                raise UserError(
                    f"{listing.name} has several columns of lists ({', '.join(alone)}): choose with --series-column"
                )
        roles = long_roles(schema, options, listing.name, must=True)
        if roles is None:
            raise UserError(
                f"{listing.name} has no column of lists of numbers, nor columns of ids and values that are known by "
                f"their names (of {', '.join(schema.names)}): name them with --series-column, --series-id-column and "
                "--series-time-column; series that lie over the columns of rows are read from an array (.npy)"
            )
        return long_source(listing, roles, options.series_step, reserved)
    column, roles = list_column(schema, taken, reserved), None
    strange = any(is_bytes(of.type) or is_list(of.type) or of.name.lower() in taken for of in schema)
    if column is None and not strange:
        roles = long_roles(schema, options, listing.name, must=False)
    if (column is None and roles is None) or listing.leads_to_files(schema, _first(listing)):
        return None
    if column is not None:
        return lists_source(listing, [column])
    assert roles is not None
    return long_source(listing, roles, options.series_step, reserved)


def _first(listing: Table) -> Callable[[str], pa.Array | None]:
    """A function that reads the first rows of a column only."""

    def first(column: str) -> pa.Array | None:
        batch = next(iter(listing.streamed.stream([column])), None)
        return None if batch is None else batch.column(0)

    return first
