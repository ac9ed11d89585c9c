"""Proxies against transfer: tau and its exact significance against permutations gone through one by one."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from tacit.evaluation.diagnostics import agreement, over_time, proxy_rows

FEW = st.integers(3, 6)


def surplus(x: Any, y: Any) -> int:
    """Pairs in the same order less pairs in opposite order, counted."""
    total = 0
    for i, j in itertools.combinations(range(len(x)), 2):
        product = (x[i] - x[j]) * (y[i] - y[j])
        total += (product > 0) - (product < 0)
    return total


def by_permutations(x: Any, y: Any) -> tuple[float, float]:
    """p and the smallest p there can be."""
    every = [abs(surplus(x, order)) for order in itertools.permutations(y)]
    return tuple(sum(s >= bound for s in every) / len(every) for bound in (abs(surplus(x, y)), max(every)))


@given(st.data(), FEW, st.sampled_from([2, 3, 100]), st.sampled_from([2, 3, 100]))
def test_significance_is_that_of_all_permutations(data: st.DataObject, n: int, most_x: int, most_y: int) -> None:
    """With ties on neither side, on one, on both."""
    x = data.draw(st.lists(st.integers(0, most_x), min_size=n, max_size=n))
    y = data.draw(st.lists(st.integers(0, most_y), min_size=n, max_size=n))
    found = agreement(x, y)
    if found is None:
        assert len(set(x)) == 1 or len(set(y)) == 1
        return
    p, smallest = by_permutations(x, y)
    assert found.p == pytest.approx(p)
    assert found.smallest_p == pytest.approx(smallest)
    assert found.tau == pytest.approx(kendalltau(x, y).statistic)


@given(st.permutations(range(14)))
def test_significance_of_distinct_numbers_is_scipys(order: list[int]) -> None:
    found, scipys = agreement(range(14), order), kendalltau(range(14), order, method="exact")
    assert found is not None
    assert (found.tau, found.p) == pytest.approx((scipys.statistic, scipys.pvalue))
    assert found.smallest_p == pytest.approx(2 / math.factorial(14))


@given(st.lists(st.integers(0, 4), min_size=9, max_size=9), st.lists(st.integers(0, 4), min_size=9, max_size=9))
def test_many_ties_on_both_sides_are_sampled(x: list[int], y: list[int]) -> None:
    assume(len(set(x)) > 1 and len(set(y)) > 1)
    found = agreement(x, y)
    assert found is not None
    assert found == agreement(x, y)
    assert found.p == pytest.approx(kendalltau(x, y, method="asymptotic").pvalue, abs=0.25)
    assert found.p > 0


def test_three_of_a_kind_prove_nothing() -> None:
    assert agreement([1, 2], [1, 2]) is None
    assert agreement([1, 1, 1], [1, 2, 3]) is None
    found = agreement([1, 2, 3], [10, 20, 30])
    assert found is not None
    assert (found.tau, found.p, found.smallest_p, found.n) == (1.0, pytest.approx(1 / 3), pytest.approx(1 / 3), 3)


def test_rows_leave_out_what_was_not_measured_or_did_not_vary() -> None:
    measured = [{"rankme": 3.0, "alpha": 1.0, "lidar": 7.0}, {"rankme": 2.0, "lidar": 7.0}, {"rankme": 1, "lidar": 7}]
    [row] = proxy_rows("arms", measured, [0.5, 0.6, 0.7])
    assert (row["scope"], row["arm"], row["proxy"], row["n"]) == ("arms", None, "rankme", 3)
    assert row["tau"] == -1
    assert row["p"] == row["smallest_p"] == pytest.approx(1 / 3)


def test_over_time_holds_the_mean_loss_since_the_last_reading_against_the_probe() -> None:
    history = [
        {"task": "simclr", "step": 1, "loss": 9.0},
        {"task": "simclr", "step": 2, "loss": 1.0, "rankme": 4.0, "probe": 0.3},  # 5 on average
        {"task": "simclr", "step": 3, "loss": 4.0, "rankme": 5.0, "probe": 0.4},
        {"task": "simclr", "step": 4, "loss": 1.0},
        {"task": "simclr", "step": 5, "loss": 5.0, "rankme": 3.0, "probe": 0.5},  # 3 on average
    ]
    rows = {row["proxy"]: row for row in over_time("simclr", history)}
    assert rows.keys() == {"loss", "rankme"}
    assert rows["loss"]["tau"] == -1
    assert rows["rankme"]["tau"] == pytest.approx(-1 / 3)
    assert {row["scope"] for row in rows.values()} == {"over time"}
    assert over_time("simclr", [{"task": "simclr", "step": 1, "loss": 1.0, "rankme": 4.0}]) == []


def test_needs_no_torch() -> None:
    program = "import sys, tacit.evaluation.diagnostics; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_scores_by_seed_are_those_of_the_report() -> None:
    from tacit.evaluation import evaluate
    from tacit.evaluation.diagnostics import transfer_by_seed
    from tests.test_evaluate import GOOD, RAW, problem

    report = evaluate([GOOD, RAW], problem(), budgets=[2, 10], draws=3)
    assert report.predictions is not None
    for number, arm in enumerate(report.arms):
        [mean] = [
            r.mean
            for r in report.results
            if (r.arm, r.protocol, r.metric, r.budget) == (arm.name, "linear", "balanced_accuracy", "10 per class")
        ]
        assert np.mean(transfer_by_seed(report.predictions, number)) == pytest.approx(mean)
