"""What is known of the examples, as texts: from a file, from class folders, from a table's own columns.

What cannot be used is left out and said (see `Notes`), never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.data.asked import FLAGS, Asked
from tacit.data.kinds import suffix_of
from tacit.data.matching import AMBIGUOUS, UNKNOWN, match
from tacit.data.notes import Few, Notes, few
from tacit.data.opened import LINES, PARQUET, PATH_NAMES, read_table, refuse_twice
from tacit.data.source import Source, each
from tacit.data.splitting import SPLITS, codes_of
from tacit.data.text import rearmed
from tacit.errors import UserError

FOLDERS = "folders"
LABEL_NAMES = ("label", "labels", "class", "class_name", "label_name", "target", "category", "y")
FILE_NAMES = (*PATH_NAMES, "image_id", "id", "name")
LISTED = "\x1f"  # ends each label of a list

_APART = ("classification", "multilabel", "regression")
_FEWEST_WHOLES = 10
_SPEAKER, _FEWEST_SPEAKERS = "speaker", 6
_MATCHED = 0.5  # of a label file's rows


@dataclass(frozen=True)
class Columns:
    """What is known of N examples besides their content, as the texts that were found: string [N], null where none."""

    label: pa.Array | None = None
    group: pa.Array | None = None
    split: pa.Array | None = None
    subgroup: pa.Array | None = None
    holdout: pa.Array | None = None
    time: pa.Array | None = None
    side: pa.Array | None = None  # of a pair
    pair: pa.Array | None = None  # of two that a score compares
    token: pa.Array | None = None  # a token's type, such as the word

    def take(self, rows: NDArray[np.int64]) -> Columns:
        chosen = pa.array(rows)
        return Columns(**{key: text.take(chosen) for key, text in vars(self).items() if text is not None})


def own_columns(source: Source, names: Mapping[str, str], *, lists: bool = False) -> Columns:
    """The data's own columns under these names. UserError where one is missing.

    `names` are those of `Asked`; `lists` says whether a label may be a list of them.
    """
    columns = pa.table({}) if source.columns is None else source.columns
    there = columns.column_names
    found = {} if source.label is None else {"label": source.label}
    for key, name in names.items():
        if name not in there:
            raise UserError(
                f"{FLAGS[key]} {name}: {source.name} has no such column (it has: {', '.join(there) or 'none'})"
            )
        found[key] = as_text(columns[name], lists=lists and key == "label")
    return Columns(**found)


def by_speaker(source: Source, tables: Mapping[Path, pa.Table], asked: Asked) -> tuple[Source, Asked]:
    """What one speaker says is a group, where a column of the data or of a label file says who speaks.

    Nothing is done where groups or splits are named, and that there are too few speakers to split by is said.
    """
    told = {"group", "split", "holdout", "time"} & asked.columns.keys()
    own = [] if source.columns is None else [source.columns]
    there = next((table[_SPEAKER] for table in (*tables.values(), *own) if _SPEAKER in table.column_names), None)
    if there is None or told or source.split is not None or asked.target not in _APART:
        return source, asked
    n = len(pc.unique(there.drop_null()))
    if n >= _FEWEST_SPEAKERS:
        remark = f"grouped by the column {_SPEAKER}, whom no split parts; --group-column names another"
        asked = replace(asked, columns={**asked.columns, "group": _SPEAKER})
    else:
        remark = f"{n} speakers are too few to be kept apart: one may be trained and tested on"
    return replace(source, remarks=(*source.remarks, remark)), asked


def together(source: Source, columns: Columns, asked: Asked) -> tuple[Source, Columns]:
    """Parts of one recording are a group, which no split parts, unless groups or splits are given.

    Where there are too few recordings to split by, that is said instead; targets that pair examples up need no groups.
    """
    given = (columns.group, columns.split, columns.holdout, columns.time, source.split)
    if source.whole is None or any(of is not None for of in given) or asked.target not in _APART:
        return source, columns
    n = len(pc.unique(source.whole))
    if n >= _FEWEST_WHOLES:
        return source, replace(columns, group=source.whole)
    remark = f"{n} recordings are too few to be kept whole: parts of one may be trained and tested on"
    return replace(source, remarks=(*source.remarks, remark)), columns


def with_folder_labels(source: Source) -> Source:
    """The first folder of each path is its label; where these are all named train, test and the like, the second is."""
    first, second = _folder(source, 0), _folder(source, 1)
    names = [name.lower() for name in first.dictionary.to_pylist()]
    splits = first.null_count == 0 and all(name in SPLITS for name in names)
    label = second if splits else first
    if not source.root or label.null_count == len(label):
        raise UserError(f"--labels folders: no {source.kind} of {source.name} lies in a class folder")
    split = np.array([SPLITS[name] for name in names], np.int8)[codes_of(first)] if splits else source.split
    return replace(source, label=as_text(label), split=split)


class Told(NamedTuple):
    """What label files say: of each row the example that it means, and texts."""

    rows: NDArray[np.int64]  # [R]
    texts: dict[str, pa.Array]  # string [R] each
    own: dict[str, str]  # what the data's own columns tell, and their names


def read_labels(files: Sequence[Path], remarks: list[str] | None = None) -> dict[Path, pa.Table]:
    """Label files as they are; adds to `remarks` what a person should know of how they were read."""
    return {path: _read_file(path, remarks) for path in files}


def file_columns(
    source: Source,
    tables: Mapping[Path, pa.Table],
    notes: Notes,
    names: Mapping[str, str],
    *,
    lists: bool = False,
    keys: Sequence[str] = FILE_NAMES,
    least: float = _MATCHED,
) -> Columns:
    """Columns of label files joined to the examples by path, see `told_by`; fills in what `notes` has to say."""
    told = told_by(source, tables, notes, names, lists=lists, keys=keys, least=least)
    return placed(source, told, notes)


def told_by(
    source: Source,
    tables: Mapping[Path, pa.Table],
    notes: Notes,
    names: Mapping[str, str],
    *,
    lists: bool = False,
    keys: Sequence[str] = FILE_NAMES,
    least: float = _MATCHED,
) -> Told:
    """Columns of label files, one after the other, with the example that each row means by its path.

    A column that no file has is taken from the data themselves, if they have it. Fills in what `notes` has to say about
    the files' rows. `names` and `lists` as for `own_columns`; `keys` are the usual names of the column of paths, first
    choice first. UserError where a column is missing, or where no row or a share under `least` of the rows matches.
    """
    there = {name for table in tables.values() for name in table.column_names}
    have = set() if source.columns is None else set(source.columns.column_names) - there
    own = {key: name for key, name in names.items() if key != "label" and name in have}
    wanted = {key: name for key, name in names.items() if key not in own}
    table = pa.concat_tables([_file_texts(table, path, wanted, keys, lists) for path, table in tables.items()])
    paths = [text or "" for text in table["file"].to_pylist()]
    rows, agree = match(paths, each(source.ids), source.root)
    _note_rows(rows, paths, ", ".join(map(str, tables)), notes, least)
    # Of several rows that mean one example, those that agree with more of its path are meant.
    best = np.zeros(len(source), np.int64)
    np.maximum.at(best, rows[rows >= 0], agree[rows >= 0])
    meant = np.flatnonzero((rows >= 0) & (agree == best[rows]))
    texts = {key: one_array(table[key].take(pa.array(meant))) for key in table.column_names if key != "file"}
    notes.empty = texts["label"].null_count
    return Told(rows[meant], texts, own)


def placed(source: Source, told: Told, notes: Notes) -> Columns:
    """What was told, at its examples; nothing of those of which rows tell different things, which `notes` names."""
    conflict = np.zeros(len(source), np.bool_)
    joined = {}
    for key, text in told.texts.items():
        joined[key], differs = per_example(text, told.rows, len(source))
        conflict |= differs
    notes.conflicting = _names(source, conflict)
    keep = pa.array(~conflict)
    joined = {key: pc.if_else(keep, text, None) for key, text in joined.items()}
    return replace(own_columns(replace(source, label=None), told.own), **joined)


def as_text(values: pa.Array | pa.ChunkedArray, *, lists: bool = False) -> pa.Array:
    """Labels of any type as trimmed strings, null where empty; whole floats are written as integers.

    With `lists`, a list of labels becomes one string in which `LISTED` ends each.
    """
    values = one_array(values)
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    if pa.types.is_nested(values.type):
        return _joined(values, lists)
    try:
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_finite(values), values, None)
            if pc.all(pc.equal(values, pc.floor(values))).as_py() is not False:
                values = values.cast(pa.int64())
        text = pc.utf8_trim_whitespace(values.cast(pa.string()))
    except pa.ArrowException:
        raise UserError(f"labels must be text or numbers, not {values.type}") from None
    return pc.if_else(pc.equal(text, ""), None, text)


def table_as_text(table: NDArray[np.generic]) -> pa.Array:
    """Like lists of labels: the numbers of the columns that hold a 1, from a table of 0 and 1 [N L]."""
    if not np.isin(table, (0, 1)).all():
        raise UserError(
            f"labels {list(table.shape)} hold other numbers than 0 and 1: give a 1 for each label that fits"
        )
    return pa.array(["".join(f"{i}{LISTED}" for i in np.flatnonzero(row)) or LISTED for row in table], pa.string())


def one_array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(values, pa.ChunkedArray):
        return values
    return pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)


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


def _read_file(path: Path, remarks: list[str] | None) -> pa.Table:
    if not path.is_file():
        raise UserError(f"--labels {path}: no such file (or say 'folders' for class folders)")
    table = read_table(path, remarks)
    refuse_twice(table.column_names, str(path))
    if suffix_of(path.name) in PARQUET | LINES:
        return table
    return pa.table([*map(rearmed, table.columns)], rearmed(pa.array(table.column_names)).to_pylist())


def _file_texts(table: pa.Table, path: Path, names: Mapping[str, str], keys: Sequence[str], lists: bool) -> pa.Table:
    """The columns `file`, `label` and those of `names` of a label file, all as text."""
    file, label = _file_and_label(table, path, names.get("label"), keys)
    wanted = {**names, "file": file, "label": label}
    for name in wanted.values():
        if name not in table.column_names:
            raise UserError(f"{path} has no column {name!r}; it has {', '.join(table.column_names)}")
    # in one order, whatever that of the files
    return pa.table({key: as_text(table[wanted[key]], lists=lists and key == "label") for key in sorted(wanted)})


def _folder(source: Source, depth: int) -> pa.DictionaryArray:
    """The name of the folder at this depth of each example's path, null where it lies higher."""
    numbers: dict[str, int] = {}
    codes = np.full(len(source), -1, np.int32)
    for row, path in enumerate(each(source.ids)):
        folders = path.split("/")[:-1]
        if len(folders) > depth:
            codes[row] = numbers.setdefault(folders[depth], len(numbers))
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), pa.array(list(numbers), pa.string()))


