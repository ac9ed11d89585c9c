"""How often the whole protocol is wrong: `benchmarks/calibration_grid.py` at reduced size, and with a gain to find."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scipy.stats import binom

from benchmarks.calibration_grid import Cell, null, quick_probes

CELLS = (
    Cell(),
    Cell(train_groups=4, test_groups=40),
    Cell(train_groups=12, test_groups=12, imbalance=True),
    Cell("regression"),
    Cell(seeds=3),
)
TIMES = 44  # each; 220 in all would notice twice the nominal error with 90 % power
DRAWS = 4  # of the labels, in place of 10
OTHER = 100_000  # numbers that the benchmark does not come to


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with quick_probes():
        yield


@pytest.mark.slow
def test_intervals_miss_and_nulls_transfer_no_more_often_than_they_say() -> None:
    verdicts = [null(cell, OTHER + number, draws=DRAWS) for cell in CELLS for number in range(TIMES)]
    n = len(verdicts)
    most = binom.ppf(0.90, n, 0.05)
    assert binom.sf(most, n, 0.10) > 0.9  # what twice as many would look like
    missed = sum(not (v.low or 0.0) <= 0 <= (v.high or 0.0) for v in verdicts)
    assert missed <= most
    assert sum(v.outcome == "transfers" for v in verdicts) <= binom.ppf(0.975, n, 0.025)
    assert {v.claim for v in verdicts} == {"checkpoint", "recipe"}


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS[:1])
def test_a_clear_gain_is_found(cell: Cell) -> None:
    outcomes = [null(cell, OTHER + number, gain=0.4, draws=DRAWS).outcome for number in range(20)]
    assert outcomes.count("transfers") >= 18
