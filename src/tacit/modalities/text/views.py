"""Text: random views of documents, which tokens to hide, what hides them, and word counts as the figures to beat.

Shapes: B documents, N tokens, L tokens of a view.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core import keys
from tacit.core.masks import Hiding, span_starts, unit_mask
from tacit.core.types import Batch
from tacit.modalities.events.spec import ItemSpec
from tacit.modalities.text.spec import TextSpec

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

ENOUGH = 1_000  # texts that the penalty is chosen by
_UNPARTED = (  # scripts that write no blanks between words: Thai to Burmese, Khmer, kana, Han
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Words of two letters or more, as scikit-learn takes them, and single signs of scripts without blanks.
WORDS = rf"[{_UNPARTED}]|[^\W{_UNPARTED}]{{2,}}"
SIGNS = r"\w+|[^\w\s]"  # where few texts have such words: also single letters and digits, and each other sign
_FEW = 0.5  # of the texts that have a word, below which signs are counted
BM25_TURN, BM25_LENGTH = 1.2, 0.75  # k1: when more of a word tells no more; b: how much the length of a text counts


# A linear probe of features [n r] as they are, and classes [n]: its weights [r k], intercepts [k] and penalty C.
Fit = Callable[[NDArray[np.float64], NDArray[np.int64]], tuple[NDArray[np.float64], NDArray[np.float64], float]]


def is_special(tokens: Tensor, spec: TextSpec) -> Tensor:
    """Where numbers stand for no part of a text, of the shape of `tokens`."""
    found = torch.zeros_like(tokens, dtype=torch.bool)
    for number in spec.specials:
        found |= tokens == number
    return found


@dataclass(frozen=True)
class TextViews:
    """Views of documents: a random run of tokens, at most `length` numbers with [CLS] and [SEP] around it.

    The run is the share `crop` of the document, drawn between its two ends, but at least `least` tokens where there are
    as many, and never more than `most`. The share `delete` of its tokens is left out. Packed rows, which hold several
    documents, stay as they are.
    """

    spec: TextSpec
    length: int
    crop: tuple[float, float] = (1.0, 1.0)
    least: int = 8
    most: int = 2**31
    delete: float = 0.0

    @torch.no_grad()
    def __call__(self, batch: Batch, view: int) -> Batch:
        """View number `view` of every document: `tokens`, `valid` and `word` [B L], `key` the view's own."""
        key = keys.split(batch["key"], view)
        if "segment" in batch:
            return {**batch, "key": key}
        tokens, own = batch["tokens"], batch["valid"] & ~is_special(batch["tokens"], self.spec)
        head, tail = int(self.spec.cls >= 0), int(self.spec.sep >= 0)
        room = self.length - head - tail
        n = own.sum(1)  # [B] tokens of each document, which stand together
        share, place = keys.uniform(key, "crop", 2).unbind(1)
        low, high = self.crop
        wanted = (n * (low + (high - low) * share)).round().long()
        taken = wanted.clamp(min=self.least, max=min(room, self.most)).minimum(n)  # [B]
        first = own.int().argmax(1) + (place * (n - taken + 1)).long()  # [B]
        widest = max(1, int(taken.max())) if len(taken) else 1
        at = torch.arange(widest, device=tokens.device)
        there = at < taken[:, None]  # [B W]
        source = (first[:, None] + at).clamp(max=tokens.shape[1] - 1)
        run, word = tokens.gather(1, source), batch["word"].gather(1, source) & there
        if self.delete:
            there, run, word = self._thinned(key, there, run, word)
        out = torch.full((len(tokens), head + widest + tail), self.spec.pad, dtype=tokens.dtype, device=tokens.device)
        valid, words = torch.zeros_like(out, dtype=torch.bool), torch.zeros_like(out, dtype=torch.bool)
        ends = head + there.sum(1, keepdim=True)  # [B 1] where [SEP] stands
        out[:, head : head + widest] = torch.where(there, run, out[:, head : head + widest])
        words[:, head : head + widest] = word & there
        if head:
            out[:, 0] = self.spec.cls
        if tail:
            out.scatter_(1, ends, self.spec.sep)
        valid = torch.arange(out.shape[1], device=out.device) < ends + tail
        return {**batch, "tokens": out, "valid": valid, "word": words, "key": key}

    def _thinned(self, key: Tensor, there: Tensor, run: Tensor, word: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Without a share of the tokens, the others moved together; the first one stays."""
        kept = there & (keys.uniform(key, "delete", run.shape[1]) >= self.delete)
        kept[:, 0] = there[:, 0]
        order = (~kept).int().argsort(dim=1, stable=True)
        return kept.gather(1, order), run.gather(1, order), word.gather(1, order)


@dataclass(frozen=True)
class TokenMask:
    """Hides a share of each row's tokens: words as a whole, or spans of `span` words on average, or single tokens."""

    spec: TextSpec
    hiding: Hiding
    span: float = 3.0  # words

    def __call__(self, batch: Batch, progress: Tensor) -> Tensor:
        key = keys.split(batch["key"], "mask")
        counts = batch["valid"] & ~is_special(batch["tokens"], self.spec)
        starts = torch.ones_like(counts) if self.hiding.unit == "token" else batch["word"] | ~counts
        if self.hiding.unit == "span":
            starts = span_starts(key, batch["word"], self.span) | ~counts
        return unit_mask(key, counts, starts, self.hiding.at(progress))


@dataclass(frozen=True)
class Corruption:
    """What stands at hidden places: the mask, or with these shares a random token, or what was there."""

    spec: TextSpec | ItemSpec
    random: float = 0.0
    kept: float = 0.0

    def __call__(self, batch: Batch, mask: Tensor) -> Batch:
        tokens = batch["tokens"]
        hidden = torch.full_like(tokens, self.spec.mask)
        if self.random or self.kept:
            chance, other = keys.uniform(batch["key"], "corrupt", 2 * tokens.shape[1]).chunk(2, dim=1)  # [B N] each
            any_token = (other * self.spec.vocabulary).long().clamp(max=self.spec.vocabulary - 1)
            hidden = torch.where(chance < self.random, any_token, hidden)
            hidden = torch.where(chance >= 1.0 - self.kept, tokens, hidden)
        return {**batch, "tokens": torch.where(mask, hidden, tokens)}


def own_tokens(batch: Batch) -> Tensor:
    """What is predicted of text and of items: the tokens themselves, [B N]."""
    return batch["tokens"]


def word_counts(
    texts: Callable[[NDArray[np.int64]], list[str]], known: NDArray[np.int64], fit: Fit, *, characters: bool
) -> Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], NDArray[np.int32]]:
    """The baseline of classes that has learned nothing: TF-IDF of words and pairs of them, or of 2 to 5 characters.

    Logistic regression on sublinear TF-IDF, its penalty chosen as every probe's is, inside the labels that it is given;
    `fit` is that probe. Terms and their weights come from the texts `known`, labelled or not. Called with positions to
    learn from, their classes, and positions to answer for.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no types

    counts = _fitted(texts(known), characters=characters, fewest=2 if len(known) >= 100 else 1)
    held: dict[int, int] = {}
    rows: list[Any] = []

    def features(positions: NDArray[np.int64]) -> Any:
        from scipy.sparse import vstack

        new = np.array([p for p in positions.tolist() if p not in held], np.int64)
        if len(new):
            held.update({int(p): len(held) + i for i, p in enumerate(new)})
            rows.append(counts.transform(texts(new)))
            rows[:] = [vstack(rows).tocsr()]
        return rows[0][[held[int(p)] for p in positions]]

    def rule(train: NDArray[np.int64], truth: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.int32]:
        chosen = np.random.default_rng(0).permutation(len(train))[:ENOUGH]  # to choose the penalty by
        some = features(train[chosen])
        if not some.nnz or len(np.unique(truth[chosen])) < 2:  # nothing to learn from: the commonest class
            return np.full(len(test), np.bincount(truth).argmax(), np.int32)
        classes, answers = np.unique(truth[chosen], return_inverse=True)
        with threadpool_limits(1):
            Z, to_terms = _rotated(some)
            weights, bias, C = fit(Z, answers)
            if len(chosen) < len(train):  # more texts than can be rotated
                model = LogisticRegression(C=C, solver="newton-cg").fit(features(train), truth)
                return np.asarray(model.predict(features(test)), np.int32)
            scores = features(test) @ to_terms(weights) + bias  # [m k]
        return np.asarray(classes[scores.argmax(1)], np.int32)

    return rule


def tfidf(texts: Sequence[str], *, characters: bool) -> tuple[Any, Any]:
    """TF-IDF of the texts' own terms, sparse [n d], twice the same: the inner product of two rows is their cosine."""
    from scipy.sparse import csr_array

    weights = csr_array(_fitted(texts, characters=characters).transform(texts))
    return weights, weights


