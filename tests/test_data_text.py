from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.core.errors import UserError
from tacit.data.delimited import read_csv, sniff_delimiter
from tacit.data.encodings import decoded

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]

# What people put into label files: words, paths, umlauts, and now and then a delimiter inside a quoted cell.
cell = st.text(alphabet='abcXYZ019 ./\\_-äöüßé,;\t"', max_size=12).map(str.strip)
name = st.text(alphabet="abcdefgh_", min_size=1, max_size=8)
table = st.integers(2, 4).flatmap(
    lambda width: st.tuples(
        st.lists(name, min_size=width, max_size=width, unique=True),
        st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=8),
    )
)


def written(names: list[str], rows: list[list[str]], delimiter: str) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerows([names, *rows])
    return out.getvalue()


@given(table=table, delimiter=st.sampled_from(",;\t"), encoding=st.sampled_from(ENCODINGS))
@settings(max_examples=60, deadline=None)
def test_a_table_reads_back_whatever_its_delimiter_and_encoding(tmp_path_factory, table, delimiter, encoding):
    names, rows = table
    path = tmp_path_factory.mktemp("csv") / "labels.csv"
    path.write_bytes(written(names, rows, delimiter).encode(encoding))
    found = read_csv(path)
    assert found.column_names == names
    assert [list(row.values()) for row in found.to_pylist()] == rows


@given(table=table, delimiter=st.sampled_from(",;\t"))
@settings(max_examples=60, deadline=None)
def test_the_delimiter_is_the_one_it_was_written_with(table, delimiter):
    assert sniff_delimiter(written(*table, delimiter).splitlines(keepends=True)) == delimiter


@given(
    text=st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=40), e=st.sampled_from(ENCODINGS)
)
@settings(max_examples=60, deadline=None)
def test_plain_text_survives_every_encoding(text, e):
    assert decoded(text.encode(e))[0] == text


def test_a_semicolon_file_with_commas_as_decimal_points():
    assert sniff_delimiter(["file;label;weight\n", "a.png;cat;1,5\n", "b.png;dog;2,5\n"]) == ";"


def test_values_stay_the_text_they_were(tmp_path):
    (tmp_path / "t.csv").write_text("file,label\n001,1e3\n002,NA\n003,\n")
    assert read_csv(tmp_path / "t.csv").to_pydict() == {"file": ["001", "002", "003"], "label": ["1e3", "NA", ""]}


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "is empty"), (b"a,a\n1,2\n", "two columns named 'a'"), (b"\x81\x8d\xfe,b\n", "save it as UTF-8")],
)
def test_unusable_files_are_refused_by_name(tmp_path, data, message):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(UserError, match=f"t.csv.*{message}"):
        read_csv(tmp_path / "t.csv")
