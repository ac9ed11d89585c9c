"""Influence values: their mean is the metric that scikit-learn gives, their spread what leaving out a unit changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr
from sklearn import metrics as sk

from tacit.evaluation import metrics
from tacit.evaluation.ranked import ndcg_at, recall_at
from tacit.evaluation.statistics import crossed

N = 60


def scores(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return rng.normal(size=shape).round(1)  # with ties


def case(name: str, seed: int) -> tuple[Any, Any, Any, Any]:
    """The metric's influence function, predictions [n ...], truth, and the metric by scikit-learn."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(N) % 3)
    numbers = rng.normal(size=N)
    several = (rng.random((N, 4)) < 0.3).astype(float)
    said = np.where(rng.random(N) < 0.6, y, rng.integers(0, 3, N))
    p = scores(rng, (N, 3)) + 1.5 * np.eye(3)[y]
    q = np.clip(scores(rng, (N, 4)) / 4 + 0.3 + 0.4 * several, 0, 1)
    guess = numbers + rng.normal(size=N)
    one_hot = np.eye(3, dtype=int)[y]
    median = np.full(N, np.median(numbers))
    cases: dict[str, tuple[Any, Any, Any, float]] = {
        "balanced": (metrics.balanced_accuracy, said, y, sk.balanced_accuracy_score(y, said)),
        "accuracy": (metrics.accuracy, said, y, sk.accuracy_score(y, said)),
        "accuracy of scores": (metrics.accuracy, p, y, sk.accuracy_score(y, p.argmax(1))),
        "macro f1": (metrics.macro_f1, said, y, sk.f1_score(y, said, average="macro")),
        "auroc": (metrics.auroc, p, y, sk.roc_auc_score(one_hot, p, average="macro")),
        "auroc of labels": (metrics.auroc, q, several, sk.roc_auc_score(several, q, average="macro")),
        "ap": (metrics.average_precision, p, y, sk.average_precision_score(one_hot, p, average="macro")),
        "ap of labels": (metrics.average_precision, q, several, sk.average_precision_score(several, q)),
        "label f1": (metrics.label_f1, q, several, sk.f1_score(several, q > 0.5, average="macro")),
        "label accuracy": (metrics.label_accuracy, q, several, 1 - sk.hamming_loss(several, q > 0.5)),
        "r2": (metrics.r2, guess, numbers, sk.r2_score(numbers, guess)),
        "d2": (metrics.d2_absolute_error, guess, numbers, sk.d2_absolute_error_score(numbers, guess)),
        "mae": (metrics.mae, guess, numbers, sk.mean_absolute_error(numbers, guess)),
        "pearson": (metrics.pearson, guess, numbers, np.corrcoef(guess, numbers)[0, 1]),
        "spearman": (metrics.spearman, guess.round(), numbers.round(1), spearmanr(guess.round(), numbers.round(1))[0]),
        "median": (metrics.d2_absolute_error, median, numbers, 0.0),
    }
    return cases[name]