def bm25(texts: Sequence[str]) -> tuple[Any, Any]:
    """How often each text has each word, and how much the word says of the text; sparse [n d] both.

    The inner product of the one's row with the other's is the BM25 score of the other text for the one as a query
    (Robertson & Zaragoza 2009, "The probabilistic relevance framework"), with the weight ln(1 + (n - m + 1/2) /
    (m + 1/2)) of a word that m texts have.
    """
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import CountVectorizer

    pattern = word_pattern(texts)
    counts = csr_array(CountVectorizer(dtype=np.float32, token_pattern=pattern).fit_transform(texts))
    have = np.bincount(counts.indices, minlength=counts.shape[1])  # texts of each word
    length = counts.sum(axis=1)
    usual = BM25_TURN * (1 - BM25_LENGTH + BM25_LENGTH * length / length.mean())  # [n]
    times = counts.data
    told = times * (BM25_TURN + 1) / (times + np.repeat(usual, np.diff(counts.indptr)))
    rarity = np.log1p((len(texts) - have + 0.5) / (have + 0.5))
    weights = csr_array((told * rarity[counts.indices], counts.indices, counts.indptr), shape=counts.shape)
    return counts, weights


def word_pattern(texts: Sequence[str]) -> str:
    """What counts as a word in these texts: `WORDS`, or `SIGNS` where fewer than half of the texts have any."""
    word = re.compile(WORDS)
    return WORDS if sum(word.search(text) is not None for text in texts) >= _FEW * len(texts) else SIGNS


