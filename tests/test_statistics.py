"""Variance components, influence values, tests and their calibration, against naive computations and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tacit.evaluation.statistics import (
    Component,
    Estimate,
    crossed,
    design_effect,
    detectable_difference,
    draw_variance,
    holm,
    influence,
    rarest,
    second_way,
    smoothing,
)


def balanced_accuracy(hits: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    return float(np.mean([hits[y == c].mean() for c in np.unique(y)]))


def simulate(
    rng: np.random.Generator,
    *,
    gain: float = 0.0,
    seeds: int = 1,
    draws: int = 10,
    units: int = 300,
    seed_sd: float = 0.0,
    draw_sd: float = 0.01,
    unit_sd: float = 0.2,
    residual_sd: float = 0.3,
) -> NDArray[np.float64]:
    """Values [P S U] with known variance components."""
    return (
        gain
        + rng.normal(0, seed_sd, (seeds, 1, 1))
        + rng.normal(0, draw_sd, (1, draws, 1))
        + rng.normal(0, unit_sd, (1, 1, units))
        + rng.normal(0, residual_sd, (seeds, draws, units))
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_influence_is_the_jackknife(grouped: bool) -> None:
    rng = np.random.default_rng(0)
    y = np.concatenate([np.arange(3), np.arange(3), rng.integers(0, 3, 34)])
    unit = np.concatenate([[0, 0, 0, 1, 1, 1], rng.integers(2, 9, 34)]) if grouped else np.arange(40)
    hits = rng.random((2, 3, 40))
    values = influence(hits, y, unit)
    for p in range(2):
        for s in range(3):
            whole = balanced_accuracy(hits[p, s], y)
            without = [balanced_accuracy(hits[p, s][unit != u], y[unit != u]) for u in np.unique(unit)]
            assert values[p, s].mean() == pytest.approx(whole)
            variance = (len(without) - 1) / len(without) * np.square(np.array(without) - np.mean(without)).sum()
            assert values[p, s].var(ddof=1) / len(without) == pytest.approx(variance)


def test_influence_of_plain_accuracy_is_the_hits() -> None:
    hits = np.random.default_rng(1).random((1, 2, 20)) < 0.6
    assert np.allclose(influence(hits, np.zeros(20, np.int64), np.arange(20)), hits)


def test_influence_does_not_need_dense_tables() -> None:
    y = np.repeat(np.arange(10_000), 2)
    values = influence(np.ones((1, 1, 20_000)), y, np.arange(20_000))
    assert np.allclose(values, 1.0)


def test_components_are_recovered() -> None:
    """Averaged over simulations, se^2 is the variance of the mean, for both claims."""
    rng = np.random.default_rng(2)
    for seeds, seed_sd in ((1, 0.0), (5, 0.02)):
        found = [crossed(simulate(rng, seeds=seeds, seed_sd=seed_sd, draw_sd=0.03)) for _ in range(400)]
        variance = np.var([estimate.mean for estimate in found], ddof=1)
        claimed = np.mean([estimate.se**2 for estimate in found])
        assert claimed == pytest.approx(variance, rel=0.2)  # 400 simulations know a variance to 7 %


def test_two_way_components_against_the_textbook() -> None:
    """The analysis of variance of a two-way layout without replication."""
    values = simulate(np.random.default_rng(3), draws=6, units=50, draw_sd=0.2)
    table = values[0]
    by_draw, by_unit = table.mean(1), table.mean(0)
    mean_square_draw = 50 * by_draw.var(ddof=1)
    residual = table - by_draw[:, None] - by_unit + table.mean()
    mean_square_residual = np.square(residual).sum() / (5 * 49)
    estimate = crossed(values)
    component = (mean_square_draw - mean_square_residual) / 50
    found = draw_variance(values)
    assert found is not None
    assert found.value == pytest.approx(component)
    parts = np.array([component / 6, by_unit.var(ddof=1) / 50])
    assert estimate.se**2 == pytest.approx(parts.sum())
    assert estimate.df == pytest.approx(parts.sum() ** 2 / (parts**2 / [5, 49]).sum())
    assert estimate.fixed_variance == pytest.approx(parts[0])


def test_overlapping_draws() -> None:
    """Draws that take a share f of a pool show 1 - f of their variance, and f of it never averages out."""
    values = simulate(np.random.default_rng(4), draw_sd=0.1)
    plain, overlapping = draw_variance(values), draw_variance(values, 0.4)
    assert plain is not None
    assert overlapping is not None
    assert overlapping.value == pytest.approx(plain.value / 0.6)
    assert crossed(values, pool_share=0.4).fixed_variance == pytest.approx(plain.value * (1 / 10 + 0.4 / 0.6))
    assert draw_variance(values, 1.0) is None


def test_overlapping_draws_by_simulation() -> None:
    """The gain of a draw is the mean gain of its labels; ten draws of 10 come from one pool of 20, each time afresh."""
    rng = np.random.default_rng(5)
    missed = {0.0: 0, 0.5: 0}
    for _ in range(400):
        pool = rng.normal(0, 0.1, 20)
        by_draw = np.array([rng.permutation(pool)[:10].mean() for _ in range(10)])
        values = by_draw[None, :, None] + rng.normal(0, 0.3, 500) + rng.normal(0, 0.3, (1, 10, 500))
        for share in missed:
            low, high = crossed(values, pool_share=share).interval()
            missed[share] += not low <= 0 <= high
    assert missed[0.5] <= 400 * 0.08
    assert missed[0.0] >= 400 * 0.09  # what taking overlapping draws for independent ones would cost


def test_a_single_draw_says_nothing_about_others() -> None:
    values = simulate(np.random.default_rng(6), draws=1)
    alone, borrowed = crossed(values), crossed(values, pool_share=1.0, draw=Component(0.01, 9))
    assert not alone.covers_draws
    assert borrowed.covers_draws
    assert borrowed.se**2 == pytest.approx(alone.se**2 + 0.01)


@pytest.mark.parametrize(("seeds", "draws", "units"), [(1, 10, 300), (1, 5, 60), (1, 3, 300), (3, 10, 300)])
def test_false_positives(seeds: int, draws: int, units: int) -> None:
    """Nominally 5 % of intervals miss the truth; 1,000 simulations tell 5 % from 7.2 %."""
    rng = np.random.default_rng(7)
    seed_sd = 0.02 if seeds > 1 else 0.0
    missed = 0
    for _ in range(1000):
        values = simulate(rng, seeds=seeds, draws=draws, units=units, seed_sd=seed_sd, draw_sd=0.02)
        low, high = crossed(values).interval()
        missed += not low <= 0 <= high
    assert missed <= 72


def test_leaving_out_the_draws_would_be_wrong() -> None:
    """What the variance of the draws is for: without it far too many intervals miss the truth."""
    rng = np.random.default_rng(8)
    missed = 0
    for _ in range(300):
        estimate = crossed(simulate(rng, draw_sd=0.05))
        half = 1.96 * np.sqrt(estimate.unit_variance / estimate.units)
        missed += not abs(estimate.mean) <= half
    assert missed >= 300 * 0.15


def test_degrees_of_freedom_are_those_of_the_classes() -> None:
    """Of balanced accuracy over a class of 5 and one of 400, against Welch 1947 on the classes' own hits."""
    rng = np.random.default_rng(13)
    y, unit = np.repeat([0, 1], [5, 400]), np.arange(405)
    hits = (rng.random(405) < 0.6).astype(float)
    values = influence(hits[None, None], y, unit)
    estimate = crossed(values, stratum=rarest(unit, y, 405))
    parts = np.array([hits[y == c].var(ddof=1) / (y == c).sum() for c in (0, 1)])
    welch = parts.sum() ** 2 / (parts**2 / [4, 399]).sum()
    assert estimate.df == pytest.approx(welch, rel=0.15)  # leaving one out weighs small classes a little more
    assert estimate.df < 7
    assert crossed(values).df > 400


