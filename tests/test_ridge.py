"""The probe of numbers: scikit-learn's ridge regression, its penalty chosen without looking outside the draw."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tacit.evaluation.probes.ridge import _Path, fit_ridge


@pytest.mark.parametrize("shape", [(80, 20), (30, 50)])
@pytest.mark.parametrize("per_feature", [False, True])
@pytest.mark.parametrize("alpha", [1e-2, 1.0, 1e3])
def test_it_is_scikit_learns(shape: tuple[int, int], per_feature: bool, alpha: float) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape) * rng.uniform(0.1, 10, shape[1]) + 5
    y = X @ rng.normal(size=shape[1]) + rng.normal(size=shape[0]) + 100
    own = _Path(X, y, per_feature).at(alpha)
    scale = X.std(axis=0) if per_feature else np.full(shape[1], np.sqrt(X.var(axis=0).mean()))
    theirs = Ridge(alpha=alpha).fit((X - X.mean(axis=0)) / scale, y)
    test = rng.normal(size=(10, shape[1]))
    np.testing.assert_allclose(own.predict(test), theirs.predict((test - X.mean(axis=0)) / scale), rtol=1e-6, atol=1e-6)


def test_noise_is_shrunk_and_signal_kept() -> None:
    rng = np.random.default_rng(1)
    X, test = rng.normal(size=(200, 30)), rng.normal(size=(500, 30))
    noise = fit_ridge(X, rng.normal(size=200), seed=0)
    assert np.abs(noise.predict(test)).mean() < 0.3
    clear = fit_ridge(X, X[:, 0] * 3 + 7, seed=0)
    np.testing.assert_allclose(clear.predict(test), test[:, 0] * 3 + 7, atol=0.1)


def test_groups_stay_whole() -> None:
    """Copies of one example with one random number: without groups they would be learned by heart."""
    rng = np.random.default_rng(0)
    X, y = np.repeat(rng.normal(size=(30, 60)), 3, axis=0), np.repeat(rng.normal(size=30), 3)
    loose, grouped = fit_ridge(X, y, seed=0), fit_ridge(X, y, groups=np.repeat(np.arange(30), 3), seed=0)
    assert loose.alpha is not None
    assert grouped.alpha is not None
    assert grouped.alpha > 10 * loose.alpha


def test_one_group_alone_is_validated_on_itself() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 5))
    probe = fit_ridge(X, X[:, 0], groups=np.zeros(40, np.int64), seed=0)
    assert np.corrcoef(probe.predict(X), X[:, 0])[0, 1] > 0.99


def test_what_cannot_be_held_out_gives_the_mean() -> None:
    one = fit_ridge(np.ones((1, 3)), np.array([4.0]), seed=0)
    assert one.predict(np.zeros((2, 3))).tolist() == [4.0, 4.0]
    same = fit_ridge(np.random.default_rng(0).normal(size=(9, 3)), np.full(9, 2.5), seed=0)
    assert same.predict(np.zeros((1, 3))).tolist() == [2.5]
