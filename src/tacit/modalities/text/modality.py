"""The modality of text: what a run needs of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from tacit.core.budget import quickest
from tacit.core.encoder import OwnEncoder
from tacit.core.masks import UNITS
from tacit.core.spec import Spec
from tacit.core.text import ENOUGH, WORDS, bm25, snippet, terms_of, tfidf, word_counts, word_pattern
from tacit.data.split import Split
from tacit.evaluation import Arm
from tacit.evaluation.arms import target_of
from tacit.evaluation.probes.linear import fit_counts
from tacit.evaluation.targets import Rule
from tacit.evaluation.targets.compared import Alike
from tacit.modalities.base import Modality, Unseen
from tacit.modalities.graph import GraphIO
from tacit.modalities.recipe import Recipe
from tacit.modalities.text import export, recipes
from tacit.modalities.text.files import read_spec
from tacit.modalities.text.language import describe_language
from tacit.modalities.text.packing import Packed
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.text.store import Corpus
from tacit.modalities.text.views import TextViews
from tacit.training.batches import Batches, Span
from tacit.training.optim import Optim

if TYPE_CHECKING:
    from tacit.modalities.hf_folder import Public

SHOWN = 240  # characters of a text that are shown
COUNTED = 200  # texts whose terms are counted to estimate the time for all
TERMS_FROM = 50_000  # texts in which terms are counted, at most

Fetch = Callable[[NDArray[np.int64]], list[str]]
Weighing = Callable[[list[str]], tuple[Any, Any]]  # each text's weights as a query, and as a document
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


def _comparing_seconds(store: Corpus, split: Split) -> float:
    """Estimate the time of comparisons from some texts: counting grows with the texts, comparing with their square."""
    labelled = split.labelled
    assert labelled is not None
    target, tested = target_of(labelled), labelled.tested
    some, seconds = tested[:COUNTED], 0.0
    times = len(tested) / len(some)
    texts = store.texts(split.rows[some])
    for weigh in WEIGHED.values():
        began = time.perf_counter()
        found = Alike(*weigh(texts))
        counted = time.perf_counter()
        if (rule := target.rule_of(labelled, lambda at, found=found: found)) is None:  # type: ignore[misc]
            return 0.0
        rule(some, some, some)
        seconds += (counted - began) * times + (time.perf_counter() - counted) * times**2
    return seconds


class Texts(Modality[TextSpec, Corpus]):
    name = "text"
    nouns = "texts"
    spec = TextSpec
    default_tasks = "simclr"
    hidden_by = UNITS

    ingredients = recipes.TextIngredients

    def default_encoder(self, spec: TextSpec, tasks: Collection[str]) -> str:
        return recipes.default_encoder(spec, tasks)

    def views(self, spec: TextSpec) -> TextViews:
        return recipes.compared_views(spec)

    def scratch_views(self, spec: TextSpec) -> TextViews:
        return recipes.whole_views(spec)

    def measured(self, task: str, encoder: Any) -> dict[str, Any]:
        return recipes.measured(task, encoder)

    def optim(self, encoder: Any) -> Optim:
        return recipes.default_optim(encoder)

    def batch_size(self, encoder: Any, tasks: Collection[str], accelerated: bool) -> int:
        return recipes.batch_size(tasks, accelerated)

    def packs(self, encoder: Any, tasks: Collection[str]) -> bool:
        return encoder.packs and set(tasks) <= recipes.PACKING

    def batches(self, store: Corpus, rows: NDArray[np.int64], plan: Recipe, seed: int) -> Batches:
        if not plan.packed:
            return Batches(store.batch, rows, batch_size=plan.batch_size, seed=seed)
        spec = store.spec
        packed = Packed(store, rows, spec.length)
        return Batches(packed.batch, Span(len(packed)), batch_size=plan.batch_size, seed=seed)

    def baselines(self, store: Corpus, split: Split, seed: int) -> list[Arm]:
        labelled = split.labelled
        assert labelled is not None
        target = target_of(labelled)

        def texts(positions: NDArray[np.int64]) -> list[str]:
            return store.texts(split.rows[positions])

        def comparing(weigh: Weighing) -> Rule | None:  # the texts that are compared determine the weights of terms
            return target.rule_of(labelled, lambda test: Alike(*weigh(texts(test))))

        rules = {name: rule for name, weigh in WEIGHED.items() if (rule := comparing(weigh)) is not None}
        if target.by_class:
            learned = labelled.train[:TERMS_FROM]
            words, characters = (word_counts(texts, learned, fit_counts, characters=by) for by in (False, True))
            rules = {"tfidf-words": words, "tfidf-characters": characters}
        some = texts(labelled.train[:COUNTED])
        unit = "words" if word_pattern(some) == WORDS else "single characters"
        return [
            Arm(name, "baseline", rule=rule, encoder=COUNTED_BY[name].replace("words", unit), own=True)
            for name, rule in rules.items()
        ]

    def baselines_seconds(self, store: Corpus, split: Split) -> tuple[float, Callable[[int], float]]:
        labelled = split.labelled
        if labelled is None:
            return 0.0, lambda labels: 0.0
        if not target_of(labelled).by_class:
            return _comparing_seconds(store, split), lambda labels: 0.0
        learned = min(len(labelled.train), TERMS_FROM)
        some = np.random.default_rng(0).permutation(labelled.train)[:COUNTED]

        def counted() -> list[Rule]:
            return [
                word_counts(lambda at: store.texts(split.rows[at]), some, fit_counts, characters=by)
                for by in (False, True)
            ]

        rules = counted()
        counting = quickest(counted) * (learned + len(labelled.y)) / len(some)
        spent = quickest(lambda: [rule(some, labelled.y[some], some) for rule in rules])

        def fitting(labels: int) -> float:
            chosen_by, more = min(labels, ENOUGH) / len(some), max(0, labels - ENOUGH) / len(some)
            return float(spent * (max(chosen_by, chosen_by**1.5) + more))

        return counting, fitting

    def plain(self, store: Corpus, rows: NDArray[np.int64], seed: int) -> Callable[[NDArray[np.int64]], Any]:
        """TF-IDF of words and pairs."""
        weigh = terms_of(store.texts(rows))
        return lambda some: weigh(store.texts(some))

    def compatible(self, spec: TextSpec, other: TextSpec) -> bool:
        return spec.tokenizer == other.tokenizer

    def options_of(self, spec: TextSpec) -> dict[str, Any]:
        return {"tokenizer": spec}

    def fixed(self, spec: TextSpec) -> dict[str, Any]:
        return {"tokenizer": None, "vocabulary": spec.vocabulary, "length": spec.length, "lowercase": None}

    def read_spec(self, values: Mapping[str, Any], folder: Path) -> TextSpec:
        return read_spec(values, folder)

    def holds(self, spec: TextSpec) -> str:
        return (
            f"tokenizer.json holds {spec.vocabulary:,} words and parts of words of the texts that it was trained on, "
            "names among them; --tokenizer FOLDER takes one of another origin"
        )

    def graph(self, encoder: Any) -> GraphIO:
        return export.Texts(encoder)

    public_inputs = ("input_ids",)

    def open_public(self, public: Public, spec: Spec | None) -> tuple[OwnEncoder, tuple[str, ...]]:
        from tacit.modalities.text.hf import open_text

        return open_text(public, spec if isinstance(spec, TextSpec) else None)

    def describe(self, store: Corpus) -> str:
        spec = store.spec
        return (
            f"{len(store):,} texts of {store.lengths.mean():,.0f} tokens on average, a vocabulary of "
            f"{spec.vocabulary:,}, {store.nbytes / 2**20:,.1f} MiB tokenised"
        )

    def about(self, store: Corpus) -> list[str]:
        spec = store.spec
        low, middle, high = np.quantile(store.lengths, [0.05, 0.5, 0.95])
        unknown = f"; unknown is token {spec.unknown}" if spec.unknown >= 0 else ""
        return [
            f"length: median {middle:,.0f} tokens, nine in ten from {low:,.0f} to {high:,.0f}; an encoder sees "
            f"{spec.length} at once, longer texts in several windows",
            f"tokens: {int(store.lengths.sum()):,} in all; vocabulary {spec.vocabulary:,}{unknown}",
        ]

    def facts(self, store: Corpus) -> dict[str, Any]:
        spec = store.spec
        return {"length": spec.length, "vocabulary": spec.vocabulary, "tokens": int(store.lengths.sum())}

    def pictures(self, store: Corpus, rows: NDArray[np.int64]) -> Sequence[Any]:
        return [snippet(text, SHOWN) for text in store.texts(rows)]

    def aside(self, store: Corpus, encoders: Mapping[str, Any], chosen: str, unseen: Unseen) -> dict[str, Any]:
        return {"language": describe_language(store, encoders, chosen, unseen)}

    def shown(self, store: Corpus, preview: Tensor) -> Sequence[Any]:
        spec = store.spec
        tokenizer = Tokenizer.from_str(spec.tokenizer)
        mask, aside = tokenizer.id_to_token(spec.mask), {spec.pad, spec.cls, spec.sep}
        snippets = []
        for row in preview.cpu().tolist():
            parts: list[str] = []
            run: list[int] = []
            for number in [n for n in row if n not in aside] + [spec.mask]:
                if number == spec.mask:
                    parts.append(tokenizer.decode(run, skip_special_tokens=False).strip())
                    run = []
                else:
                    run.append(number)
            snippets.append(snippet(f" {mask} ".join(parts), SHOWN))
        return snippets


MODALITY = Texts()
