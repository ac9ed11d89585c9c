"""Labels, groups and splits: from a file, from class folders, from a table's own columns, or part of the data.

What cannot be used is left out and said (see `Notes`), never guessed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.data.matching import AMBIGUOUS, UNKNOWN, match
from tacit.data.notes import Notes, few
from tacit.data.source import TEST, TRAIN, VALIDATION, Source, each
from tacit.data.tables import PATH_NAMES, read_table
from tacit.errors import UserError

FOLDERS = "folders"
LABEL_NAMES = ("label", "labels", "class", "class_name", "label_name", "target", "category", "y")
FILE_NAMES = (*PATH_NAMES, "image_id", "id", "name")

SPLITS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("test", "testing"), TEST),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
}

_CONTINUOUS = 20  # more distinct fractional numbers than this are no classes
_MATCHED = 0.5  # of a label file's rows


@dataclass(frozen=True)
class Columns:
    """What is known of N examples besides their content, as the texts that were found: string [N], null where none."""

    label: pa.Array | None = None
    group: pa.Array | None = None
    split: pa.Array | None = None

    def take(self, rows: NDArray[np.int64]) -> Columns:
        chosen = pa.array(rows)
        return Columns(*(None if c is None else c.take(chosen) for c in (self.label, self.group, self.split)))


@dataclass(frozen=True)
class Labels:
    """The same in numbers."""

    label: NDArray[np.int64]  # [N], -1 where none
    classes: tuple[str, ...]
    group: NDArray[np.int64] | None  # [N]; a split never parts equal numbers
    split: NDArray[np.int8] | None  # [N] TRAIN, TEST, VALIDATION


def own_columns(source: Source, label: str | None, group: str | None, split: str | None) -> Columns:
    """The data's own columns of these names. UserError where one is missing."""

    def own(name: str | None, flag: str) -> pa.Array | None:
        if name is None:
            return None
        names = source.columns.column_names if source.columns is not None else []
        if source.columns is None or name not in names:
            raise UserError(f"{flag} {name}: {source.name} has no such column (it has: {', '.join(names) or 'none'})")
        return as_text(source.columns[name])

    return Columns(
        own(label, "--label-column") if label is not None else source.label,
        own(group, "--group-column"),
        own(split, "--split-column"),
    )


def with_folder_labels(source: Source) -> Source:
    """The first folder of each path is its label; where these are all named train, test and the like, the second is."""
    first, second = _folder(source, 0), _folder(source, 1)
    names = [name.lower() for name in first.dictionary.to_pylist()]
    splits = first.null_count == 0 and all(name in SPLITS for name in names)
    label = second if splits else first
    if not source.root or label.null_count == len(label):
        raise UserError(f"--labels folders: no {source.kind} of {source.name} lies in a class folder")
    split = np.array([SPLITS[name] for name in names], np.int8)[_codes(first)] if splits else source.split
    return replace(source, label=as_text(label), split=split)


def file_columns(
    source: Source,
    files: Sequence[Path],
    notes: Notes,
    *,
    label: str | None,
    group: str | None,
    split: str | None,
    keys: Sequence[str] = FILE_NAMES,
    least: float = _MATCHED,
) -> Columns:
    """Columns of label files, one after the other, joined to the examples by path.

    Fills in what `notes` has to say about their rows. `keys` are the usual names of the column of paths, first choice
    first. UserError where a column is missing, or where no row or a share under `least` of the rows matches.
    """
    table = pa.concat_tables([_read_labels(file, label, group, split, keys) for file in files])
    paths = [text or "" for text in table["file"].to_pylist()]
    rows, agree = match(paths, each(source.ids), source.root)
    _note_rows(rows, paths, ", ".join(map(str, files)), notes, least)
    # Of several rows that mean one example, those that agree with more of its path are meant.
    best = np.zeros(len(source), np.int64)
    np.maximum.at(best, rows[rows >= 0], agree[rows >= 0])
    meant = np.flatnonzero((rows >= 0) & (agree == best[rows]))
    found = table.select([name for name in table.column_names if name != "file"]).take(pa.array(meant))
    texts = {key: as_text(found[key]) for key in found.column_names}
    notes.empty = texts["label"].null_count
    conflict = np.zeros(len(source), np.bool_)
    joined = {}
    for key, text in texts.items():
        joined[key], differs = _per_example(text, rows[meant], len(source))
        conflict |= differs
    differing = np.flatnonzero(conflict)
    notes.conflicting = few((source.ids[int(row)].as_py() for row in differing), len(differing))
    keep = pa.array(~conflict)
    return Columns(**{key: pc.if_else(keep, text, None) for key, text in joined.items()})


