"""No reader of tables and texts returns fewer rows, other characters or other values than the file has unsaid."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.core.errors import UserError
from tacit.data.delimited import open_delimited, read_csv
from tacit.data.encodings import CannotRead, decoded
from tacit.data.opened import read_table
from tacit.data.rows import concatenated
from tacit.dataset import Settings, open_dataset, open_source
from tacit.modalities.text.texts import file_texts
from tests.test_data_open import png, values


def read(path: Path, data: bytes | str, encoding: str = "utf-8") -> tuple[dict[str, list[str]], str]:
    """The columns, and what is said of the reading."""
    path.write_bytes(data if isinstance(data, bytes) else data.encode(encoding))
    said: list[str] = []
    return read_csv(path, said).to_pydict(), " / ".join(said)


def refused(path: Path, data: bytes | str) -> str:
    with pytest.raises(UserError) as error:
        read(path, data)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# Quotation marks


@pytest.mark.parametrize("at", [(10,), (10, 20), (0, 1, 59)])
@pytest.mark.parametrize("ending", ["tsv", "csv"])
def test_a_mark_at_the_head_of_a_cell_swallows_no_row(tmp_path: Path, at: tuple[int, ...], ending: str):
    sign = "\t" if ending == "tsv" else ","
    texts = [('"' if k in at else "") + f"some words of text {k}" for k in range(60)]
    found, said = read(tmp_path / f"t.{ending}", f"sentence{sign}label\n" + "".join(f"{t}{sign}1\n" for t in texts))
    assert found["sentence"] == texts
    assert "quotation marks are read as parts of the texts" in said


QUOTED = {
    "a sentence that begins in one row and ends in the next": ('"I went.\t0\nAnd slept."\t1\n', "\t", 2),
    "a mark that closes before the cell ends": ('"Yes" he said\t0\nno\t1\n', "\t", 2),
    "inches": ('a 5" disk\t0\n', "\t", 1),
    "single marks": ("'a b'\t0\nit's\t1\n", "\t", 2),
}


@pytest.mark.parametrize("name", QUOTED)
def test_marks_of_people_are_text(tmp_path: Path, name: str):
    rows, sign, n = QUOTED[name]
    found, _ = read(tmp_path / "t.tsv", f"text{sign}label\n{rows}")
    assert found["text"] == [line.split(sign)[0] for line in rows.splitlines()]
    assert len(found["label"]) == n


SYNTAX = {
    "a text of several lines": ('"one\ntwo",0\n"x, y",1\n', ["one\ntwo", "x, y"], ""),
    "the same at the end of a line": ('a,"0\n1"\nb,2\n', ["a", "b"], ""),
    "marks written twice": ('"he said ""hi""",0\n"""quoted""",1\n', ['he said "hi"', '"quoted"'], ""),
    "marks with a backslash": (
        '"he said \\"hi, you\\"",0\nC:\\new,1\n',
        ['he said "hi, you"', "C:\\new"],
        "quotation mark",
    ),
    "blanks before marks": ('x, "a, b"\ny, z\n', ["x", "y"], "blanks before quotation marks"),
    "a return inside marks": ('"x\rz",1\r\ny,2\r\n', ["x\rz", "y"], ""),
}


@pytest.mark.parametrize("name", SYNTAX)
def test_marks_of_programs_are_syntax(tmp_path: Path, name: str):
    rows, texts, remark = SYNTAX[name]
    found, said = read(tmp_path / "t.csv", f"text,label\n{rows}")
    assert found["text"] == texts
    assert remark in said
    assert bool(remark) == bool(said)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            'text,label\n"I went.,0\nAnd slept.",1\nx,2\n',
            "line 2: the quotation mark may begin a cell",
        ),
        ('"text","label"\n"he said "hi" x","1"\n', "line 2: a quotation mark begins a cell that does not end with one"),
        ('text,label\nx,1\n"a, b" ,c\n', "line 3: a quotation mark begins a cell that does not end with one"),
        ('text,label\nx,1\n"a, b, c\ny,2\n', "line 3: a quotation mark begins a cell that does not end with one"),
    ],
)
def test_marks_that_nobody_understands_are_refused_with_their_line(tmp_path: Path, data: str, line: str):
    assert line in refused(tmp_path / "t.csv", data)


