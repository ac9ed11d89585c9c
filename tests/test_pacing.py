"""How a time budget is shared out and kept to, on machines that are quick, slow, or change their minds."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.budget import Budget, parse_budget
from tacit.core.errors import UserError
from tacit.experiment.folder import Workspace
from tacit.experiment.pacing import (
    BEYOND,
    LEAST_TRAINING,
    PLAN,
    Paced,
    in_short,
    planned_steps,
    rounded_up,
    training_seconds,
)

seconds = st.floats(0.1, 1e4)


@given(seconds, st.floats(0, 1e3), st.floats(0, 1e4), st.floats(0, 1))
def test_training_gets_half_of_a_budget_or_the_smallest_is_named(
    budget: float, spent: float, after: float, share: float
) -> None:
    least = share * after
    try:
        training = training_seconds(budget, spent, after, least)
    except UserError as error:
        smallest = parse_budget(str(error).split("give --budget ")[1].split(" ")[0]).amount
        assert smallest > budget * (1 - 1e-9)
        assert training_seconds(smallest, spent, after, least) >= LEAST_TRAINING * smallest * (1 - 1e-9)
        return
    assert training >= LEAST_TRAINING * budget
    assert spent + training + least <= BEYOND * budget * (1 + 1e-9)
    assert training >= min(
        budget - spent - after, BEYOND * budget - spent - least
    )  # what judging does not need is trained


def test_judging_that_is_cheap_leaves_more() -> None:
    assert training_seconds(100.0, 5.0, 15.0, 5.0) == 80.0
    assert training_seconds(100.0, 5.0, 500.0, 30.0) == pytest.approx(58.0)
    with pytest.raises(UserError, match=r"--budget 1 min is too small.*give --budget 100s or more"):
        training_seconds(60.0, 10.0, 50.0, 40.0)


@given(st.floats(0.5, 1e5))
def test_what_is_recommended_can_be_read(amount: float) -> None:
    assert parse_budget(in_short(rounded_up(amount))).amount >= amount


def train(length: Paced, each: Callable[[int], float], *, start: int = 0, spent: float = 0.0) -> tuple[int, float]:
    """Steps taken and seconds spent by a loop that asks as `train.pretrain` does."""
    step, every = start, max(1, length.first // 100)
    while step < length.at(step):
        spent += each(step)
        step += 1
        if step % every == 0:
            length.revise(step, spent)
    return step, spent


@pytest.mark.parametrize(
    "each",
    [
        lambda step: 1.0,  # as it was timed
        lambda step: 0.5,
        lambda step: 3.0,
        lambda step: 1.0 if step < 200 else 5.0,
        lambda step: 5.0 if step < 40 else 1.0,
        lambda step: 2.0 if step % 2 else 0.2,
    ],
)
def test_a_training_takes_its_time_on_any_machine(each: Callable[[int], float]) -> None:
    kept: list[list[list[int]]] = []
    length = Paced(1000, [], lambda changes: kept.append(changes), seconds=1000.0)
    steps, spent = train(length, each)
    assert 850 <= spent <= 1150
    assert steps == length.at(steps)
    assert not kept or kept[-1] == length.changes


def test_corrections_are_taken_again() -> None:
    """By a run that was killed and goes on, and by another seed."""
    speed: Callable[[int], float] = lambda step: 1.0 if step < 300 else 4.0  # noqa: E731
    first = Paced(1000, [], lambda changes: None, seconds=1000.0)
    steps, _ = train(first, speed)
    assert first.changes
    repeated = Paced(1000, [list(change) for change in first.changes], lambda changes: None)
    assert train(repeated, lambda step: 0.01)[0] == steps
    assert [repeated.at(step) for step in range(steps)] == [first.at(step) for step in range(steps)]
    resumed = Paced(1000, [list(change) for change in first.changes], lambda changes: None, seconds=1000.0)
    assert train(resumed, speed, start=250, spent=250.0)[0] == pytest.approx(steps, abs=30)


def test_a_machine_that_slows_down_fivefold_takes_the_time_of_later_tasks() -> None:
    waiting = [1000.0, 1000.0]
    length = Paced(1000, [], lambda changes: None, seconds=1000.0, borrow=lambda: waiting.pop() if waiting else 0.0)
    steps, spent = train(length, lambda step: 5.0)
    assert waiting == []
    assert spent == pytest.approx(3000, rel=0.1)
    assert steps == pytest.approx(600, rel=0.1)


def test_without_a_time_nothing_changes() -> None:
    length = Paced(7, [], lambda changes: None)
    assert train(length, lambda step: math.inf) == (7, math.inf)


@pytest.mark.parametrize(
    "plan",
    [
        *[{"steps": {"simclr": value}} for value in (10**9, 10**400, -1, 0, "3", None, 1.5, [3], True)],
        *[{what: value} for what in ("steps", "readings", "changes", "seconds", "left_out") for value in (5, "x")],
        {"changes": {"simclr": [[1]]}},
        {"changes": {"simclr": [[1, 10**400]]}},
        [1],
        5,
    ],
    ids=lambda plan: str(plan)[:40],
)
def test_a_plan_of_absurd_counts_is_a_line(tmp_path: Path, plan: Any) -> None:
    with Workspace(tmp_path / "run", {"data": "x"}) as space:
        space.write_json(PLAN, plan)
        nobody: Any = None  # whom an untimed budget does not ask
        source: Any = SimpleNamespace(among=range(40))
        recipe: Any = SimpleNamespace(batch_size=4)
        budget = Budget(3, "steps")
        with pytest.raises(UserError, match=r"plan\.json (is damaged|says more steps of simclr than)"):
            planned_steps(space, "simclr", recipe, source, budget, 1.0, fabric=nobody, probe=nobody, seed=0)
