"""Budgets, draws, folds and the seal: filled as promised, nested, shared, and without leaks."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.evaluation.sealing import Seal, count_read, seal
from tacit.evaluation.splits import draw_labels, make_folds, plan_budgets, plan_for_pools, primary_budget

CLASSES = ("a", "b", "c")
CLASSES_AT = (0, 1, 2)


def labels(*counts: int) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(counts)), counts)


def hashes(n: int, start: int = 0) -> NDArray[np.void]:
    """Content hashes as the data helper makes them, some ending in zero bytes."""
    return np.frombuffer(b"".join((start + i).to_bytes(16, "little") for i in range(n)), "V16")


def test_default_budgets() -> None:
    plan = plan_budgets(labels(200, 100, 60), CLASSES)
    assert [b.name for b in plan.budgets] == [
        "1 per class",
        "1 %",
        "2 per class",
        "5 per class",
        "10 per class",
        "10 %",
        "20 per class",
        "50 per class",
        "100 %",
    ]
    assert [b.total for b in plan.budgets] == [3, 4, 6, 15, 30, 36, 60, 150, 360]
    assert [b.draws for b in plan.budgets] == [10, 10, 10, 10, 10, 10, 10, 5, 1]
    assert plan.dropped == ["100 per class: class c has only 60 training labels"]
    assert plan.budgets[-1].pool_share == 1.0
    assert plan.budgets[4].pool_share == pytest.approx(np.mean([10 / 200, 10 / 100, 10 / 60]))


def test_budgets_that_do_not_fit_are_dropped_by_name() -> None:
    plan = plan_budgets(labels(10, 10, 10), CLASSES, [5, 10, 0.01, "100 %"])
    assert [b.name for b in plan.budgets] == ["5 per class", "100 %"]
    assert plan.dropped == ["10 per class: is all there is, see 100 %", "1 %: leaves no label of class a"]


@pytest.mark.parametrize(
    ("y", "wanted", "message"),
    [
        (labels(5), None, "fewer than two classes \\(a\\)"),
        (labels(3, 3), [10], "no label budget can be filled \\(10 per class: class a has only 3"),
        (labels(3, 3), ["many"], "'many' is no label budget"),
        (labels(3, 3), [0], "0 is no label budget"),
        (labels(3, 3), [1.5], "1.5 is no label budget"),
    ],
)
def test_budget_errors(y: NDArray[np.int64], wanted: list[int | float | str] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_budgets(y, CLASSES, wanted)


def test_unknown_labels_do_not_count() -> None:
    y = np.concatenate([labels(4, 4), np.full(100, -1)])
    assert plan_budgets(y, CLASSES).budgets[-1].total == 8


def test_primary_budget() -> None:
    budgets = plan_budgets(labels(30, 30), CLASSES).budgets
    assert primary_budget(budgets).name == "10 per class"
    assert primary_budget(plan_budgets(labels(9, 70), CLASSES).budgets).name == "5 per class"
    assert primary_budget(budgets, 20).name == "20 per class"
    assert primary_budget(budgets, "10 %").name == "10 %"
    with pytest.raises(UserError, match="primary budget 50 cannot be filled: choose from 1 per class"):
        primary_budget(budgets, 50)


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=5),
    n_groups=st.integers(2, 60),
    seed=st.integers(0, 2**40),
)
def test_draws_are_filled_and_nested(counts: list[int], n_groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.concatenate([labels(*counts), np.full(7, -1)])
    group = rng.integers(0, n_groups, len(y))
    pool = np.flatnonzero(y >= 0)
    plan = plan_budgets(y, [str(c) for c in range(len(counts))])
    drawn = draw_labels(y, group, pool, plan.budgets, seed=seed)
    again = draw_labels(y, group, pool, plan.budgets, seed=seed)
    per_class = [b for b in plan.budgets if b.per_class]
    for budget in plan.budgets:
        assert len(drawn[budget.name]) == budget.draws
        for draw, same in zip(drawn[budget.name], again[budget.name], strict=True):
            assert (draw == same).all()
            assert len(np.unique(draw)) == budget.total
            assert np.isin(draw, pool).all()
            if budget.per_class:
                assert (np.bincount(y[draw]) == budget.per_class).all()
    for small, large in pairwise(per_class):
        for a, b in zip(drawn[small.name], drawn[large.name], strict=False):
            assert np.isin(a, b).all()


def test_draws_spread_over_half_of_the_groups() -> None:
    """Of 4 groups with 5 examples of each class, 4 labels per class are 2 of each of two groups."""
    y = np.tile(labels(5, 5), 4)
    group = np.repeat(np.arange(4), 10)
    plan = plan_budgets(y, CLASSES, [4, 8], group=group)
    drawn = draw_labels(y, group, np.arange(40), plan.budgets, seed=0)
    for draw in drawn["4 per class"]:
        assert sorted(np.bincount(group[draw], minlength=4)) == [0, 0, 4, 4]
    for draw in drawn["8 per class"]:
        assert sorted(np.bincount(group[draw], minlength=4)) == [0, 0, 8, 8]


def test_draws_differ() -> None:
    y = labels(50, 50)
    drawn = draw_labels(y, np.arange(100), np.arange(100), plan_budgets(y, CLASSES).budgets, seed=0)
    assert len({tuple(draw) for draw in drawn["10 per class"]}) == 10
    other = draw_labels(y, np.arange(100), np.arange(100), plan_budgets(y, CLASSES).budgets, seed=1)
    assert any((a != b).any() for a, b in zip(drawn["10 per class"], other["10 per class"], strict=True))


def test_draws_ignore_labels_outside_the_pool() -> None:
    y = labels(50, 50)
    pool = np.concatenate([np.arange(30), np.arange(50, 80)])
    poisoned = y.copy()
    poisoned[np.setdiff1d(np.arange(100), pool)] = -1
    budgets = plan_for_pools(y, [pool], CLASSES).budgets
    a = draw_labels(y, np.arange(100), pool, budgets, seed=0)
    b = draw_labels(poisoned, np.arange(100), pool, budgets, seed=0)
    assert all((x == z).all() for name in a for x, z in zip(a[name], b[name], strict=True))


def test_folds_keep_groups_whole_and_classes_mixed() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 30, 200)
    y = (group % 3).astype(np.int64)  # each group has one class, as patients have
    folds = make_folds(y, group, np.arange(200), seed=0)
    assert sorted(np.concatenate(folds)) == list(range(200))
    for i, fold in enumerate(folds):
        others = np.concatenate([f for j, f in enumerate(folds) if j != i])
        assert not len(np.intersect1d(group[fold], group[others]))
        assert set(y[fold]) == {0, 1, 2}
    assert max(map(len, folds)) <= 1.5 * min(map(len, folds))
    with pytest.raises(UserError, match="belong to one group"):
        make_folds(y, np.zeros(200, np.int64), np.arange(200), seed=0)


def test_seal_takes_30_percent_of_each_class() -> None:
    y = np.concatenate([labels(200, 50), np.full(20, -1)])
    places = seal(y, None, hashes(270), seed=3).place(None, hashes(270))
    assert list(np.bincount(y[places.sealed])) == [60, 15]
    assert places.free.sum() == 195
    assert not places.sealed[250:].any()
    assert not places.beside.any()
    assert places.missing == 0
    other = seal(y, None, hashes(270), seed=4).place(None, hashes(270))
    assert (other.sealed != places.sealed).any()


def test_seal_does_not_depend_on_order() -> None:
    y, order = labels(100, 60), np.random.default_rng(0).permutation(160)
    names = np.array([f"patient {i // 2}" for i in range(160)])
    a = seal(y, names, hashes(160), seed=0)
    b = seal(y[order], names[order], hashes(160)[order], seed=0)
    assert dict(a.items) == dict(b.items)


def test_seal_keeps_groups_and_copies_whole() -> None:
    y = labels(100, 100)
    names = np.array([f"patient {i // 4}" for i in range(200)])
    content = hashes(200).copy()
    content[100:120] = content[:20]  # copies of the first patients' images under other patients
    places = seal(y, names, content, seed=0).place(names, content)
    assert not set(names[places.sealed]) & set(names[places.free])
    assert (places.sealed[100:120] == places.sealed[:20]).all()
    assert 40 <= places.sealed.sum() <= 80


def test_labels_added_later_only_train() -> None:
    y = labels(100, 100)
    names = np.array([f"patient {i // 4}" for i in range(200)])
    sealed = seal(y, names, hashes(200), seed=0)
    more = np.concatenate([names, names[:40], [f"new patient {i}" for i in range(10)]])
    places = sealed.place(more, hashes(250))
    was_sealed = np.isin(more, names[sealed.place(names, hashes(200)).sealed])
    assert (places.sealed[:200] == sealed.place(names, hashes(200)).sealed).all()
    assert not places.sealed[200:].any()
    assert (places.beside[200:] == was_sealed[200:]).all()
    assert places.free[240:].all()


def test_given_split_is_the_seal() -> None:
    split = np.array([0, 0, 1, 1, 2, 0], np.int8)
    content = hashes(6).copy()
    content[5] = content[2]  # a copy of a test image among the training images
    places = seal(labels(3, 3), None, content, seed=0, split=split).place(None, content, split=split)
    assert list(np.flatnonzero(places.sealed)) == [2, 3]
    assert list(np.flatnonzero(places.beside)) == [5]
    with pytest.raises(UserError, match="group 'p' and 1 more spans training and test"):
        seal(labels(3, 3), np.array(["p", "q", "p", "q", "r", "r"]), content, seed=0, split=split)
    with pytest.raises(UserError, match="no test examples"):
        seal(labels(3, 3), None, content, seed=0, split=np.zeros(6, np.int8))


def test_few_labels_are_not_sealed() -> None:
    sealed = seal(labels(60, 39), None, hashes(99), seed=0)
    assert sealed.source == "cross-fitting"
    assert sealed.place(None, hashes(99)).free.all()


def test_one_group_cannot_be_sealed() -> None:
    with pytest.raises(UserError, match="belong to one group"):
        seal(labels(60, 60), np.zeros(120), hashes(120), seed=0)


def test_seal_file(tmp_path: Path) -> None:
    sealed = seal(labels(60, 60), None, hashes(120), seed=0)
    sealed.save(tmp_path)
    assert Seal.load(tmp_path) == Seal.load(tmp_path / "seal.json") == sealed
    assert count_read(tmp_path).reads == 1
    assert count_read(tmp_path / "seal.json").reads == 2
    assert Seal.load(tmp_path).reads == 2
    sealed.save(tmp_path / "other.json")
    assert count_read(tmp_path / "other.json").reads == 1
    assert Seal.load(tmp_path).reads == 2
    assert count_read(tmp_path / "other.json", tmp_path, tmp_path / "gone.json").reads == 3
    assert Seal.load(tmp_path).reads == 3
    assert not (tmp_path / "gone.json").exists()
    with pytest.raises(UserError, match="none of the sealed test examples is in the data"):
        sealed.place(None, hashes(10, start=500))
    with pytest.raises(UserError, match="no seal at"):
        Seal.load(tmp_path / "nowhere")
    (tmp_path / "seal.json").write_text('{"version": 1')
    with pytest.raises(UserError, match="is damaged"):
        Seal.load(tmp_path)


def test_seal_names_nobody(tmp_path: Path) -> None:
    names = np.array([f"Jane Doe {i}" for i in range(120)])
    assert "Jane" not in seal(labels(60, 60), names, hashes(120), seed=0).save(tmp_path).read_text()


def test_no_probe_is_asked_to_tell_more_classes_apart_than_it_can() -> None:
    names = [str(c) for c in range(2000)]
    plan = plan_budgets(np.repeat(np.arange(2000), 4), names)
    assert [budget.name for budget in plan.budgets] == ["1 per class", "2 per class"]
    assert "100 %: 8,000 labels of 2,000 classes would take a probe too long" in plan.dropped
    with pytest.raises(UserError, match="4,000 classes are too many for the linear probe, which takes at most 3,162"):
        plan_budgets(np.repeat(np.arange(4000), 4), [str(c) for c in range(4000)])


def test_a_seal_of_groups_asks_for_groups() -> None:
    """Without them a sealed patient's other images would train."""
    content = np.array([f"{i:032x}" for i in range(200)])
    y, group = np.arange(200) % 2, np.arange(200) // 2
    sealed = seal(y, group, content, seed=0)
    with pytest.raises(UserError, match="name the column with --group-column"):
        sealed.place(None, content)