CASES = ["balanced", "accuracy", "accuracy of scores", "macro f1", "auroc", "auroc of labels", "ap", "ap of labels",
         "label f1", "label accuracy", "r2", "d2", "mae", "pearson", "spearman", "median"]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_the_mean_is_the_metric(name: str, seed: int) -> None:
    influence, predicted, truth, expected = case(name, seed)
    for unit in (np.arange(N), np.arange(N) // 2):
        values = influence(predicted, truth, unit)
        assert values.shape == (unit.max() + 1,)
        assert values.mean() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", CASES[:-1])  # the last one's median is kept, not drawn anew
@pytest.mark.parametrize("size", [1, 4])
def test_the_spread_is_that_of_the_jackknife(name: str, size: int) -> None:
    """Leaving out each unit in truth: the same variance, and the same units at fault."""
    influence, predicted, truth, _ = case(name, 7)
    unit = np.random.default_rng(0).permutation(np.arange(N) // size)
    values = influence(predicted, truth, unit)
    left = np.array([_metric(influence, predicted[unit != u], truth[unit != u]) for u in range(unit.max() + 1)])
    naive = (len(left) - 1) * (values.mean() - left)
    assert values.var(ddof=1) == pytest.approx(naive.var(ddof=1), rel=0.25, abs=1e-6)
    if values.std() > 0:
        assert np.corrcoef(values, naive)[0, 1] > 0.97


def _metric(influence: Any, predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    return float(influence(predicted, truth, np.arange(len(truth))).mean())


@pytest.mark.parametrize("name", CASES)
def test_seeds_and_draws_stand_in_front(name: str) -> None:
    influence, predicted, truth, expected = case(name, 1)
    stacked = np.stack([[predicted] * 3] * 2)
    values = influence(stacked, truth, np.arange(N))
    assert values.shape == (2, 3, N)
    np.testing.assert_allclose(values.mean(-1), expected, atol=1e-9)


@pytest.mark.parametrize("name", ["auroc", "ap", "r2", "macro f1", "label f1"])
def test_intervals_hold_what_they_promise(name: str) -> None:
    """Of 400 samples of 120 items, about 95 % of the intervals hold the metric of the whole population."""
    rng = np.random.default_rng(3)
    n = 40_000
    y = rng.integers(0, 2, n)
    score = (rng.normal(size=n) + y)[:, None] * [-1.0, 1.0]
    several = np.stack([y, rng.integers(0, 2, n)], axis=1).astype(float)
    chances = 1 / (1 + np.exp(-(rng.normal(size=(n, 2)) + 2 * several - 1)))
    numbers = rng.normal(size=n)
    influence, predicted, truth = {
        "auroc": (metrics.auroc, score, y),
        "ap": (metrics.average_precision, score, y),
        "macro f1": (metrics.macro_f1, score.argmax(1), y),
        "label f1": (metrics.label_f1, chances, several),
        "r2": (metrics.r2, numbers + rng.normal(size=n), numbers),
    }[name]
    whole = _metric(influence, predicted[:20_000], truth[:20_000])
    held = 0
    for _ in range(400):
        rows = rng.choice(n, 120, replace=False)
        values = influence(predicted[rows], truth[rows], np.arange(120))
        low, high = crossed(values[None, None]).interval()
        held += low <= whole <= high
    assert 0.90 <= held / 400 <= 0.985


@pytest.mark.parametrize("shape", [(0,), (1, 1), (4, 0), (2, 3, 50)])
def test_ranks_are_scipys(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 9, shape).astype(np.float32)
    np.testing.assert_array_equal(metrics.ranks(x), rankdata(x, axis=-1))


def test_large_numbers_keep_their_digits() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=N)
    guess, unit = y + rng.normal(size=N), np.arange(N)
    for offset in (1e6, 1e9):
        np.testing.assert_allclose(metrics.r2(guess + offset, y + offset, unit), metrics.r2(guess, y, unit), rtol=1e-4)


def test_rankings_by_hand() -> None:
    relevant = np.array([[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    expected = np.array([2, 1, 3])
    unit = np.arange(3)
    np.testing.assert_allclose(recall_at(1)(relevant, expected, unit), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(recall_at(2)(relevant, expected, unit), [1, 1, 0], atol=1e-12)
    d = 1 / np.log2(np.arange(2, 6))
    np.testing.assert_allclose(ndcg_at(10)(relevant, expected, unit), [(d[1] + d[3]) / (d[0] + d[1]), 1, 0])


def test_ndcg_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    similarity, truth = rng.random((20, 30)), rng.integers(0, 2, (20, 30))
    ranked = np.take_along_axis(truth, np.argsort(-similarity, axis=1), axis=1)[:, :10] > 0
    values = ndcg_at(10)(ranked, truth.sum(axis=1), np.arange(20))
    assert values.mean() == pytest.approx(sk.ndcg_score(truth, similarity, k=10))


@pytest.mark.parametrize("metric", [metrics.pearson, metrics.spearman])
def test_a_collapsed_encoder_has_no_correlation(metric: Any) -> None:
    alike = np.ones((2, 3, N), np.float32)
    np.testing.assert_array_equal(metric(alike, np.arange(N) % 7, np.arange(N) // 2), np.zeros((2, 3, N // 2)))
    one = np.stack([np.arange(N), np.arange(N)[::-1]])[None]
    np.testing.assert_allclose(metric(one, np.arange(N), np.arange(N)).mean(-1), [[1, -1]])