def resolve(
    columns: Columns,
    split: NDArray[np.int8] | None,
    ignore_label: Sequence[str],
    ids: pa.Array,
    notes: Notes,
    smallest_class: int = 2,
) -> Labels:
    """Classes, groups and split of the examples with these ids. UserError where they make no sense."""
    if columns.split is not None:
        split = _split_codes(columns.split)
    group = None
    if columns.group is not None:
        group = _group_codes(columns.group, ids, notes)
        if split is not None:
            _refuse_spanning(columns.group, split)
    if columns.label is None:
        return Labels(np.full(len(ids), -1, np.int64), (), group, split)
    label, classes = _classes(columns.label, split, ignore_label, notes, smallest_class)
    return Labels(label, classes, group, split)


def as_text(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Labels of any type as trimmed strings, null where empty; whole floats are written as integers."""
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    if pa.types.is_nested(values.type):
        raise UserError(f"labels must be text or numbers, not {values.type}")
    try:
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_finite(values), values, None)
            if pc.all(pc.equal(values, pc.floor(values))).as_py() is not False:
                values = values.cast(pa.int64())
        text = pc.utf8_trim_whitespace(values.cast(pa.string()))
    except pa.ArrowException:
        raise UserError(f"labels must be text or numbers, not {values.type}") from None
    return pc.if_else(pc.equal(text, ""), None, text)


def _read_labels(path: Path, label: str | None, group: str | None, split: str | None, keys: Sequence[str]) -> pa.Table:
    """The columns `file`, `label` and, where asked for, `group` and `split` of a label file, all as text."""
    if not path.is_file():
        raise UserError(f"--labels {path}: no such file (or say 'folders' for class folders)")
    table = read_table(path)
    file, label = _file_and_label(table, path, label, keys)
    wanted = {"file": file, "label": label, "group": group, "split": split}
    for name in wanted.values():
        if name is not None and name not in table.column_names:
            raise UserError(f"{path} has no column {name!r}; it has {', '.join(table.column_names)}")
    return pa.table({key: as_text(table[name]) for key, name in wanted.items() if name is not None})


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


def _per_example(text: pa.Array, rows: NDArray[np.int64], n: int) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Texts of label-file rows placed at their examples, and where several texts meet."""
    encoded = text.dictionary_encode()
    codes = _codes(encoded)
    highest, lowest = np.full(n, -1, np.int64), np.full(n, len(encoded.dictionary), np.int64)
    known = codes >= 0
    np.maximum.at(highest, rows[known], codes[known])
    np.minimum.at(lowest, rows[known], codes[known])
    placed = encoded.dictionary.take(pa.array(highest, mask=highest < 0))
    return placed, (highest >= 0) & (lowest < highest)


def _codes(encoded: pa.DictionaryArray) -> NDArray[np.int64]:
    """Numbers in the dictionary, -1 where null."""
    codes: NDArray[np.int64] = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _split_codes(text: pa.Array) -> NDArray[np.int8]:
    encoded = text.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    strange = sorted(name for name in names if name.lower() not in SPLITS)
    if strange:
        raise UserError(f"the split column holds {strange[0]!r}; it may hold {', '.join(SPLITS)}")
    lookup = np.array([*(SPLITS[name.lower()] for name in names), TRAIN], np.int8)  # the last serves code -1
    codes = lookup[_codes(encoded)]
    if not (codes == TEST).any():
        raise UserError("the split column marks no example as test")
    return codes


def _group_codes(text: pa.Array, ids: pa.Array, notes: Notes) -> NDArray[np.int64]:
    """A number per group that depends on its name alone, so that a seal finds it again when rows have come or moved.

    An example without a group is one of its own, named by its id.
    """
    notes.ungrouped = text.null_count
    named = pc.coalesce(pc.binary_join_element_wise("group", text, "/"), pc.binary_join_element_wise("id", ids, "/"))
    encoded = named.dictionary_encode()
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in encoded.dictionary.to_pylist())
    numbers = np.frombuffer(b"".join(digests), np.int64) >> 1
    return np.asarray(numbers[encoded.indices.to_numpy()], np.int64)


