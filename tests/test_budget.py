"""Budgets as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.budget import Budget, clock, parse_budget
from tacit.core.errors import UserError


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("90s", 90, "seconds"),
        ("10m", 600, "seconds"),
        ("1.5h", 5400, "seconds"),
        ("5000steps", 5000, "steps"),
        ("1 step", 1, "steps"),
        ("20epochs", 20, "epochs"),
    ],
)
def test_what_people_write_is_read(text: str, amount: float, unit: str) -> None:
    assert parse_budget(text) == Budget(amount, unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "10", "m", "0s", "-5m", "ten minutes", "5 parsecs"])
def test_what_cannot_be_read_shows_examples(text: str) -> None:
    with pytest.raises(UserError, match=r"write e\.g\. 90s"):
        parse_budget(text)


def test_a_budget_becomes_steps() -> None:
    assert parse_budget("50steps").steps(7) == 50
    assert parse_budget("3epochs").steps(7.5) == 22
    with pytest.raises(UserError, match="comes to less than one step"):
        parse_budget("0.1epochs").steps(7)


@given(st.floats(0, 1e6))
def test_clock_reads_back_to_the_second(seconds: float) -> None:
    units = {"s": 1, "min": 60, "h": 3600}
    words = clock(seconds).split()
    told = sum(float(n) * units[unit] for n, unit in zip(words[::2], words[1::2], strict=True))
    assert abs(told - seconds) <= (60 if seconds >= 3600 else 1)