def _file_and_label(table: pa.Table, path: Path, label: str | None, keys: Sequence[str]) -> tuple[str, str]:
    """The names of the columns of paths and of labels: the usual ones, or of two columns the other one."""
    names = table.column_names

    def usual(known: Sequence[str], taken: str | None) -> str | None:
        lower = {name.lower().replace(" ", "_"): name for name in names if name != taken}
        return next((lower[k] for k in known if k in lower), None)

    label = label or usual(LABEL_NAMES, None)
    file = usual(keys, label)
    if len(names) == 2 and (file is None) != (label is None):
        known = file or label
        other = next(name for name in names if name != known)
        return (file or other, label or other)
    if file is None or label is None:
        raise UserError(f"{path}: cannot tell which columns are file and label among {', '.join(names)}; name them so")
    return file, label


def _note_rows(rows: NDArray[np.int64], paths: list[str], files: str, notes: Notes, least: float) -> None:
    notes.label_rows = len(rows)
    unknown, ambiguous = np.flatnonzero(rows == UNKNOWN), np.flatnonzero(rows == AMBIGUOUS)
    notes.unmatched = few((paths[i] for i in unknown), len(unknown))
    notes.ambiguous = few((paths[i] for i in ambiguous), len(ambiguous))
    matched = len(rows) - len(unknown) - len(ambiguous)
    if matched < least * len(rows) or not matched:
        failing = paths[[*unknown, *ambiguous][0]] if len(rows) else "none"
        needed = f"at least {least:.0%} must; " if least else ""
        raise UserError(
            f"only {matched} of the {len(rows)} rows of {files} match an example by path or id ({needed}"
            f"first that does not: {failing!r}); check that it belongs to these data"
        )


def per_example(text: pa.Array, rows: NDArray[np.int64], n: int) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Texts of label-file rows placed at their examples, and where several texts meet."""
    encoded = text.dictionary_encode()
    codes = codes_of(encoded)
    highest, lowest = np.full(n, -1, np.int64), np.full(n, len(encoded.dictionary), np.int64)
    known = codes >= 0
    np.maximum.at(highest, rows[known], codes[known])
    np.minimum.at(lowest, rows[known], codes[known])
    placed = encoded.dictionary.take(pa.array(highest, mask=highest < 0))
    return placed, (highest >= 0) & (lowest < highest)


def _names(source: Source, which: NDArray[np.bool_]) -> Few:
    rows = np.flatnonzero(which)
    return few((source.ids[int(row)].as_py() for row in rows), len(rows))