def _refuse_spanning(text: pa.Array, split: NDArray[np.int8]) -> None:
    values = pa.table({"group": text, "test": pa.array(split == TEST)}).filter(pc.is_valid(text))
    sides = values.group_by("group").aggregate([("test", "min"), ("test", "max")])
    spanning = sides.filter(pc.not_equal(sides["test_min"], sides["test_max"]))["group"].sort().to_pylist()
    if spanning:
        others = f" and {len(spanning) - 1} more" if len(spanning) > 1 else ""
        raise UserError(
            f"group {spanning[0]!r}{others} has examples on both sides of the test split; "
            "correct the split, or leave it out and let groups be held out whole"
        )


def _classes(
    text: pa.Array, split: NDArray[np.int8] | None, ignore_label: Sequence[str], notes: Notes, smallest: int
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class numbers [N] and names. A class needs `smallest` examples outside the test split."""
    if ignore_label:
        ignored = pc.fill_null(pc.is_in(text, pa.array([str(label) for label in ignore_label], pa.string())), False)
        notes.ignored = pc.sum(ignored).as_py() or 0
        text = pc.if_else(ignored, None, text)
    encoded = text.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    codes = _codes(encoded)
    _refuse_numbers(names, int((codes >= 0).sum()))
    training = codes >= 0 if split is None else (codes >= 0) & (split != TEST)
    counts = np.bincount(codes[training], minlength=len(names))
    kept = sorted((name for name, count in zip(names, counts, strict=True) if count >= smallest), key=_class_order)
    single = sorted(name for name, count in zip(names, counts, strict=True) if 0 < count < smallest)
    unseen = sorted(name for name, count in zip(names, counts, strict=True) if count == 0)
    notes.dropped_classes, notes.untrained_classes = few(single, len(single)), few(unseen, len(unseen))
    if len(kept) < 2 <= smallest:
        only = f"only {kept[0]!r}" if kept else "none"
        dropped = f" ({len(single)} with a single example were left out)" if single else ""
        raise UserError(
            f"labels need at least two classes of two examples each to train on; there is {only}{dropped}: "
            "check the labels, or leave them out"
        )
    number = {name: i for i, name in enumerate(kept)}
    lookup = np.array([*(number.get(name, -1) for name in names), -1], np.int64)  # the last serves code -1
    label = lookup[codes]
    notes.dropped_rows = int(((codes >= 0) & (label < 0)).sum())
    return label, tuple(kept)


def _refuse_numbers(names: list[str], labelled: int) -> None:
    """UserError where the labels are measurements, or one number is written in two ways."""
    numbers: dict[float, str] = {}
    for name in names:
        try:
            number = float(name)
        except ValueError:
            continue
        if number in numbers:
            raise UserError(
                f"the labels {numbers[number]!r} and {name!r} are one number written in two ways, as columns of mixed "
                "types have it: write every class in one way"
            )
        numbers[number] = name
    if len(numbers) < len(names) or not names:
        return
    fractional = sum(not number.is_integer() for number in numbers)
    if fractional > _CONTINUOUS:
        found = f"{fractional} distinct fractional numbers such as {names[0]}"
    elif len(names) > _CONTINUOUS and labelled < 2 * len(names):
        found = f"{len(names)} distinct numbers such as {names[0]} on {labelled} examples"
    else:
        return
    raise UserError(
        f"the labels look like measurements, not classes: {found}; classes are expected: put the numbers into bins, "
        "or give each example the name of a class"
    )


def _class_order(name: str) -> tuple[int, float, str]:
    """Numbers by value, then words."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name
