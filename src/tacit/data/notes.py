"""Notes on what was left out of the data, and why: full counts, and the first twenty names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tacit.core.budget import clock
from tacit.core.columns import Few, few
from tacit.core.text import LONGEST
from tacit.core.wording import Ours
from tacit.data.matching import AMBIGUOUS, UNKNOWN
from tacit.data.named import Missing

if TYPE_CHECKING:
    from tacit.evaluation.targets.base import Answers

_EXAMPLES = 3  # of a join that a line shows


@dataclass
class Notes:
    """Filled in while a data set is opened; fields without findings stay empty."""

    listed: int = 0  # examples found, the skipped ones included
    skipped: Few = field(default_factory=Few)  # "name: reason" of files that cannot be read
    left_aside: Few = field(default_factory=Few)  # "name: reason" of files that were not tried
    duplicates: int = 0  # examples whose content occurs earlier
    labels_from: str = ""
    label_rows: int = 0  # rows of the label file
    joined_by: str = ""  # its key column
    matched: Few = field(default_factory=Few)  # keys that match an example
    unmatched: Few = field(default_factory=Few)  # keys that match no example
    ambiguous: Few = field(default_factory=Few)  # keys that match several
    rowless: Few = field(default_factory=Few)  # examples without a label row
    moved: str = ""  # the folder that its paths name in place of the data folder
    empty: int = 0  # label rows without a label
    unlabelled: int = 0  # examples whose own cell holds no label
    missing: Missing = field(default_factory=Missing)  # words that mean a missing value
    conflicting: Few = field(default_factory=Few)  # examples with conflicting label rows
    dropped_classes: Few = field(default_factory=Few)  # "name" of classes with one example to train on
    dropped_rows: int = 0  # labels lost with those classes
    dropped_labels: Few = field(default_factory=Few)  # of a multilabel target: held by one training example, or by all
    untrained_classes: Few = field(default_factory=Few)  # classes or labels that occur in the given test split only
    ignored: int = 0  # labels ignored by --ignore-label
    decoding_seconds: float = 0.0  # estimated time of decoding that is still to be done
    ungrouped: int = 0  # examples without a group, each a group of its own
    unpaired: int = 0  # examples whose pair has no other member
    blank: int = 0  # texts without any word, left out
    converted: int = 0  # texts in another encoding than UTF-8
    replaced: int = 0  # texts with invalid bytes, which were replaced
    cleaned: int = 0  # texts with NUL characters, which were removed
    cut: int = 0  # texts too long to be read as a whole
    silent: int = 0  # recordings of one value throughout
    clipped: int = 0  # recordings with many samples at full scale
    truncated: int = 0  # recordings shorter than their header declares
    events: int = 0  # rows of a table of events
    unplaced: int = 0  # events without a user, an item or a time
    weightless: int = 0  # events that weigh nothing
    repeated_rows: int = 0  # rows that repeat an earlier one
    tied: int = 0  # events of the same time as the one before
    repeats: int = 0  # events of an item that the user has used before
    odd_times: int = 0  # events before 1970 or after 2100
    out_of_core: int = 0  # events removed with rare users and items
    single: int = 0  # users with one event
    once: int = 0  # items that occur once
    remarks: tuple[str, ...] = ()  # whole sentences
    test_split: str = ""  # what was held out for the test, by value or by time

    def join(
        self,
        *,
        by: Sequence[str],
        rows: NDArray[np.int64],
        named: Sequence[str],
        ids: pa.Array,
        moved: Sequence[str] = (),
    ) -> None:
        """Record the result of a join: which keys matched an example, which matched none, which several."""

        def of(which: NDArray[np.bool_]) -> Few:
            found = np.flatnonzero(which)
            return few((named[i] or "an empty cell" for i in found.tolist()), len(found))

        self.label_rows, self.joined_by = (
            len(rows),
            ", ".join(name or "the column without a name" for name in dict.fromkeys(by)),
        )
        self.matched, self.unmatched, self.ambiguous = of(rows >= 0), of(rows == UNKNOWN), of(rows == AMBIGUOUS)
        without = np.setdiff1d(np.arange(len(ids)), rows)
        self.rowless = few((ids[int(row)].as_py() for row in without), len(without))
        self.moved = ", ".join(dict.fromkeys(moved))

    def left_out(self, answers: Answers) -> None:
        """Record the labels that a target has left out."""
        self.dropped_classes, self.dropped_rows = answers.dropped_classes, answers.dropped_rows
        self.dropped_labels, self.untrained_classes = answers.dropped_labels, answers.untrained_classes

    def lines(self, *, private: bool = False) -> Sequence[str]:
        """One sentence per finding; `private` leaves out every name."""

        def counted(found: Few, what: str) -> str:
            more = ", ..." if found.count > len(found.first) else ""
            names = "" if private else ": " + ", ".join(found.first) + more
            return f"{found.count:,} {what}{names}"

        sentences = [
            (self.skipped, "of the files cannot be read and were skipped"),
            (self.left_aside, "files were left aside"),
            (self.conflicting, "examples have conflicting rows in the label file and count as unlabelled"),
            (self.dropped_classes, "classes have a single example to train on and were left out"),
            (self.dropped_labels, "labels are had by a single example to train on, or by all, and were left out"),
            (self.untrained_classes, "classes occur in the test split only and were left out"),
        ]
        lines = self._joined(private) + [counted(found, what) for found, what in sentences if found]
        numbers = [
            (self.empty, "rows of the label file have no label"),
            (self.unlabelled, "examples have no label of their own (empty, or -1 in a column of classes)"),
            (self.ignored, "labels were ignored as asked"),
            (self.ungrouped, "examples have no group; each was taken for a group of its own"),
            (self.unpaired, "examples have no partner and count as unlabelled"),
            (self.blank, "texts are empty and were left out"),
            (self.converted, "texts are not in UTF-8 and were converted"),
            (self.replaced, "texts hold places that are no UTF-8; each was read as \ufffd"),
            (self.cleaned, "texts hold NUL characters, which were removed"),
            (
                self.cut,
                f"texts are longer than {LONGEST:,} tokens; as a whole, only their beginning is looked at",
            ),
            (self.silent, "recordings hold nothing but silence (or a constant) and were kept"),
            (self.clipped, "recordings are clipped: many of their samples are at full scale"),
            (self.truncated, "recordings are damaged or end too early; what could be read of them was kept"),
            (self.unplaced, "events lack a user, an item or a time and were left out"),
            (self.weightless, "events weigh nothing and were left out"),
            (self.repeated_rows, "rows repeat an earlier one and were left out"),
            (self.tied, "events are of the same time as the one before; they keep the order of the rows"),
            (self.repeats, "events are of an item that the user had met before; they were kept"),
            (self.odd_times, "events are dated before 1970 or after 2100; they were kept in that order"),
            (self.out_of_core, "events were taken out with users and items of fewer than --k-core asks for"),
            (self.single, "users have a single event, of which nothing can be held out"),
            (self.once, "items occur once"),
            (self.duplicates, "examples repeat the content of an earlier one"),
        ]
        lines += [f"{number:,} {what}" for number, what in numbers if number]
        for key, words in self.missing.found.items():
            named = "" if private else f" ({', '.join(sorted(words))}; --keep-label takes such a word for a name)"
            lines.append(f"{words.total():,} cells of the {key} column say that there is none{named}")
        lines += [] if private else self.remarks
        if self.test_split:
            lines.append("held out for the test" + ("" if private else f": {self.test_split}"))
        if self.decoding_seconds:
            lines.append(
                f"only a sample was decoded to look at; decoding all, once, takes about {clock(self.decoding_seconds)}"
            )
        return [*map(Ours, lines)] if private else lines

    def _joined(self, private: bool) -> list[str]:
        """Lines on how many rows of the label file match, with examples."""
        if not self.label_rows:
            return []

        def some(found: Few) -> str:
            more = ", ..." if found.count > _EXAMPLES else ""
            return f" ({', '.join(found.first[:_EXAMPLES])}{more})" if found and not private else ""

        by = "" if private else f" by {self.joined_by}"
        line = f"{self.matched.count:,} of {self.label_rows:,} rows of the label file match an example{by}"
        line += f"{some(self.matched)}, {self.unmatched.count:,} match none{some(self.unmatched)}"
        if self.ambiguous:
            line += f", {self.ambiguous.count:,} match several{some(self.ambiguous)}"
        line += f"; {self.rowless.count:,} examples have no row{some(self.rowless)}"
        if not self.moved:
            return [line]
        where = "" if private else f": {self.moved}"
        return [line, f"the label file names another folder, which was taken for that of the data{where}"]

    def as_dict(self, *, private: bool = False) -> dict[str, Any]:
        """The notes for JSON; `private` keeps counts and leaves out every name."""
        values = {of.name: getattr(self, of.name) for of in fields(self)}
        values = {name: asdict(of) if isinstance(of, Few) else of for name, of in values.items()}
        values["missing"] = {
            key: words.total() if private else dict(words) for key, words in self.missing.found.items()
        }
        if private:
            values = {
                name: {**v, "first": ()} if isinstance(v, dict) and "first" in v else v for name, v in values.items()
            }
            values["remarks"] = ()
            values |= dict.fromkeys(("labels_from", "test_split", "joined_by", "moved"), "")
        return values