def test_a_class_that_cannot_be_tested_does_not_set_the_budgets() -> None:
    y, pool = labels(50, 50, 3), [np.arange(103)]
    assert primary_budget(plan_for_pools(y, pool, CLASSES).budgets).name == "2 per class"
    plan = plan_for_pools(y, pool, CLASSES, filling=np.array([True, True, False]))
    primary = primary_budget(plan.budgets)
    assert primary.name == "10 per class"
    [draw, *_] = draw_labels(y, np.arange(103), pool[0], [primary], seed=0)["10 per class"]
    assert np.bincount(y[draw]).tolist() == [10, 10, 3]


def test_many_small_classes_are_cross_fitted_not_refused() -> None:
    small, large = np.repeat(np.arange(50), 3), np.repeat(np.arange(50), 8)
    assert seal(small, None, hashes(150), seed=0).source == "cross-fitting"
    assert seal(large, None, hashes(400), seed=0).source == "hash"


def test_draws_at_natural_prevalence_are_not_stratified() -> None:
    """Of 3 % positives 100 labels hold now 1, now 6, but never none; each draw is nested in the next larger."""
    y = labels(970, 30)
    budgets = plan_budgets(y, CLASSES, ["50 in all", "100 in all"], draws=40).budgets
    drawn = draw_labels(y, np.arange(1000), np.arange(1000), budgets, seed=0)
    positives = [int(y[draw].sum()) for draw in drawn["100 in all"]]
    assert all(len(draw) == 100 for draw in drawn["100 in all"])
    assert min(positives) >= 1
    assert len(set(positives)) > 3
    assert np.mean(positives) == pytest.approx(3, abs=4 * np.sqrt(3 / 40))
    for small, large in zip(drawn["50 in all"], drawn["100 in all"], strict=True):
        assert set(small) <= set(large)
        assert y[small].sum() >= 1


