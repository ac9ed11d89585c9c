"""What people's tables of events hold that they should not: counted and said, or refused in one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tacit.cli import main
from tacit.core.errors import UserError
from tacit.dataset import Dataset, open_dataset
from tacit.modalities.events import recipes
from tacit.modalities.events.modality import MODALITY as EVENTS
from tests.events import as_told, by_hand, histories_of, write
from tests.events import events as some_events

BEGIN = 1_600_000_000


@pytest.fixture
def cached(tmp_path: Path):
    def open_(data: object, **settings: Any) -> Dataset:
        data = pa.Table.from_pylist(data) if isinstance(data, list) else data
        return open_dataset(data, **{"cache": str(tmp_path / "cache"), **settings})

    return open_


def rows_of(*told: tuple[Any, Any, Any]) -> list[dict[str, Any]]:
    return [dict(zip(("user", "item", "timestamp"), row, strict=True)) for row in told]


# Counted and said


def test_users_with_one_event_and_items_seen_once(cached):
    rows = rows_of(("a", 1, BEGIN), ("a", 2, BEGIN + 1), ("b", 1, BEGIN + 2), ("c", 3, BEGIN + 3))
    notes = cached(rows).notes
    assert (notes.single, notes.once) == (2, 2)
    told = " / ".join(notes.lines(private=True))
    assert "2 users have a single event" in told
    assert "2 items occur once" in told


def test_users_that_are_all_alike(cached):
    rows = rows_of(*((user, item, BEGIN + item) for user in range(9) for item in range(5)))
    dataset = cached(rows)
    assert dataset.notes.duplicates == 8
    assert len(np.unique(dataset.content)) == 1


def test_rows_that_are_there_twice_and_events_at_one_time(cached):
    rows = rows_of(
        ("a", 1, BEGIN), ("a", 2, BEGIN), ("a", 1, BEGIN), ("a", 1, BEGIN + 5), ("b", 1, BEGIN), ("b", 1, BEGIN)
    )
    dataset = cached(rows)
    assert (dataset.notes.repeated_rows, dataset.notes.tied, dataset.notes.repeats) == (2, 1, 1)
    assert as_told(dataset) == {"a": [1, 2, 1], "b": [1]}


def test_cells_that_are_empty(cached):
    rows = some_events(100)
    holed = [dict(row) for row in rows]
    for row, column in zip(holed, ("user", "item", "timestamp"), strict=False):
        row[column] = None
    dataset = cached(holed)
    assert dataset.notes.unplaced == 3
    assert as_told(dataset) == by_hand(rows[3:])
    with pytest.raises(UserError, match="3 of 100 events of the data lack a user, an item or a time, more than"):
        cached(holed, max_bad=0.01)


def test_times_that_were_hardly_meant(cached):
    rows = rows_of(("a", 1, BEGIN), ("a", 2, -5), ("a", 3, BEGIN + 1), ("b", 1, BEGIN), ("b", 2, 9_999_999_999))
    dataset = cached(rows)
    assert as_told(dataset) == {"a": [2, 1, 3], "b": [1, 2]}
    assert dataset.notes.odd_times == 2
    assert "2 events are dated before 1970 or after 2100" in " ".join(dataset.notes.lines())


def test_dates_among_which_one_is_none(tmp_path: Path, cached):
    rows = some_events(40)
    dated = [{**row, "timestamp": str(np.datetime64(row["timestamp"], "s"))} for row in rows]
    numbered = [{**row, "timestamp": 1000 * row["timestamp"]} for row in rows]
    told = {user: [*map(str, items)] for user, items in by_hand(rows[:7] + rows[8:]).items()}
    for written in (dated, numbered):
        written[7]["timestamp"] = "yesterday"
        dataset = cached(write(written, tmp_path / "t.csv"))
        assert dataset.notes.unplaced == 1
        assert as_told(dataset) == told
        times = histories_of(dataset).times
        assert times is not None
        assert times.min() == BEGIN + min(row["timestamp"] - BEGIN for row in rows[:7] + rows[8:])


@pytest.mark.parametrize(("large", "said"), [(False, ""), (True, "each compared with 4,096 sampled ones")])
def test_a_large_catalogue_is_sampled_and_this_is_said(cached, large: bool, said: str, monkeypatch: pytest.MonkeyPatch):
    if large:
        monkeypatch.setattr(recipes, "SAMPLED_FROM", 20)
    dataset = cached(some_events())
    told = EVENTS.describe(dataset.cache)
    assert said in told
    assert ("sampled" in told) == large
    assert EVENTS.facts(dataset.cache)["sampled_softmax"] == (4096 if large else 0)


# Refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"user_column": "who"}, r"--user-column who: the data has no such column \(it has: user, item, timestamp\)"),
        ({"time_column": "when"}, "--time-column when: the data has no such column"),
        ({"user_column": "item"}, "'item' cannot be the column of users and of items"),
        ({"kind": "text", "item_column": "item"}, "--item-column item contradicts --kind text"),
        ({"image_size": 32}, "--image-size 32: the data holds no images but events"),
        ({"tokenizer": "bpe"}, "--tokenizer bpe: the data holds no texts but events"),
        ({"session_gap": "soon"}, "--session-gap soon is no length of time"),
        ({"session_gap": "0"}, "--session-gap 0 is no length of time"),
        ({"k_core": 1}, "--k-core 1 is out of range; choose 2 to 1,000"),
        ({"k_core": 900}, "the data holds no event that can be used; --k-core 900 leaves none"),
        ({"item_table": "nowhere.csv"}, "--item-table nowhere.csv: no such file"),
        ({"catalogue": "nowhere"}, "--catalogue nowhere: there is no items.parquet"),
        ({"length": 1}, "--length 1 is out of range; choose 2 to 4,096 events"),
        ({"event_weight": ["buy"]}, "--event-weight buy: write the word and its weight"),
        ({"event_weight": ["buy=2"]}, "--event-weight says what words of a column weigh: name it with --event-column"),
        ({"event_weight": ["buy=-1"]}, "--event-weight buy=-1: write the word and its weight"),
        ({"test": "digits"}, "--test digits: what is tested of events is each user's last"),
        ({"label_column": "age"}, "--label-column age: the data has no such column"),
    ],
)
def test_settings_that_make_no_sense(cached, settings: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        cached(some_events(), **settings)


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (rows_of(("a", 1.5, BEGIN), ("b", 2.0, BEGIN)), {}, "column 'item' holds fractions, no ids"),
        (rows_of(("a", [1], BEGIN), ("b", [2], BEGIN)), {}, "column 'item' holds list<.*>, no ids"),
        (rows_of(("a", 1, "late"), ("b", 2, "later")), {}, "--time-column timestamp: 'late' is neither a number nor"),
        (rows_of(("a", 1, [3]), ("b", 2, [4])), {}, "--time-column timestamp holds list<.*>; give numbers, or dates"),
        (rows_of((None, 1, BEGIN), (None, 2, BEGIN)), {}, "has no rows with a user in 'user'"),
        (rows_of(("a", None, BEGIN), ("b", None, BEGIN)), {}, "holds no event with a user, an item and a time"),
        (
            rows_of(("a", 1, BEGIN), ("b", 2, BEGIN)),
            {"holdout": "time"},
            "--holdout time: too many events are of one time",
        ),
        ([{"user": u, "item": i, "position": i} for u in "ab" for i in range(3)], {"session_gap": "5m"}, "needs times"),
        ([{"user": u, "item": i, "position": i} for u in "ab" for i in range(3)], {"holdout": "time"}, "needs times"),
        (
            [{"user": u, "item": 1, "kind": "view"} for u in "ab"],
            {"event_column": "kind"},
            r"holds words \(view\): say",
        ),
        ([{"user": "a", "item": i, "timestamp": BEGIN} for i in range(3)], {}, "holds one example"),
        (
            [{"person": "a", "item": 1}],
            {"kind": "items"},
            r"has no column of users that is known by its name \(of person",
        ),
    ],
)
def test_tables_that_cannot_be_used(cached, rows: list[dict[str, Any]], settings: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        cached(rows, **settings)


def test_ids_of_several_types_are_names_in_a_frame_and_refused_in_a_file(tmp_path: Path, cached):
    rows = rows_of(("a", 1, BEGIN), ("b", "two", BEGIN))
    (tmp_path / "mixed.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=r"mixed.jsonl"):
        cached(tmp_path / "mixed.jsonl", kind="items")
    pandas = pytest.importorskip("pandas", reason="an optional input")
    found = cached(pandas.DataFrame([*rows, *rows_of(("a", "1", BEGIN), ("b", 2.0, BEGIN))]))
    assert found.spec.catalogue.ids.to_pylist() == ["1", "two", "2"]


def test_an_empty_table_is_refused(cached):
    empty = pa.table({"user": pa.array([], pa.int64()), "item": pa.array([], pa.int64())})
    with pytest.raises(UserError, match="the data has no rows with a user"):
        cached(empty)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([{"name": "film"}], "has no column of items that is known by its name"),
        ([{"item": 999, "name": "film"}], "none of the items occurs in its column 'item'"),
    ],
)
def test_a_table_of_items_that_says_nothing_of_them(tmp_path: Path, cached, table: Any, message: str):
    with pytest.raises(UserError, match=message):
        cached(some_events(), item_table=str(write(table, tmp_path / "about.csv")))


def test_histories_too_short_to_hold_anything_out_are_named(cached):
    rows = rows_of(*((user, user, BEGIN + user) for user in range(6)))
    dataset = cached(rows)
    plan = type("Plan", (), {"batch_size": 2})
    with pytest.raises(UserError, match="no history has 2 events beside those that are held out"):
        EVENTS.batches(dataset.cache, np.arange(6), plan, 0)  # type: ignore[arg-type]
    assert histories_of(dataset).learned().lengths.tolist() == [1] * 6


def test_a_command_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write(some_events(), tmp_path / "events.csv")
    with pytest.raises(SystemExit) as stopped:
        main(["inspect", str(path), "--user-column", "who", "--cache", str(tmp_path / "cache")])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["tacit: error: --user-column who: events.csv has no such column (it has: user, item, timestamp)"]
