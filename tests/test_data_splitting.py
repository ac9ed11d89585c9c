"""Test splits that the data do not name as such: one site held out, or the latest examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import UserError
from tacit.data.splitting import hold_out_latest
from tacit.dataset import TEST, Dataset, open_dataset
from tacit.experiment.split import split_dataset

from .test_data_labels import table
from .test_data_open import folder


@pytest.fixture
def cached(tmp_path: Path):
    def open_(data: object, **settings: object) -> Dataset:
        return open_dataset(data, **{"cache": str(tmp_path / "cache"), **settings})  # type: ignore[arg-type]

    return open_


def held_out(dataset: Dataset) -> list[int]:
    assert dataset.split is not None
    return np.flatnonzero(dataset.split == TEST).tolist()


def test_a_site_is_held_out_and_neither_trained_nor_pretrained_on(cached) -> None:
    data = table(label=["a", "b", "a", "b", "a", "b", None, None], site=["B", "A", "A", "A", "A", "B", "B", None])
    dataset = cached(data, label_column="label", holdout="site=B")
    assert held_out(dataset) == [0, 5, 6]
    split = split_dataset(dataset, seed=0)
    assert split.pretrain.tolist() == [1, 2, 3, 4, 7]
    assert split.labelled is not None
    assert split.rows[split.labelled.test].tolist() == [0, 5]
    assert dataset.notes.lines()[1:] == ["held out for the test: site = B"]
    assert dataset.notes.lines(private=True)[1:] == ["held out for the test"]
    assert "site" not in str(dataset.notes.as_dict(private=True))


def test_what_is_held_out_may_stand_in_the_label_file(tmp_path: Path, cached) -> None:
    root = folder(tmp_path / "pets", 8)
    rows = [f"{'cat' if i % 2 == 0 else 'dog'}/{i}.png,{'cd'[i % 2]},{2020 + i // 4},s{i // 2}" for i in range(8)]
    (tmp_path / "l.csv").write_text("\n".join(["file,label,year,site", *rows]))
    by_site = cached(root, labels=str(tmp_path / "l.csv"), holdout="site=s3", group_column="site")
    assert [by_site.ids[i].as_py() for i in held_out(by_site)] == ["cat/6.png", "dog/7.png"]
    by_year = cached(root, labels=str(tmp_path / "l.csv"), time_column="year", worst_group="site")
    assert sorted(by_year.ids[i].as_py()[4:] for i in held_out(by_year)) == ["4.png", "5.png", "6.png", "7.png"]
    assert by_year.notes.test_split == "year from 2021 on"


def test_what_was_asked_stands_in_for_the_split_that_data_come_with(cached) -> None:
    columns = pa.array(["9", "1"] * 4)
    data = table(label=["a", "b", "b", "a"] * 2, split=["test"] * 4 + ["train"] * 4, site=columns)
    dataset = cached(data, label_column="label", holdout="site=9")
    assert held_out(dataset) == [0, 2, 4, 6]


DAYS = ["2024-01-01", "2024-01-02", "2024-02-01", "2024-03-01T12:00", "2024-03-01 12:00:01"]


@pytest.mark.parametrize(
    ("values", "test"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [7, 8, 9]),
        ([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], [0, 1, 2]),
        ([9.5, 9.25, 10.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [0, 1, 2]),
        (["9", "10", "1e1", "8", "7", "6", "5", "4", "3", "2"], [0, 1, 2]),  # as numbers, not as words
        ([2000] * 5 + [2001] * 3 + [2002] * 2, [8, 9]),
        ([2000] * 6 + [2001] * 4, [6, 7, 8, 9]),
        ([1] * 9 + [None], []),
        (DAYS + DAYS[::-1], [3, 4, 5, 6]),
        (
            [f"{day}Z" for day in ["2024-01-01T00:00"] * 7] + ["2024-01-01T00:00+01:00", *["2024-01-01T00:01Z"] * 2],
            [8, 9],
        ),
        ([None, "5", None, "4", None, None, None, None, "1", "2"], [1]),
        (list(pa.array(range(10)).cast(pa.timestamp("ms"))), [7, 8, 9]),
        (list(pa.array(range(10), pa.int32()).cast(pa.date32())), [7, 8, 9]),
    ],
)
def test_the_latest_are_held_out(cached, values: list[Any], test: list[int]) -> None:
    column = pa.array([value.as_py() if isinstance(value, pa.Scalar) else value for value in values])
    data = table(label=["a", "b"] * 5, when=column)
    if not test:
        with pytest.raises(UserError, match="have no two different times"):
            cached(data, label_column="label", time_column="when")
        return
    assert held_out(cached(data, label_column="label", time_column="when")) == test


def test_what_is_later_is_not_pretrained_on_and_groups_stay_whole(cached) -> None:
    when = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 9, 7, None]
    label = [*["a", "b"] * 5, None, None, None, None]
    person = ["p", *"bcdefgh", "i", "p", "x", "y", "z", "p"]  # p's first visit counts as its last
    dataset = cached(
        table(label=label, when=when, person=person), label_column="label", time_column="when", group_column="person"
    )
    assert held_out(dataset) == [0, 8, 9, 11, 13]
    split = split_dataset(dataset, seed=0)
    assert split.pretrain.tolist() == [1, 2, 3, 4, 5, 6, 7, 10, 12]
    assert split.seal is not None
    assert split.seal.source == "given"
    unlabelled = cached(table(when=when[:10]), time_column="when")
    assert held_out(unlabelled) == [7, 8, 9]


@given(st.lists(st.tuples(st.none() | st.integers(0, 9), st.booleans(), st.integers(0, 5)), min_size=2, max_size=40))
def test_the_cut_is_the_best_there_is(rows: list[tuple[int | None, bool, int]]) -> None:
    when, labelled, group = map(list, zip(*rows, strict=True))
    last = {
        g: max((w for w, h in zip(when, group, strict=True) if h == g and w is not None), default=None) for g in group
    }
    times = [last[g] for g in group]
    known = [t for t, is_labelled in zip(times, labelled, strict=True) if is_labelled and t is not None]
    text = pa.array([None if w is None else str(w) for w in when], pa.string())
    asked = (text, "when", np.array(labelled), np.array(group))
    if len(set(known)) < 2:
        with pytest.raises(UserError, match="no two different times"):
            hold_out_latest(*asked)
        return
    test = hold_out_latest(*asked)[0] == TEST
    away = {cut: abs(sum(t >= cut for t in known) - 0.3 * len(known)) for cut in sorted(set(known))[1:]}
    best = [cut for cut in away if away[cut] <= min(away.values()) + 1e-9]
    assert any(test.tolist() == [t is not None and t >= cut for t in times] for cut in best)


SITES = {"label": ["a", "b"] * 4, "site": ["A"] * 4 + ["B"] * 4, "part": ["train"] * 4 + ["test"] * 4}


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({}, {"holdout": "site"}, "name a column and the value to hold out, such as site=B"),
        ({}, {"holdout": "=B"}, "name a column and the value"),
        ({}, {"holdout": "ward=B"}, r"--holdout ward: the data has no such column \(it has: label, site, part\)"),
        ({}, {"holdout": "site=b"}, "--holdout site=b: no example has it; 'site' holds A, B"),
        (
            {"site": ["north", "south"] * 4},
            {"holdout": "site=nort"},
            "did you mean 'north'.; 'site' holds north, south",
        ),
        ({"site": ["B"] * 8}, {"holdout": "site=B"}, "leaves no labelled example to train on"),
        ({"label": [*"abab", *[None] * 4]}, {"holdout": "site=B"}, "leaves no labelled example to test on"),
        (
            {},
            {"holdout": "site=B", "split_column": "part"},
            "--holdout and --split-column both say what the test split",
        ),
        ({}, {"holdout": "site=B", "test": "digits"}, "--holdout and --test both"),
        ({}, {"holdout": "site=B", "time_column": "when"}, "--holdout and --time-column both"),
        ({}, {"time_column": "site", "split_column": "part"}, "--time-column and --split-column both"),
        (
            {"who": ["x", *"bcdefg", "x"]},
            {"holdout": "site=B", "group_column": "who"},
            "group 'x' has examples on both",
        ),
        ({}, {"time_column": "when"}, "--time-column when: the data has no such column"),
        ({}, {"time_column": "site"}, "'A' is neither a number nor a date such as 2024-05-31"),
        ({"when": ["31.05.2024", *["1"] * 7]}, {"time_column": "when"}, "'31.05.2024' is neither a number nor a date"),
        ({"when": ["2024-05-31", *["1"] * 7]}, {"time_column": "when"}, "mixes numbers, dates"),
        ({"when": [None] * 8}, {"time_column": "when"}, "no two different times"),
    ],
)
def test_splits_that_cannot_be(cached, columns: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cached(table(**{**SITES, **columns}), label_column="label", **settings)
