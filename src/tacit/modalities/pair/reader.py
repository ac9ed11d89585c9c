"""How pairs are read: each side by the reader of its modality, and which of their examples belong together.

A table has a column for each side, and a row is a pair; a cell that is a list holds several examples for one of the
other side, such as captions. Of files, those with one name but for the ending belong together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.data.listing import Files, Listing
from tacit.data.opened import OpenTable, is_text
from tacit.data.options import Reading
from tacit.data.resolved import Labels
from tacit.data.source import TEST, Source, digest, join
from tacit.data.store import Keeping, Kept
from tacit.data.tables import Table, encoded_source
from tacit.evaluation.targets import make_target
from tacit.modalities import reader_named, sides, signs
from tacit.modalities.options import ModalityOptions
from tacit.modalities.pair.options import CAPTIONS, Options, Sided
from tacit.modalities.pair.store import Pairs, Side
from tacit.modalities.reader import Examples, Found, Reader

Rows = NDArray[np.int64]

_NOTE = 16 << 20  # bytes of a JSON file beside an example
_SHOWN = 0.02  # share of the pairs whose captions are common, from which on a remark says so


@dataclass(frozen=True)
class Joined:
    """The sources of both sides, and M pairs of their examples."""

    sources: Mapping[str, Source]
    rows: Mapping[str, Rows]  # [M] each, numbers in the source of that side
    listed: Rows  # [M] the listed example that each pair is of, ascending


class PairReader(Reader[Options]):
    name = "pair"
    options = Options
    wholes = "examples"

    def claim(self, listing: Listing, options: Options, reading: Reading, reserved: frozenset[str]) -> Source | None:
        if reading.kind != self.name:
            return None
        assert isinstance(options, Sided)
        if isinstance(listing, Table):
            return _of_table(listing, options, reading, reserved)
        if isinstance(listing, Files):
            return _of_files(listing, options)
        raise UserError(
            f"{listing.name} holds no pairs: give a table with a column of each side, a folder with texts beside "
            "examples, or tar shards"
        )

    def join(self, train: Source, test: Source) -> Source:
        one, other = train.about, test.about
        if [*one.sources] != [*other.sources]:
            raise UserError(
                f"--test {test.name} pairs {' and '.join(other.sources)}, but {train.name} {' and '.join(one.sources)}"
            )
        sources = {side: reader_named(side).join(one.sources[side], other.sources[side]) for side in one.sources}
        rows = {
            side: np.concatenate([one.rows[side], len(one.sources[side]) + other.rows[side]]) for side in one.sources
        }
        listed = np.concatenate([one.listed, len(train) + other.listed])
        return replace(join(train, test), about=Joined(sources, rows, listed))

    def examples(self, found: Found[Options]) -> Examples:
        return Examples(found.source, found.columns(), _finished)

    def store(self, source: Source, options: Options, keeping: Keeping) -> Kept:
        assert isinstance(options, Sided)
        joined: Joined = source.about
        kept = {}
        for number, (side, of) in enumerate(joined.sources.items()):
            own = options.each[side].as_captions() if number else options.each[side]
            kept[side] = reader_named(side).store(of, own, keeping)
        stored = {side: _stored(of, len(joined.sources[side]))[joined.rows[side]] for side, of in kept.items()}
        whole = np.all([rows >= 0 for rows in stored.values()], axis=0)
        if not whole.any():
            raise UserError(f"{source.name}: no example can be read on both sides ({' and '.join(kept)})")
        pairs = Pairs({side: Side(kept[side].cache, rows[whole]) for side, rows in stored.items()})
        listed = joined.listed[whole]
        return Kept(
            cache=pairs,
            rows=listed,
            bad=_bad(joined, kept),
            seconds_left=sum(of.seconds_left for of in kept.values()),
            blank=int(len(source) - len(np.unique(joined.listed[np.all([r >= 0 for r in stored.values()], axis=0)])))
            - len(_bad(joined, kept)),
            counts={name: number for of in kept.values() for name, number in of.counts.items()},
            remarks=(*(remark for of in kept.values() for remark in of.remarks), *_remarks(pairs)),
            part=_numbered(listed),
        )


def _stored(kept: Kept, listed: int) -> Rows:
    """The stored row of each listed example of a side, its first where it became several; -1 where there is none."""
    found = np.full(listed, -1, np.int64)
    found[kept.rows[::-1]] = np.arange(len(kept.rows))[::-1]
    return found


def _bad(joined: Joined, kept: Mapping[str, Kept]) -> tuple[tuple[int, str], ...]:
    """The listed examples that have lost all their pairs to what cannot be read, each once, with the reason."""
    found: dict[int, str] = {}
    for side, of in kept.items():
        reasons = dict(of.bad)
        if reasons:
            for row, listed in zip(joined.rows[side].tolist(), joined.listed.tolist(), strict=True):
                if row in reasons:
                    found.setdefault(listed, f"{side}: {reasons[row]}")
    return tuple(sorted(found.items()))


def _numbered(listed: Rows) -> Rows | None:
    """The number of each pair among those of its listed example, -1 where it is the only one; None if all are."""
    begins = np.flatnonzero(np.r_[True, np.diff(listed) > 0])
    counts = np.diff(np.r_[begins, len(listed)])
    if (counts == 1).all():
        return None
    number = np.arange(len(listed)) - np.repeat(begins, counts)
    return np.where(np.repeat(counts, counts) == 1, -1, number)


def _remarks(pairs: Pairs) -> list[str]:
    """UserError where one side says nothing at all; lines on what several pairs share."""
    n, lines = len(pairs), []
    for side in pairs.sides:
        identity = pairs.identity(side)
        distinct, counts = np.unique(identity, return_counts=True)
        nouns = signs()[side].nouns
        if len(distinct) == 1 and n > 1:
            raise UserError(f"all {n:,} pairs have the same {side}, so that nothing tells them apart; give others")
        shared = int(counts[counts > 1].sum())
        if side == pairs.spec.first:
            if shared:
                lines.append(
                    f"{len(distinct):,} {nouns} in {n:,} pairs; those of one are drawn in turn, and judged as one"
                )
        elif shared >= max(2, _SHOWN * n):
            lines.append(
                f"{shared:,} of {n:,} pairs share their {side} with another one: training takes these for different "
                "(false negatives), judging takes them for the same"
            )
    return lines


def _finished(labels: Labels, kept: Kept) -> Labels:
    """Group the pairs that share an example of the first side; number what pairs say, for the target that matches."""
    pairs: Pairs = kept.cache
    first, second = (pairs.identity(side) for side in pairs.sides)
    group = labels.group if labels.group is not None or _spans(first, labels.split) else first
    if not make_target(labels.target).matches:
        return replace(labels, group=group)
    unlabelled = labels.label < 0
    classes = (*labels.classes, "") if unlabelled.any() else labels.classes
    label = np.where(unlabelled, len(labels.classes), labels.label)
    return replace(labels, label=label, classes=classes, group=group, pair=second)


def _spans(example: Rows, split: NDArray[np.int8] | None) -> bool:
    """Whether each example is of one pair, or one lies on both sides of a split, which leaves copies out itself."""
    if len(np.unique(example)) == len(example):
        return True
    test = split == TEST if split is not None else np.zeros(len(example), bool)
    return bool(len(np.intersect1d(example[test], example[~test])))


# ---------------------------------------------------------------- tables


def _of_table(listing: Table, options: Sided, reading: Reading, reserved: frozenset[str]) -> Source:
    table = listing.opened
    one, other = _sides_of_table(listing, table, options, reading, reserved)
    first = _encoded(listing, one, options, reading)
    columns = _captions(listing, table, other, options, {*reserved, *_read(first)})
    texts, rows, lists = _flat(table, columns)
    second = _claimed(other, Table(listing.name, texts, listing.signs), options, columns)
    joined = Joined({one: first, other: second}, {one: rows, other: np.arange(len(rows))}, rows)
    read = {**first.read, f"{other}_column": columns if len(columns) > 1 else columns[0]}
    return _source(listing.name, joined, first, read, [str(columns), str(lists)])


def _sides_of_table(
    listing: Table, table: OpenTable, options: Sided, reading: Reading, reserved: frozenset[str]
) -> tuple[str, str]:
    """The two modalities: those named, or the one that encoded examples or paths are of, and the one of texts."""
    if options.named_sides:
        known = sides()
        for side in options.named_sides:
            if side not in known:
                raise UserError(f"--sides {options.sides}: {side} cannot be a side; choose two of {', '.join(known)}")
        one, other = options.named_sides
        return (one, other) if signs()[one].columns else (other, one)
    named = [side for side, of in options.each.items() if signs()[side].columns and of.named()]
    return (named[0] if named else _encoded(listing, None, options, reading).kind), _texts()


def _texts() -> str:
    """The modality whose examples stand in a table as they are."""
    return next(name for name, of in signs().items() if of.texts)


def _encoded(listing: Table, side: str | None, options: Sided, reading: Reading) -> Source:
    """The side whose examples are encoded, or files that a column names."""
    column = None if side is None else getattr(options.each[side], f"{side}_column")
    source = encoded_source(listing, side, column, None if column else reading.path_column)
    return reader_named(source.kind).claimed(source, options.each[source.kind])


def _read(source: Source) -> set[str]:
    return {name for of in source.read.values() for name in ([of] if isinstance(of, str) else of)}


def _captions(listing: Table, table: OpenTable, side: str, options: Sided, taken: set[str]) -> list[str]:
    """The columns of the second side: those named, one of a usual name, or the only one of long texts."""
    wanted = getattr(options.each[side], f"{side}_column")
    if wanted:
        columns = [wanted] if isinstance(wanted, str) else list(wanted)
        for column in columns:
            if column not in table.schema.names:
                raise UserError(
                    f"--{side}-column {column}: {listing.name} has no such column (it has: "
                    f"{', '.join(table.schema.names)})"
                )
        return columns
    lower = {name.lower(): name for name in reversed(table.schema.names) if name not in taken}
    usual = (*CAPTIONS, *signs()[side].texts)
    found = next((lower[name] for name in usual if name in lower and _holds_texts(table, lower[name])), None)
    if found is None:
        raise UserError(
            f"{listing.name} has no column of {signs()[side].nouns} that is known by its name: name one with "
            f"--{side}-column (of {', '.join(table.schema.names)})"
        )
    return [found]


def _holds_texts(table: OpenTable, column: str) -> bool:
    kind = table.schema.field(column).type
    return is_text(kind.value_type if _is_list(kind) else kind)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _flat(table: OpenTable, columns: Sequence[str]) -> tuple[pa.Table, Rows, bool]:
    """The columns with every entry of a list as a row of its own; the row of the table that each is from."""
    found = table.read(list(columns)).combine_chunks()
    lists = [column for column in columns if _is_list(found.schema.field(column).type)]
    if not lists:
        return found, np.arange(len(found), dtype=np.int64), False
    if len(columns) > 1:
        raise UserError(f"the column {lists[0]!r} holds lists, several examples each; name it alone")
    [column] = columns
    values = found[column].combine_chunks()
    values = pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
    rows = pc.list_parent_indices(values).to_numpy(zero_copy_only=False).astype(np.int64)
    return pa.table({column: pc.list_flatten(values)}), rows, True


def _claimed(side: str, table: Table, options: Sided, columns: Sequence[str]) -> Source:
    own: ModalityOptions = replace(options.each[side], **{f"{side}_column": tuple(columns)})
    reader = reader_named(side)
    source = reader.claim(table, own, Reading(kind=side), frozenset())
    if source is None:
        raise UserError(f"{table.name}: the columns {', '.join(columns)} hold no {signs()[side].nouns}")
    return reader.claimed(source, own)


# ---------------------------------------------------------------- files


def _of_files(listing: Files, options: Sided) -> Source:
    """Files that agree but for their ending; texts also as fields of JSON files or members beside them."""
    texts = _texts()
    first = _listed(listing, options, texts)
    if first.columns is not None:  # of shards, whose members of text and JSON are columns already
        return _of_columns(listing, first, texts, options)
    stems = {_stem(name): row for row, name in enumerate(first.ids.to_pylist())}
    aside: list[tuple[str, str]] = []
    try:
        second: Source | None = reader_named(texts).claimed(listing.of(texts), options.each[texts])
    except UserError:
        second = None
    if second is not None:
        pairs = []
        for row, name in enumerate(second.ids.to_pylist()):
            found = stems.get(_stem(name))
            if found is None:
                aside.append((name, f"no {first.kind} of that name beside it"))
            else:
                pairs.append((found, row))
        if pairs:
            pairs.sort()
            rows, others = (np.array(of, np.int64) for of in zip(*pairs, strict=True))
            return _matched(listing.name, first, second, rows, others, aside, {}, ["files"])
    notes = [*_json_beside(first)]
    if not any(notes):
        raise UserError(
            f"{listing.name}: no {signs()[first.kind].nouns[:-1]} has a text of its name beside it (.txt or .json)"
        )
    rows = np.array([row for row, of in enumerate(notes) for _ in of], np.int64)
    flat = [text for of in notes for text in of]
    table = Table(listing.name, pa.table({"text": pa.array(flat, pa.string())}), signs())
    second = _claimed(texts, table, options, ["text"])
    return _matched(listing.name, first, second, rows, np.arange(len(rows)), aside, {}, ["json"])


def _listed(listing: Files, options: Sided, texts: str) -> Source:
    """The files of the first side: of the modality named, or of the first that has any here."""
    possible = [side for side in options.named_sides if side != texts] or [
        name for name, of in signs().items() if of.suffixes and name != texts
    ]
    refused: UserError | None = None
    for side in possible:
        try:
            return reader_named(side).claimed(listing.of(side), options.each[side])
        except UserError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _of_columns(listing: Files, first: Source, texts: str, options: Sided) -> Source:
    """Tar shards: the columns that come from the members beside each example."""
    table = Table(listing.name, first.columns, signs())
    columns = _captions(table, table.opened, texts, options, set())
    flat, rows, lists = _flat(table.opened, columns)
    second = _claimed(texts, Table(listing.name, flat, signs()), options, columns)
    read = {f"{texts}_column": columns[0] if len(columns) == 1 else columns}
    return _matched(listing.name, first, second, rows, np.arange(len(rows)), [], read, [str(columns), str(lists)])


def _matched(
    name: str,
    first: Source,
    second: Source,
    rows: Rows,
    others: Rows,
    aside: Sequence[tuple[str, str]],
    read: Mapping[str, object],
    form: Sequence[str],
) -> Source:
    """The pairs of files; those of the first side without a partner are left aside, and named."""
    alone = np.setdiff1d(np.arange(len(first)), rows)
    lone = [(first.ids[int(row)].as_py(), f"no {second.kind} beside it") for row in alone]
    joined = Joined({first.kind: first, second.kind: second}, {first.kind: rows, second.kind: others}, rows)
    source = _source(name, joined, first, {**first.read, **read}, form)
    return replace(source, skipped=(*first.skipped, *lone, *aside))


def _stem(name: str) -> str:
    """A file's path without what follows its last dot, or its last two where the last is of compression."""
    path = PurePosixPath(name)
    path = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return path.with_suffix("").as_posix()


