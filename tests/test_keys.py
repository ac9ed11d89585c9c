"""Draws are a pure function of the key: the same alone and in company, unrelated between purposes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tacit.core import keys


def splitmix(word: int) -> int:
    """Steele, Lea & Flood's mixer on Python integers, as an oracle."""
    mask = (1 << 64) - 1
    word = (word + 0x9E3779B97F4A7C15) & mask
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & mask
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & mask
    return word ^ (word >> 31)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**40))
def test_keys_follow_the_published_mixer(seed: int, position: int) -> None:
    found = int(keys.batch_keys(seed, 3, torch.tensor([position]))[0])
    assert found % 2**64 == splitmix(position ^ keys.fold(seed, 3, "batch"))


@given(st.integers(0, 2**31), st.integers(0, 1000), st.integers(2, 9))
def test_a_row_does_not_depend_on_its_neighbours(seed: int, step: int, n: int) -> None:
    together = keys.uniform(keys.batch_keys(seed, step, torch.arange(n)), "mask", 5)
    alone = [keys.uniform(keys.batch_keys(seed, step, torch.tensor([i])), "mask", 5) for i in range(n)]
    assert torch.equal(together, torch.cat(alone))


def test_draws_are_uniform_normal_and_unrelated() -> None:
    key = keys.batch_keys(0, 0, torch.arange(50_000))
    u = keys.uniform(key, "crop", 2).numpy()
    assert u.min() >= 0
    assert u.max() < 1
    edges = np.histogram(u, bins=20, range=(0, 1))[0] / u.size
    assert np.abs(edges - 0.05).max() < 0.003
    z = keys.normal(key, "noise", 2)
    assert abs(float(z.mean())) < 0.01
    assert abs(float(z.std()) - 1) < 0.01
    others = [
        keys.uniform(key, "flip", 1),
        keys.uniform(keys.split(key, 1), "crop", 1),
        keys.uniform(keys.batch_keys(0, 1, torch.arange(50_000)), "crop", 1),
        keys.uniform(keys.batch_keys(1, 0, torch.arange(50_000)), "crop", 1),
    ]
    for other in others:
        assert abs(np.corrcoef(u[:, 0], other[:, 0].numpy())[0, 1]) < 0.015


def test_permutations_hold_every_place_once() -> None:
    order = keys.permutation(keys.batch_keys(0, 0, torch.arange(100)), "mask", 17)
    assert torch.equal(order.sort(dim=1).values, torch.arange(17).expand(100, -1))
    assert not torch.equal(order[0], order[1])


def test_fold_tells_the_order_of_its_words() -> None:
    found = {keys.fold(a, b, c) for a in range(12) for b in range(12) for c in range(12)}
    assert len(found) == 12**3


@pytest.mark.parametrize("parts", [(1,), (1, 2), ("views",), (2**70,), (-1,)])
def test_fold_is_positive_and_separates(parts: tuple[int | str, ...]) -> None:
    found = {keys.fold(seed, *parts) for seed in range(100)}
    assert len(found) == 100
    assert min(found) >= 0
    assert max(found) < 2**63