def test_a_column_of_texts_of_several_lines_is_read_and_said(tmp_path: Path):
    found, said = read(tmp_path / "t.csv", 'text\n"one\ntwo"\nthree\n')
    assert found["text"] == ["one\ntwo", "three"]
    assert "1 texts have several lines" in said


cells = st.lists(st.text(alphabet='ab ,;|\t"\n\\é', max_size=6).filter(str.strip), min_size=2, max_size=2)


@given(rows=st.lists(cells, min_size=1, max_size=6), sign=st.sampled_from(",;\t"))
@settings(max_examples=80, deadline=None)
def test_what_a_program_writes_is_read_back_or_refused(tmp_path_factory: Any, rows: list[list[str]], sign: str):
    out = io.StringIO()
    csv.writer(out, delimiter=sign, lineterminator="\n").writerows([["text", "label"], *rows])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(out.getvalue().encode())
    said: list[str] = []
    try:
        table = read_csv(path, said)
    except UserError:
        return
    found = [list(row.values()) for row in table.to_pylist()]
    assert found == rows or said


@given(rows=st.lists(st.text(alphabet='ab "\\é', min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=8))
@settings(max_examples=80, deadline=None)
def test_naive_lines_never_become_fewer(tmp_path_factory: Any, rows: list[str]):
    path = tmp_path_factory.mktemp("tsv") / "t.tsv"
    path.write_bytes("".join(["text\tlabel\n", *(f"{text}\t1\n" for text in rows)]).encode())
    with contextlib.suppress(UserError):
        assert read_csv(path).num_rows == len(rows)


# Lines, cells, delimiters


@pytest.mark.parametrize(
    ("data", "columns"),
    [
        ("text|label\na b|1\nc d|2\n", {"text": ["a b", "c d"], "label": ["1", "2"]}),
        ("file,labels\na.png,x|y\nb.png,z|w\n", {"file": ["a.png", "b.png"], "labels": ["x|y", "z|w"]}),
        ("text;label\nhello, world;1\nx;2\n", {"text": ["hello, world", "x"], "label": ["1", "2"]}),
        ("a,b\rx,1\ry,2\r", {"a": ["x", "y"], "b": ["1", "2"]}),
        ("a,b\r\r\nx,1\r\r\ny,2", {"a": ["x", "y"], "b": ["1", "2"]}),
        ("\n\na,b\n\nx,1\n   \ny,2\n\n\n", {"a": ["x", "y"], "b": ["1", "2"]}),
        ("a,b\nx\0y,1\n", {"a": ["x\0y"], "b": ["1"]}),
        ("a\nx\u2028y\x0bz\x85\n", {"a": ["x\u2028y\x0bz\x85"]}),
        (",text\n0,x\n", {"": ["0"], "text": ["x"]}),
        ("a,b\n", {"a": [], "b": []}),
        ("a,b", {"a": [], "b": []}),
    ],
)
def test_odd_files_are_read_whole(tmp_path: Path, data: str, columns: dict[str, list[str]]):
    assert read(tmp_path / "t.csv", data) == (columns, "")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("a,b\nx,1\ny\nz,2\n", "line 3: 1 cell where the first line names 2 columns"),
        ("a,b\nx,1\ny,2,3\n", "line 3: 3 cells where the first line names 2 columns"),
        ("a,b\nx,1,\ny,2,\n", "line 2: 3 cells"),
        ('a,b\n"x",1\n"y",2,3\n', "line 3: 3 cells"),
        ("text\nhello, there\nfoo\n", "line 2: 2 cells where the first line names 1 column"),
        ("a,a\n1,2\n", "two columns named 'a'"),
        ("sep=;\ntext;label\nx;1\n", "begins with Excel's line 'sep='"),
        ("\n  \n", "is empty"),
        (b"PK\x03\x04\x14\0\x06\0", "it is a ZIP archive or an Excel file"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "it is compressed"),
    ],
)
def test_odd_files_are_refused_with_their_line(tmp_path: Path, data: str | bytes, said: str):
    assert said in refused(tmp_path / "t.csv", data)


def test_a_tsv_of_one_column_may_hold_commas(tmp_path: Path):
    assert read(tmp_path / "t.tsv", "text\nhello, there\nfoo\n")[0] == {"text": ["hello, there", "foo"]}