def grouped_pool(groups: int, per_class: int = 60) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Three classes that every group has."""
    y = labels(per_class, per_class, per_class)
    return y, np.arange(len(y)) % groups


@pytest.mark.parametrize("groups", [2, 4, 5, 40])
def test_a_draw_of_labels_is_a_draw_of_groups(groups: int) -> None:
    """Half of the groups at most; two draws in a row take different ones; shares count groups, not labels."""
    y, group = grouped_pool(groups)
    plan = plan_budgets(y, CLASSES, [2, 20, 1.0], group=group)
    drawn = draw_labels(y, group, np.arange(len(y)), plan.budgets, seed=1)
    for budget, n in zip(plan.budgets, (2, 20), strict=False):
        taken = [set(group[draw]) for draw in drawn[budget.name]]
        for of in CLASSES_AT:
            for draw in drawn[budget.name]:
                assert len(set(group[draw][y[draw] == of])) == min(n, groups // 2)
        assert not taken[0] & taken[1] or n > 2
        assert budget.pool_share == pytest.approx(min(n, groups // 2) / groups)
        assert budget.pool_df == pytest.approx(groups - 1)
    assert plan.budgets[-1].pool_share == 1.0


def test_more_labels_than_half_of_the_groups_hold_come_from_the_others() -> None:
    y, group = grouped_pool(4)
    [budget] = plan_budgets(y, CLASSES, [45], group=group).budgets
    for draw in draw_labels(y, group, np.arange(len(y)), [budget], seed=1)[budget.name]:
        of_first = np.bincount(group[draw][y[draw] == 0], minlength=4)
        assert sorted(of_first) == [0, 15, 15, 15]
    assert budget.pool_share == pytest.approx(0.75)


def test_groups_of_one_class_each_are_drawn_class_by_class() -> None:
    y = labels(24, 24, 24)
    group = np.arange(72) // 6  # four groups of each class
    [budget] = plan_budgets(y, CLASSES, [10], group=group).budgets
    for draw in draw_labels(y, group, np.arange(72), [budget], seed=1)[budget.name]:
        assert [len(set(group[draw][y[draw] == c])) for c in CLASSES_AT] == [2, 2, 2]
    assert budget.pool_share == pytest.approx(0.5)
    assert budget.pool_df == pytest.approx(3 * (4 - 1))


def test_without_groups_draws_are_the_first_of_each_class_in_random_order() -> None:
    from tacit.evaluation.splits import _generator

    y = np.random.default_rng(0).integers(0, 3, 90)
    budgets = plan_budgets(y, CLASSES, [5, 20]).budgets
    pool = np.arange(90)
    drawn = draw_labels(y, pool + 7, pool, budgets, seed=3)
    for s in range(10):
        order = _generator(3, "draw", s).permutation(pool)
        for budget, n in zip(budgets, (5, 20), strict=True):
            naive = np.sort(np.concatenate([order[y[order] == c][:n] for c in range(3)]))
            assert (drawn[budget.name][s] == naive).all()
