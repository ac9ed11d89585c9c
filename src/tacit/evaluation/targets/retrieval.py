"""Search: does an item find its like, or its partner, among the other test items? Nothing is learned from labels.

Every test item is a query, the other test items are searched, by cosine. Relevant is what has the query's label; a
query's own group is not searched, lest a person find only themselves. Of pairs the partner alone is relevant, and where
pairs have two sides (picture and caption) the other side alone is searched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.core.columns import Codes, by_name, codes_of, few_of
from tacit.core.errors import UserError
from tacit.core.stages import beat
from tacit.evaluation import ranked
from tacit.evaluation.metrics import Metric
from tacit.evaluation.splits import Positions
from tacit.evaluation.targets.base import (
    Answers,
    Candidates,
    Known,
    LabelTexts,
    Rule,
    Tested,
    Values,
)
from tacit.evaluation.targets.compared import Alike, Compared, cosine

if TYPE_CHECKING:
    from tacit.evaluation.arms import Labelled

DEEP = 10  # results of a search that are looked at
LARGE = 10  # examples of a class, of which a share can be sealed so that they find each other
_CHUNK = 2**22  # similarities held at once


@dataclass(frozen=True)
class Retrieval(Compared):
    """The first ten of every search, as places [n 10] among the test items."""

    name: ClassVar[str] = "retrieval"
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("ndcg@10/test-gallery", "nDCG@10 among the test items", ranked.ndcg_at(10)),
        *(
            Metric(f"recall@{k}/test-gallery", f"recall@{k} among the test items", ranked.recall_at(k))
            for k in (1, 5, 10)
        ),
    )
    within: ClassVar[Metric] = metrics[1]
    protocols: ClassVar[Mapping[str, str]] = {"cosine": "search by cosine"}
    groups: ClassVar[str] = "classes"

    def read_labels(self, texts: LabelTexts) -> Answers:
        """Without the classes that have one example in all."""
        encoded = texts.text.dictionary_encode()
        codes = codes_of(encoded)
        counts = np.bincount(codes[codes >= 0], minlength=len(encoded.dictionary))
        single = few_of(encoded.dictionary.to_pylist(), counts == 1)
        text = pc.if_else(pa.array(np.append(counts, 0)[codes] > 1), texts.text, None)
        found = _like(text, "classes", "two examples of a class make one to be found")
        return replace(found, dropped_classes=single, dropped_rows=single.count)

    def balanced(self, label: Codes) -> Codes:
        """Nothing: classes of two or three examples are too small to take a share of each."""
        return np.where(label < 0, label, 0)

    def held_whole(self, known: Known) -> NDArray[np.str_] | None:
        """The small classes, whose members seek each other."""
        sizes = np.bincount(known.label[known.label >= 0])
        if np.median(sizes[sizes > 0]) >= LARGE:
            return None
        rows = enumerate(known.label.tolist())
        return np.array([f"class {known.classes[c]}" if c >= 0 else f"row {row}" for row, c in rows])

    @property
    def watched(self) -> str:
        return f"nDCG@10, {next(iter(self.protocols.values()))}"

    def answers(self, labelled: Labelled, positions: Positions, alike: Alike) -> NDArray[np.int32]:
        """For each of these items the places [n 10] of those most like it; -1 where fewer may be searched."""
        n, allowed = len(alike), self.allowed(labelled, positions)
        found = np.full((n, DEEP), -1, np.int32)
        rows, deep = max(1, _CHUNK // n), min(DEEP, n - 1)
        for start in range(0, n, rows):
            beat()
            part = np.arange(start, min(start + rows, n))
            similarity = np.where(allowed(part), alike.to_all(part), -np.inf)
            first = np.argpartition(-similarity, deep - 1, axis=1)[:, :deep]
            order = np.argsort(-np.take_along_axis(similarity, first, axis=1), axis=1, kind="stable")
            ranked = np.take_along_axis(first, order, axis=1)
            lost = np.isneginf(np.take_along_axis(similarity, ranked, axis=1))
            found[part, :deep] = np.where(lost, -1, ranked)
        return found

    def comparable(self, labelled: Labelled, positions: Positions) -> bool:
        return bool(self.expected(labelled, positions).any())

    def allowed(self, labelled: Labelled, positions: Positions) -> Any:
        """Which items [b n] may be searched for the queries at these places [b]."""
        group = labelled.group[positions]
        return lambda places: group[places, None] != group

    def tested(self, labelled: Labelled, positions: Positions) -> Tested:
        """The truth is the number of relevant items; queries without any do not count."""
        expected = self.expected(labelled, positions)
        counts = expected > 0
        if len(np.unique(labelled.y[positions[counts]])) < 2:
            raise UserError(
                f"test items of fewer than two {self.groups} have another one to be found: label more examples that "
                "belong together"
            )
        left = int((~counts).sum())
        return Tested(counts, expected[counts], [f"{left} items: nothing relevant to be found"] if left else [])

    def expected(self, labelled: Labelled, positions: Positions) -> NDArray[np.int64]:
        """How many relevant items [n] each of these queries could find among the others."""
        y, allowed = labelled.y[positions], self.allowed(labelled, positions)
        found = [
            (allowed(places) & (y[places, None] == y)).sum(axis=1)
            for places in np.array_split(np.arange(len(y)), 1 + len(y) ** 2 // _CHUNK)
        ]
        return np.where(y >= 0, np.concatenate(found), 0)

    def units(self, labelled: Labelled, positions: Positions) -> NDArray[np.int64]:
        """Classes: queries of one share what they seek, so that one item more or less changes them all."""
        return labelled.y[positions]

    def second_units(self, labelled: Labelled, positions: Positions) -> NDArray[np.int64] | None:
        """Groups: queries of one person or place succeed or fail together, whatever they seek."""
        return labelled.group[positions] if labelled.grouped and not labelled.one_group else None

    def revealed(self, predicted: Values, labelled: Labelled, positions: Positions, tested: Tested) -> Values:
        """Whether each result is relevant [P S n 10]."""
        y = labelled.y[positions]
        relevant = (y[predicted] == y[:, None]) & (predicted >= 0)
        return np.asarray(relevant[:, :, tested.counts])

    def among(self, predicted: Values, keep: NDArray[np.bool_]) -> Values:
        number = np.cumsum(keep) - 1
        found = predicted[:, :, keep]
        found = np.where((found >= 0) & keep[found], number[found], -1)
        order = np.argsort(found < 0, axis=-1, kind="stable")  # what comes after one that is gone moves up
        return np.take_along_axis(found, order, axis=-1)

    def smoothing(self, truth: Values, unit: NDArray[np.int64], alike: float) -> float:
        return 1.0 / len(truth) ** 2

    def rules(self, labelled: Labelled) -> Mapping[str, Rule]:
        def chance(train: Positions, truth: Values, test: Positions) -> Values:
            return self.answers(labelled, test, cosine(np.random.default_rng(0).normal(size=(len(test), 64))))

        return {"chance": chance}


class Pairs(Retrieval):
    """The partner alone is relevant; the group, which holds a pair together, is searched too."""

    name: ClassVar[str] = "pairs"
    groups: ClassVar[str] = "pairs"
    takes: ClassVar[tuple[str, ...]] = ("side",)

    def candidates(
        self, text: pa.Array, *, group: pa.Array | None, side: pa.Array | None, pair: pa.Array | None
    ) -> Candidates:
        text, unpaired = partnered(text, side)
        return Candidates(text, text, unpaired)

    def read_labels(self, texts: LabelTexts) -> Answers:
        return _like(texts.text, "pairs", "a label names a pair, and two examples share it")

    def held_whole(self, known: Known) -> NDArray[np.str_] | None:
        return None

    def counted(self, known: Known, n: int, *, private: bool) -> str:
        return f"{n:,} labelled in {len(known.classes):,} pairs"

    def spread(self, labelled: Labelled, *, private: bool) -> str:
        sizes = np.bincount(labelled.y, minlength=len(labelled.classes))
        return f"pairs: {len(sizes):,} of {sizes.min():,} to {sizes.max():,} examples"

    def allowed(self, labelled: Labelled, positions: Positions) -> Any:
        side = None if labelled.side is None else labelled.side[positions]
        everyone = np.arange(len(positions))
        if side is None:
            return lambda places: places[:, None] != everyone
        return lambda places: side[places, None] != side


class Texts(Retrieval):
    """Labels stay the texts they are, and none is refused or left out: for looking at labels, not for judging."""

    lists: ClassVar[bool] = True

    def read_labels(self, texts: LabelTexts) -> Answers:
        return _numbered(texts.text)


def _like(text: pa.Array, what: str, rule: str) -> Answers:
    found = _numbered(text)
    if len(found.classes) < 2:
        only = f"only {found.classes[0]!r}" if found.classes else "none"
        raise UserError(f"labels need at least two {what}, and there is {only}: {rule}")
    return found


def _numbered(text: pa.Array) -> Answers:
    encoded = text.dictionary_encode()
    names = sorted(encoded.dictionary.to_pylist(), key=by_name)
    number = {name: i for i, name in enumerate(names)}
    found = [*(number[name] for name in encoded.dictionary.to_pylist()), -1]
    return Answers(np.array(found, np.int64)[codes_of(encoded)], tuple(names))


def partnered(text: pa.Array, side: pa.Array | None) -> tuple[pa.Array, int]:
    """The names of pairs, null where an example has no partner (on the other side, if there are sides); and how many
    have none."""
    encoded = text.dictionary_encode()
    codes = codes_of(encoded)
    known = codes >= 0
    on = np.zeros(len(codes), np.int64) if side is None else codes_of(side.dictionary_encode())
    members = np.zeros((len(encoded.dictionary), int(on.max(initial=0)) + 1), np.int64)
    np.add.at(members, (codes[known], on[known]), 1)
    whole = members.sum(axis=1) > 1 if side is None else (members > 0).sum(axis=1) > 1
    kept = np.append(whole, False)[codes]
    return pc.if_else(pa.array(kept), text, None), int((known & ~kept).sum())
