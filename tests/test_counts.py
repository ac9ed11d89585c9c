"""Counts that recommend, each against a count by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from tacit.core.types import Ranker
from tacit.evaluation.ranked import next_ndcg_at
from tacit.evaluation.targets.ranking import rank
from tacit.modalities.events import counts
from tacit.modalities.events.counts import Links, chosen, counted, expected_gain, followers, lately, meetings, nearest
from tacit.modalities.events.holdout import leave_one_out
from tests.test_ranking import ITEMS, Scores, events, histories, walks


def test_counts_of_items() -> None:
    h = walks()
    everything = [item for row in events(h) for item in row]
    np.testing.assert_array_equal(h.counts(), np.bincount(everything, minlength=ITEMS))
    blocks = list(h.events(100))
    assert len(blocks) > 10
    np.testing.assert_array_equal(np.concatenate([places for _, places in blocks]), np.arange(len(h.items)))
    np.testing.assert_array_equal(np.concatenate([of for of, _ in blocks]), np.repeat(np.arange(len(h)), h.lengths))


def test_what_was_used_of_late() -> None:
    h = histories([[0, 1, 2, 3], [4, 5], [6]], 8)
    assert np.flatnonzero(lately(h, None, 0.5)).tolist() == [2, 3, 5, 6]
    times = np.array([1, 8, 9, 10, 2, 3, 7])
    assert np.flatnonzero(lately(h, times, 0.5)).tolist() == [1, 2, 3, 6]


def test_people_who_used_both() -> None:
    h = histories([[0, 1, 1, 2], [2, 0], [3], [1, 2]], 5)
    together, users = meetings(h)
    used = np.zeros((4, 5))
    for user, row in enumerate(events(h)):
        used[user, row] = 1
    expected = used.T @ used
    np.testing.assert_array_equal(users, expected.diagonal())
    np.fill_diagonal(expected, 0)
    np.testing.assert_array_equal(together.toarray(), expected)


def test_what_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "WINDOW", 3)
    h = walks()
    expected = np.zeros((ITEMS, ITEMS))
    for row in events(h):
        for p, before in enumerate(row):
            for k, after in enumerate(row[p + 1 : p + 4]):
                expected[before, after] += 0.7**k
    np.testing.assert_allclose(followers(h, 0.7).toarray(), expected, rtol=1e-5)


def test_of_each_item_the_nearest() -> None:
    links = np.array([[0, 3, 1, 2], [3, 0, 5, 0], [1, 5, 0, 4], [2, 0, 4, 0]], float)
    kept = nearest(csr_array(links), 2).toarray()
    expected = [[0, 3, 0, 2], [3, 0, 5, 0], [0, 5, 0, 4], [2, 0, 4, 0]]
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(nearest(csr_array(links), np.inf).toarray(), links)


def test_links_add_up_over_a_history_and_the_latest_count_most() -> None:
    h, rng = walks(), np.random.default_rng(0)
    links = rng.random((ITEMS, ITEMS)).astype(np.float32)
    rest = np.zeros(ITEMS, np.float32)
    found = Links(csr_array(links), 0.5, rest, "").scores(h.batch(np.arange(len(h)))).numpy()
    for row, scores in zip(events(h), found, strict=True):
        since = np.arange(len(row))[::-1]
        weight = np.where(0.5**since > 1e-3, 0.5**since, 0)
        np.testing.assert_allclose(scores, weight @ links[row], rtol=1e-4)


def test_nobody_knows_a_person_without_events_or_links() -> None:
    """What has no score follows by popularity, for somebody without a history at once."""
    learn = histories([[0, 1], [0, 1], [0, 2], [3, 4]], 6)
    found = counted(learn, learn.take(np.arange(0)), np.arange(0))
    nobody = histories([[]], 6)
    for name, ranker in found.items():
        assert isinstance(ranker, Ranker)
        [first] = rank(ranker, nobody.batch, np.arange(1), 6, k=6).tolist()
        assert first[:2] == [0, 1] or name == "recent popularity"
        assert first[5] == 5
    [after] = rank(found["markov"], histories([[3]], 6).batch, np.arange(1), 6, k=3).tolist()
    assert after == [4, 0, 1]


def test_the_expected_gain_is_that_of_a_full_ranking() -> None:
    held = leave_one_out(walks())
    asked, came = held.contexts.take(held.test), held.came[held.test]
    ranker = Scores(np.random.default_rng(0).normal(size=(len(came), ITEMS)))
    lists = rank(ranker, asked.batch, np.arange(len(came)), ITEMS)
    place = np.where((lists == came[:, None]).any(1), 1 + (lists == came[:, None]).argmax(1), 0)
    measured = next_ndcg_at(10)(place[:, None], came, np.arange(len(came))).mean()
    assert expected_gain(ranker, asked, came) == pytest.approx(measured, abs=1e-9)
    alike = Scores(np.zeros((len(came), ITEMS)))
    middle = (ITEMS - asked.lengths + 1) / 2
    assert expected_gain(alike, asked, came) == pytest.approx(np.mean((middle <= 10) / np.log2(1 + middle)))


def test_settings_are_chosen_one_after_the_other() -> None:
    asked = leave_one_out(walks())
    built: list[tuple[float, float]] = []

    def make(a: float, b: float) -> Any:
        built.append((a, b))
        table = np.random.default_rng(0).normal(size=(len(asked.came), ITEMS))
        table[np.arange(len(asked.came)), asked.came] += a + b
        return Scores(table)

    chosen(make, {"a": (0.0, 1.0, 0.5), "b": (0.0, 2.0)}, asked.contexts, asked.came)
    assert built == [(0.0, 0.0), (1.0, 0.0), (0.5, 0.0), (1.0, 2.0), (1.0, 2.0)]  # none twice but the last, to be had
    built.clear()
    chosen(make, {"a": (0.5, 1.0), "b": (0.0, 2.0)}, asked.contexts.take(np.arange(0)), np.arange(0))
    assert built == [(0.5, 0.0)]


def test_links_know_what_comes_next_and_popularity_does_not() -> None:
    held = leave_one_out(walks())
    val = held.contexts.take(held.train), held.came[held.train]
    gain = {
        name: expected_gain(ranker, held.contexts.take(held.test), held.came[held.test])
        for name, ranker in counted(held.learn, *val).items()
    }
    assert gain["markov"] > gain["item-knn"] > 2 * gain["popularity"]
    assert gain["markov"] > 0.6


def test_links_are_counted_in_as_many_histories_as_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    h = walks()
    assert counts.enough(h) is h
    monkeypatch.setattr(counts, "ENOUGH", 500)
    some = counts.enough(h)
    assert 480 <= some.lengths.sum() <= 500
    assert set(some.start.tolist()) <= set(h.start.tolist())
