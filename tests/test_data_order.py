from __future__ import annotations

import threading
import time
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.core import keys
from tacit.core.errors import UserError
from tacit.training.batches import Batches, Span, ahead, shuffled


def read(rows):
    return {"index": torch.from_numpy(rows.copy()), "image": torch.from_numpy(rows.copy()).to(torch.uint8)}


def batches(n, batch_size, seed=0):
    return Batches(read, np.arange(n), batch_size, seed)


@given(n=st.integers(1, 5000), key=st.integers(0, 2**63 - 1))
@settings(max_examples=30, deadline=None)
def test_shuffling_is_a_permutation(n, key):
    assert np.array_equal(np.sort(shuffled(np.arange(n), n, key)), np.arange(n))


@given(n=st.integers(1, 300), batch_size=st.integers(1, 700), seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_every_epoch_visits_every_row_once(n, batch_size, seed):
    batch_size = max(batch_size, n // 20)
    steps = -(-3 * n // batch_size)
    order = batches(n, batch_size, seed)
    visited = np.concatenate([order.rows(step) for step in range(steps)])
    for epoch in range(3):
        assert sorted(visited[epoch * n : (epoch + 1) * n]) == list(range(n))


@given(share=st.integers(1, 16), world=st.integers(1, 8), step=st.integers(0, 10**6), seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_ranks_together_make_the_batch_of_one_process(share, world, step, seed):
    order = batches(97, share * world, seed)
    alone = order(step)
    ranks = [order(step, rank, world) for rank in range(world)]
    for name in ("index", "image", "key"):
        assert torch.equal(torch.cat([part[name] for part in ranks]), alone[name])


def test_only_the_rows_to_train_on_are_drawn_and_the_keys_are_the_positions():
    order = Batches(read, np.array([3, 5, 8]), 6, seed=4)
    assert sorted(order.rows(7)) == [3, 3, 5, 5, 8, 8]
    assert torch.equal(order(7)["key"], keys.batch_keys(4, 7, torch.arange(6)))


def test_epochs_and_seeds_are_unrelated():
    n = 1000
    orders = [shuffled(np.arange(n), n, keys.fold(seed, "order", epoch)) for seed in range(3) for epoch in range(3)]
    same = [np.mean(a == b) for i, a in enumerate(orders) for b in orders[:i]]
    assert max(same) < 0.01  # chance: 0.001
    # Grain's trap: epoch e of seed s must not be epoch e - 1 of seed s + 1.
    assert not np.array_equal(orders[1], orders[3])


@pytest.mark.parametrize(("n", "bins"), [(2, 2), (3, 3), (5, 5), (1024, 8), (1025, 8), (3000, 8), (4097, 8)])
def test_every_pair_of_positions_receives_every_pair_of_rows_equally_often(n, bins):
    draws = 2000
    pairs = np.array([shuffled(np.array([0, n - 1]), n, keys.fold(key, "uniform")) for key in range(draws)])
    counts = np.zeros((bins, bins))
    np.add.at(counts, tuple((pairs * bins // n).T), 1)
    size = np.bincount(np.arange(n) * bins // n).astype(float)  # rows per bin; no row can be drawn twice
    expected = draws * (np.outer(size, size) - np.diag(size)) / (n * (n - 1))
    possible = expected > 0
    assert counts[~possible].sum() == 0
    chi2 = np.sum((counts - expected)[possible] ** 2 / expected[possible])
    freedom = possible.sum() - 1
    assert chi2 < freedom + 4 * np.sqrt(2 * freedom) + 4  # four deviations of its distribution


def test_neighbours_are_parted():
    n = 4096
    order = shuffled(np.arange(n), n, 1)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.06
    assert abs(np.corrcoef(np.arange(n), order)[0, 1]) < 0.06


def test_any_step_of_a_huge_set_costs_no_memory():
    positions = np.arange(49_999_000, 50_000_000)
    out = shuffled(positions, 50_000_000, 9)
    assert len(np.unique(out)) == 1000
    assert out.min() >= 0
    assert out.max() < 50_000_000


@given(step=st.integers(0, 10**12), seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_a_billion_examples_are_in_one_order_at_any_step(step, seed):
    n, batch = 10**9, 256
    order = Batches(lambda rows: {"index": torch.from_numpy(rows)}, Span(n), batch, seed)
    rows = order.rows(step)
    assert rows.min() >= 0
    assert rows.max() < n
    assert len(np.unique(rows)) >= batch - 1  # an epoch may end amid it
    later = Batches(order.read, Span(n), batch, seed)  # as after a restart, with nothing replayed
    assert torch.equal(torch.cat([b["index"] for b in later.stream(step, step + 2)][1:]), order(step + 1)["index"])
    neighbour = Batches(order.read, Span(n), batch, seed + 1)
    assert len(np.intersect1d(rows, neighbour.rows(step))) < 5  # chance: none


def test_a_billion_examples_take_no_memory():
    order = Batches(read, Span(10**9), 256)
    order.rows(0)
    tracemalloc.start()
    try:
        for step in range(0, 10**10, 10**9):
            order.rows(step)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 1 << 20  # bytes; a list of them would take 8 GB


def test_nothing_to_draw_from_is_refused():
    with pytest.raises(UserError, match="cannot be drawn"):
        Batches(read, np.arange(0), 4)
    with pytest.raises(UserError, match="shared equally by 3"):
        batches(10, 4)(0, 0, 3)


def test_streaming_changes_nothing():
    order = batches(20, 6, seed=3)
    streamed = list(order.stream(5, 12, rank=1, world=2))
    assert len(streamed) == 7
    for step, batch in enumerate(streamed, 5):
        direct = order(step, 1, 2)
        assert all(torch.equal(batch[name], direct[name]) for name in direct)


def test_an_error_surfaces_where_its_batch_would_have():
    def fail():
        raise RuntimeError("disk gone")

    stream = ahead(iter([lambda: {"a": torch.ones(1)}, fail, lambda: {}]))
    assert "a" in next(stream)
    with pytest.raises(RuntimeError, match="disk gone"):
        next(stream)


def test_the_thread_stays_a_little_ahead_and_ends_with_its_reader():
    made = []
    others = set(threading.enumerate())
    stream = ahead((lambda i=i: made.append(i) or {"i": torch.tensor(i)}) for i in range(1000))
    next(stream)
    time.sleep(0.3)
    assert len(made) <= 5
    [reading] = set(threading.enumerate()) - others
    stream.close()
    assert not reading.is_alive()
