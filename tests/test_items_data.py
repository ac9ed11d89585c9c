"""Tables of events to histories: every form of them, the order, what is held out, catalogues, attributes, memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.data import streamed
from tacit.dataset import Dataset, open_dataset
from tacit.modalities.events import sorting
from tests.events import Row, as_told, by_hand, histories_of, write
from tests.events import events as some_events


@pytest.fixture
def cached(tmp_path: Path):
    def open_(data: object, **settings: Any) -> Dataset:
        return open_dataset(data, **{"cache": str(tmp_path / "cache"), **settings})

    return open_


# Where events lie


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_every_kind_of_table_gives_the_same_histories(tmp_path: Path, cached, ending: str):
    rows = some_events()
    dataset = cached(write(rows, tmp_path / f"events.{ending}"))
    assert dataset.kind == dataset.spec.kind == "items"
    expected = by_hand(rows)
    told = as_told(dataset)
    assert list(told) == list(expected), "users in the order in which they first occur"
    assert told == (expected if ending != "csv" else {user: [*map(str, items)] for user, items in expected.items()})
    assert histories_of(dataset).timed


def test_tables_in_memory_and_other_names(cached):
    rows = some_events(user="customer_id", item="MovieId:token", timestamp="Date")
    plain = [dict(zip(("user", "item", "timestamp"), row.values(), strict=True)) for row in rows]
    assert as_told(cached(pa.Table.from_pylist(rows))) == by_hand(plain)
    pandas = pytest.importorskip("pandas", reason="an optional input")
    strange = pandas.DataFrame(rows).set_axis(["who", "what", "when"], axis=1)
    named = cached(strange, user_column="who", item_column="what", time_column="when")
    assert as_told(named) == by_hand(plain)


@given(st.integers(0, 10_000), st.integers(1, 60), st.booleans())
def test_sorting_in_parts_equals_sorting_by_hand(tmp_path_factory: Any, seed: int, n: int, ordered: bool):
    rows = some_events(n, users=9, items=5, seed=seed)
    rows = rows if ordered else [{name: row[name] for name in ("user", "item")} for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "TOGETHER", 2)
        patch.setattr(sorting, "_AT_ONCE", 3)
        patch.setattr(streamed, "_ROWS", 7)
        if len({row["user"] for row in rows}) < 2:
            return
        dataset = open_dataset(pa.Table.from_pylist(rows), cache=str(tmp_path_factory.mktemp("cache")))
    assert as_told(dataset) == by_hand(rows, "timestamp" if ordered else None)


def test_several_files_are_one_table(tmp_path: Path, cached):
    rows = some_events()
    (tmp_path / "data").mkdir()
    for part in range(3):
        write(rows[part::3], tmp_path / "data" / f"train-{part}.parquet")
    again = [row for part in range(3) for row in rows[part::3]]
    assert as_told(cached(tmp_path)) == by_hand(again)


def test_what_is_kept_is_found_again(tmp_path: Path, cached, monkeypatch: pytest.MonkeyPatch):
    path = write(some_events(), tmp_path / "events.parquet")
    first = as_told(cached(path))
    monkeypatch.setattr(sorting, "sort", None)
    again = cached(path, length=7)
    assert as_told(again) == first
    assert again.spec.length == 7


def test_other_kinds_are_still_what_they_were(cached):
    rows = [{**row, "review": f"a text about item {row['item']}"} for row in some_events(20)]
    assert cached(pa.Table.from_pylist(rows), vocabulary=300).kind == "text"
    assert cached(pa.Table.from_pylist(rows), kind="items").kind == "items"


# Times


@pytest.mark.parametrize(
    ("as_written", "timed"),
    [
        (lambda t: t, True),
        (lambda t: t * 1000, True),
        (lambda t: float(t), True),
        (lambda t: str(np.datetime64(t, "s")), True),
        (lambda t: np.datetime64(t, "s").astype(object), True),
        (lambda t: t - 1_600_000_000, False),
    ],
)
def test_times_of_every_form(cached, as_written, timed: bool):
    rows = some_events()
    column = "timestamp" if timed else "position"
    written = [{"user": r["user"], "item": r["item"], column: as_written(r["timestamp"])} for r in rows]
    dataset = cached(pa.Table.from_pylist(written))
    found = histories_of(dataset)
    assert as_told(dataset) == by_hand(rows)
    assert found.timed == timed
    assert found.times is not None
    if timed:
        assert found.times.min() == min(row["timestamp"] for row in rows)
    assert ("order only" in dataset.notes.remarks[0]) != timed


def test_without_a_column_of_times_rows_are_in_order(cached):
    rows = [{"user": row["user"], "item": row["item"]} for row in some_events()]
    dataset = cached(pa.Table.from_pylist(rows))
    assert as_told(dataset) == by_hand(rows, None)
    assert dataset.notes.repeated_rows == 0, "they are events that happened again"
    assert "order only" in dataset.notes.remarks[0]


def test_sessions_are_examples_and_their_user_is_a_group(cached):
    times = {"a": [0, 60, 4000, 4030, 9000], "b": [100, 160]}
    rows = [{"user": u, "item": t, "timestamp": 1_600_000_000 + t} for u, ts in times.items() for t in ts]
    dataset = cached(pa.Table.from_pylist(rows), session_gap="30m")
    assert as_told(dataset) == {"a#1": [0, 60], "a#2": [4000, 4030], "a#3": [9000], "b#1": [100, 160]}
    many = [{**row, "user": f"{row['user']}{k}"} for row in rows for k in range(6)]
    grouped = cached(pa.Table.from_pylist(many), session_gap="30m").group
    assert grouped is not None
    assert len(np.unique(grouped)) == 12


# What is held out


def test_what_is_held_out_is_never_learned_from(cached):
    rows = some_events(300, users=12)
    whole, held = by_hand(rows), {}
    table = pa.Table.from_pylist(rows)
    dataset = cached(table)
    learned = histories_of(dataset).learned()
    every = np.arange(len(learned))
    for name, seen, later in zip(dataset.ids.to_pylist(), learned.seen(every), learned.later(every), strict=True):
        known = dataset.spec.known
        held[name] = known.items(later)
        assert known.items(seen) + held[name] == whole[name]
        assert len(held[name]) == min(2, len(whole[name]) - 1)
    batch = learned.batch(every)
    assert batch["valid"].sum(1).tolist() == learned.lengths.tolist()
    assert (batch["tokens"][~batch["valid"]] == 0).all()

    early, late = (histories_of(cached(table, holdout="time"))).moments()
    by_time = histories_of(cached(table, holdout="time")).learned()
    times = [sorted(row["timestamp"] for row in rows if str(row["user"]) == name) for name in dataset.ids.to_pylist()]
    distinct = {
        name: [r["timestamp"] for r in {tuple(r.values()): r for r in rows}.values() if str(r["user"]) == name]
        for name in dataset.ids.to_pylist()
    }
    assert by_time.lengths.tolist() == [sum(t < early for t in distinct[name]) for name in dataset.ids.to_pylist()]
    assert early < late <= max(map(max, times))
    assert (histories_of(cached(table, holdout="none")).learned().lengths == histories_of(dataset).lengths).all()


# Weights, cores, catalogues


def test_events_have_weights(cached):
    rows = [{**row, "kind": ("view", "buy", "skip")[i % 3]} for i, row in enumerate(some_events(60))]
    table = pa.Table.from_pylist(rows)
    dataset = cached(table, event_column="kind", event_weight=["buy=3", "skip=0"])
    assert dataset.notes.weightless == 20
    assert as_told(dataset) == by_hand([row for row in rows if row["kind"] != "skip"])
    batch = dataset.batch(np.arange(len(dataset)))
    assert set(batch["weight"][batch["valid"]].tolist()) == {1.0, 3.0}
    numbers = cached(
        pa.Table.from_pylist([{**row, "rating": float(i % 5 + 1)} for i, row in enumerate(rows)]), event_column="rating"
    )
    assert set(numbers.cache.weights.tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}


def core_by_hand(rows: list[Row], k: int) -> list[Row]:
    while True:
        counts = {(by, row[by]): 0 for row in rows for by in ("user", "item")}
        for row in rows:
            for by in ("user", "item"):
                counts[by, row[by]] += 1
        kept = [row for row in rows if all(counts[by, row[by]] >= k for by in ("user", "item"))]
        if len(kept) == len(rows):
            return rows
        rows = kept


@pytest.mark.parametrize(("k", "n"), [(2, 150), (5, 230)])
def test_a_core_is_what_is_left_by_hand(cached, k: int, n: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sorting, "_AT_ONCE", 3)
    rows = list({tuple(row.values()): row for row in some_events(n, users=25, items=40)}.values())
    left = core_by_hand(rows, k)
    assert 0 < len(left) < len(rows)
    dataset = cached(pa.Table.from_pylist(rows), k_core=k)
    assert as_told(dataset) == by_hand(left)
    assert dataset.notes.out_of_core == len(rows) - len(left)
    assert sorted(dataset.spec.known.items(np.arange(dataset.spec.items))) == sorted({row["item"] for row in left})


def test_a_catalogue_keeps_its_numbers_and_grows_at_its_end(tmp_path: Path, cached):
    rows = some_events()
    first, later = (pa.Table.from_pylist([row for row in rows if (row["item"] < 20) or new]) for new in (False, True))
    spec = cached(first).spec
    grown = cached(later.slice(50), catalogue=spec)
    assert spec.known.begins(grown.spec.known)
    assert len(grown.spec.known) > len(spec.known)
    assert as_told(grown) == by_hand(rows[50:])
    assert "items are new to the catalogue" in " ".join(grown.notes.lines())
    spec.known.save(tmp_path / "items.parquet")
    assert cached(later, catalogue=str(tmp_path)).spec.known.begins(cached(later, catalogue=spec).spec.known)


def test_items_have_names_and_attributes(tmp_path: Path, cached):
    rows = some_events()
    about = [
        {"item_id": str(n), "title": f"film {n}", "genres": "Drama|War" if n % 2 else "Comedy", "year": 1990 + n % 3}
        for n in range(25)
    ]
    dataset = cached(pa.Table.from_pylist(rows), item_table=str(write(about, tmp_path / "about.csv")))
    known = dataset.spec.known
    number = int(known.numbers([7])[0])
    assert known.title(number) == "film 7"
    assert known.title(int(known.numbers([28])[0])) == "28"
    assert known.n_attributes == 6
    attributes = known.attributes[number].as_py()
    assert len(attributes) == 3, "Drama, War and the year"
    assert "items are in about.csv" in " ".join(dataset.notes.lines())
    again = cached(pa.Table.from_pylist(rows), catalogue=dataset.spec).spec.known
    assert again.n_attributes == 6
    assert again.attributes.equals(known.attributes)


def test_people_have_labels(tmp_path: Path, cached):
    rows = some_events(users=12)
    people = [{"user_id": n, "label": ("f", "m")[n % 2]} for n in range(12)]
    dataset = cached(pa.Table.from_pylist(rows), labels=str(write(people, tmp_path / "people.csv")))
    assert dataset.classes == ("f", "m")
    assert dataset.label.tolist() == [int(user) % 2 for user in dataset.ids.to_pylist()]
