"""The one rule of names: what people write for one value is one name, whatever holds it."""

from __future__ import annotations

import decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas._libs.parsers import STR_NA_VALUES

from tacit.core import naming
from tacit.data.named import Missing, as_column, as_text, holds_rounded
from tacit.modalities.events.catalogue import as_id


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *[("7", "7"), ("7.0", "7"), (" 7.00 ", "7"), ("7.", "7"), ("-7.0", "-7"), ("-0.0", "0"), ("-0", "0")],
        *[("1e+05", "100000"), ("1.5E+03", "1500"), ("1e+16", "10000000000000000"), ("1.25e+01", "1.25e+01")],
        *[("007", "007"), ("00", "00"), ("1e5", "1e5"), ("12e4", "12e4"), ("1.0.0", "1.0.0"), ("v1.0", "v1.0")],
        *[("cafe\u0301", "caf\u00e9"), ("\u00a0a b\t", "a b"), ("7.5", "7.5"), ("+7", "+7"), (".", "."), ("", "")],
    ],
)
def test_a_text_is_one_name(text: str, name: str) -> None:
    assert naming.plain(text) == name
    assert naming.plain(name) == name
    assert as_text(pa.array([text])).to_pylist() == [name or None]
    assert as_id(text) == name


@given(st.one_of(st.integers(-(10**15), 10**15), st.floats(-1e9, 1e9).map(lambda x: round(x, 3))))
@settings(max_examples=60, deadline=None)
def test_a_number_is_one_name_in_every_type(number: float) -> None:
    """Alone, as a float, in a CSV of numbers alone or of mixed cells, in a column with gaps."""
    name = str(int(number)) if float(number).is_integer() else repr(number)
    forms: list[Any] = [number, float(number), str(number), f" {number} ", str(float(number))]
    assert {naming.name_of(form) for form in forms} == {name}
    columns = [pa.array([number, None]), pa.array([float(number), 0.25]), pa.array([str(number)]), [number, "x"]]
    assert {as_text(as_column(column))[0].as_py() for column in columns} == {name}


ABSENT = (None, float("nan"), pd.NA, pd.NaT)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["a", *ABSENT], ["a", None, None, None, None]),
        ([1, 2.0, "3", None, b"4"], ["1", "2", "3", None, "4"]),
        (pd.Series(["a", None]), ["a", None]),
        (pd.Series(["a", 1, None, pd.NA, float("nan")], dtype=object), ["a", "1", None, None, None]),
        (pd.Series(["b", None, "a"], dtype="category"), ["b", None, "a"]),
        (pd.Series([7, 8], dtype="category"), ["7", "8"]),
        (pd.Series([1, None], dtype="Int64"), ["1", None]),
        (pd.Series([1.0, None, 7.5]), ["1", None, "7.5"]),
        (pd.Series(["a", "b"]).values, ["a", "b"]),
        (pd.Index(["a", "b"]), ["a", "b"]),
        (pd.Series([True, None], dtype="boolean"), ["true", None]),
        (pd.Series([pd.NaT, pd.Timestamp("2020-01-01")]), [None, "2020-01-01"]),
        (np.array(["a", None, np.nan], object), ["a", None, None]),
        (np.array([b"a", b"b"]), ["a", "b"]),
        (np.ma.masked_array([1, 2], [False, True]), ["1", None]),
        (torch.tensor([1, 2]), ["1", "2"]),
        ([torch.tensor(1), np.int64(2), np.float32(3)], ["1", "2", "3"]),
        ([decimal.Decimal("7.00"), None], ["7", None]),
        (pa.chunked_array([["a"], [None]]), ["a", None]),
        (pa.array([1, None]).dictionary_encode(), ["1", None]),
        ([float("inf"), 1e16], [None, "10000000000000000"]),
        (("x", "y"), ["x", "y"]),
    ],
)
def test_whatever_holds_values_is_read(values: Any, names: list[str | None]) -> None:
    assert as_text(as_column(values)).to_pylist() == names


def test_words_that_say_that_there_is_none_are_counted_and_may_be_kept() -> None:
    """Those that pandas takes for none are none here, in any case; Na is sodium, and `none` may be a class."""
    words = ["", "NA", "NaN", "nan", "None", "null", "NULL", "NaT", "<NA>", "n/a", "#N/A", "N/A", "none", " NA "]
    text = as_text(pa.array([*words, "Na", "na", "nano", "0", "-1", "unknown"]))
    missing = Missing()
    assert missing.out_of(text, "label").drop_null().to_pylist() == ["Na", "na", "nano", "0", "-1", "unknown"]
    assert missing.found["label"]["NA"] == 2
    kept = Missing(("none", "NA")).out_of(text, "label").drop_null().to_pylist()
    assert kept[:3] == ["NA", "none", "NA"]
    assert all(map(naming.missing, STR_NA_VALUES))


def test_zeros_at_the_front_are_kept_and_told() -> None:
    assert naming.two_ways(["7", "8", "p7"]) is None
    assert naming.two_ways(["a", "007", "7"]) == ("007", "7")
    assert naming.two_ways(["0", "00"]) == ("0", "00")
    assert naming.two_ways(["-7", "7", "1.07", "1.7"]) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [("True", "true"), (" FALSE ", "false"), ("Truely", "Truely"), ("cat\u200b", "cat"), ("\ufeffcat", "cat")],
)
def test_one_value_has_one_name_however_it_is_written(text: str, name: str) -> None:
    assert naming.plain(text) == name
    assert as_text(pa.array([text])).to_pylist() == [name]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["true", "false", "1"], ("true", "1")),
        (["false", "0"], ("false", "0")),
        (["true", "1", "2"], None),  # these are words and numbers
        (["true", "false"], None),
    ],
)
def test_true_beside_1_may_be_one(names: list[str], found: tuple[str, str] | None) -> None:
    assert naming.two_ways(names) == found


@pytest.mark.parametrize("other", ["Cat", "\uff43at", "cat", "c\u200bat"])
def test_names_that_look_alike_are_told(other: str) -> None:
    assert naming.alike(["dog", "cat", other]) == (None if other == "cat" else ("cat", other))


@pytest.mark.parametrize(
    ("values", "lost"),
    [
        (pa.array([1.0, 2.0**53]), True),
        (pa.array([1.0, 2.0**53 - 1, None, float("inf"), 0.5]), False),
        (pa.array([2.0**24], pa.float32()), True),
        (pa.array([2**60]), False),
        (pa.array(["1.23457E+11"]), True),
        (pa.array(["1e+05", "1e+11", "123456789012345678", "1.5"]), False),
        (pa.array(["100000000000000000.0"]).dictionary_encode(), True),
    ],
)
def test_numbers_without_their_last_digits_are_no_names(values: pa.Array, lost: bool) -> None:
    assert bool(holds_rounded(values)) == lost
