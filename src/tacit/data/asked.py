"""What a person said about labels, groups and splits, checked before anything is read."""

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

# What columns can tell, and the setting that names the column.
FLAGS = {
    "label": "--label-column",
    "group": "--group-column",
    "split": "--split-column",
    "subgroup": "--worst-group",
    "holdout": "--holdout",
    "time": "--time-column",
}


@dataclass(frozen=True)
class Asked:
    """Which columns tell what, and how the labels are to be read."""

    columns: Mapping[str, str]  # a key of `FLAGS` -> the name of the column
    target: str = USUAL
    separator: str | None = None  # between the labels of one cell
    ignored: tuple[str, ...] = ()  # labels that mean none
    kept: tuple[str, ...] = ()  # words such as NA and None that are names here
    held_out: str | None = None  # the value of the column `holdout` that makes an example a test example

    @property
    def lists(self) -> bool:
        """Whether a label may be a list of them."""
        return make_target(self.target).lists

    @property
    def scores_pairs(self) -> bool:
        """Whether a label scores a pair of examples."""
        return "pair" in make_target(self.target).takes

    @property
    def of_parts(self) -> bool:
        """Whether a label is one of a part of an example."""
        return make_target(self.target).of_parts

    def of_kind(self, next_up: str | None, *, labelled: bool, unnamed: bool, held: bool) -> Asked:
        """With `next_up`, which asks what comes next, for data without labels, `held` out in part, where no target was
        named; None for data in which nothing comes next. UserError where they cannot be judged by the target.
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

    def without(self, key: str) -> Asked:
        """Where a column that is named means something else."""
        return replace(self, columns={of: column for of, column in self.columns.items() if of != key})


def target_named(target: str | None, multilabel: str | None) -> str:
    """The target that these settings come to; a class is meant where nothing is said."""
    return MULTILABEL if multilabel is not None else target or USUAL


def target_settings(*settings: Mapping[str, Any]) -> dict[str, Any]:
    """`target` and `multilabel` of the first of these that says anything of them."""
    said = [{name: of.get(name) for name in ("target", "multilabel")} for of in settings]
    return next((of for of in said if any(of.values())), said[-1])


def asked_by(options: LabelOptions) -> Asked:
    """Which columns tell what. UserError where a setting makes no sense, or two contradict."""
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
    given = [flag for flag, said in splits.items() if said is not None]
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
    return Asked(
        {key: name for key, name in columns.items() if name is not None},
        target=target_named(target, multilabel),
        separator=None if multilabel is None else multilabel.strip(),
        ignored=_names(options.ignore_label),
        kept=_names(options.keep_label),
        held_out=plain(value) or None,
    )


def _names(labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(plain(str(label)) for label in ([labels] if isinstance(labels, str) else labels))
