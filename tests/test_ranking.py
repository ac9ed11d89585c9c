"""Full rankings, what is held out of histories, and the verdict on recommendations."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import tacit
from tacit.core.errors import UserError
from tacit.core.spec import FIRST
from tacit.core.types import Batch
from tacit.evaluation import Arm, Predictions, Report, evaluate, pair, select
from tacit.evaluation.arms import parts_of, target_of
from tacit.evaluation.ranked import coverage, popularity_bias
from tacit.evaluation.targets import make_target
from tacit.evaluation.targets.ranking import rank
from tacit.modalities.events import holdout
from tacit.modalities.events.histories import Histories
from tacit.modalities.events.holdout import Held, by_time, leave_one_out, sealed_places

USERS, ITEMS = 300, 60


def histories(rows: list[list[int]], n_items: int) -> Histories:
    lengths = np.array([len(row) for row in rows])
    stop = np.cumsum(lengths)
    return Histories(np.array(list(chain.from_iterable(rows)), np.int64), stop - lengths, stop, n_items)


@cache
def walks(seed: int = 0) -> Histories:
    """People who go from an item to its right neighbour four times out of five, and never where they were."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(USERS):
        row = [int(rng.integers(ITEMS))]
        for _ in range(int(rng.integers(2, 12))):
            right = (row[-1] + 1) % ITEMS
            free = np.setdiff1d(np.arange(ITEMS), row)
            row.append(right if rng.random() < 0.8 and right not in row else int(rng.choice(free)))
        rows.append(row)
    return histories(rows, ITEMS)


class Scores:
    """A table [N n] as a ranker."""

    def __init__(self, table: Any) -> None:
        self.table = torch.as_tensor(np.asarray(table))

    def scores(self, batch: Batch) -> Tensor:
        return self.table[batch["index"]]


def neighbours(batch: Batch) -> Tensor:
    """A function of a third party: the right neighbour of the last item, then the next but one, and so on."""
    last = batch["tokens"].gather(1, batch["valid"].sum(1, keepdim=True) - 1) - FIRST
    return -((torch.arange(ITEMS) - last) % ITEMS).float()


def noise(seed: int) -> Scores:
    return Scores(np.random.default_rng(seed).normal(size=(2 * USERS, ITEMS)))


# ---------------------------------------------------------------- ranking


@pytest.mark.parametrize("seen", [False, True])
def test_rankings_are_those_of_a_sort(seen: bool) -> None:
    h, rows = walks(), np.random.default_rng(1).permutation(USERS)
    table = np.random.default_rng(2).normal(size=(USERS, ITEMS)).astype(np.float32)
    found = rank(Scores(table), h.batch, rows, ITEMS, k=20, seen=seen)
    for row, user in zip(found, rows, strict=True):
        own = [] if seen else h.items[h.start[user] : h.stop[user]].tolist()
        assert row.tolist() == [i for i in np.argsort(-table[user]).tolist() if i not in own][:20]


def test_where_few_are_left_the_rest_is_nobody() -> None:
    h = histories([[0, 1], [2]], 4)
    table = np.array([[9.0, 8, 7, 6], [1, -np.inf, 3, 2]])
    found = rank(Scores(table), h.batch, np.arange(2), 4, k=6)
    assert found.tolist() == [[2, 3, -1, -1, -1, -1], [3, 0, -1, -1, -1, -1]]


def test_equal_scores_stand_in_any_order_alike() -> None:
    """Each of four equal items at each place a quarter of the time, also across the edge of the list; -0.0 is 0.0."""
    n = 4000
    h = Histories(np.zeros(1, np.int64), np.zeros(n, np.int64), np.ones(n, np.int64), 6)
    same = Scores(np.tile(np.array([5.0, 1.0, 0.0, -0.0, 0.0, 0.0]), (n, 1)))
    found = rank(same, h.batch, np.arange(n), 6, k=3)
    assert (found[:, 0] == 1).all()
    for place in (1, 2):
        share = np.bincount(found[:, place], minlength=6)[2:] / n
        assert np.abs(share - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / n)
    again = rank(same, h.batch, np.arange(n)[::-3], 6, k=3)
    np.testing.assert_array_equal(again, found[::-3])  # whatever stands beside it in a batch