def test_a_unit_is_of_the_rarest_class_that_it_holds() -> None:
    unit, of_class = np.array([0, 0, 1, 1, 2, 3]), np.array([0, 1, 0, 2, 0, 1])
    assert rarest(unit, of_class, 5).tolist() == [1, 2, 0, 1, 3]


@pytest.mark.parametrize("groups", [4, 10])
def test_groups_count_by_what_their_items_are_worth(groups: int) -> None:
    """A gain of exactly 10 points in each of a few groups is a gain; copies within a group are worth one item."""
    per_group = 100
    unit = np.repeat(np.arange(groups), per_group)
    gain = (np.arange(len(unit)) % 10 == 0).astype(float)  # in every tenth item of every group
    values = influence(gain[None, None], np.zeros(len(unit), np.int64), unit)
    alike = design_effect(gain, values.mean((0, 1)))
    assert alike == pytest.approx(0.0, abs=1e-9)
    low, high = crossed(values, extra=smoothing(np.zeros(len(unit), np.int64), unit, max(1.0, alike))).interval()
    assert 0.05 < low < 0.1 < high < 0.15
    copied = (np.arange(groups) == 0).astype(float)[unit]
    values = influence(copied[None, None], np.zeros(len(unit), np.int64), unit)
    assert design_effect(copied, values.mean((0, 1))) == pytest.approx(per_group, rel=0.4)
    assert design_effect(np.zeros(len(unit)), np.zeros(groups)) is None


def test_a_second_way_of_being_alike_against_the_sums_of_all_pairs() -> None:
    """Cameron, Gelbach & Miller: the variance by units, and by the second way, less that by both, pair by pair."""
    rng = np.random.default_rng(14)
    unit, second = rng.integers(0, 8, 60), rng.integers(0, 5, 60)
    values = rng.normal(size=60) + rng.normal(size=5)[second]
    [component] = second_way(values, unit, second)
    e = values - values.mean()
    alone = sum(e[i] * e[j] for i in range(60) for j in range(60) if second[i] == second[j])
    both = sum(e[i] * e[j] for i in range(60) for j in range(60) if second[i] == second[j] and unit[i] == unit[j])
    n = len(set(zip(unit.tolist(), second.tolist(), strict=True)))
    assert component.value == pytest.approx((alone * 5 / 4 - both * n / (n - 1)) / 60**2)
    assert component.df == 4