def test_a_cell_may_be_very_long(tmp_path: Path):
    text = "river stone " * 20_000
    for quoted in (f'"{text}"', text):
        assert read(tmp_path / "t.csv", f"text,label\n{quoted},1\nshort,2\n")[0]["text"] == [text, "short"]


def test_a_stream_says_the_same_as_a_table(tmp_path: Path):
    path = write(tmp_path / "t.csv", b"a,b\n" + b"x,1\n" * 20_000 + b"  \n" + b"y,2\n" * 3)
    found = open_delimited(path)
    assert pa.Table.from_batches(found.batches(["b"]))["b"].to_pylist() == ["1"] * 20_000 + ["2"] * 3


# Encodings


def test_one_bad_byte_costs_one_sign(tmp_path: Path):
    rows = [f"{k},Größe der Straße {k} café,{'ja' if k % 2 else 'né'}" for k in range(200)]
    data = "\n".join(["id,text,label", *rows, ""]).encode().replace("120,Größe".encode(), b"120,Gr\xf6\xdfe")
    found, said = read(tmp_path / "t.csv", data)
    assert found["text"] == [
        row.split(",")[1].replace("Größe", "Gr\ufffd\ufffde" if k == 120 else "Größe") for k, row in enumerate(rows)
    ]
    assert said == "t.csv holds 2 places that are no UTF-8, first in line 122; each was read as \ufffd"


CHINESE = "t,l\n" + "山水雨雪风云树林河湖鸟鱼花草石,1\n" * 30


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("text", ["text,label\nGröße,1\nx,2\n", CHINESE])
def test_other_encodings_are_converted_and_guesses_said(tmp_path: Path, encoding: str, text: str):
    if encoding == "cp1252" and text is CHINESE:
        text = "text,label\nGröße “und” Maß…,1\n"
    plain, nothing = read(tmp_path / "t.csv", text)
    found, said = read(tmp_path / "t.csv", text, encoding)
    assert (found, nothing) == (plain, "")
    marked = encoding in ("utf-16", "utf-32")
    other = "; where it is in another encoding, save it as UTF-8 first" if encoding == "cp1252" else ""
    assert said == ("" if marked else f"t.csv is no UTF-8 and was read as {encoding}{other}")


@pytest.mark.parametrize(
    "data",
    [
        CHINESE.encode("gbk"),
        ("text,label\n" + "Привет мир и всем,1\n" * 200).encode("cp1251"),
        ("text,label\n" + "Größe,1\n" * 20).encode() + ("Größe,1\n" * 20).encode("cp1252"),
        "text,label\nGröße,1\n".encode("utf-16")[:-1],
        b"text,label\n\x81\x8d\x8f,1\n",
    ],
)
def test_what_is_in_no_known_encoding_is_refused(tmp_path: Path, data: bytes):
    assert "save it as UTF-8" in refused(tmp_path / "t.csv", data)


@given(st.text(min_size=1, max_size=60), st.integers(0, 200))
@settings(max_examples=60, deadline=None)
def test_a_flipped_byte_changes_one_sign_or_is_refused(text: str, at: int):
    """Beside so much good UTF-8, nothing else is ever read otherwise."""
    good = "Größe é " * 20
    data = bytearray((good + text).encode())
    place = len(good.encode()) + at % max(1, len(text.encode()))
    data[place] = 0xFF
    try:
        found, encoding = decoded(bytes(data))
    except CannotRead:
        return
    assert found.startswith(good)
    assert encoding.name == "utf-8-sig"
    assert encoding.replaced >= 1
    assert abs(len(found) - len(good + text)) <= 3


# Files of texts


LINES = [f"some words of text {k}" for k in range(60)]


@pytest.mark.parametrize(
    "data",
    [
        "\n".join(LINES),
        "\n".join(LINES) + "\n\n",
        "\n\n" + "\n".join(LINES) + "\n \n\t\n",
        "\n".join([*LINES[:30], "", *LINES[30:]]) + "\n",
        "\r\n".join(LINES) + "\r\n\r\n",
        "\r".join(LINES),
        "\n\n".join(LINES) + "\n",
    ],
)
def test_lines_are_texts_however_a_file_ends(tmp_path: Path, data: str):
    path = write(tmp_path / "t.txt", data.encode())
    source = file_texts(path)
    assert [*source.items()] == LINES
    assert len(source) == 60
    assert bool(source.remarks) == ("text 29\n\nsome" in data and "text 28\nsome" in data)


