"""Text, as a run asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from tacit.core.budget import quickest
from tacit.dataset import Dataset
from tacit.evaluation import Arm, Labelled
from tacit.evaluation.arms import target_of
from tacit.evaluation.probes.linear import fit_counts
from tacit.evaluation.targets import Rule
from tacit.evaluation.targets.compared import Alike, Compared
from tacit.modalities.recipe import Recipe
from tacit.modalities.spec import TextSpec
from tacit.modalities.text.packing import Packed
from tacit.modalities.text.recipes import default_encoder, default_views, recipe
from tacit.modalities.text.store import Corpus
from tacit.modalities.text.views import ENOUGH, WORDS, TextViews, bm25, snippet, tfidf, word_counts, word_pattern
from tacit.run.split import Split
from tacit.training.batches import Batches, Span

__all__ = ["default_encoder", "default_views", "recipe"]

tasks = "simclr"
contrast = "simclr"

SHOWN = 240  # characters of a text that stand for all of it
COUNTED = 200  # texts whose terms are counted to tell how long all of them take
TERMS_FROM = 50_000  # texts at most that terms are counted in

Texts = Callable[[NDArray[np.int64]], list[str]]
Weighing = Callable[[list[str]], tuple[Any, Any]]  # what every text seeks in others, and what it has
WEIGHED: dict[str, Weighing] = {
    "tfidf-words": partial(tfidf, characters=False),
    "tfidf-characters": partial(tfidf, characters=True),
    "bm25": bm25,
}
COUNTED_BY = {
    "tfidf-words": "TF-IDF of words and pairs",
    "tfidf-characters": "TF-IDF of 2 to 5 characters",
    "bm25": "BM25 of words",
}


def scratch_views(spec: TextSpec) -> TextViews:
    return default_views(spec, "scratch")


def batches(dataset: Dataset, rows: NDArray[np.int64], plan: Recipe, seed: int) -> Batches:
    if not plan.packed:
        return Batches(dataset.batch, rows, batch_size=plan.batch_size, seed=seed)
    spec, corpus = _parts(dataset)
    packed = Packed(corpus, rows, spec.length)
    return Batches(packed.batch, Span(len(packed)), batch_size=plan.batch_size, seed=seed)


def statistics(dataset: Dataset, split: Split, seed: int) -> list[Arm]:
    labelled = split.labelled
    assert labelled is not None
    target = target_of(labelled)

    def texts(positions: NDArray[np.int64]) -> list[str]:
        return _parts(dataset)[1].texts(split.rows[positions])

    rules: dict[str, Rule] = {}
    if isinstance(target, Compared):
        rules = {name: _comparing(target, labelled, texts, weigh) for name, weigh in WEIGHED.items()}
    elif labelled.target == "classification":
        known = labelled.train[:TERMS_FROM]
        words, characters = (word_counts(texts, known, fit_counts, characters=by) for by in (False, True))
        rules = {"tfidf-words": words, "tfidf-characters": characters}
    some = texts(labelled.train[:COUNTED])
    unit = "words" if word_pattern(some) == WORDS else "single characters"
    return [
        Arm(name, "baseline", rule=rule, encoder=COUNTED_BY[name].replace("words", unit))
        for name, rule in rules.items()
    ]


def _comparing(target: Compared, labelled: Labelled, texts: Texts, weigh: Weighing) -> Rule:
    """A baseline that compares the texts by their terms; what these weigh comes from the texts that are compared."""
    return lambda train, truth, test: target.answers(labelled, test, Alike(*weigh(texts(test))))


def statistics_seconds(dataset: Dataset, split: Split) -> tuple[float, Callable[[int], float]]:
    labelled = split.labelled
    if labelled is not None and isinstance(target_of(labelled), Compared):
        return _comparing_seconds(dataset, split), lambda labels: 0.0
    if labelled is None or labelled.target != "classification":
        return 0.0, lambda labels: 0.0
    known = min(len(labelled.train), TERMS_FROM)
    some = np.random.default_rng(0).permutation(labelled.train)[:COUNTED]

    def counted() -> list[Rule]:
        return [
            word_counts(lambda at: _parts(dataset)[1].texts(split.rows[at]), some, fit_counts, characters=by)
            for by in (False, True)
        ]

    rules = counted()
    counting = quickest(counted) * (known + len(labelled.y)) / len(some)
    spent = quickest(lambda: [rule(some, labelled.y[some], some) for rule in rules])

    def fitting(labels: int) -> float:
        chosen_by, more = min(labels, ENOUGH) / len(some), max(0, labels - ENOUGH) / len(some)
        return float(spent * (max(chosen_by, chosen_by**1.5) + more))

    return counting, fitting


def _comparing_seconds(dataset: Dataset, split: Split) -> float:
    """From some of the texts: words are counted text by text, and each text is compared with all others."""
    labelled = split.labelled
    assert labelled is not None
    target, tested = target_of(labelled), labelled.test if len(labelled.test) else labelled.train
    assert isinstance(target, Compared)
    some, seconds = tested[:COUNTED], 0.0
    times = len(tested) / len(some)
    texts = _parts(dataset)[1].texts(split.rows[some])
    for weigh in WEIGHED.values():
        began = time.perf_counter()
        found = Alike(*weigh(texts))
        counted = time.perf_counter()
        target.answers(labelled, some, found)
        seconds += (counted - began) * times + (time.perf_counter() - counted) * times**2
    return seconds


def same_form(spec: TextSpec, other: TextSpec) -> bool:
    return spec.tokenizer == other.tokenizer


def mismatch(own: TextSpec, opened: Dataset) -> str:
    return ""


def reading(spec: TextSpec) -> dict[str, Any]:
    return {"tokenizer": spec}


def fixed(spec: TextSpec) -> dict[str, Any]:
    return {"tokenizer": None, "vocabulary": spec.vocabulary, "length": spec.length, "lowercase": None}


def heard(encoder: Any, asked: Mapping[str, Any]) -> None:
    pass


def fitted(encoder: Any, spec: Any) -> Any:
    return encoder


def begun(encoder: Any, dataset: Dataset, rows: NDArray[np.int64]) -> Any:
    return encoder


def bf16_pays(encoder: Any) -> bool:
    return False


def describe(dataset: Dataset) -> str:
    spec, corpus = _parts(dataset)
    return (
        f"{len(dataset):,} texts of {corpus.lengths.mean():,.0f} tokens on average, a vocabulary of "
        f"{spec.vocabulary:,}, {corpus.nbytes / 2**20:,.1f} MiB tokenised"
    )


def about(dataset: Dataset) -> list[str]:
    spec, corpus = _parts(dataset)
    low, middle, high = np.quantile(corpus.lengths, [0.05, 0.5, 0.95])
    unknown = f"; unknown is token {spec.unknown}" if spec.unknown >= 0 else ""
    return [
        f"length: median {middle:,.0f} tokens, nine in ten from {low:,.0f} to {high:,.0f}; an encoder sees "
        f"{spec.length} at once, longer texts in several windows",
        f"tokens: {int(corpus.lengths.sum()):,} in all; vocabulary {spec.vocabulary:,}{unknown}",
    ]


def facts(dataset: Dataset) -> dict[str, Any]:
    spec, corpus = _parts(dataset)
    return {"length": spec.length, "vocabulary": spec.vocabulary, "tokens": int(corpus.lengths.sum())}


def pictures(dataset: Dataset, rows: NDArray[np.int64]) -> Sequence[Any]:
    return [snippet(text, SHOWN) for text in _parts(dataset)[1].texts(rows)]


def sounds(dataset: Dataset, rows: NDArray[np.int64]) -> Sequence[bytes | None]:
    return [None] * len(rows)


def shown(dataset: Dataset, preview: Tensor) -> Sequence[Any]:
    spec, _ = _parts(dataset)
    tokenizer = Tokenizer.from_str(spec.tokenizer)
    mask, aside = tokenizer.id_to_token(spec.mask), {spec.pad, spec.cls, spec.sep}
    said = []
    for row in preview.cpu().tolist():
        parts: list[str] = []
        run: list[int] = []
        for number in [n for n in row if n not in aside] + [spec.mask]:
            if number == spec.mask:
                parts.append(tokenizer.decode(run, skip_special_tokens=False).strip())
                run = []
            else:
                run.append(number)
        said.append(snippet(f" {mask} ".join(parts), SHOWN))
    return said


def _parts(dataset: Dataset) -> tuple[TextSpec, Corpus]:
    assert isinstance(dataset.spec, TextSpec)
    assert isinstance(dataset.cache, Corpus)
    return dataset.spec, dataset.cache
