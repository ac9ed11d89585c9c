"""Text for any encoder: characters that can be written, the start of a text, and term counts as a baseline."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

LONGEST = 2048  # tokens of a document that are read, special ones included

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

ENOUGH = 1_000  # texts by which the penalty is chosen
_UNPARTED = (  # scripts without spaces between words: Thai to Burmese, Khmer, kana, Han
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Words of two letters or more, as scikit-learn takes them, and single characters of scripts without spaces.
WORDS = rf"[{_UNPARTED}]|[^\W{_UNPARTED}]{{2,}}"
SIGNS = r"\w+|[^\w\s]"  # where few texts have such words: also single letters and digits, and each other sign
_FEW = 0.5  # of the texts that have a word, below which characters are counted
BM25_TURN, BM25_LENGTH = 1.2, 0.75  # k1: when more of a word tells no more; b: how much the length of a text counts


# A linear probe of features [n r] as they are, and classes [n]: its weights [r k], intercepts [k] and penalty C.
Fit = Callable[[NDArray[np.float64], NDArray[np.int64]], tuple[NDArray[np.float64], NDArray[np.float64], float]]


def whole_signs(text: str) -> str:
    """The text with a replacement character for every lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def snippet(text: str, most: int) -> str:
    """The start of a text in one line, at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def word_counts(
    texts: Callable[[NDArray[np.int64]], list[str]], known: NDArray[np.int64], fit: Fit, *, characters: bool
) -> Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], NDArray[np.int32]]:
    """The classification baseline without pretraining: TF-IDF of words and word pairs, or of 2 to 5 characters.

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
        if not some.nnz or len(np.unique(truth[chosen])) < 2:  # nothing to learn from: the most frequent class
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


def terms_of(texts: Sequence[str]) -> Callable[[Sequence[str]], Any]:
    """TF-IDF of words and word pairs as they occur in these texts, for any texts: sparse [n d]."""
    weights = _fitted(texts, characters=False, fewest=2)
    return lambda some: weights.transform(some)


def bm25(texts: Sequence[str]) -> tuple[Any, Any]:
    """Word counts of each text, and the BM25 weights of the words; sparse [n d] both.

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
    saturated = times * (BM25_TURN + 1) / (times + np.repeat(usual, np.diff(counts.indptr)))
    rarity = np.log1p((len(texts) - have + 0.5) / (have + 0.5))
    weights = csr_array((saturated * rarity[counts.indices], counts.indices, counts.indptr), shape=counts.shape)
    return counts, weights


def word_pattern(texts: Sequence[str]) -> str:
    """The pattern of a word in these texts: `WORDS`, or `SIGNS` where fewer than half of the texts have any."""
    word = re.compile(WORDS)
    return WORDS if sum(word.search(text) is not None for text in texts) >= _FEW * len(texts) else SIGNS


def _fitted(texts: Sequence[str], *, characters: bool, fewest: int = 1) -> TfidfVectorizer:
    """TF-IDF of words and word pairs, or of 2 to 5 characters, in at least `fewest` texts, or in one if none are."""
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
    """Rotate sparse features [n d] to [n r], r <= n; also returns the map from weights [r k] to weights [d k].

    Inner products are kept, so that a linear model with an L2 penalty is the same, with far fewer numbers.
    """
    values, vectors = np.linalg.eigh((X @ X.T).toarray())
    kept = values > 1e-10 * values.max()
    length, axes = np.sqrt(values[kept]), vectors[:, kept]
    return axes * length, lambda weights: X.T @ (axes / length @ weights)