def test_a_large_catalogue_is_never_dense_for_many_at_once() -> None:
    sizes, n_items = [], 3_000_000
    h = Histories(np.arange(6), np.arange(3) * 2, np.arange(3) * 2 + 2, n_items)

    def scores(batch: Batch) -> Tensor:
        sizes.append(len(batch["index"]))
        return torch.zeros(n_items).index_fill(0, torch.tensor([1, 7, 2_999_999]), 1.0).expand(sizes[-1], -1)

    found = rank(scores, h.batch, np.arange(3), n_items, k=4)
    assert sizes == [1, 1, 1]
    assert set(found[0, :2].tolist()) == {7, 2_999_999}  # 1 was seen
    assert all(set(row[:3].tolist()) == {1, 7, 2_999_999} for row in found[1:])
    assert len(set(found[:, 3].tolist())) == 3  # of the others, which are all alike


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (lambda batch: torch.zeros(len(batch["index"]), 3), r"<lambda> answers 256 histories with \[256, 3\].*all 60"),
        (lambda batch: None, "answers 256 histories with NoneType"),
        (lambda batch: torch.full((len(batch["index"]), ITEMS), torch.nan), "no finite numbers for 256 of 256"),
        (lambda batch: torch.full((len(batch["index"]), ITEMS), torch.inf), "no finite numbers for 256 of 256"),
    ],
)
def test_what_is_no_score_is_refused(scores: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        rank(scores, walks().batch, np.arange(USERS), ITEMS)


# ---------------------------------------------------------------- what is held out


def events(h: Histories) -> list[list[int]]:
    return [h.items[a:b].tolist() for a, b in zip(h.start, h.stop, strict=True)]


def test_the_last_event_is_left_out() -> None:
    h = histories([[0, 1, 2, 3], [4], [5, 6], [7, 8, 9]], 10)
    held = leave_one_out(h)
    assert events(held.learn) == [[0, 1], [4], [5], [7]]
    assert [events(held.contexts)[q] for q in held.train] == [[0, 1], [7]]
    assert held.came[held.train].tolist() == [2, 8]
    assert [events(held.contexts)[q] for q in held.test] == [[0, 1, 2], [5], [7, 8]]
    assert held.came[held.test].tolist() == [3, 6, 9]
    assert held.left_out == 1
    none = leave_one_out(h, validation=0.0)
    assert events(none.learn) == [[0, 1, 2], [4], [5], [7, 8]]
    assert not len(none.train)
    some = leave_one_out(walks(), validation=0.5)
    assert len(some.train) == pytest.approx(USERS / 2, abs=1)
    with pytest.raises(UserError, match="0 of 2 people have two events or more"):
        leave_one_out(histories([[0], [1]], 2))


def test_what_happened_after_a_moment_is_left_out() -> None:
    rows = [[0, 1, 2, 3], [4, 5], [6, 7, 8], [9, 0]]
    times = np.array([1, 2, 80, 95, 3, 4, 5, 85, 99, 91, 92])
    held = by_time(histories(rows, 10), times, test=0.3, validation=0.2)
    assert events(held.learn) == [[0, 1], [4, 5], [6], []]  # before 80
    assert [events(held.contexts)[q] for q in held.test] == [[0, 1, 2], [6, 7]]  # before 91
    assert held.came[held.test].tolist() == [3, 8]
    assert held.left_out == 2  # one has done nothing since, one has begun since
    assert [events(held.contexts)[q] for q in held.train] == [[0, 1], [6]]
    assert held.came[held.train].tolist() == [2, 7]
    with pytest.raises(UserError, match="0 of 2 people have events both among the last 10 % of all and before"):
        by_time(histories([[0], [1]], 2), np.array([1.0, 2.0]))


def test_not_everybody_is_asked_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    everyone = leave_one_out(walks())
    monkeypatch.setattr(holdout, "MOST", 50)
    some = leave_one_out(walks())
    assert (len(some.train), len(some.test), some.left_out) == (50, 50, 0)
    assert events(some.learn) == events(everyone.learn)
    np.testing.assert_array_equal(some.came[some.test], everyone.came[everyone.test[some.user[some.test]]])


def test_a_seal_finds_its_events_again_when_people_went_on() -> None:
    first = histories([[0, 1, 2], [3, 4], [5, 6, 7]], 9)
    later = histories([[8, 8], [0, 1, 2, 5, 6], [3, 4], [5]], 9)  # dan is new, ann went on, cy lost something
    sealed = leave_one_out(first).seal(["ann", "bob", "cy"])
    assert len(sealed.items) == 3
    places = sealed_places(sealed, ["dan", "ann", "bob", "cy"], later)
    assert places.tolist() == [-1, 2, 1, -1]
    held = leave_one_out(later, sealed=places)
    assert [events(held.contexts)[q] for q in held.test] == [[0, 1], [3]]
    assert held.came[held.test].tolist() == [2, 4]
    assert events(held.learn) == [[8, 8], [0], [3], [5]]  # nothing that ann did since
    one, other = leave_one_out(first).labelled(["ann", "bob", "cy"]), held.labelled(["dan", "ann", "bob", "cy"])
    assert one.content is not None
    assert other.content is not None
    np.testing.assert_array_equal(one.content[one.test[:2]], other.content[other.test])


# ---------------------------------------------------------------- metrics


def naive(name: str, lists: NDArray[np.int32], came: NDArray[np.int64]) -> float:
    kind, k = name.split("/")[0].split("@")
    worth = []
    for row, item in zip(lists.tolist(), came.tolist(), strict=True):
        place = row[: int(k)].index(item) + 1 if item in row[: int(k)] else None
        gain = {"ndcg": lambda p: 1 / np.log2(1 + p), "hr": lambda p: 1.0, "mrr": lambda p: 1 / p}[kind]
        worth.append(0.0 if place is None else gain(place))
    return float(np.mean(worth))


@pytest.mark.parametrize("metric", make_target("recommendation", 0).metrics, ids=lambda metric: metric.name)
@pytest.mark.parametrize("size", [1, 3])
def test_metrics_are_those_counted_by_hand(metric: Any, size: int) -> None:
    lists, found, came = answered(0)
    unit = np.arange(len(came)) // size
    values = metric.influence(np.stack([found] * 2), came, unit)
    assert values.shape == (2, unit.max() + 1)
    assert values[1].mean() == pytest.approx(naive(metric.name, lists, came), abs=1e-12)
    left = [naive(metric.name, lists[unit != u], came[unit != u]) for u in range(unit.max() + 1)]
    jackknife = naive(metric.name, lists, came) + unit.max() * (np.mean(left) - left)
    np.testing.assert_allclose(values[0], jackknife, atol=1e-9)


def test_coverage_and_popularity_are_those_counted_by_hand() -> None:
    lists, found, came = answered(1)
    unit, percentile = np.arange(len(came)) // 2, np.random.default_rng(0).random(ITEMS)

    def covered(rows: NDArray[np.bool_]) -> float:
        return len(set(lists[rows][:, :10].ravel().tolist()) - {-1}) / ITEMS

    def biased(rows: NDArray[np.bool_]) -> float:
        shown = [np.mean([percentile[i] for i in row[:10] if i >= 0]) for row in lists[rows].tolist()]
        return float(np.mean(shown - percentile[came[rows]]))

    for influence, count in ((coverage(ITEMS), covered), (popularity_bias(percentile), biased)):
        values, everyone = influence(found, came, unit), np.ones(len(came), bool)
        left = np.array([count(unit != u) for u in range(unit.max() + 1)])
        np.testing.assert_allclose(values.mean(), count(everyone), atol=1e-12)
        np.testing.assert_allclose(values, count(everyone) + unit.max() * (left.mean() - left), atol=1e-9)


def answered(seed: int) -> tuple[NDArray[np.int32], NDArray[Any], NDArray[np.int64]]:
    """Lists, some of them short, as they are and as metrics read them, and what came."""
    held = leave_one_out(walks())
    labelled, rng = held.labelled(), np.random.default_rng(seed)
    target, rows = target_of(labelled), held.test[:80]
    lists = rank(Scores(rng.normal(size=(len(held.came), ITEMS))), labelled.fetch, rows, ITEMS)
    lists[::7, 4:] = -1
    found = target.revealed(lists[None, None], labelled, rows, target.tested(labelled, rows))[0, 0]
    return lists, found, held.came[rows]


def test_the_perfect_and_the_random_ranker() -> None:
    """A random one finds the item at every place alike: its expectation is known."""
    held = leave_one_out(walks())
    labelled = held.labelled()
    oracle = np.zeros((len(held.came), ITEMS))
    oracle[np.arange(len(held.came)), held.came] = 1
    arms = [Arm("oracle", "pretrained", (Scores(oracle),)), Arm("chance", "baseline", tuple(map(noise, range(20))))]
    report = evaluate(arms, labelled)
    mean = {(r.arm, r.metric.split("/")[0]): r.mean for r in report.results}
    assert all(mean["oracle", name] == 1 for name in ("ndcg@10", "hr@1", "hr@10", "mrr@100"))
    free = ITEMS - labelled.lengths[labelled.test]  # type: ignore[index]
    ndcg = (1 / np.log2(np.arange(2, 12))).sum() / free
    assert mean["chance", "hr@10"] == pytest.approx((10 / free).mean(), abs=0.02)
    assert mean["chance", "ndcg@10"] == pytest.approx(ndcg.mean(), abs=0.01)
    assert mean["chance", "coverage@10"] == 1
    assert report.verdict.outcome == "transfers"


# ---------------------------------------------------------------- the verdict


@cache
def judged() -> tuple[Held, Report]:
    held = leave_one_out(walks())
    arms = [
        Arm("neighbours", "pretrained", (neighbours,)),  # type: ignore[arg-type]
        Arm("noise", "pretrained", (noise(1),)),
        Arm("chance", "baseline", (noise(2),)),
        Arm("other chance", "baseline", (noise(3), noise(4))),
    ]
    return held, evaluate(arms, held.labelled([f"user {n}" for n in range(USERS)]))


def test_the_better_ranker_transfers_and_its_verdict_says_on_what() -> None:
    _, report = judged()
    verdict = report.verdict
    assert (verdict.outcome, verdict.arm, verdict.budget) == ("transfers", "neighbours", "no labels")
    assert verdict.text.startswith("TRANSFERS: with no labels this checkpoint (neighbours) beat every baseline")
    assert "nDCG@10, full ranking of what was not seen, 300 test histories" in verdict.text
    assert report.metric == "ndcg@10/full/seen-filtered"
    assert report.data["validation"]["neighbours"]["pooled"] > report.data["validation"]["noise"]["pooled"]
    assert "300 test histories" in str(report)
    for r in report.results:
        assert r.low <= r.mean <= r.high


def test_short_histories_and_cold_items_stand_apart() -> None:
    held, report = judged()
    sizes = {row["subgroup"]: row["items"] for row in report.data["subgroups"]}
    length = held.contexts.lengths[held.test]
    assert sizes["histories of less than 5 events"] == (length < 5).sum()
    assert sizes["histories of 5 to 20 events"] == (length >= 5).sum()
    assert "histories of more than 20 events" not in sizes
    cold = held.learn.counts()[held.came[held.test]] < 5
    assert sizes.get("next item used less than 5 times", 0) == (cold.sum() if cold.sum() >= 10 else 0)


def test_a_report_and_its_predictions_survive_the_disk(tmp_path: Path) -> None:
    _, report = judged()
    report.save(tmp_path)
    assert Report.load(tmp_path) == report
    assert report.predictions is not None
    report.predictions.save(tmp_path)
    loaded = Predictions.load(tmp_path)
    for number, of in report.predictions.predicted.items():
        for key, found in of.items():
            np.testing.assert_array_equal(loaded.predicted[number][key], found)
    [paired], reasons = pair(loaded, loaded)
    assert not reasons
    assert (paired.estimate.mean, paired.unit) == (0, "histories")


def test_what_came_is_hidden_until_the_end() -> None:
    """Whatever is held out, every list is the same, and so is what is chosen."""
    held, _ = judged()
    labelled = held.labelled()
    came = held.came.copy()
    came[held.test] = came[held.test][::-1]
    poisoned = replace(labelled, truth=came)
    [part] = parts_of(poisoned, 0)
    assert np.isnan(part.labelled.answers[part.test]).all()
    target, arms = target_of(labelled), [Arm("a", "pretrained", (noise(1),)), Arm("b", "pretrained", (noise(2),))]
    lists = [target.read(noise(1), of.labelled, of.test)["pooled"] for of in (part, parts_of(labelled, 0)[0])]
    np.testing.assert_array_equal(*lists)
    assert select(arms, labelled) == select(arms, poisoned)


def test_a_function_is_judged_by_the_public_call() -> None:
    report = tacit.evaluate(neighbours, leave_one_out(walks()).labelled())
    assert report.verdict.outcome == "none"
    assert report.results[0].arm == "neighbours"
    assert report.results[0].mean > 0.4


def test_without_validation_all_is_tested_and_nothing_chosen() -> None:
    labelled = leave_one_out(walks(), validation=0.0).labelled()
    report = evaluate([Arm("a", "pretrained", (noise(1),)), Arm("b", "pretrained", (neighbours,))], labelled)  # type: ignore[arg-type]
    assert report.data["selected_arm"] == "a"
    assert not report.data["validation"]


def test_what_was_seen_can_come_again() -> None:
    h = histories([[0, 1, 0, 1, 0, 1]] * 20 + [[2, 3, 2, 3, 2, 3]] * 20, 10)
    held = leave_one_out(h)
    same = np.zeros((len(held.came), 10))
    same[np.arange(len(held.came)), held.came] = 1
    assert held.returns == len(held.test)
    assert leave_one_out(walks()).returns == 0
    once, again = (evaluate(Scores(same), held.labelled(target=t)).results[0] for t in ("recommendation", "repeats"))
    assert (once.mean, again.mean) == (0, 1)
    assert again.metric == "ndcg@10/full/seen-kept"


def test_a_glance_asks_the_encoder() -> None:
    held, report = judged()
    labelled = held.labelled()
    glance = target_of(labelled).glance(labelled, held.train, np.empty((0, 0), np.float32), neighbours)
    assert glance == pytest.approx(report.data["validation"]["neighbours"]["pooled"])
    assert target_of(labelled).glance(labelled, held.train[:1], np.empty((0, 0), np.float32), neighbours) is None


def test_the_catalogue_must_be_known() -> None:
    labelled = replace(leave_one_out(walks()).labelled(), popularity=None)
    with pytest.raises(UserError, match="how often each item of the catalogue was used"):
        evaluate(noise(0), labelled)


@pytest.mark.slow
def test_shuffled_histories_hardly_ever_transfer() -> None:
    """What came is another's: at most 5 % of 60 runs, and binomial error."""
    transfers = 0
    for seed in range(60):
        held = leave_one_out(walks())
        rng = np.random.default_rng(seed)
        came = held.came.copy()
        came[held.test] = rng.permutation(came[held.test])
        arms = [Arm("a", "pretrained", (noise(seed),)), Arm("b", "baseline", (noise(1000 + seed),))]
        transfers += evaluate(arms, replace(held.labelled(), truth=came)).verdict.outcome == "transfers"
    assert transfers <= 5
