"""The alarms: every measure against its definition, and the collapses that they must and must not report."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tacit.evaluation.spectrum import diagnose, lidar, uniformity

RNG = np.random.default_rng(0)
ISOTROPIC = RNG.normal(size=(500, 64))


def levels(Z, **more):
    return {alarm.name: alarm.level for alarm in diagnose(Z, **more).alarms}


def unit(Z):
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


def entropy_rank(values):
    return math.exp(-sum(v / sum(values) * math.log(v / sum(values)) for v in values))


def test_what_was_narrow_before_training_has_not_collapsed() -> None:
    crowded = 1 + 0.15 * ISOTROPIC
    assert 0.1 < diagnose(crowded).std_normalised < 0.2  # type: ignore[operator]
    assert levels(crowded)["std_normalised"] == "FAIL"
    assert levels(crowded, untrained_spread=0.15)["std_normalised"] == "WARN"
    assert levels(crowded, untrained_spread=0.9)["std_normalised"] == "FAIL"
    assert levels(np.ones((50, 8)), untrained_spread=0.15)["std_normalised"] == "FAIL"


def test_measures_are_those_of_the_definitions():
    Z = RNG.normal(size=(60, 12)) * np.linspace(0.1, 2, 12) + 0.3
    d = diagnose(Z)
    deviations = [np.std([row[j] for row in unit(Z)]) for j in range(12)]
    assert d.std_normalised == pytest.approx(np.mean(deviations) * math.sqrt(12), rel=1e-9)
    pairs = [math.exp(-2 * np.sum((unit(Z)[i] - unit(Z)[j]) ** 2)) for i in range(60) for j in range(i)]
    assert d.uniformity == pytest.approx(math.log(np.mean(pairs)), rel=1e-9)
    singular = np.linalg.svd(Z - Z.mean(0), compute_uv=False)
    assert d.rankme == pytest.approx(entropy_rank(list(singular)), rel=1e-6)
    variances = singular**2
    assert d.participation == pytest.approx(variances.sum() ** 2 / (variances**2).sum(), rel=1e-6)


def test_measures_of_two_views_are_those_of_the_definitions():
    first = RNG.normal(size=(80, 6)) * [3, 2, 2, 1, 1, 1]
    second = first + 0.3 * RNG.normal(size=(80, 6))
    d = diagnose(first, views=(first, second))
    distances = [np.sum((a - b) ** 2) for a, b in zip(unit(first), unit(second), strict=True)]
    assert d.alignment == pytest.approx(np.mean(distances))
    centre = (first + second) / 2
    between = np.cov(centre.T)
    residuals = np.concatenate([first - centre, second - centre])
    within = residuals.T @ residuals / 80 + 1e-4 * np.eye(6)
    values, vectors = np.linalg.eigh(within)
    whiten = vectors @ np.diag(values**-0.5) @ vectors.T
    assert d.lidar == pytest.approx(entropy_rank(list(np.linalg.eigvalsh(whiten @ between @ whiten))), rel=1e-6)


def test_the_rank_between_examples_needs_no_matrix_of_all_features():
    """With fewer rows than features LiDAR is computed in the span of the rows, and comes out the same."""
    views = RNG.normal(size=(9, 1, 40)) + 0.3 * RNG.normal(size=(9, 2, 40))
    centre = [[(views[i, 0, j] + views[i, 1, j]) / 2 for j in range(40)] for i in range(9)]
    middle = [sum(row[j] for row in centre) / 9 for j in range(40)]
    between, within = np.zeros((40, 40)), 1e-4 * np.eye(40)
    for i in range(9):
        for j in range(40):
            for k in range(40):
                between[j, k] += (centre[i][j] - middle[j]) * (centre[i][k] - middle[k]) / 8
                within[j, k] += sum((v[j] - centre[i][j]) * (v[k] - centre[i][k]) for v in views[i]) / 9
    ratios = np.linalg.eigvals(np.linalg.solve(within, between)).real
    assert lidar(views) == pytest.approx(entropy_rank([v for v in ratios if v > 1e-9 * max(ratios)]), rel=1e-6)


def test_the_decay_is_the_least_squares_line():
    Z = RNG.normal(size=(300, 40)) * np.arange(1, 41) ** -0.7
    centred = Z - Z.mean(0)
    variances = sorted(np.linalg.eigvalsh(centred.T @ centred / 300), reverse=True)
    x, y = [math.log(rank) for rank in range(3, 13)], [math.log(v) for v in variances[2:12]]
    mx, my = sum(x) / 10, sum(y) / 10
    slope = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
    left = sum((b - my - slope * (a - mx)) ** 2 for a, b in zip(x, y, strict=True)) / sum((b - my) ** 2 for b in y)
    d = diagnose(Z)
    assert d.alpha == pytest.approx(-slope, rel=1e-6)
    assert d.alpha_r2 == pytest.approx(1 - left, rel=1e-6)


def test_only_figures_that_mean_something_are_given():
    straight = diagnose(RNG.normal(size=(300, 40)) * np.arange(1, 41) ** -0.7)
    assert straight.figures.keys() == {"rankme", "participation", "alpha", "std_normalised", "uniformity"}
    steps = np.repeat([3.0, 1.0, 0.1, 0.01], [3, 3, 3, 31])
    bent = diagnose(np.linalg.qr(ISOTROPIC[:, :40] - ISOTROPIC[:, :40].mean(0))[0] * steps)
    assert bent.alpha is not None
    assert bent.alpha_r2 < 0.9
    assert "alpha" not in bent.figures


def test_healthy_features_raise_no_alarm():
    d = diagnose(ISOTROPIC)
    assert d.alarms == ()
    assert not d.failed
    assert d.std_normalised == pytest.approx(1, abs=0.02)
    assert d.rankme > 55
    assert d.participation > 50
    assert d.dead_share == 0


def test_a_constant_plus_faint_noise_fails():
    collapsed = RNG.normal(size=64) + 1e-4 * ISOTROPIC
    found = levels(collapsed)
    assert found["std_normalised"] == "FAIL"
    assert found["uniformity"] == "FAIL"
    assert diagnose(collapsed).failed
    assert diagnose(np.ones((50, 8))).failed


def test_an_offset_changes_no_spectrum():
    plain, moved = diagnose(ISOTROPIC), diagnose(ISOTROPIC + 50)
    assert moved.rankme == pytest.approx(plain.rankme, rel=1e-6)
    assert moved.participation == pytest.approx(plain.participation, rel=1e-6)
    assert moved.std_normalised < 0.1  # but the spread does tell


def test_few_directions_fail_or_only_warn_for_classifying_pretexts():
    thin = RNG.normal(size=(500, 3)) @ RNG.normal(size=(3, 64))
    assert levels(thin)["rankme"] == "FAIL"
    assert levels(thin, classification_pretext=True)["rankme"] == "WARN"


def test_a_fall_of_the_rank_warns():
    assert levels(ISOTROPIC, rankme_peak=200.0) == {"rankme_fall": "WARN"}
    assert levels(ISOTROPIC, rankme_peak=80.0) == {}


def test_half_the_spread_warns():
    assert levels(ISOTROPIC + 2.5)["std_normalised"] == "WARN"
    assert "std_normalised" not in levels(ISOTROPIC + 1.5)


def test_dead_dimensions_fail():
    dead = ISOTROPIC.copy()
    dead[:, :3] = 0.7
    assert levels(dead) == {}
    dead[:, :4] = 0.7
    assert levels(dead)["dead_share"] == "FAIL"
    assert diagnose(dead).dead_share == pytest.approx(4 / 64)


def test_nan_fails_and_the_rest_is_still_measured():
    broken = ISOTROPIC.copy()
    broken[3, 5], broken[7, 0] = np.nan, np.inf
    d = diagnose(broken)
    assert [alarm.name for alarm in d.alarms] == ["nan"]
    assert d.bad_rows == 2
    assert d.rankme > 55
    assert diagnose(np.full((5, 4), np.nan)).failed


def test_decay_is_read_off_a_power_law():
    d, n = 100, 400
    basis = RNG.normal(size=(n, d))
    basis = np.linalg.qr(basis - basis.mean(0))[0]  # orthonormal and centred
    powerlaw = basis * np.arange(1, d + 1) ** -0.6  # variances fall with the exponent 1.2
    found = diagnose(powerlaw)
    assert found.alpha == pytest.approx(1.2, abs=1e-6)
    assert found.alpha_r2 == pytest.approx(1, abs=1e-6)
    assert diagnose(RNG.normal(size=(20, 8))).alpha is None


def test_few_rows_are_not_taken_for_few_directions():
    assert levels(RNG.normal(size=(12, 128))) == {}


def test_many_rows_are_sampled_for_pairs():
    Z = RNG.normal(size=(5000, 16))
    assert uniformity(Z) == pytest.approx(uniformity(Z[:2000]), abs=0.05)
