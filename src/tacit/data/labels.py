"""Labels, groups and splits as text columns: from label files, class folders, or the data's own columns.

What cannot be used is left out and reported (see `Notes`), never guessed.
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

from tacit.core.columns import Few, codes_of, few
from tacit.core.errors import UserError
from tacit.data.joining import FILE_NAMES, Key, differ_by_capitals, differ_by_zeros, key_of, looked_up
from tacit.data.label_spec import FLAGS, LabelSpec
from tacit.data.matching import AMBIGUOUS
from tacit.data.named import Missing, as_text, one_array, refuse_rounded
from tacit.data.notes import Notes
from tacit.data.opened import LINES, PARQUET, read_table, refuse_twice
from tacit.data.signs import suffix_of
from tacit.data.source import Source
from tacit.data.text import rearmed
from tacit.evaluation.targets import make_target

NAMING = ("group", "subgroup", "holdout", "side", "pair")  # columns whose values are names, whatever their type
LABEL_NAMES = ("label", "labels", "class", "class_name", "label_name", "target", "category", "y")

_KEY = "\x00key"
_FEWEST_WHOLES = 10
_FEWEST_GROUPS = 6
_MATCHED = 0.5  # of a label file's rows


@dataclass(frozen=True)
class Columns:
    """Text columns of N examples beside their content: string [N] each, null where missing."""

    label: pa.Array | None = None
    group: pa.Array | None = None
    split: pa.Array | None = None
    subgroup: pa.Array | None = None
    holdout: pa.Array | None = None
    time: pa.Array | None = None
    side: pa.Array | None = None  # of a pair
    pair: pa.Array | None = None  # the pair that a score compares
    token: pa.Array | None = None  # a token's type, such as the word

    def take(self, rows: NDArray[np.int64]) -> Columns:
        chosen = pa.array(rows)
        return Columns(**{key: text.take(chosen) for key, text in vars(self).items() if text is not None})


def own_columns(source: Source, names: Mapping[str, str], missing: Missing, *, lists: bool = False) -> Columns:
    """Read columns of the data themselves. UserError where one is missing.

    `names` maps roles to columns, as in the label specification; with `lists`, a cell may hold a list of labels.
    """
    columns = pa.table({}) if source.columns is None else source.columns
    there = columns.column_names
    found = {} if source.label is None else {"label": missing.out_of(source.label, "label")}
    for key, name in names.items():
        if name not in there:
            raise UserError(
                f"{FLAGS[key]} {name}: {source.name} has no such column (it has: {', '.join(there) or 'none'})"
            )
        if key in NAMING:
            refuse_rounded(columns[name], f"column {name!r}")
        found[key] = missing.out_of(as_text(columns[name], lists=lists and key == "label"), key)
    return Columns(**found)


def grouped(source: Source, tables: Mapping[Path, pa.Table], spec: LabelSpec, column: str) -> tuple[Source, LabelSpec]:
    """Group by this column, such as the speaker, where the data or a label file have it.

    Does nothing where groups or splits are named. A remark reports groups that are too few to split by.
    """
    named = {"group", "split", "holdout", "time"} & spec.columns.keys()
    own = [] if source.columns is None else [source.columns]
    there = next((table[column] for table in (*tables.values(), *own) if column in table.column_names), None)
    if there is None or named or source.split is not None or not make_target(spec.target).by_itself:
        return source, spec
    n = len(pc.unique(there.drop_null()))
    if n >= _FEWEST_GROUPS:
        remark = f"grouped by the column {column}, whom no split parts; --group-column names another"
        spec = replace(spec, columns={**spec.columns, "group": column})
    else:
        remark = f"{n} {column}s are too few to be kept apart: one may be trained and tested on"
    return replace(source, remarks=(*source.remarks, remark)), spec


def together(source: Source, columns: Columns, spec: LabelSpec, wholes: str) -> tuple[Source, Columns]:
    """Group the parts of each whole (such as a recording), unless groups or splits are given; `wholes` is their noun.

    Where there are too few wholes to split by, a remark says so instead; targets that pair examples need no groups.
    """
    given = (columns.group, columns.split, columns.holdout, columns.time, source.split)
    if source.whole is None or any(of is not None for of in given) or not make_target(spec.target).by_itself:
        return source, columns
    n = len(pc.unique(source.whole))
    if n >= _FEWEST_WHOLES:
        return source, replace(columns, group=source.whole)
    remark = f"{n} {wholes} are too few to be kept whole: parts of one may be trained and tested on"
    return replace(source, remarks=(*source.remarks, remark)), columns


class LabelRows(NamedTuple):
    """Rows of label files: the example that each refers to, and their text columns."""

    rows: NDArray[np.int64]  # [R]
    texts: dict[str, pa.Array]  # string [R] each
    own: dict[str, str]  # roles read from the data's own columns, and the names of these


def read_labels(files: Sequence[Path], remarks: list[str] | None = None) -> dict[Path, pa.Table]:
    """Read label files; adds remarks for the user on how they were read to `remarks`."""
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
    """Columns of label files joined to the examples, see `label_rows`; fills in `notes`."""
    found = label_rows(source, tables, notes, names, lists=lists, keys=keys, least=least)
    return placed(source, found, notes)


def label_rows(
    source: Source,
    tables: Mapping[Path, pa.Table],
    notes: Notes,
    names: Mapping[str, str],
    *,
    lists: bool = False,
    keys: Sequence[str] = FILE_NAMES,
    least: float = _MATCHED,
) -> LabelRows:
    """Concatenate label files, and match each row to an example by the key that files and data share.

    A column that no file has is taken from the data themselves, if they have it. Fills in the part of `notes` on label
    rows. `names` and `lists` as for `own_columns`; `keys` are usual names of key columns in order of preference.
    UserError where a column is missing, where the data lack the key, or where no row or less than the share `least` of
    the rows matches.
    """
    there = {name for table in tables.values() for name in table.column_names}
    have = set() if source.columns is None else set(source.columns.column_names) - there
    own = {key: name for key, name in names.items() if key != "label" and name in have}
    wanted = {key: name for key, name in names.items() if key not in own}
    files = [_file_texts(table, path, wanted, source, keys, notes.missing, lists) for path, table in tables.items()]
    table = pa.concat_tables([texts for _, texts in files])
    named = [text or "" for text in table[_KEY].to_pylist()]
    matches = [looked_up(key, texts[_KEY], source) for key, texts in files]
    rows, agree = (np.concatenate([getattr(of, name) for of in matches]) for name in ("rows", "agree"))
    notes.join(
        by=[key.name for key, _ in files],
        rows=rows,
        named=named,
        ids=source.ids,
        moved=[of.moved for of in matches if of.moved],
    )
    _refuse_unmatched(rows, named, source, ", ".join(map(str, tables)), [key for key, _ in files], least)
    # Of several rows for one example, those win that agree with more of its path.
    best = np.zeros(len(source), np.int64)
    np.maximum.at(best, rows[rows >= 0], agree[rows >= 0])
    meant = np.flatnonzero((rows >= 0) & (agree == best[rows]))
    texts = {key: one_array(table[key].take(pa.array(meant))) for key in table.column_names if key != _KEY}
    notes.empty = texts["label"].null_count
    return LabelRows(rows[meant], texts, own)


def placed(source: Source, found: LabelRows, notes: Notes) -> Columns:
    """Scatter label rows to their examples; examples with conflicting rows stay null, and `notes` lists them."""
    conflict = np.zeros(len(source), np.bool_)
    joined = {}
    for key, text in found.texts.items():
        joined[key], differs = per_example(text, found.rows, len(source))
        conflict |= differs
    notes.conflicting = _names(source, conflict)
    keep = pa.array(~conflict)
    joined = {key: pc.if_else(keep, text, None) for key, text in joined.items()}
    return replace(own_columns(replace(source, label=None), found.own, notes.missing), **joined)


def _read_file(path: Path, remarks: list[str] | None) -> pa.Table:
    if not path.is_file():
        raise UserError(f"--labels {path}: no such file (or say 'folders' for class folders)")
    table = read_table(path, remarks)
    refuse_twice(table.column_names, str(path))
    if suffix_of(path.name) in PARQUET | LINES:
        return table
    return pa.table([*map(rearmed, table.columns)], rearmed(pa.array(table.column_names)).to_pylist())


def _file_texts(
    table: pa.Table,
    path: Path,
    names: Mapping[str, str],
    source: Source,
    keys: Sequence[str],
    missing: Missing,
    lists: bool,
) -> tuple[Key, pa.Table]:
    """The key of a label file, and its columns `_KEY`, `label` and those of `names`, as text."""
    label = names.get("label") or _usual_label(table.column_names)
    key, label = key_of(table, path, source, label, [name for of, name in names.items() if of != "label"], keys)
    wanted = {**names, "label": label}
    for name in wanted.values():
        if name not in table.column_names:
            raise UserError(f"{path} has no column {name!r}; it has {', '.join(table.column_names)}")
    for name in (key.name, *(wanted[of] for of in NAMING if of in wanted)):
        refuse_rounded(table[name], f"column {name!r} of {path}")
    texts = {of: missing.out_of(as_text(table[wanted[of]], lists=lists and of == "label"), of) for of in sorted(wanted)}
    return key, pa.table({_KEY: as_text(table[key.name]), **texts})  # in the same order for every file


def _usual_label(names: Sequence[str]) -> str | None:
    lower = {name.lower().replace(" ", "_"): name for name in names}
    return next((lower[known] for known in LABEL_NAMES if known in lower), None)


def _refuse_unmatched(
    rows: NDArray[np.int64], named: list[str], source: Source, files: str, keys: Sequence[Key], least: float
) -> None:
    """UserError where too few rows match an example."""
    matched = int((rows >= 0).sum())
    if matched and matched >= least * len(rows):
        return
    failing = named[int(np.flatnonzero(rows < 0)[0])] if len(rows) else "none"
    needed = f"at least {least:.0%} must; " if least else ""
    by = " or ".join(dict.fromkeys(key.name for key in keys))
    ids = source.ids if keys[0].column is None else as_text(source.columns[keys[0].column])  # type: ignore[index]
    zeros = differ_by_zeros((name for name, row in zip(named, rows, strict=True) if row < 0), ids)
    hint = f"; {zeros[0]!r} and {zeros[1]!r} differ in zeros at the front: write them in one way" if zeros else ""
    several = (rows == AMBIGUOUS).sum()
    hint += f"; {several:,} mean several examples, since names occur twice here" if several else ""
    other = None if zeros or several else differ_by_capitals(named, ids)
    hint += f"; {other[0]!r} and {other[1]!r} differ in capitals: write them in one way" if other else ""
    where = f" of the folder {source.name}" if source.root and keys[0].column is None else ""
    raise UserError(
        f"only {matched} of the {len(rows)} rows of {files} match an example by {by!r} ({needed}"
        f"first that does not: {failing!r}; an example is {ids[0].as_py()!r}{where}{hint}); check that it belongs to "
        "these data"
    )


def per_example(text: pa.Array, rows: NDArray[np.int64], n: int) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Scatter texts of label rows to their examples; and a mask of examples whose rows differ."""
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