def _fitted(texts: Sequence[str], *, characters: bool, fewest: int = 1) -> TfidfVectorizer:
    """TF-IDF of words and pairs of them, or of 2 to 5 characters, that so many texts have, or one where none have."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    shape = {"analyzer": "char_wb", "ngram_range": (2, 5), "max_features": 200_000}
    if not characters:
        shape = {"token_pattern": word_pattern(texts), "ngram_range": (1, 2), "max_features": 400_000}
    weights = TfidfVectorizer(sublinear_tf=True, min_df=fewest, dtype=np.float32, **shape)
    try:
        return weights.fit(texts)
    except ValueError:  # no term is in two texts
        return weights.set_params(min_df=1).fit(texts)


def _rotated(X: Any) -> tuple[NDArray[np.float64], Callable[[NDArray[np.float64]], NDArray[np.float64]]]:
    """Sparse features [n d] as [n r], r <= n, and what takes weights [r k] of these to weights [d k] of those.

    Inner products stay as they are, so that a linear model with an L2 penalty is the same one, and far fewer numbers.
    """
    values, vectors = np.linalg.eigh((X @ X.T).toarray())
    kept = values > 1e-10 * values.max()
    length, axes = np.sqrt(values[kept]), vectors[:, kept]
    return axes * length, lambda weights: X.T @ (axes / length @ weights)


def snippet(text: str, most: int) -> str:
    """The start of a text in one line, at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
