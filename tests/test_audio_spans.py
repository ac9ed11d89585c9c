"""Stretches of recordings: rows of a table, or labels in a file beside a folder; what stays together, what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import UserError
from tacit.experiment.split import split_dataset
from tacit.modalities.audio.spans import LEAST, between
from tests.sounding import RATE, encoded, heard, noise

# Rows of a table


def test_rows_can_be_stretches_of_files(tmp_path: Path, cached):
    for i in range(12):
        soundfile.write(tmp_path / f"{i}.wav", noise(i, 1.0), RATE)
    rows = [(f"{i}.wav", start, end) for i in range(12) for start, end in (("0", "0.25"), ("0.5", ""))]
    (tmp_path / "a.csv").write_text("file,start,end,label\n" + "".join(f"{f},{s},{e},{s}\n" for f, s, e in rows))
    dataset = cached(tmp_path / "a.csv", label_column="label")
    assert dataset.ids.to_pylist()[:2] == ["0.wav#0-0.25", "0.wav#0.5-inf"]
    assert heard(dataset)[:3] == [
        noise(0, 1.0)[:2000].tolist(),
        noise(0, 1.0)[4000:].tolist(),
        noise(1, 1.0)[:2000].tolist(),
    ]
    assert any("each row is a stretch" in line for line in dataset.notes.lines())
    assert dataset.group is not None
    assert len(np.unique(dataset.group)) == 12
    assert (dataset.group[::2] == dataset.group[1::2]).all()


def test_columns_of_starts_and_ends_are_those_named(tmp_path: Path, cached):
    for i in range(2):
        soundfile.write(tmp_path / f"{i}.wav", noise(i, 1.0), RATE)
    table = pa.table(
        {"path": [str(tmp_path / f"{i % 2}.wav") for i in range(4)], "from": [0.0, 0.1, None, 0.9], "to": [1, 2, 3, 4]}
    )
    found = cached(table, start_column="from")
    assert heard(found) == [noise(i % 2, 1.0)[at:].tolist() for i, at in enumerate((0, 800, 0, 7200))]
    assert found.group is None  # two files are too few to be kept apart
    both = cached(table, start_column="from", end_column="to", max_bad=1)
    assert both.ids.to_pylist()[0].endswith("0.wav#0-1")
    data = pa.table({"audio": [encoded(noise(i, 1.0)) for i in range(2)], "begin": ["0.5", ""]})
    assert heard(cached(data, start_column="begin")) == [noise(0, 1.0)[4000:].tolist(), noise(1, 1.0).tolist()]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start_column": "when"}, "--start-column when: the data has no such column"),
        ({"end_column": "path"}, "--end-column path: .* no number"),
        ({"end_column": "to", "kind": "image"}, "--end-column to contradicts --kind image"),
        ({"end_column": "to", "text_column": "path"}, "all 3 pairs have the same text"),
    ],
)
def test_stretches_that_cannot_be_meant(tmp_path: Path, cached, settings: dict[str, str], message: str):
    soundfile.write(tmp_path / "0.wav", noise(0), RATE)
    table = pa.table({"path": [str(tmp_path / "0.wav")] * 3, "to": [0.1, 0.05, 0.2]})
    with pytest.raises(UserError, match=message):
        cached(table, **settings)
    with pytest.raises(UserError, match=r"--start-column a: .* is no table"):
        cached(tmp_path, start_column="a")


def test_a_stretch_without_length_is_a_bad_one(tmp_path: Path, cached):
    soundfile.write(tmp_path / "0.wav", noise(0, 1.0), RATE)
    table = pa.table(
        {"path": [str(tmp_path / "0.wav")] * 5, "start": [0.0, 0.5, 0.9, 3.0, -1.0], "end": [1.0, 0.6, 0.2, 4.0, 1.0]}
    )
    dataset = cached(table, max_bad=0.9)
    assert len(dataset) == 2
    assert [text.split(": ")[1] for text in dataset.notes.skipped.first] == [
        "a stretch from 0.9 to 0.2 s has no length",
        "a stretch from 3 s on lies beyond its end, which is at 1 s",
        "a stretch from -1 to 1 s has no length",
    ]


# Rows of a label file


def sounding(root: Path, n: int = 12, seconds: float = 2.0) -> Path:
    root.mkdir()
    for i in range(n):
        soundfile.write(root / f"{i:02}.wav", noise(i, seconds), RATE)
    return root


def events(path: Path, rows: list[tuple[Any, ...]], header: str = "file,start,end,label") -> str:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]))
    return str(path)


def names(dataset: Any) -> list[str]:
    return [dataset.classes[c] if c >= 0 else "" for c in dataset.label]


def test_each_labelled_stretch_is_an_example_and_the_rest_is_left(tmp_path: Path, cached):
    root = sounding(tmp_path / "data")
    rows = [(f"{i:02}.wav", 0.5, 0.75, "ab"[i % 2]) for i in range(11)]
    rows += [("00.wav", 1.5, "", "b"), ("01.wav", "", 0.4, "a"), ("01.wav", 0.5, 0.75, "a"), ("no.wav", 0, 1, "a")]
    dataset = cached(root, labels=events(tmp_path / "events.csv", rows))
    assert dataset.ids.to_pylist()[:7] == [
        *("00.wav#0-0.5", "00.wav#0.5-0.75", "00.wav#0.75-1.5", "00.wav#1.5-inf"),
        *("01.wav#0-0.4", "01.wav#0.5-0.75", "01.wav#0.75-2"),
    ]
    assert dataset.ids[len(dataset) - 1].as_py() == "11.wav"
    whole = noise(0, 2.0)
    assert heard(dataset)[:4] == [
        whole[a:b].tolist() for a, b in ((0, 4000), (4000, 6000), (6000, 12000), (12000, None))
    ]
    assert names(dataset)[:7] == ["", "a", "", "b", "a", "", ""]
    assert dataset.notes.conflicting.first == ("01.wav#0.5-0.75",)
    assert dataset.notes.unmatched.first == ("no.wav",)
    assert dataset.notes.listed == len(dataset) == 4 + 3 + 9 * 3 + 1
    assert any("what none covers is 22 more examples" in line for line in dataset.notes.lines())
    assert dataset.group is not None
    assert len(np.unique(dataset.group)) == 12
    assert len(set(dataset.group[:4])) == 1


def test_what_is_tested_is_not_pretrained_on(tmp_path: Path, cached):
    root = sounding(tmp_path / "data", 40, 1.2)
    rows = [(f"{i:02}.wav", at, at + 0.3, "ab"[(i + j) % 2]) for i in range(36) for j, at in enumerate((0.1, 0.4, 0.7))]
    dataset = cached(root, labels=events(tmp_path / "events.csv", rows))
    split = split_dataset(dataset, seed=0)
    assert split.labelled is not None
    whole = np.array([name.split("#")[0] for name in dataset.ids.to_pylist()])
    tested = set(whole[split.rows[split.labelled.test]])
    assert 5 < len(tested) < 20
    assert not tested & set(whole[split.pretrain])
    assert set(whole) == tested | set(whole[split.pretrain])


def test_what_stretches_share_holds_for_all_of_their_recording(tmp_path: Path, cached):
    root = sounding(tmp_path / "data", 4)
    rows = [("00.wav", 0.5, 1, "a", "train", "p"), ("00.wav", 1, 1.5, "b", "train", "p")]
    rows += [("01.wav", 0.5, 1, "a", "train", "q"), ("01.wav", 1, 1.5, "b", "train", "r")]
    rows += [("02.wav", 0.5, 1, "a", "test", "s"), ("02.wav", 1, 1.5, "b", "test", "s")]
    told = events(tmp_path / "events.csv", rows, "file,start,end,label,part,who")
    dataset = cached(root, labels=told, split_column="part", group_column="who")
    assert names(dataset) == ["", "a", "b", ""] * 3 + [""]
    assert dataset.split is not None
    assert dataset.split.tolist() == [0] * 8 + [1] * 4 + [0]
    assert dataset.group is not None
    apart = [dataset.group[at : at + 4].tolist() for at in (0, 4, 8)]
    assert [len(set(of)) for of in apart] == [1, 4, 1]


def test_the_columns_are_those_named_and_sounds_may_lie_in_a_table(tmp_path: Path, cached):
    table = pa.table({"audio": [encoded(noise(i, 1.0)) for i in range(4)], "id": list("wxyz"), "who": list("mmnn")})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = [(name, at, "ab"[k]) for name in "wxyz" for k, at in enumerate((0, 0.5))]
    told = events(tmp_path / "events.csv", rows, "id,from,label")
    dataset = cached(tmp_path / "a.parquet", labels=told, start_column="from", group_column="who")
    assert dataset.ids.to_pylist()[:3] == ["w", "w#0.5-inf", "x"]
    assert heard(dataset)[:2] == [noise(0, 1.0).tolist(), noise(0, 1.0)[4000:].tolist()]
    assert dataset.group is not None
    assert len(np.unique(dataset.group)) == 2


def test_few_recordings_are_not_kept_whole_and_that_is_said(tmp_path: Path, cached):
    root = sounding(tmp_path / "data", 3)
    rows = [(f"{i:02}.wav", k, k + 0.5, "ab"[k]) for i in range(3) for k in range(2)]
    dataset = cached(root, labels=events(tmp_path / "events.csv", rows), channels="separate")
    assert dataset.group is None
    assert any("3 recordings are too few to be kept whole" in line for line in dataset.notes.lines())


@pytest.mark.parametrize(
    ("rows", "header", "settings", "message"),
    [
        ([("00.wav", "soon", 1, "a")], "file,start,end,label", {}, r"column 'start', holds something .* no number"),
        ([("no.wav", 0, 1, "a")], "file,start,end,label", {}, "only 0 of the 1 rows"),
        ([("00.wav", 5, 6, "a"), ("00.wav", 6, 7, "a")], "file,start,end,label", {}, "beyond its end"),
        ([("00.wav", 0, 1, "a")], "file,start,end,label", {"end_column": "stop"}, "--end-column stop: .* is no table"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, cached, rows: Any, header: str, settings: Any, message: str):
    root = sounding(tmp_path / "data", 2)
    with pytest.raises(UserError, match=message) as caught:
        cached(root, labels=events(tmp_path / "events.csv", rows, header), **settings)
    assert "\n" not in str(caught.value)


@given(
    st.lists(st.tuples(st.integers(-3, 60), st.integers(-3, 60)), max_size=8),
    st.integers(0, 50),
)
def test_what_lies_between_is_what_no_span_covers(spans: list[tuple[int, int]], length: int):
    """In tenths of a second; spans without length, or that begin beyond the end, cover nothing."""
    valid = [(begin, end) for begin, end in spans if 0 <= begin < min(end, length)]
    free = [not any(begin <= at < end for begin, end in valid) for at in range(length)]
    runs, at = [], 0
    while at < length:
        stop = next((k for k in range(at, length) if free[k] != free[at]), length)
        runs += [(at, stop)] if free[at] and stop - at >= round(10 * LEAST) else []
        at = stop
    found = between([(begin / 10, end / 10) for begin, end in spans], length / 10)
    assert [(round(10 * begin), round(10 * end)) for begin, end in found] == runs
