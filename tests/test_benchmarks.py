"""What docs/benchmarks.md claims is what was recorded, and the table of comparisons names what exists."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from benchmarks import figures, peers
from benchmarks.cases import CASES

ROOT = Path(__file__).resolve().parent.parent


def test_the_page_says_what_the_results_say() -> None:
    page = figures.PAGE.read_text(encoding="utf-8")
    assert page.count(figures.BEGIN) == page.count(figures.END) == 1
    assert figures.renewed(page) == page, "run: python -m benchmarks --table"


def test_a_figure_follows_the_latest_line_that_meets_the_condition() -> None:
    results = [
        {"case": "a/b", "who": "x", "share": [0.125, 2]},
        {"case": "a/b", "who": "y", "share": [-0.5, 1234.5]},
        {"case": "a/b", "who": "x", "share": [0.25, {"10 %": 7}]},
    ]
    assert figures.filled("{a/b where who=y[share][0]:.1f} {a/b where who=y[share][1]:,.1f}", results) == "−0.5 1,234.5"
    assert figures.filled("{a/b[share][0]:.0%} {a/b[share][1][10 %]}", results) == "25 % 7"
    with pytest.raises(KeyError, match="no result of 'a/c'"):
        figures.filled("{a/c[share]}", results)


@pytest.mark.parametrize("name", CASES)
def test_every_case_has_its_script_and_its_sides(name: str) -> None:
    case = CASES[name]
    text = (ROOT / "benchmarks" / case.script).read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    sides = next(call.args[0] for call in calls if ast.unparse(call.func) == "take_side")
    assert isinstance(sides, ast.Dict)
    named = {key.value for key in sides.keys if isinstance(key, ast.Constant)}
    assert {"tacit", *case.peers} <= named
    assert {peer for peer, _ in case.peers.values()} <= peers.PINS.keys()


def test_every_pin_is_exact() -> None:
    assert all(pin.count("==") == 1 for pins in peers.PINS.values() for pin in pins)
