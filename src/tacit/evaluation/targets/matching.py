"""Matching: does a caption find the example that it belongs to, and an example its caption? Nothing is learned here.

The gallery is all test examples, or all their captions, each once; relevant is what is paired with the query, and of
captions that say the same every one. What is predicted is the place of the first relevant one in either direction, and
the class that names alone tell of the example, where classes are known. Pairs that share an example are one unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.core.stages import beat
from tacit.evaluation.features import ByName, both_sides
from tacit.evaluation.metrics import Floats, Influence, Ints, Metric, mean_by
from tacit.evaluation.naming import SCALE, Held, held
from tacit.evaluation.splits import Positions
from tacit.evaluation.targets.base import Answers, Known, LabelTexts, Rule, Target, Tested, Values, in_short

if TYPE_CHECKING:
    from tacit.evaluation.arms import Labelled, Part

THERE, BACK, CLASS = 0, 1, 2  # what is predicted of a pair: from caption to example, from example to caption, the class
WAYS = {"caption-to-example": THERE, "example-to-caption": BACK}
NO_CLASS = -1
_CELLS = 2**22  # similarities held at once


def _recall(way: int, k: int) -> Influence:
    def values(found: NDArray[Any], truth: NDArray[Any], unit: Ints) -> Floats:
        return mean_by(found[..., way] <= k, unit)

    return values


def _median(way: int) -> Influence:
    """The median place, and by its density there what each unit does to it."""

    def values(found: NDArray[Any], truth: NDArray[Any], unit: Ints) -> Floats:
        place = np.asarray(found[..., way], np.float64)
        middle = np.median(place, axis=-1, keepdims=True)
        near = min(0.25, 1 / np.sqrt(place.shape[-1]))
        low, high = (np.quantile(place, 0.5 + at, axis=-1, keepdims=True) for at in (-near, near))
        pull = mean_by(np.sign(place - middle) * (high - low) / (4 * near), unit)
        return np.asarray(middle + pull - pull.mean(axis=-1, keepdims=True))

    return values


def _by_name(found: NDArray[Any], truth: NDArray[Any], unit: Ints) -> Floats:
    return mean_by(found[..., CLASS] == truth, unit)


ZERO_SHOT = Metric("accuracy/zero-shot", "zero-shot accuracy, by the names of classes", _by_name)


@dataclass(frozen=True)
class Matching(Target):
    """Places and classes [n 3] of each test pair."""

    name: ClassVar[str] = "matching"
    metrics: ClassVar[Sequence[Metric]] = tuple(
        Metric(f"recall@{k}/{way}", f"recall@{k}, {way.replace('-', ' ')}", _recall(column, k))
        for way, column in WAYS.items()
        for k in (10, 1, 5)
    )
    beside: ClassVar[Sequence[Metric]] = (
        *(
            Metric(
                f"median_place/{way}",
                f"median place, {way.replace('-', ' ')}",
                _median(column),
                high=float("inf"),
                sign=-1,
                discrete=False,
                in_units=True,
            )
            for way, column in WAYS.items()
        ),
        ZERO_SHOT,
    )
    within: ClassVar[Metric] = metrics[0]
    protocols: ClassVar[Mapping[str, str]] = {"both-sides": "cosine of both towers"}
    needs_labels: ClassVar[bool] = False
    examples: ClassVar[str] = "pairs"
    matches: ClassVar[bool] = True
    unseen: ClassVar[bool] = True

    # ---------------------------------------------------------------- labels

    def read_labels(self, texts: LabelTexts) -> Answers:
        """Classes, by which the test is balanced and which are recognised by their names; none is needed."""
        from tacit.core.columns import by_name, codes_of

        encoded = texts.text.dictionary_encode()
        names = sorted(encoded.dictionary.to_pylist(), key=by_name)
        number = {name: i for i, name in enumerate(names)}
        codes = np.array([*(number[name] for name in encoded.dictionary.to_pylist()), -1], np.int64)
        return Answers(codes[codes_of(encoded)], tuple(names))

    def counted(self, known: Known, n: int, *, private: bool) -> str:
        classes = sum(1 for name in known.classes if name)
        return f"{n:,} to be matched" + (f", in {classes:,} classes" if classes else "")

    def spread(self, labelled: Labelled, *, private: bool) -> str:
        examples, captions = _identities(labelled, np.arange(len(labelled.y)))
        counts = (len(np.unique(of)) for of in (examples, captions))
        told = "pairs: {:,} of {:,} examples and {:,} captions".format(len(labelled.y), *counts)
        if len(labelled.classes) < 2 or not all(labelled.classes):
            return told
        lone = [name for name, n in zip(labelled.classes, _held(labelled).count, strict=True) if not n]
        which = "" if private or not lone else f" ({in_short(lone)})"
        return (
            f"{told}; zero-shot by the names of {len(labelled.classes):,} classes, each as pretraining captions "
            f"hold it, weighted by how many do; {len(lone):,} that none holds{which} by templates"
        )

    # ---------------------------------------------------------------- scoring

    def read(self, encoder: Any, labelled: Labelled, rows: Positions) -> Mapping[str, Values]:
        """Embeddings of both sides one after the other, and the class that is nearest by its name, [n 2D+1]."""
        named = classes_by_name(encoder, labelled)
        return {"pooled": both_sides(encoder, labelled.fetch, rows, named)}

    def probe(
        self, part: Part, train: Values, test: Values, draws: Sequence[Positions], seed: int, *, first: int = 0
    ) -> Mapping[str, Values]:
        return {"both-sides": self.found(part.labelled, part.test, test)[None]}

    def found(self, labelled: Labelled, positions: Positions, table: Values) -> NDArray[np.int32]:
        """Places and classes [n 3] of these pairs, from what `read` returns."""
        one, other = np.split(np.asarray(table[:, :-1]), 2, axis=1)
        examples, captions = _identities(labelled, positions)
        there = places(other, one, captions, examples)
        back = places(one, other, examples, captions)
        return np.stack([there, back, table[:, -1].astype(np.int32)], axis=1)

    def validate(
        self, labelled: Labelled, features: Sequence[Values], pool: Positions, rounds: Any, metric: Metric, seed: int
    ) -> float:
        truth = labelled.y[pool]
        return float(np.mean([metric.value(self.found(labelled, pool, table), truth) for table in features]))

    def glance(self, labelled: Labelled, positions: Positions, features: Values, encoder: Any) -> float | None:
        if len(positions) < 2:
            return None
        table = both_sides(encoder, labelled.fetch, positions, None)
        return self.validate(labelled, [table], positions, (), self.metrics[0], 0)

    def tested(self, labelled: Labelled, positions: Positions) -> Tested:
        if min(len(np.unique(of)) for of in _identities(labelled, positions)) < 2:
            raise UserError("fewer than two different pairs are to be tested: give more of them")
        return Tested(np.ones(len(positions), bool), labelled.y[positions], [])

    def units(self, labelled: Labelled, positions: Positions) -> NDArray[np.int64]:
        return labelled.group[positions] if labelled.grouped else _identities(labelled, positions)[0]

    def smoothing(self, truth: Values, unit: NDArray[np.int64], alike: float) -> float:
        return 1.0 / len(truth) ** 2

    def asides(self, labelled: Labelled) -> Sequence[Metric]:
        """Without classes, or where some example has none, nothing is recognised by name."""
        named = len(labelled.classes) > 1 and all(labelled.classes)
        return self.beside if named else self.beside[:-1]

    def rules(self, labelled: Labelled) -> Mapping[str, Rule]:
        def chance(train: Positions, truth: Values, test: Positions) -> Values:
            random = np.random.default_rng(0)
            classes = random.integers(max(1, len(labelled.classes)), size=(len(test), 1))
            return self.found(labelled, test, np.concatenate([random.normal(size=(len(test), 64)), classes], axis=1))

        return {"chance": chance}


def classes_by_name(encoder: Any, labelled: Labelled) -> ByName | None:
    """The classes by their names, as pretraining captions hold them; None where they or the encoder have none."""
    classes = labelled.classes
    if len(classes) < 2 or not all(classes) or not hasattr(encoder, "by_name"):
        return None
    found = _held(labelled)
    try:
        embedding = np.asarray(encoder.by_name(classes, found.captions).float().cpu().numpy())
    except UserError:  # its second tower reads no text
        return None
    return ByName(embedding, found.log_prior / np.float32(SCALE))


def _held(labelled: Labelled) -> Held:
    return held(labelled.classes, labelled.captions() if labelled.captions else ())


def places(queries: Values, gallery: Values, asks: NDArray[np.int64], has: NDArray[np.int64]) -> NDArray[np.int32]:
    """For each pair [n] the place of the first relevant entry of the gallery, 1 the best.

    Row i of `queries` [n D] and of `gallery` [n D] are the two sides of pair i, `asks` [n] and `has` [n] the identities
    of these; entries of one identity count once. Of entries as similar as the relevant one half come before it.
    """
    entries, first, entry = np.unique(has, return_index=True, return_inverse=True)
    distinct, at, query = np.unique(asks, return_index=True, return_inverse=True)
    entry, query = entry.reshape(-1), query.reshape(-1)
    relevant = np.unique(np.stack([query, entry], axis=1), axis=0)  # [R 2], by query
    starts = np.searchsorted(relevant[:, 0], np.arange(len(distinct) + 1))
    shelf = np.ascontiguousarray(gallery[first], np.float32)
    place = np.empty(len(distinct), np.int64)
    rows = max(1, _CELLS // len(entries))
    for begin in range(0, len(distinct), rows):
        beat()
        end = min(begin + rows, len(distinct))
        similarity = np.ascontiguousarray(queries[at[begin:end]], np.float32) @ shelf.T  # [b E]
        mine = relevant[starts[begin] : starts[end]]
        own = similarity[mine[:, 0] - begin, mine[:, 1]]
        best = np.full(end - begin, -np.inf, np.float32)
        np.maximum.at(best, mine[:, 0] - begin, own)
        alike = (similarity == best[:, None]).sum(axis=1)
        alike -= np.bincount(mine[:, 0] - begin, own == best[mine[:, 0] - begin], end - begin).astype(np.int64)
        place[begin:end] = 1 + (similarity > best[:, None]).sum(axis=1) + (alike + 1) // 2
    return place[query].astype(np.int32)


def _identities(labelled: Labelled, positions: Positions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the examples and of the captions of these pairs, [n] each: equal where they are the same."""
    examples, captions = np.arange(len(positions)), np.arange(len(positions))
    if labelled.content is not None:
        content = np.ascontiguousarray(labelled.content[positions]).view(">u8").reshape(-1, 2)
        examples = np.unique(content, axis=0, return_inverse=True)[1].reshape(-1)
    if labelled.pair is not None:
        captions = labelled.pair[positions]
    return examples, captions