def test_draws_know_no_more_than_the_groups_that_they_draw_from() -> None:
    values = simulate(np.random.default_rng(15), draw_sd=0.1)
    plain, few = draw_variance(values), draw_variance(values, pool_df=3)
    assert plain is not None
    assert few is not None
    assert (plain.value, plain.df) == (few.value, pytest.approx(9))
    assert few.df == pytest.approx(1 / (1 / 9 + 1 / 3))


def test_power_at_the_detectable_difference() -> None:
    """A true gain as large as the printed detectable difference is found in 80 +- 5 % of simulations."""
    rng = np.random.default_rng(9)
    typical = np.sqrt(np.mean([crossed(simulate(rng)).detectable() ** 2 for _ in range(50)]))
    found = sum(crossed(simulate(rng, gain=typical)).interval()[0] > 0 for _ in range(1000))
    assert 750 <= found <= 850


def test_units_needed_reach_the_gain() -> None:
    estimate = crossed(simulate(np.random.default_rng(10), units=100))
    gain = estimate.detectable() / 2
    needed = estimate.units_needed(gain)
    assert needed is not None
    factor = estimate.detectable() / estimate.se
    assert factor * np.sqrt(estimate.fixed_variance + estimate.unit_variance / needed) <= gain * 1.0001
    assert factor * np.sqrt(estimate.fixed_variance + estimate.unit_variance / (needed - 1)) > gain
    noisy = crossed(simulate(np.random.default_rng(11), draw_sd=0.3))
    assert noisy.units_needed(0.01) is None


def test_p_values_against_scipy() -> None:
    estimate = crossed(simulate(np.random.default_rng(12), gain=0.02))
    t = stats.t(estimate.df, estimate.mean, estimate.se)
    assert estimate.interval() == pytest.approx(t.interval(0.95))
    standard = stats.t(estimate.df)
    assert estimate.above(0.01) == pytest.approx(standard.sf((estimate.mean - 0.01) / estimate.se))
    assert estimate.below(0.01) == pytest.approx(standard.cdf((estimate.mean - 0.01) / estimate.se))
    assert estimate.equivalent(0.05) == pytest.approx(max(estimate.above(-0.05), estimate.below(0.05)))


def test_equivalence_needs_a_tight_interval() -> None:
    def at(mean: float, se: float) -> float:
        return Estimate(mean, se, 1e6, 1.0, 0.0, 1, 10, 100, True).equivalent(0.01)

    assert at(0.0, 0.004) < 0.05
    assert at(0.0, 0.008) > 0.05
    assert at(0.008, 0.004) > 0.05
    assert at(-0.02, 0.0001) > 0.99


def test_an_interval_reaches_no_further_than_can_be() -> None:
    found = Estimate(-0.375, 0.8, 4.0, 1.0, 0.0, 1, 2, 6, True, most=1.0)
    low, high = found.interval()
    assert (low, high) == (-1.0, 1.0)
    assert found.interval(0.5)[0] == pytest.approx(-0.375 - 0.8 * stats.t.ppf(0.75, 4))
    assert Estimate(-0.375, 0.8, 4.0, 1.0, 0.0, 1, 2, 6, True).interval()[0] < -2


def test_identical_predictions_have_no_gain_and_no_certainty() -> None:
    y, unit = np.repeat([0, 1], 10), np.arange(20)
    values = influence(np.zeros((1, 10, 20)), y, unit)
    assert crossed(values).interval() == (0.0, 0.0)
    low, high = crossed(values, extra=smoothing(y, unit)).interval()
    assert low == pytest.approx(-high)
    assert 0.05 < high < 0.3


def test_smoothing_counts_units_by_class() -> None:
    assert smoothing(np.zeros(10, np.int64), np.arange(10)) == pytest.approx(1 / 100)
    assert smoothing(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2, 3])) == pytest.approx(2 / 4 / 8)


@pytest.mark.parametrize(("units", "equivalent"), [(20, False), (2000, True)])
def test_agreeing_on_a_few_items_is_not_equivalence(units: int, equivalent: bool) -> None:
    y, unit = np.arange(units) % 2, np.arange(units)
    values = influence(np.zeros((1, 10, units)), y, unit)
    assert (crossed(values, extra=smoothing(y, unit)).equivalent(0.01) < 0.05) == equivalent


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0


def test_detectable_difference() -> None:
    """31 defects among many sound parts can show some 9 points; more labels and more test items show less."""
    few = detectable_difference([31, 2000], labels_total=200, draws=5)
    assert 0.08 < few < 0.10
    assert detectable_difference([310, 2000], labels_total=200, draws=5) < few / 2.5
    assert detectable_difference([31, 2000], labels_total=200, draws=5, pool_share=0.5) > few
    assert detectable_difference([1, 1], labels_total=2, draws=1) <= 1.0