def test_blank_lines_among_few_lines_part_texts_and_this_is_said(tmp_path: Path):
    source = file_texts(write(tmp_path / "t.txt", b"a\nb\n\nc\nd\n\n"))
    assert [*source.items()] == ["a\nb", "c\nd"]
    assert source.remarks == ("t.txt: blank lines part its 4 lines into 2 texts",)


def test_a_bad_byte_in_a_text_is_counted(tmp_path: Path):
    (tmp_path / "data").mkdir()
    for k in range(4):
        (tmp_path / "data" / f"{k}.txt").write_bytes("Größe, Maß".encode() + b"\xf6" * (k == 2))
    dataset = open_dataset(str(tmp_path / "data"), cache=str(tmp_path / "cache"), vocabulary=300)
    assert dataset.cache.texts([2]) == ["Größe, Maß\ufffd"]  # type: ignore[union-attr,arg-type]
    assert "1 texts hold places that are no UTF-8" in " ".join(dataset.notes.lines())


# Folders and tables of files


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 sounds, a table that says from where in their sources they were cut, and files that are not read."""
    root = tmp_path_factory.mktemp("calls")
    rng = np.random.default_rng(0)
    rows = ["file,start,end,class"]
    for k in range(12):
        soundfile.write(root / f"{k}.wav", rng.normal(0, 0.1, 4000).astype("float32"), 4000)
        rows.append(f"{k}.wav,{12.5 if k % 3 else 0.25},{13.5 if k % 3 else 0.75},{'ab'[k % 2]}")
    (root / "meta.csv").write_text("\n".join(rows))
    for k in range(3):
        (root / f"{k}.webm").write_bytes(b"\x1aE\xdf\xa3")
    (root / "0.AAC").write_bytes(b"\xff\xf1")
    (root / "README").write_text("about these calls")
    (root / "noending").write_text("x")
    return root


def test_files_of_other_endings_are_counted(calls: Path, tmp_path: Path):
    dataset = open_dataset(str(calls), cache=str(tmp_path))
    assert len(dataset) == 12
    aside = dataset.notes.left_aside
    assert aside.count == 5
    assert set(aside.first) == {
        "3 files of .webm: not read as audio",
        "1 file of .aac: not read as audio",
        "1 file of no ending: not read as audio",
    }


def test_a_folder_of_other_endings_says_which(tmp_path: Path):
    (tmp_path / "a.webm").write_bytes(b"x")
    with pytest.raises(UserError, match=r"holds no image files .*; there are files 1 of \.webm"):
        open_source(tmp_path)


def test_start_and_end_may_mean_something_else(calls: Path, tmp_path: Path):
    settings: dict[str, Any] = {"cache": str(tmp_path), "label_column": "class"}
    for data, labels in ((calls / "meta.csv", None), (calls, str(calls / "meta.csv"))):
        with pytest.raises(UserError, match=r"lies beyond its end.*--start-column none reads whole files"):
            open_dataset(str(data), labels=labels, **settings)
        whole = open_dataset(str(data), labels=labels, start_column="none", **settings)
        assert sorted(whole.ids.to_pylist()) == sorted(f"{k}.wav" for k in range(12))
        assert whole.cache.lengths.tolist() == [4000] * 12  # type: ignore[union-attr]
        assert whole.classes == ("a", "b")


@pytest.mark.parametrize("ending", ["wav", "png", "txt"])
def test_paths_that_lead_nowhere_are_told_by_the_first_and_why(tmp_path: Path, ending: str):
    (tmp_path / "t.csv").write_text("file,label\n" + "".join(f"nowhere/{k}.{ending},a\n" for k in range(4)))
    with pytest.raises(UserError, match=rf"nowhere/0\.{ending}: no such file"):
        open_dataset(str(tmp_path / "t.csv"), cache=str(tmp_path / "cache"))


# JSON lines


def deep(n: int) -> bytes:
    return b'{"text": ' + b"[" * n + b"]" * n + b"}\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (deep(100_000), "line 1: more than 64 brackets inside each other"),
        (b'{"text": "a"}\n' + deep(65), "line 2: more than 64 brackets"),
        (b'{"a": 1}\n\n{"a": ', "line 3: not JSON"),
        (b"[1, 2]\n", "line 1: no JSON object"),
        (b'{"a": 1}\n{"a": "\xff\xfe\x81"}\n', "line 2: in none of UTF-8"),
        (b'{"a": 1}\xff' * 3, "line 1"),
    ],
)
def test_json_that_cannot_be_read_is_one_line(tmp_path: Path, data: bytes, said: str):
    path = write(tmp_path / "t.jsonl", data)
    with pytest.raises(UserError, match=r"t\.jsonl, ") as error:
        read_table(path)
    assert said in str(error.value)


@pytest.mark.parametrize("kind", [None, "items", "text", "image"])
def test_deep_json_never_ends_the_process(tmp_path: Path, kind: str | None):
    path = write(tmp_path / "t.jsonl", deep(100_000) * 3)
    with pytest.raises(UserError, match=r"t\.jsonl"):
        open_source(path, Settings.of(kind=kind), tmp_path)


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b'\xef\xbb\xbf{"a": 1}\n\n{"a": 2}\n  \n', [{"a": 1}, {"a": 2}]),
        (b'{"a": NaN}\r\n{"a": 1.5}\r\n', [{"a": None}, {"a": 1.5}]),
        (b'{"a": 1}\n{"a": "x"}\n', [{"a": "1"}, {"a": "x"}]),
        (b'{"a": 1}\n{"b": 2}', [{"a": 1, "b": None}, {"a": None, "b": 2}]),
        (b'{"a": {"b": [1]}}\n', [{"a": {"b": [1]}}]),
        (b'{"a": 18446744073709551616}\n{"a": 1}', [{"a": "18446744073709551616"}, {"a": "1"}]),
        (b'{"day": "2024-05-31"}', [{"day": "2024-05-31"}]),
        ('{"a": "Größe"}\n{"a": "é"}'.encode("utf-16"), [{"a": "Größe"}, {"a": "é"}]),
        ('{"a": "Größe"}\n{"a": "é"}'.encode("utf-16-le"), [{"a": "Größe"}, {"a": "é"}]),
        ('{"a": "Größe"}'.encode("cp1252"), [{"a": "Größe"}]),
        (json.dumps({"a": "[" * 500}).encode(), [{"a": "[" * 500}]),
        (deep(60)[:-1].replace(b"text", b"a"), None),
    ],
)
def test_json_lines_are_read_as_they_are(tmp_path: Path, data: bytes, rows: list[dict[str, Any]] | None):
    found = read_table(write(tmp_path / "t.jsonl", data)).to_pylist()
    wanted = rows if rows is not None else [json.loads(data)]
    assert [{k: None if v != v else v for k, v in row.items()} for row in found] == wanted


# Parquet, and several files


def test_parquet_of_odd_types(tmp_path: Path):
    from decimal import Decimal

    table = pa.table(
        {
            "text": pa.array(["one text", "another text", None], pa.large_string()).dictionary_encode(),
            "money": pa.array([Decimal("1.50"), None, Decimal("7.00")]),
            "when": pa.array([0, 1, None], pa.timestamp("ns", "Europe/Berlin")),
            "parts": [[1], [], None],
            "about": [{"a": 1}, None, {"a": 2}],
            "nothing": pa.nulls(3),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet")
    assert [*source.items()] == ["one text", "another text", ""]
    assert source.columns is not None
    assert source.columns.num_rows == 3
    assert source.columns["money"].to_pylist() == table["money"].to_pylist()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_files_of_other_columns_are_refused_and_of_other_types_read(tmp_path: Path, ending: str):
    def put(name: str, table: pa.Table) -> None:
        path = tmp_path / f"{name}.{ending}"
        if ending == "parquet":
            pq.write_table(table, path)
        else:
            pa.csv.write_csv(table, path)

    put("t-0", pa.table({"text": ["a b c", "d e f"], "label": [1, 2]}))
    put("t-1", pa.table({"label": ["x", "y"], "text": ["g h i", "j k l"]}))
    source = open_source(f"{tmp_path}/t-*.{ending}")
    assert [*source.items()] == ["a b c", "d e f", "g h i", "j k l"]
    assert source.columns is not None
    assert source.columns["label"].to_pylist() == ["1", "2", "x", "y"]
    put("t-2", pa.table({"text": ["m n o"], "class": ["z"]}))
    with pytest.raises(UserError, match=rf"t-2.{ending} has other columns than t-0"):
        open_source(f"{tmp_path}/t-*.{ending}")


def test_two_columns_of_one_name_are_refused(tmp_path: Path):
    table = pa.table([pa.array(["a", "b"]), pa.array(["c", "d"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "t.parquet")
    for data in (table, tmp_path / "t.parquet"):
        with pytest.raises(UserError, match="has two columns named 'text'"):
            open_source(data)


ROWS = [f"this is what row {i} has to say" for i in range(9)]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("".join(f"{text},{i % 2}\n" for i, text in enumerate(ROWS)), "this is what row 0 has to say"),
        ("".join(f"{text}\n" for text in ROWS), "this is what row 0 has to say"),
        ("".join(f'"{i % 3}","a","b{i}"\n' for i in range(9)), "0"),
        ("".join(f"{i * 1.5},x{i}\n" for i in range(1, 9)), "1.5"),
        ("".join(f"{'cat' if i % 2 else 'dog'}\tx{i}\n" for i in range(9)), "dog"),
    ],
)
def test_a_first_line_that_looks_like_a_row_is_said(tmp_path: Path, data: str, value: str):
    _, said = read(tmp_path / "table.csv", data)
    assert f"the first line was taken for the names of the columns, and {value!r} looks like a value" in said


@pytest.mark.parametrize(
    "data",
    [
        "text,label\n" + "".join(f"{text},{i % 2}\n" for i, text in enumerate(ROWS)),
        "0,1\n" + "".join(f"{i},{i % 2}\n" for i in range(9)),  # columns without names, counted
        "2019,2020,place\n" + "".join(f"a{i},b,c\n" for i in range(9)),
        "what did you like about it?,age\n" + "".join(f"{text},{i}\n" for i, text in enumerate(ROWS)),
        ",text\n" + "".join(f"{i},\n" for i in range(9)),
        "text\n",
    ],
)
def test_names_of_columns_are_not_taken_for_values(tmp_path: Path, data: str):
    assert read(tmp_path / "table.csv", data)[1] == ""


def test_names_of_columns_that_occur_again_are_said(tmp_path: Path):
    part = "text,label\n" + "".join(f"{text},1\n" for text in ROWS)
    _, said = read(tmp_path / "table.csv", 3 * part)
    assert said == "table.csv: 2 rows repeat the line that names the columns, as where files were joined; take them out"


def test_views_of_arrow_are_read_like_its_plain_types(tmp_path: Path, cached):
    """Polars hands over views of strings; a list of views cannot be cast by arrow itself."""
    words, cells = [f"word {i}" for i in range(6)], [{"bytes": png(i), "path": f"{i}.png"} for i in range(6)]
    views = pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])
    texts = pa.table({"text": pa.array(words, pa.string_view()), "label": pa.array([*"aabbaa"], pa.string_view())})
    images = pa.table({"image": pa.array(cells, views)})
    curves = pa.table({"values": pa.array([[float(i)] * 9 + [1.0] for i in range(6)], pa.list_view(pa.float32()))})
    for name, table in (("texts", texts), ("images", images)):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    for data in (texts, tmp_path / "texts.parquet"):
        dataset = cached(data, label_column="label")
        assert dataset.cache.texts(np.arange(6)) == words
        assert dataset.columns["label"].to_pylist() == [*"aabbaa"]
    for data in (images, tmp_path / "images.parquet"):
        assert values(cached(data)) == [0, 1, 2, 3, 4, 5]
    batch = cached(curves, series_column=["values"]).cache.batch(np.array([2]))
    assert batch["series"].flatten()[:9].tolist() == [2] * 9


def test_beside_lists_a_single_value_is_a_list_of_one(tmp_path: Path):
    lines = ['{"words": ["a", "b"]}', '{"words": "c"}', '{"words": null}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    table = read_table(tmp_path / "t.jsonl")
    assert table["words"].to_pylist() == [["a", "b"], ["c"], None]
    other = pa.table({"words": ["d"]})
    assert concatenated([table, other])["words"].to_pylist() == [["a", "b"], ["c"], None, ["d"]]
