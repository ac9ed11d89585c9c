"""Resolve the text columns that were found into labels, groups, a split and subgroups, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.core.columns import LISTED, Codes, by_name, codes_of
from tacit.core.errors import UserError
from tacit.data.label_spec import MULTILABEL, LabelSpec
from tacit.data.labels import Columns
from tacit.data.notes import Notes
from tacit.data.source import TEST
from tacit.data.splitting import (
    SplitCodes,
    group_codes,
    hold_out,
    hold_out_latest,
    look_alike,
    refuse_spanning,
    refuse_torn,
    refuse_two_ways,
    split_codes,
)
from tacit.evaluation.targets import USUAL, make_target
from tacit.evaluation.targets.base import Answers, LabelTexts

MOST_SUBGROUPS = 100


class Spans(NamedTuple):
    """Labelled segments of recordings, and the class of each, [R]."""

    row: Codes  # of the recording
    begin: NDArray[np.float64]  # seconds
    end: NDArray[np.float64]  # seconds
    label: Codes


@dataclass(frozen=True)
class Labels:
    """Resolved labels of N examples, as numbers."""

    label: Codes  # [N] class numbers, or strata for targets without classes; -1 where unlabelled
    classes: tuple[str, ...]  # names of the classes, or of the labels of which an example can have several
    group: Codes | None  # [N]; examples of one number never lie on both sides of a split
    split: SplitCodes | None  # [N] TRAIN, TEST, VALIDATION
    target: str = USUAL
    truth: NDArray[np.float64] | None = None  # [N] numbers (regression), [N L] 0 and 1 (multilabel); NaN: unlabelled
    subgroup: Codes | None = None  # [N], -1 where none
    subgroups: tuple[str, ...] = ()  # their names
    side: Codes | None = None  # [N] of a pair, 0 or 1
    pair: Codes | None = None  # [N] the pair of each, -1 where none
    token: Codes | None = None  # [N] a token's type; tokens without one share a number
    spans: Spans | None = None  # labelled segments, in place of labels of the N examples


def resolve(columns: Columns, spec: LabelSpec, split: SplitCodes | None, ids: pa.Array, notes: Notes) -> Labels:
    """Resolve the text columns of the examples with these ids; `split` is the one that the data come with, if any.

    UserError where labels, groups or splits are inconsistent.
    """
    text = pa.nulls(len(ids), pa.string()) if columns.label is None else not_ignored(columns.label, spec, notes)
    target = make_target(spec.target)
    text, paired, notes.unpaired = target.candidates(text, group=columns.group, side=columns.side, pair=columns.pair)
    labelled = text.is_valid().to_numpy(zero_copy_only=False)
    group, grouping, noun = None, columns.group, "group"
    if grouping is not None:
        refuse_two_ways(grouping, "groups")
        notes.remarks += look_alike(pc.unique(grouping).drop_null().to_pylist(), "groups")
        group = group_codes(grouping, ids)
        notes.ungrouped = grouping.null_count
        if paired is not None:
            refuse_torn(paired, group)
    elif paired is not None:
        group, grouping, noun = group_codes(paired, ids), paired, "pair"
    split = _split(columns, spec, split, labelled, group, notes)
    if split is not None and grouping is not None:
        refuse_spanning(grouping, split, noun)
    answers = Answers(np.full(len(ids), -1, np.int64))
    if columns.label is not None:
        training = np.ones(len(ids), bool) if split is None else split != TEST
        if not target.lists and pc.any(pc.match_substring(text, LISTED)).as_py():
            raise UserError(
                f"--target {spec.target} takes one label per example, not a table: say --target {MULTILABEL}"
            )
        answers = target.read_labels(LabelTexts(text, training, spec.separator, notes.missing.means, paired))
        notes.left_out(answers)
        notes.remarks += (*minus_one(answers.classes), *look_alike(answers.classes, "labels"))
    subgroup: Codes | None = None
    subgroups: tuple[str, ...] = ()
    if columns.subgroup is not None:
        refuse_two_ways(columns.subgroup, "parts of the population")
        notes.remarks += look_alike(pc.unique(columns.subgroup).drop_null().to_pylist(), "parts of the population")
        subgroup, subgroups = _subgroups(columns.subgroup, spec.columns["subgroup"])
    return Labels(
        answers.label,
        answers.classes,
        group,
        split,
        spec.target,
        answers.truth,
        subgroup,
        subgroups,
        None if columns.side is None else _sides(columns.side, answers.label >= 0),
        None if paired is None else codes_of(paired.dictionary_encode()),
        None if columns.token is None else codes_of(pc.fill_null(columns.token, "").dictionary_encode()),
    )


def minus_one(names: Sequence[str]) -> tuple[str, ...]:
    """A remark where -1 is a class beside whole numbers from 0: elsewhere -1 often means "no label"."""
    others = [name for name in names if name != "-1"]
    if len(others) == len(names) or not all(name.isdigit() for name in others):
        return ()
    return ("-1 was taken for a class like the others; if it means that there is none, say --ignore-label -1",)


def not_ignored(text: pa.Array, spec: LabelSpec, notes: Notes) -> pa.Array:
    """Replace ignored labels by null, and count them in `notes`."""
    if not spec.ignored:
        return text
    ignored = pc.fill_null(pc.is_in(text, pa.array(spec.ignored, pa.string())), False)
    notes.ignored = pc.sum(ignored).as_py() or 0
    return pc.if_else(ignored, None, text)


def _split(
    columns: Columns,
    spec: LabelSpec,
    split: SplitCodes | None,
    labelled: NDArray[np.bool_],
    group: Codes | None,
    notes: Notes,
) -> SplitCodes | None:
    """The split by the settings, else the one that the data come with."""
    if columns.holdout is not None:
        column, value = spec.columns["holdout"], spec.held_out or ""
        notes.test_split = f"{column} = {value}"
        return hold_out(columns.holdout, value, column, labelled)
    if columns.time is not None:
        column = spec.columns["time"]
        everything = labelled if labelled.any() else np.ones(len(labelled), bool)
        split, since = hold_out_latest(columns.time, column, everything, group)
        notes.test_split = f"{column} from {since} on"
        return split
    return split if columns.split is None else split_codes(columns.split)


def _subgroups(text: pa.Array, column: str) -> tuple[Codes, tuple[str, ...]]:
    encoded = text.dictionary_encode()
    found = encoded.dictionary.to_pylist()
    if not 2 <= len(found) <= MOST_SUBGROUPS:
        have = f"{len(found):,} different values" if len(found) > 1 else f"only {found[0]!r}" if found else "nothing"
        raise UserError(
            f"--worst-group {column} holds {have}: name a column of 2 to {MOST_SUBGROUPS} parts of the population"
        )
    names = sorted(found, key=by_name)
    number = {name: i for i, name in enumerate(names)}
    return np.array([*(number[name] for name in found), -1], np.int64)[codes_of(encoded)], tuple(names)


def _sides(text: pa.Array, labelled: NDArray[np.bool_]) -> Codes:
    values = sorted(pc.unique(text).drop_null().to_pylist(), key=by_name)
    sides = pc.fill_null(pc.index_in(text, pa.array(values, pa.string())), -1).to_numpy(zero_copy_only=False)
    if len(values) != 2 or (sides[labelled] < 0).any():
        held = ", ".join(map(repr, values[:3])) + (", ..." if len(values) > 3 else "")
        missing = " and is empty for some" if (sides < 0).any() else ""
        raise UserError(
            f"the column 'side' holds {held or 'nothing'}{missing}: two sides are expected, such as image and text, "
            "one for each example"
        )
    return np.asarray(sides, np.int64)
