"""Options and encoder names of events, available without importing torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from tacit.core.errors import UserError
from tacit.core.spec import SpecOf
from tacit.data.signs import Signs
from tacit.modalities.options import ModalityOptions

HELD = ("last", "time", "none")  # the last two events of each user; all after a moment; nothing
CORES = (2, 1000)  # events
_LONG = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

READS = "histories of items"  # the input of an encoder of this modality, in messages
NEXT_UP = "recommendation"  # the target of evaluation without labels

ENCODERS = {
    "sasrec_nano": "tacit.modalities.events.sasrec:SASRec",
    "sasrec_tiny": "tacit.modalities.events.sasrec:SASRec",
    "sasrec_small": "tacit.modalities.events.sasrec:SASRec",
    "bert4rec_nano": "tacit.modalities.events.bert4rec:Bert4Rec",
    "bert4rec_tiny": "tacit.modalities.events.bert4rec:Bert4Rec",
    "bert4rec_small": "tacit.modalities.events.bert4rec:Bert4Rec",
}

SIGNS = Signs(nouns="events")


@dataclass(frozen=True, kw_only=True)
class Options(ModalityOptions):
    """How a table of events becomes histories.

    Args:
        user_column: the column of users in a table of events, each of whom is an example; default: one of a usual name
        item_column: its column of items, likewise
        time_column: Of events, the column that says when they happened, or their place in an order; default: one of a
            usual name, else the rows' order
        event_column: its column of weights of events, or of words such as view and purchase
        event_weight: what a word there weighs, such as purchase=3; others weigh 1, and what weighs 0 is left out
        session_gap: the time without an event after which a new session begins, such as 30m; each session is an example
        k_core: leaves out users and items of fewer events than this, again and again until there are none
        item_table: a table of the items: their ids, names, and columns of attributes
        catalogue: a run or an exported encoder whose numbers the items keep; in Python also the spec of an encoder
        length: Of events, how many of a history; default 50
        holdout: Of events: last (the default), each user's last for the test and the one before for validation; time,
            the latest tenth of all and the tenth before; or none: all are pretrained on
    """

    group = "events"
    columns: ClassVar[tuple[str, ...]] = ("user_column", "item_column", "event_column")
    kept_with: ClassVar[tuple[str, ...]] = ("event_weight",)
    kept: ClassVar[tuple[str, ...]] = ("session_gap",)
    of_learning: ClassVar[tuple[str, ...]] = ("k_core", "item_table")
    paths: ClassVar[tuple[str, ...]] = ("item_table", "catalogue")
    together: ClassVar[tuple[str, ...]] = ("length",)
    own_words: ClassVar[Mapping[str, tuple[str, ...]]] = {"holdout": HELD}

    user_column: str | None = None
    item_column: str | None = None
    time_column: str | None = None
    event_column: str | None = None
    event_weight: Sequence[str] = ()
    session_gap: str | None = None
    k_core: int | None = None
    item_table: str | None = None
    catalogue: str | SpecOf[Any] | None = None
    length: int | None = None
    holdout: str | None = None

    @property
    def held(self) -> str:
        """What is held out of histories, see `HELD`."""
        return self.holdout or HELD[0]

    def settled(self, before: Mapping[str, Any], names: Collection[str]) -> tuple[Self, list[str]]:
        found, lost = super().settled(before, names)
        if found.event_column and not self.event_column and not self.event_weight:
            found = replace(found, event_weight=tuple(before.get("event_weight", ())))
        return found, lost

    def check(self) -> None:
        if self.k_core is not None and not CORES[0] <= self.k_core <= CORES[1]:
            raise UserError(f"--k-core {self.k_core} is out of range; choose {CORES[0]} to {CORES[1]:,} events")
        if self.session_gap is not None:
            duration(self.session_gap)
        if self.item_table is not None and not Path(self.item_table).is_file():
            raise UserError(f"--item-table {self.item_table}: no such file")


def duration(text: str) -> float:
    """`1800`, `30m`, `12h`, `2d` in seconds. UserError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if match is None or not float(match[1]):
        raise UserError(f"--session-gap {text} is no length of time; write seconds, or 30m, 12h, 2d")
    return float(match[1]) * _LONG[match[2]]