def _json_beside(first: Source) -> Iterator[list[str]]:
    """The captions of each file, from a JSON file of its name: a field of a usual name, or a list of them."""
    for path in first.items():
        note = path.with_suffix(".json") if isinstance(path, Path) else None
        yield [] if note is None or note.is_symlink() else _captions_in(note)


def _captions_in(note: Path) -> list[str]:
    try:
        if note.stat().st_size > _NOTE:
            return []
        content = json.loads(note.read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    if isinstance(content, dict):
        lower = {str(name).lower(): value for name, value in content.items()}
        content = next((lower[name] for name in CAPTIONS if name in lower), None)
    found = content if isinstance(content, list) else [content]
    return [text for text in found if isinstance(text, str)]


def _source(name: str, joined: Joined, first: Source, read: Mapping[str, object], form: Sequence[str]) -> Source:
    """The pairs as a source: named, labelled and split as the examples of the first side are."""
    parts = [of.fingerprint.encode() for of in joined.sources.values()]
    parts += [rows.tobytes() for rows in joined.rows.values()]
    kept = replace(
        first,
        name=name,
        kind="pair",
        fingerprint=digest([b"pair", *parts, *(part.encode() for part in form)]),
        remarks=tuple(dict.fromkeys(remark for of in joined.sources.values() for remark in of.remarks)),
        about=joined,
        read=read,
    )
    return kept


READER = PairReader()
