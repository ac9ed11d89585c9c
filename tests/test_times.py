"""Columns of times in every form that people have: converted and said, or refused; never in a wrong order unsaid."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import UserError
from tacit.data.splitting import hold_out_latest
from tacit.data.streamed import in_memory
from tacit.data.times import When, when_of
from tacit.dataset import open_dataset
from tests.events import as_told

B = 1_600_000_000  # 2020-09-13T12:26:40Z


def told(values: Any, usual: bool = True) -> tuple[When, list[float | None]]:
    """What a column says of the order, and its cells in seconds."""
    table = pa.table({"time": values})
    when = when_of(in_memory(table), "time", usual=usual)
    found = np.concatenate([when.seconds(chunk) for chunk in table["time"].chunks]).tolist()
    return when, [None if np.isnan(value) else value for value in found]


@pytest.mark.parametrize("form", [int, float, str])
def test_two_exporters_wrote_one_log(tmp_path: Path, form: Any):
    rng, rows = np.random.default_rng(0), []
    for user in range(20):
        time = B + int(rng.integers(1e6))
        for item in range(10):
            rows.append((user, item, time))
            time += int(rng.integers(60, 9000))
    order = rng.permutation(len(rows))
    written = [(u, k, form(t if n % 3 == 0 else 1000 * t)) for n, (u, k, t) in enumerate(rows[i] for i in order)]
    table = pa.table(dict(zip(("userId", "movieId", "timestamp"), zip(*written, strict=True), strict=True)))
    dataset = open_dataset(table, cache=str(tmp_path))
    assert set(map(tuple, as_told(dataset).values())) == {tuple(range(10))}
    assert "whose numbers are seconds (67) and milliseconds (133), each converted" in dataset.notes.remarks[0]


@given(st.lists(st.tuples(st.integers(B, B + 10**8), st.sampled_from([1, 10**3, 10**6, 10**9])), min_size=1))
def test_each_number_tells_its_unit(events: list[tuple[int, int]]):
    _, found = told([seconds * unit for seconds, unit in events])
    assert np.allclose(np.array(found, float), [seconds for seconds, _ in events], rtol=0, atol=1e-5)


FORMS: dict[str, tuple[Any, list[float | None], str]] = {
    "zones": (["2020-09-13T14:26:40+02:00", "2020-09-13T12:26:41Z", "2020-09-13 12:26:42-0000"], [B, B + 1, B + 2], ""),
    "some zones": (
        ["2020-09-13T14:26:40+02:00", "2020-09-13T12:26:41"],
        [B, B + 1],
        "without a zone are taken for UTC",
    ),
    "nanoseconds": (pa.array([B * 10**9 + 1, None], pa.timestamp("ns")), [B, None], ""),
    "a zone of arrow": (pa.array([B * 10**3, None], pa.timestamp("ms", "Europe/Berlin")), [B, None], ""),
    "days": ([dt.date(2020, 9, 13), None], [B - 44800, None], ""),
    "texts of nanoseconds": (["2020-09-13 12:26:40.123456789", "2020-09-13"], [B + 0.123456, B - 44800], ""),
    "decimals": ([Decimal(B), None], [B, None], ""),
    "whole numbers of nanoseconds": ([B * 10**9, (B + 1) * 10**9], [B, B + 1], "in nanoseconds"),
    "calendar": ([20200913, 20240229], [B - 44800, 1709164800], "dates such as 20240531"),
    "calendar and clock": (["20200913122640", ""], [B, None], "dates such as 20240531"),
    "dates and numbers": (["2020-09-13", str(B), str(1000 * B)], [B - 44800, B, B], "2 of which are numbers"),
    "words for nothing": ([str(B), "NA", "null", " ", "nan"], [B, None, None, None, None], ""),
    "no finite ones": ([float(B), float("nan"), float("inf"), None], [B, None, None, None], ""),
    "days that are none": (["2020-09-13", "2020-02-31", "2020-13-01"], [B - 44800, None, None], ""),
    "nothing": ([B, B + 1, 0], [B, B + 1, 0], "1 are 0, which is 1970"),
    "before 1970": ([B, B + 1, -5], [B, B + 1, -5], ""),
    "small": ([3, 1, 2], [3, 1, 2], "taken for seconds"),
    "since a start, over all sizes": (np.linspace(0, 1e12, 9), (np.linspace(0, 1e9, 9)).tolist(), "in milliseconds"),
    "a dictionary": (pa.array(["2020-09-13", None]).dictionary_encode(), [B - 44800, None], ""),
}


@pytest.mark.parametrize("name", FORMS)
def test_times_of_odd_forms(name: str):
    values, seconds, said = FORMS[name]
    when, found = told(values)
    assert when.by == "time"
    assert found == [None if second is None else pytest.approx(second, abs=1e-5) for second in seconds]
    assert said in when.description
    assert bool(said) == (when.description != "in time by 'time'")


@pytest.mark.parametrize(
    "values",
    [
        ["05/31/2024", "06/01/2024"],
        ["late", "later"],
        pa.array([1, 2], pa.time64("us")),
        pa.array([1, 2], pa.duration("s")),
        [True, False],
        [{"a": 1}],
        [[1]],
    ],
)
def test_what_is_no_time_is_refused(values: Any):
    with pytest.raises(UserError, match="--time-column time"):
        told(values)


def test_the_unit_is_told_by_the_whole_column(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tacit.data.streamed._ROWS", 10)
    _, found = told([B + k for k in range(10)] + [1000 * (B + k) for k in range(10, 40)])
    assert found == [B + k for k in range(40)]


def test_a_split_by_time_refuses_two_units():
    labelled = np.ones(4, bool)
    with pytest.raises(UserError, match=r"--time-column when holds seconds \(1\) and milliseconds \(3\): write all in"):
        hold_out_latest(pa.array([str(B), *(f"{B + k}000" for k in range(3))]), "when", labelled, None)
