"""The label specification: settings of labels, groups and splits, checked before any data is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tacit.core.errors import UserError, nearest
from tacit.core.naming import plain
from tacit.evaluation.targets import OFFERED, TARGETS, USUAL, make_target

if TYPE_CHECKING:
    from tacit.data.options import LabelOptions

MULTILABEL = "multilabel"  # the target that the flag of this name implies

# Roles of columns, and the option that names the column of each.
FLAGS = {
    "label": "--label-column",
    "group": "--group-column",
    "split": "--split-column",
    "subgroup": "--worst-group",
    "holdout": "--holdout",
    "time": "--time-column",
}


@dataclass(frozen=True)
class LabelSpec:
    """Which column plays which role, and how labels are read."""

    columns: Mapping[str, str]  # a key of `FLAGS` -> the name of the column
    target: str = USUAL
    separator: str | None = None  # between the labels of one cell
    ignored: tuple[str, ...] = ()  # labels that mean "no label"
    kept: tuple[str, ...] = ()  # words such as NA and None that are real labels in these data
    held_out: str | None = None  # the value of the column `holdout` that makes an example a test example

    @property
    def lists(self) -> bool:
        """Whether a cell may hold a list of labels."""
        return make_target(self.target).lists

    @property
    def scores_pairs(self) -> bool:
        """Whether a label scores a pair of examples."""
        return "pair" in make_target(self.target).takes

    @property
    def of_parts(self) -> bool:
        """Whether a label belongs to a part of an example, such as a token."""
        return make_target(self.target).of_parts

    def for_modality(self, next_up: str | None, *, labelled: bool, unnamed: bool, held: bool) -> LabelSpec:
        """Resolve the target for one modality.

        Where no target is named (`unnamed`), data without labels whose last events are held out (`held`) get the target
        `next_up`, which predicts what comes next; `next_up` is None for modalities without an order. UserError where
        the data cannot be evaluated by the target.
        """
        if unnamed and next_up is not None and held and not labelled:
            return replace(self, target=next_up)
        if not make_target(self.target).asks_next:
            return self
        if next_up is None:
            raise UserError(f"--target {self.target} needs a table of events, of users and items; choose another one")
        if labelled:
            raise UserError(f"--target {self.target} asks what comes next, and reads no labels; leave them out")
        if not held:
            raise UserError(f"--target {self.target} and --holdout none exclude each other; choose one")
        return self

    def without(self, key: str) -> LabelSpec:
        """Drop a role, for modalities where its column means something else."""
        return replace(self, columns={of: column for of, column in self.columns.items() if of != key})


def target_named(target: str | None, multilabel: str | None) -> str:
    """The target that these settings imply; classification by default."""
    return MULTILABEL if multilabel is not None else target or USUAL


def target_settings(*settings: Mapping[str, Any]) -> dict[str, Any]:
    """`target` and `multilabel` from the first of these settings that has either."""
    given = [{name: of.get(name) for name in ("target", "multilabel")} for of in settings]
    return next((of for of in given if any(of.values())), given[-1])


def label_spec_of(options: LabelOptions) -> LabelSpec:
    """Make the label specification. UserError where an option is invalid, or two contradict each other."""
    target, multilabel, holdout, time_column = options.target, options.multilabel, options.holdout, options.time_column
    if target is not None and target not in TARGETS:
        raise UserError(f"--target {target} is none{nearest(str(target), OFFERED)}; choose from {', '.join(OFFERED)}")
    if multilabel is not None and target not in (None, USUAL, MULTILABEL):
        raise UserError(f"--multilabel and --target {target} exclude each other; choose one")
    if multilabel is not None and not multilabel.strip():
        raise UserError("--multilabel needs the sign between the labels of a cell, such as '|'; blanks are no sign")
    site, equals, value = (holdout or "").partition("=")
    if holdout is not None and not (site and equals and value.strip()):
        raise UserError(f"--holdout {holdout}: name a column and the value to hold out, such as site=B")
    splits = {
        "--holdout": holdout,
        "--time-column": time_column,
        "--split-column": options.split_column,
        "--test": options.test,
    }
    given = [flag for flag, setting in splits.items() if setting is not None]
    if len(given) > 1 and given[0] in ("--holdout", "--time-column"):
        raise UserError(f"{given[0]} and {given[1]} both say what the test split is; choose one")
    columns = {
        "label": options.label_column,
        "group": options.group_column,
        "split": options.split_column,
        "subgroup": options.worst_group,
        "holdout": site or None,
        "time": time_column,
    }
    return LabelSpec(
        {key: name for key, name in columns.items() if name is not None},
        target=target_named(target, multilabel),
        separator=None if multilabel is None else multilabel.strip(),
        ignored=_names(options.ignore_label),
        kept=_names(options.keep_label),
        held_out=plain(value) or None,
    )


def _names(labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(plain(str(label)) for label in ([labels] if isinstance(labels, str) else labels))
