"""Test items with a copy in the pretraining data: found before the evaluation, and left out of a second verdict."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.wording import Ours
from tacit.data.copies import Copies

if TYPE_CHECKING:
    from tacit.dataset import Dataset
    from tacit.experiment.log import Log
    from tacit.experiment.opening import Opened

NAMED = 20  # in the report
SHOWN = 3  # in a line


@dataclass(frozen=True)
class Leaks:
    """The copies found, as positions of the labelled examples and in words."""

    positions: NDArray[np.int64]  # test positions with a copy
    exact: int
    pairs: tuple[str, ...]  # "id = id of its copy (exact or likeness)" of the first
    near_sought: bool  # False where images are too small to tell copies from lookalikes, or too many to compare
    kind: str = "image"  # near-copies of texts are not looked for

    def line(self, tested: int, *, private: bool = False) -> str:
        """One sentence; `private` leaves out every id."""
        count = len(self.positions)
        kind = "a copy or near-copy" if self.near_sought else "an exact copy"
        sought = self.near_sought or self.kind != "image"
        aside = "" if sought else "; near-copies were not looked for: images too small, or too many"
        if not count:
            return f"none of the {tested:,} test items has {kind} among what is pretrained on{aside}"
        have = "has" if count == 1 else "have"
        exact = f" ({self.exact:,} exact)" if self.near_sought else ""
        names = "" if private else ": " + ", ".join(islice(self.pairs, SHOWN)) + (", ..." if count > SHOWN else "")
        return f"{count:,} of the {tested:,} test items {have} {kind} among what is pretrained on{exact}{names}{aside}"

    def as_data(self, *, private: bool = False) -> dict[str, Any]:
        """For the report's `data`, in the form of the other lists."""
        return {
            "count": len(self.positions),
            "exact": self.exact,
            "near_sought": self.near_sought,
            "first": [] if private else list(self.pairs),
        }


def find_leaks(opened: Opened) -> Leaks | None:
    """Find the sealed test items with a copy in the pretraining data.

    None where there is nothing to find: no sealed test set, test inputs that are pretrained on (transductive),
    sequences that are tested by their next event, or data of which only a sample was decoded.
    """
    dataset, split = opened.dataset, opened.split
    labelled = split.labelled
    if labelled is None or labelled.transductive or not len(labelled.test) or dataset.cache.folder is None:
        return None
    if split.held is not None:
        return None
    found = opened.modality.copies(dataset.cache, split.rows[labelled.test], split.pretrain)
    return Leaks(
        positions=labelled.test[found.found],
        exact=int(found.exact.sum()),
        pairs=tuple(islice(_pairs(dataset, found), NAMED)),
        near_sought=found.threshold is not None,
        kind=dataset.kind,
    )


def log_leaks(opened: Opened, log: Log) -> Leaks | None:
    """Call `find_leaks` and log the result."""
    leaks, labelled = find_leaks(opened), opened.split.labelled
    if leaks is not None and labelled is not None:
        line = leaks.line(len(labelled.test), private=opened.private)
        log(Ours(line) if opened.private else line)
    return leaks


def _pairs(dataset: Dataset, found: Copies) -> list[str]:
    """The copies in words, the most similar first."""
    at = np.flatnonzero(found.found)
    at = at[np.argsort(-found.likeness[at], kind="stable")][:NAMED]
    test, twin = (dataset.ids.take(rows[at]).to_pylist() for rows in (found.rows, found.twin))
    how = ["exact" if found.exact[i] else f"{found.likeness[i]:.2f} alike" for i in at]
    return [f"{one} = {other} ({word})" for one, other, word in zip(test, twin, how, strict=True)]
