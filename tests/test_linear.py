"""The probe solves scikit-learn's problem, chooses without seeing the test, and repeats exactly."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tacit.evaluation.probes.linear import Products, assign_folds, deviation, fit_logistic, fit_probe, turned
from tacit.evaluation.targets.classification import Classification


def blobs(n: int, d: int, k: int, *, seed: int = 0, noise: float = 1.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    return rng.normal(size=(k, d))[y] + noise * rng.normal(size=(n, d)), y


@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize(("n", "d", "k"), [(30, 50, 5), (200, 12, 4), (40, 20, 2)])
def test_same_minimum_as_scikit_learn(n, d, k, C):
    X, y = blobs(n, d, k, noise=2.0)
    W, b = fit_logistic(X, y, C, k, tolerance=1e-20)
    peer = LogisticRegression(C=C, tol=1e-12, max_iter=100_000).fit(X, y)
    ours = W.T if k > 2 else (W[:, 1] - W[:, 0])[None]
    np.testing.assert_allclose(ours, peer.coef_, atol=1e-6)
    logits = X @ W + b
    p = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(p / p.sum(1, keepdims=True), peer.predict_proba(X), atol=1e-6)


def test_default_tolerance_is_close_to_the_minimum():
    X, y = blobs(60, 30, 3, noise=2.0)
    rough, exact = (fit_logistic(X, y, 0.1, 3, tolerance=t)[0] for t in (1e-12, 1e-20))
    np.testing.assert_allclose(rough, exact, atol=1e-5)


def test_the_choice_reaches_what_the_best_c_reaches():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    test, pool = order[:500], order[500:]
    found, best = [], []
    for draw in range(5):
        rows = pool[draw * 60 : (draw + 1) * 60]
        found.append(np.mean(fit_probe(X[rows], y[rows], n_classes=10, seed=draw).predict(X[test]) == y[test]))
        scale = X[rows].std()
        peers = [LogisticRegression(C=C, max_iter=2000).fit(X[rows] / scale, y[rows]) for C in (1e-3, 1e-2, 1e-1, 1)]
        best.append(max(peer.score(X[test] / scale, y[test]) for peer in peers))
    assert np.mean(found) > np.mean(best) - 0.02


def test_scaling_is_chosen_to_suit_the_features():
    X, y = blobs(60, 10, 3, noise=0.7)
    hidden = np.hstack([X, 1000 * np.random.default_rng(1).normal(size=(60, 5))])  # loud noise
    assert fit_probe(hidden, y, n_classes=3, seed=0).per_feature
    faint = np.hstack([3 * X, 1e-3 * np.random.default_rng(1).normal(size=(60, 200))])  # best left faint
    assert not fit_probe(faint, y, n_classes=3, seed=0).per_feature


def test_search_leaves_the_grid_where_the_best_lies_beyond():
    X, y = blobs(90, 5, 3, noise=0.3)
    assert fit_probe(X, y, n_classes=3, seed=0, grid=(1e-7, 1e-6, 1e-5)).C > 1e-5
    noise = np.random.default_rng(0).normal(size=(90, 5))
    assert fit_probe(noise, y, n_classes=3, seed=0, grid=(1e1, 1e2)).C < 1e1


def test_one_label_per_class_is_nearest_centroid():
    X, y = blobs(4, 6, 4)
    new, _ = blobs(200, 6, 4, seed=3)
    probe = fit_probe(X, y, n_classes=4, seed=0)
    assert probe.C is None
    nearest = [np.argmin([np.sum((x - X[y == c].mean(0)) ** 2) for c in range(4)]) for x in new]
    np.testing.assert_array_equal(probe.predict(new), nearest)


def test_a_class_without_labels_is_never_predicted():
    X, y = blobs(40, 6, 4)
    kept = y != 2
    probe = fit_probe(X[kept], y[kept], n_classes=5, seed=0)
    assert set(probe.predict(X)) <= {0, 1, 3}
    p = probe.probabilities(X)
    assert p.shape == (40, 5)
    np.testing.assert_allclose(p.sum(1), 1)
    assert not p[:, [2, 4]].any()


def test_a_single_class_is_predicted_always():
    X, _ = blobs(6, 4, 2)
    assert set(fit_probe(X, np.full(6, 1), n_classes=3, seed=0).predict(X)) == {1}


def test_a_class_of_one_among_large_ones_is_kept():
    X, y = blobs(60, 6, 2, noise=0.2)
    X = np.vstack([X, np.full((1, 6), 9.0)])
    probe = fit_probe(X, np.append(y, 2), n_classes=3, seed=0)
    assert probe.C is not None
    assert probe.predict(np.full((1, 6), 9.0))[0] == 2


def test_constant_features_do_no_harm():
    X, y = blobs(30, 8, 3, noise=0.1)
    padded = np.hstack([X, np.full((30, 3), 0.1), np.zeros((30, 2))])
    assert (fit_probe(padded, y, n_classes=3, seed=0).predict(padded) == y).all()
    assert set(fit_probe(np.ones((30, 4)), y, n_classes=3, seed=0).predict(np.ones((5, 4)))) <= {0, 1, 2}


def test_folds_are_even_and_keep_groups_whole():
    y = np.repeat([0, 1, 2], [30, 21, 9])
    fold = assign_folds(y, None, seed=0)
    for c, n in ((0, 10), (1, 7), (2, 3)):
        np.testing.assert_array_equal(np.bincount(fold[y == c]), [n] * 3)
    assert (fold != assign_folds(y, None, seed=1)).any()

    groups = np.random.default_rng(0).integers(0, 20, len(y))
    fold = assign_folds(y, groups, seed=0)
    for g in np.unique(groups):
        assert len(set(fold[groups == g])) == 1
    assert np.bincount(fold).min() > len(y) / 6


@pytest.mark.parametrize(("n", "d"), [(12, 40), (30, 24)])
def test_products_of_all_examples_give_those_of_each_subset(n: int, d: int) -> None:
    X, _ = blobs(n, d, 3)
    X = (X + 50).astype(np.float32)
    train = np.arange(n) % 3 > 0
    of = turned(X[train], deviation(X[train], False))
    own, other = Products(X).apart(train, ~train)
    np.testing.assert_allclose(own @ own.T, of.Z @ of.Z.T, atol=1e-9)
    np.testing.assert_allclose(other @ own.T, of.axes.turn(X[~train]) @ of.Z.T, atol=1e-9)
    whole, wanted = Products(X).turned(), turned(X, deviation(X, False))
    V = np.ones((whole.Z.shape[1], 2))
    np.testing.assert_allclose(whole.axes.turn(X), whole.Z, atol=1e-8)
    np.testing.assert_allclose(whole.Z @ whole.Z.T, wanted.Z @ wanted.Z.T, atol=1e-9)
    np.testing.assert_allclose((X - X.mean(0)) @ whole.axes.back(V), whole.Z @ V, atol=1e-4)


def test_as_many_folds_as_the_rarest_class_has_groups():
    y = np.repeat([0, 1], [10, 2])
    assert assign_folds(y, None, seed=0).max() + 1 == 2
    assert assign_folds(y, np.where(y == 1, 99, np.arange(12)), seed=0).max() + 1 == 3  # one group has no say
    assert assign_folds(np.arange(5), None, seed=0) is None


def test_grouped_folds_see_through_copies():
    """Every example thrice, labels random: ungrouped folds reward learning by heart, grouped ones do not."""
    rng = np.random.default_rng(0)
    X, y = np.repeat(rng.normal(size=(40, 60)), 3, axis=0), np.repeat(rng.integers(0, 2, 40), 3)
    loose = fit_probe(X, y, n_classes=2, seed=0)
    grouped = fit_probe(X, y, n_classes=2, groups=np.repeat(np.arange(40), 3), seed=0)
    assert loose.score > -0.4
    assert grouped.score < -0.6
    assert grouped.C < loose.C


def test_draws_are_the_same_for_any_number_of_workers():
    X, y = blobs(300, 16, 3, noise=2.0)
    rng = np.random.default_rng(0)
    draws = [rng.choice(200, 45, replace=False) for _ in range(4)]
    one = Classification(3).linear(X, y, draws, X[200:], seed=5, workers=1)
    assert one.shape == (4, 100)
    assert one.dtype == np.int32
    np.testing.assert_array_equal(one, Classification(3).linear(X, y, draws, X[200:], seed=5, workers=3))
    assert np.mean(one == y[200:]) > 0.7
