"""No kill loses a run and no damage goes unseen, at a reduced count; `benchmarks/faults.py` is the full one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults import damages, survives, train


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    assert survives("simclr", tmp_path, 3, random.Random(0))


def test_every_damage_to_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    train("simclr", tmp_path, steps=3)
    found = list(damages(tmp_path / "checkpoints" / "task", 30, 10, random.Random(0)))
    assert len(found) == 43
    assert all(damage.noticed for damage in found), [damage for damage in found if not damage.noticed]
