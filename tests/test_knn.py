"""Nearest neighbours against a loop that spells the definition out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tacit.core.errors import UserError
from tacit.evaluation.probes import knn
from tacit.evaluation.probes.knn import knn_leave_one_out, knn_votes


def data(n: int, d: int = 8, k: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    return rng.normal(size=(k, d))[y] + rng.normal(size=(n, d)), y


def oracle(train, y, x, n_classes: int, k: int, temperature: float):
    cosines = sorted((x @ t / math.sqrt((x @ x) * (t @ t)), c) for t, c in zip(train, y, strict=True))
    votes = [0.0] * n_classes
    for s, c in cosines[-k:]:
        votes[c] += math.exp(s / temperature)
    return np.array(votes) / sum(votes)


@pytest.mark.parametrize(("n", "k", "temperature"), [(100, 20, 0.07), (100, 1, 0.07), (9, 20, 0.5)])
def test_votes_are_those_of_the_definition(n, k, temperature):
    X, y = data(n)
    new, _ = data(30, seed=1)
    expected = np.stack([oracle(X, y, x, 4, k, temperature) for x in new])
    np.testing.assert_allclose(knn_votes(X, y, new, 4, k=k, temperature=temperature), expected, atol=2e-6)
    predicted = knn_votes(X, y, new, 4, k=k, temperature=temperature).argmax(1)
    np.testing.assert_array_equal(predicted, expected.argmax(1))


def test_leaving_out_is_asking_all_others():
    X, y = data(80)
    predicted = [oracle(np.delete(X, i, 0), np.delete(y, i), X[i], 4, 20, 0.07).argmax() for i in range(80)]
    recall = [np.mean(np.array(predicted)[y == c] == c) for c in range(4)]
    assert knn_leave_one_out(X, y, 4) == pytest.approx(np.mean(recall))


def test_a_group_never_votes_for_its_own():
    rng = np.random.default_rng(0)
    groups = np.arange(120) // 2
    X, y = rng.normal(size=(60, 8))[groups], rng.integers(0, 2, 60)[groups]
    assert knn_leave_one_out(X, y, 2, k=1) == 1.0
    assert knn_leave_one_out(X, y, 2, groups, k=1) < 0.75


def test_classes_without_examples_do_not_count():
    X, y = data(60, k=2)
    assert knn_leave_one_out(X, y, 2) == knn_leave_one_out(X, y, 7)


def test_chunks_do_not_matter(monkeypatch):
    X, y = data(70)
    whole = knn_votes(X, y, X, 4), knn_leave_one_out(X, y, 4)
    monkeypatch.setattr(knn, "_CHUNK", 200)
    np.testing.assert_allclose(knn_votes(X, y, X, 4), whole[0], atol=1e-6)
    assert knn_leave_one_out(X, y, 4) == whole[1]


def test_length_does_not_matter_and_zero_rows_are_allowed():
    X, y = data(50)
    large, small = (knn_votes(X * scale, y, X / scale, 4).argmax(1) for scale in (1e4, 1e-4))
    np.testing.assert_array_equal(large, small)
    assert np.isfinite(knn_votes(X, y, np.zeros((1, 8)), 4)).all()


def test_one_group_only_is_an_error():
    X, y = data(10)
    with pytest.raises(UserError, match="one group"):
        knn_leave_one_out(X, y, 4, np.zeros(10, np.int64))
