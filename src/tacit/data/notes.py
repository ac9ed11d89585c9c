"""What was left out of the data, and why: counted in full, named up to the first twenty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from tacit.budget import clock
from tacit.data.corpus import LONGEST
from tacit.wording import Ours

_NAMED = 20


@dataclass(frozen=True)
class Few:
    """How many there are, and the first of them."""

    count: int = 0
    first: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.count > 0


def few(names: Iterable[str], count: int) -> Few:
    return Few(count, tuple(islice(names, _NAMED)))


@dataclass
class Notes:
    """Filled in while a data set is opened; empty fields had nothing to say."""

    listed: int = 0  # examples found, the skipped ones included
    skipped: Few = field(default_factory=Few)  # "name: reason" of files that cannot be read
    left_aside: Few = field(default_factory=Few)  # "name: reason" of files that were not even tried
    duplicates: int = 0  # examples whose content occurs earlier
    labels_from: str = ""
    label_rows: int = 0  # rows of the label file
    unmatched: Few = field(default_factory=Few)  # its paths that mean no example
    ambiguous: Few = field(default_factory=Few)  # its paths that could mean several
    empty: int = 0  # its rows without a label
    conflicting: Few = field(default_factory=Few)  # examples that it labels twice and differently
    dropped_classes: Few = field(default_factory=Few)  # "name" of classes with one example to train on
    dropped_rows: int = 0  # labels lost with those classes
    dropped_labels: Few = field(default_factory=Few)  # of several per example: had by one to train on, or by all
    untrained_classes: Few = field(default_factory=Few)  # classes or labels that occur in the given test split only
    ignored: int = 0  # labels that the person asked to ignore
    decoding_seconds: float = 0.0  # what decoding takes that was put off
    ungrouped: int = 0  # examples without a group, each taken for one of its own
    unpaired: int = 0  # examples whose pair has no other member
    blank: int = 0  # texts without any word, left out
    converted: int = 0  # texts in another encoding than UTF-8
    replaced: int = 0  # texts with places that are in no encoding
    cleaned: int = 0  # texts with NUL characters, which were removed
    cut: int = 0  # texts longer than is looked at as a whole
    silent: int = 0  # recordings of one value throughout
    clipped: int = 0  # recordings with many samples at full scale
    truncated: int = 0  # recordings that end earlier than they say
    events: int = 0  # rows of a table of events
    unplaced: int = 0  # events without a user, an item or a time
    weightless: int = 0  # events that weigh nothing
    repeated_rows: int = 0  # rows that say again what an earlier one says
    tied: int = 0  # events of the same time as the one before
    repeats: int = 0  # events of an item that the user has met before
    odd_times: int = 0  # events before 1970 or after 2100
    out_of_core: int = 0  # events taken out with rare users and items
    single: int = 0  # users with one event
    once: int = 0  # items that occur once
    remarks: tuple[str, ...] = ()  # whole sentences
    test_split: str = ""  # what was held out for the test, where a value or the time says

    def lines(self, *, private: bool = False) -> Sequence[str]:
        """One sentence per finding, for people; `private` leaves out every name."""

        def told(found: Few, what: str) -> str:
            more = ", ..." if found.count > len(found.first) else ""
            names = "" if private else ": " + ", ".join(found.first) + more
            return f"{found.count:,} {what}{names}"

        sentences = [
            (self.skipped, "of the files cannot be read and were skipped"),
            (self.left_aside, "files were left aside"),
            (self.unmatched, f"of {self.label_rows:,} rows of the label file match no example"),
            (self.ambiguous, f"of {self.label_rows:,} rows of the label file match several examples"),
            (self.conflicting, "examples have conflicting rows in the label file and count as unlabelled"),
            (self.dropped_classes, "classes have a single example to train on and were left out"),
            (self.dropped_labels, "labels are had by a single example to train on, or by all, and were left out"),
            (self.untrained_classes, "classes occur in the test split only and were left out"),
        ]
        lines = [told(found, what) for found, what in sentences if found]
        numbers = [
            (self.empty, "rows of the label file have no label"),
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
        lines += [] if private else self.remarks
        if self.test_split:
            lines.append("held out for the test" + ("" if private else f": {self.test_split}"))
        if self.decoding_seconds:
            lines.append(
                f"only a sample was decoded to look at; decoding all, once, takes about {clock(self.decoding_seconds)}"
            )
        return [*map(Ours, lines)] if private else lines

    def as_dict(self, *, private: bool = False) -> dict[str, Any]:
        """For JSON; `private` keeps the counts and leaves out every name."""
        values = asdict(self)
        if private:
            values = {name: {**v, "first": ()} if isinstance(v, dict) else v for name, v in values.items()}
            values["remarks"] = ()
            values["labels_from"] = values["test_split"] = ""
        return values
