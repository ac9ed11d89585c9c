"""Sounds from the things people have to a cache of recordings: every kind of source, bad input, pieces, memory."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tacit.data import Recordings, clean, decode, listening, recordings, worker
from tacit.data.decode import Pool, SoundPlan, Stretch
from tacit.data.duplicates import find_copies
from tacit.data.listening import audio_spec
from tacit.data.notes import Few
from tacit.data.opened import open_tables
from tacit.data.order import Batches, Span
from tacit.data.recordings import Pieces
from tacit.errors import RunFailed, UserError
from tacit.sounds import read_sound
from tacit.spec import AudioSpec
from tests.recordings import log_mel_of as log_mel
from tests.sounding import RATE, encoded, folder, heard, noise, recordings_of

FSDD = Path(__file__).resolve().parents[2] / "shared" / "data" / "fsdd" / "train.parquet"


# Where sounds lie


def test_a_folder_of_sounds(tmp_path: Path, cached):
    dataset = cached(folder(tmp_path / "data"), labels="folders")
    assert dataset.kind == "audio"
    assert dataset.ids.to_pylist() == ["cat/1.flac", "cat/3.wav", "cat/5.aiff", "dog/0.wav", "dog/2.aiff", "dog/4.flac"]
    assert heard(dataset) == [noise(i, 0.1 + i / 100).tolist() for i in (1, 3, 5, 0, 2, 4)]
    assert [dataset.classes[c] for c in dataset.label] == ["cat"] * 3 + ["dog"] * 3
    cache = recordings_of(dataset)
    assert cache.lengths.tolist() == [880, 1040, 1200, 800, 960, 1120]
    assert cache.nbytes == 2 * 6000 + 6 * 24
    assert cache.seconds == 0.75
    batch = dataset.batch(np.array([3, 2]))
    assert batch["audio"].shape == (2, 1200)
    assert batch["length"].tolist() == [800, 1200]
    assert batch["index"].tolist() == [3, 2]
    assert not batch["audio"][0, 800:].any()
    assert batch["audio"][1].tolist() == noise(5, 0.15).tolist()


def test_the_spec_is_that_of_the_data(tmp_path: Path, cached):
    dataset = cached(folder(tmp_path / "data"))
    spec = dataset.spec
    assert isinstance(spec, AudioSpec)
    assert (spec.rate, spec.seconds, spec.window, spec.hop, spec.mels) == (8000, 10.0, 200, 80, 40)
    assert (spec.low, spec.high) == (50.0, 4000.0)
    values = np.concatenate([log_mel(np.array(sound, np.int16), spec) for sound in heard(dataset)])
    assert spec.mean == pytest.approx(values.mean(), abs=1e-3)
    assert spec.std == pytest.approx(values.std(), abs=1e-3)
    other = cached(tmp_path / "data", rate=16_000, seconds=2.5)
    assert isinstance(other.spec, AudioSpec)
    assert (other.spec.rate, other.spec.seconds, other.spec.mels) == (16_000, 2.5, 64)
    assert recordings_of(other).lengths.tolist() == [1760, 2080, 2400, 1600, 1920, 2240]
    assert other.data_hash != dataset.data_hash


def test_rates_that_differ_become_the_commonest(tmp_path: Path, cached):
    for i, rate in enumerate((8_000, 22_050, 8_000, 44_100, 11_025)):
        soundfile.write(tmp_path / f"{i}.wav", noise(i, 0.5, rate), rate)
    dataset = cached(tmp_path)
    assert dataset.spec.rate == 8_000  # type: ignore[union-attr]
    assert recordings_of(dataset).lengths.tolist() == [4000] * 5
    assert "rates of 8,000, 11,025, 22,050, 44,100 Hz; all were made into 8,000 Hz" in dataset.notes.lines()[0]


@pytest.mark.parametrize(("rate", "made"), [(44_100, 16_000), (2_000, 4_000), (11_025, 11_025)])
def test_the_rate_stays_in_range(tmp_path: Path, cached, rate: int, made: int):
    for i in range(2):
        soundfile.write(tmp_path / f"{i}.wav", noise(i, 0.1, rate), rate)
    assert cached(tmp_path).spec.rate == made


@pytest.mark.parametrize("name", ["audio", "sound", "clip"])
@pytest.mark.parametrize("struct", [False, True])
def test_a_table_of_bytes(tmp_path: Path, cached, name: str, struct: bool):
    cells: list[Any] = [encoded(noise(i)) for i in range(4)]
    if struct:
        cells = [{"bytes": cell, "path": f"{i}.wav"} for i, cell in enumerate(cells)]
    pq.write_table(pa.table({name: cells, "label": list("abab"), "start": [0, 1, 2, 3]}), tmp_path / "a.parquet")
    dataset = cached(tmp_path / "a.parquet", label_column="label")
    assert heard(dataset) == [noise(i).tolist() for i in range(4)]
    assert dataset.classes == ("a", "b")
    assert dataset.ids.to_pylist() == ([f"{i}.wav" for i in range(4)] if struct else list("0123"))
    assert dataset.columns is not None
    assert dataset.columns.column_names == ["label", "start"]


def test_large_cells_are_read_a_few_at_a_time(tmp_path: Path):
    """A table of 24 MB in one row group is never a list of them all."""
    cells = [{"bytes": bytes([i]) * (2 << 20), "path": f"{i}"} for i in range(12)]
    pq.write_table(
        pa.table({"audio": cells, "small": list(range(12))}),
        tmp_path / "a.parquet",
        compression=None,
        use_dictionary=False,
    )
    table = open_tables([tmp_path / "a.parquet"])
    assert [len(part) for part in table.stream("audio")] == [7, 5]
    assert [len(part) for part in table.stream("small")] == [12]


def test_the_audio_column_is_the_one_named(cached):
    table = pa.table({"a": [encoded(noise(0)), encoded(noise(1))], "b": [encoded(noise(2)), encoded(noise(3))]})
    assert heard(cached(table, audio_column="b")) == [noise(2).tolist(), noise(3).tolist()]
    with pytest.raises(UserError, match=r"several binary columns .*--audio-column"):
        cached(table, kind="audio")


def test_paths_in_a_table_and_in_a_list(tmp_path: Path, cached):
    root = folder(tmp_path / "data")
    names = ["dog/0.wav", "cat/1.flac", "dog/2.aiff"]
    (root / "index.csv").write_text("file,who\n" + "".join(f"{name},x\n" for name in names))
    expected = [noise(i, 0.1 + i / 100).tolist() for i in range(3)]
    assert heard(cached(root / "index.csv")) == expected
    assert heard(cached([root / name for name in names])) == expected
    assert heard(cached([str(root / name) for name in names])) == expected


def test_labels_in_a_file_beside_a_folder(tmp_path: Path, cached):
    root = folder(tmp_path / "data")
    few = tmp_path / "few.csv"
    few.write_text("file,label\ncat/1.flac,meow\nother/cat/3.wav,meow\ndog/0.wav,bark\n2.aiff,bark\nno.wav,bark\n")
    dataset = cached(root, labels=str(few))
    assert [dataset.classes[c] if c >= 0 else "" for c in dataset.label] == ["meow", "meow", "", "bark", "bark", ""]
    assert dataset.notes.unmatched == Few(1, ("no.wav",))
    few.write_text("file,label\n1,meow\n3,meow\n0,bark\n2,bark\n")
    assert (cached(root, labels=str(few)).label >= 0).sum() == 4


# Stretches


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
        ({"end_column": "to", "text_column": "path"}, "exclude each other"),
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


# Channels


def test_channels_are_mixed_chosen_or_apart(tmp_path: Path, cached):
    root = tmp_path / "data"
    root.mkdir()
    for i in range(12):
        soundfile.write(root / f"{i:02}.wav", noise(i, channels=1 + i % 3), RATE)
    two, three = noise(1, channels=2), noise(2, channels=3)
    mixed = heard(cached(root))
    assert np.abs(np.array(mixed[1]) - two.mean(axis=1)).max() <= 0.5
    assert heard(cached(root, channels="left"))[2] == three[:, 0].tolist()
    assert heard(cached(root, channels="right"))[:2] == [noise(0).tolist(), two[:, 1].tolist()]
    (tmp_path / "few.csv").write_text("file,label\n" + "".join(f"{i:02}.wav,{'ab'[i % 2]}\n" for i in range(12)))
    apart = cached(root, channels="separate", labels=str(tmp_path / "few.csv"))
    assert len(apart) == apart.notes.listed == 24
    assert apart.ids.to_pylist()[:6] == ["00.wav", "01.wav#1", "01.wav#2", "02.wav#1", "02.wav#2", "02.wav#3"]
    assert heard(apart)[1:6] == [*two.T.tolist(), *three.T.tolist()]
    assert [apart.classes[c] for c in apart.label[:6]] == list("abbaaa")
    assert apart.group is not None
    assert np.diff(apart.group[:6]).astype(bool).tolist() == [True, False, True, False, False]
    assert heard(cached(root, channels="separate")) == heard(apart)


# Bad input


def bad_files(root: Path) -> Path:
    good = encoded(noise(0, 1.0))
    files = {
        "clip.wav": encoded(noise(1, 0.01)),
        "constant.wav": encoded(np.full(4000, 0.25, np.float32)),
        "fine.wav": good,
        "fine64.wav": encoded(noise(2, channels=64)),
        "loud.wav": encoded(np.sign(noise(3)) * np.float32(2), subtype="FLOAT"),
        "silent.wav": encoded(np.zeros(4000, np.float32)),
        "x-empty.wav": b"",
        "x-half.flac": encoded(noise(4), format="FLAC")[:500],
        "x-nan.wav": encoded(np.array([0.1, np.nan], np.float32), subtype="FLOAT"),
        "x-none.wav": encoded(np.zeros(0, np.float32)),
        "x-text.wav": b"I am a text\n" * 100,
        "x-truncated.wav": good[:30],
        "x-wide.wav": encoded(noise(5, channels=65)),
    }
    root.mkdir()
    for name, data in files.items():
        (root / name).write_bytes(data)
    return root


def test_bad_files_are_skipped_and_odd_ones_counted(tmp_path: Path, cached):
    root = bad_files(tmp_path / "data")
    dataset = cached(root, max_bad=0.9)
    assert dataset.ids.to_pylist() == ["clip.wav", "constant.wav", "fine.wav", "fine64.wav", "loud.wav", "silent.wav"]
    reasons = dict(text.split(": ", 1) for text in dataset.notes.skipped.first)
    assert sorted(reasons) == sorted(path.name for path in root.glob("x-*"))
    for name, reason in (
        ("empty.wav", "empty"),
        ("half.flac", "truncated or damaged"),
        ("nan.wav", "no numbers"),
        ("none.wav", "no sound"),
        ("text.wav", "not a sound of a known format"),
        ("truncated.wav", "truncated or damaged"),
        ("wide.wav", "65 channels"),
    ):
        assert reason in reasons[f"x-{name}"]
    assert (dataset.notes.silent, dataset.notes.clipped, dataset.notes.truncated) == (2, 1, 0)
    told = "\n".join(dataset.notes.lines())
    assert "2 recordings hold nothing but silence" in told
    assert "1 recordings are clipped" in told
    assert recordings_of(dataset).lengths.min() == 80
    again = cached(root, max_bad=0.9)
    assert again.notes == dataset.notes


def test_too_many_bad_files_are_an_error(tmp_path: Path, cached):
    with pytest.raises(
        UserError, match=r"of \d+ examples cannot be read, more than --max-bad 0.05 allows \(x-empty.wav"
    ):
        cached(bad_files(tmp_path / "data"))
    for path in (tmp_path / "data").glob("[cfls]*"):
        path.unlink()
    with pytest.raises(UserError, match="no readable sound"):
        cached(tmp_path / "data", max_bad=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 3999}, "--rate 3999 is out of range; choose 4,000 to 48,000 Hz"),
        ({"rate": 48001}, "--rate 48001 is out of range"),
        ({"seconds": 0.4}, "--seconds 0.4 is out of range; choose 0.5 to 60 s"),
        ({"seconds": 61}, "--seconds 61 is out of range"),
        ({"channels": "middle"}, "--channels middle is none.*mix, left, right, separate"),
        ({"image_size": 32}, "--image-size 32: .* no images but sounds"),
        ({"tokenizer": "bpe"}, "--tokenizer bpe: .* no texts but sounds"),
        ({"labels": "folders"}, "no audio of"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, cached, settings: dict[str, Any], message: str):
    for i in range(2):
        soundfile.write(tmp_path / f"{i}.wav", noise(i), RATE)
    with pytest.raises(UserError, match=message) as caught:
        cached(tmp_path, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", [{"rate": 8000}, {"seconds": 2.0}, {"channels": "left"}])
def test_settings_of_sounds_are_for_sounds(cached, setting: dict[str, Any]):
    for data in (np.zeros((4, 8, 8), np.uint8), pa.table({"text": ["some words", "and some more"]})):
        with pytest.raises(UserError, match=r"no sounds but (images|texts); leave it out"):
            cached(data, **setting)
    with pytest.raises(UserError, match="give sounds as a folder"):
        cached(np.zeros((4, 800)), kind="audio")


# The cache


def test_the_second_opening_reads_nothing(tmp_path: Path, cached, monkeypatch: pytest.MonkeyPatch):
    root = folder(tmp_path / "data")
    first = cached(root)
    monkeypatch.setattr(decode, "COMMAND", ["false"])
    second = cached(root, seconds=3.0)
    assert heard(second) == heard(first)
    assert second.spec.seconds == 3.0  # type: ignore[union-attr]
    assert recordings_of(second).folder == recordings_of(first).folder
    assert isinstance(recordings_of(second).samples.base, np.memmap)
    assert clean(tmp_path / "cache") > 2 * 6000
    with pytest.raises(RuntimeError, match="does not start"):
        cached(root)


def test_nothing_is_left_of_a_failure(tmp_path: Path, cached, monkeypatch: pytest.MonkeyPatch):
    root = folder(tmp_path / "data")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(listening.Writer, "write", full)
        with pytest.raises(RunFailed, match="disk is full"):
            cached(root)
    refused = decode.Decoded(bytes(16), None, "no space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(Pool, "decode", lambda *_: iter([refused]))
        with pytest.raises(RunFailed, match="disk is full"):
            cached(root)
    assert not any((tmp_path / "cache" / "sounds").iterdir())
    assert len(cached(root)) == 6
    assert [path.name for path in recordings_of(cached(root)).folder.iterdir() if path.is_dir()] == []  # type: ignore[union-attr]


def test_a_glimpse_stands_for_all_and_keeps_nothing(tmp_path: Path, cached):
    root = folder(tmp_path / "data", 12)
    dataset = cached(root, patience=0.0)
    assert len(dataset) == 12
    assert dataset.notes.decoding_seconds > 0
    assert dataset.batch(np.arange(12))["audio"].shape[0] == 12
    assert recordings_of(dataset).lengths.shape == (12,)
    assert recordings_of(dataset).nbytes > 0
    assert not any((tmp_path / "cache" / "sounds").iterdir())
    assert cached(root, patience=600.0).notes.decoding_seconds == 0


def test_copies_are_found_by_their_samples(tmp_path: Path, cached):
    for i in range(4):
        soundfile.write(tmp_path / f"{i}.wav", noise(i), RATE)
    soundfile.write(tmp_path / "4.flac", noise(2), RATE)
    dataset = cached(tmp_path)
    assert dataset.notes.duplicates == 1
    assert find_copies(recordings_of(dataset), np.array([4]), np.arange(4)).twin.tolist() == [2]


def test_a_test_set_of_sounds_is_held_out(tmp_path: Path, cached):
    one, other = folder(tmp_path / "one"), folder(tmp_path / "other", 4)
    dataset = cached(one, test=other)
    assert len(dataset) == 10
    assert dataset.split is not None
    assert dataset.split.tolist() == [0] * 6 + [1] * 4


# Decoding


def test_long_sounds_go_through_a_file(tmp_path: Path):
    long = noise(0, 40.0)
    items: list[decode.Item] = [encoded(long), encoded(noise(1)), Stretch(encoded(long), 1.0, 39.0)]
    (tmp_path / "spilled").mkdir()
    for place in (str(tmp_path / "spilled"), ""):
        with Pool(1) as pool:
            answers = [
                listening.heard_in(outcome.data or b"")
                for outcome in pool.decode(items, SoundPlan(RATE, "mix", folder=place))
            ]
        for (told, samples), expected in zip(answers, (long, noise(1), long[RATE : 39 * RATE]), strict=True):
            assert bool(told.file) == (place != "" and len(expected) * 2 > worker.INLINE)
            assert told.samples == len(expected)
            data = Path(told.file).read_bytes() if told.file else samples
            assert data == expected.tobytes()


@pytest.mark.slow
def test_a_sound_that_takes_long_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Three seconds of work with a limit of one and a half between two signs; a second without any is too long."""
    script = tmp_path / "slow.py"
    script.write_text(
        """
import time
from tacit import sounds
from tacit.data import worker
real, worker.SIGN_OF_LIFE = sounds.blocks, 0.05
def slow(source, *args, **settings):
    for block in real(source, *args, **settings):
        time.sleep(60 if source.endswith(b"HANG") else 0.4)
        yield block
sounds.blocks = slow
sounds._BLOCK = 8000
worker.main()
"""
    )
    monkeypatch.setattr(decode, "COMMAND", [sys.executable, "-P", str(script)])
    monkeypatch.setattr(decode, "SECONDS_PER_EXAMPLE", 1.5)
    items: list[decode.Item] = [encoded(noise(0, 5.0)), encoded(noise(1)) + b"HANG", encoded(noise(2))]
    with Pool(1) as pool:
        list(pool.probe_sounds(items[:1]))  # what is imported first does not count
        outcomes = list(pool.decode(items, SoundPlan(RATE, "mix")))
    assert [outcome.data is not None for outcome in outcomes] == [True, False, True]
    assert "took longer than 1.5 s" in outcomes[1].reason


# Batches and pieces


def made(lengths: list[int], seconds: float = 2.0, rate: int = 10) -> Recordings:
    """Recordings of these lengths, in which every sample is another."""
    starts = np.cumsum([0, *lengths])
    spec = AudioSpec(rate, seconds, 4, 2, 1, 0.0, rate / 2, 0.0, 1.0)
    content = np.arange(2 * len(lengths)).view("V16")
    return Recordings(np.arange(1, starts[-1] + 1).astype(np.int16), starts, content, spec, "made", Path("made"))


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=8),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
def test_pieces_are_a_loop_over_recordings(lengths: list[int], longest: int, random):
    cache = made(lengths)
    rows = random.sample(range(len(lengths)), random.randint(1, len(lengths)))
    expected = []
    for row in rows:
        whole = cache.samples[cache.starts[row] : cache.starts[row + 1]].tolist()
        n = math.ceil(len(whole) / longest)
        cuts = [len(whole) * i // n for i in range(n + 1)]
        expected += [(row, whole[a:b]) for a, b in pairwise(cuts)]
    pieces = Pieces(cache, np.array(rows), longest / 10)
    assert len(pieces) == len(expected)
    numbers = random.choices(range(len(pieces)), k=5)
    batch = pieces.batch(np.array(numbers))
    assert batch["index"].tolist() == [expected[n][0] for n in numbers]
    assert batch["length"].tolist() == [len(expected[n][1]) for n in numbers]
    width = max(len(expected[n][1]) for n in numbers)
    assert width <= longest
    assert batch["audio"].tolist() == [expected[n][1] + [0] * (width - len(expected[n][1])) for n in numbers]


def test_any_piece_of_any_epoch_costs_the_same():
    lengths = np.random.default_rng(0).integers(1, 60, 20_000).tolist()
    pieces = Pieces(made([36_000, *lengths]), np.arange(20_001), 4.0)
    assert len(pieces) > 20_900
    batches = Batches(pieces.batch, Span(len(pieces)), 64, seed=3)
    batches(0)
    took = []
    for step in (1, 1_000_000):
        start = time.perf_counter()
        for more in range(10):
            batch = batches(step + more)
        took.append(time.perf_counter() - start)
    assert took[1] < 5 * took[0] + 0.1
    assert batch["audio"].shape[1] <= 40
    assert {"audio", "length", "index", "key"} == set(batch)


def test_a_long_recording_is_represented_by_stretches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recordings, "MOST_SECONDS", 6)
    cache = made([60, 61, 5, 600])
    batch = cache.batch(np.array([0, 1, 2, 3]))
    assert batch["length"].tolist() == [60, 60, 5, 60]
    for row, starts in ((1, [0, 20, 41]), (3, [0, 290, 580])):
        begin = int(cache.starts[row])
        expected = [sample + 1 for start in starts for sample in range(begin + start, begin + start + 20)]
        assert batch["audio"][row].tolist() == expected
    assert batch["audio"][0].tolist() == list(range(1, 61))


# Memory


MEMORY = """
import re, sys, tracemalloc
from pathlib import Path
import numpy as np
from tacit.data import open_dataset
from tacit.data.recordings import Pieces

def memory(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3

open_dataset(sys.argv[1] + "/short", cache=sys.argv[2] + "/first").batch(np.arange(2))
before = memory("VmRSS")
dataset = open_dataset(sys.argv[1], cache=sys.argv[2])
assert len(dataset) == 5, len(dataset)
assert dataset.cache.lengths[0] == 3600 * 4000
print(memory("VmHWM") - before)
tracemalloc.start()
assert dataset.batch(np.zeros(1, np.int64))["length"].tolist() == [600 * 4000]
print(tracemalloc.get_traced_memory()[1] / 1e6)
tracemalloc.reset_peak()
pieces = Pieces(dataset.cache, np.arange(5), 20.0)
for numbers in np.arange(64).reshape(4, 16):
    pieces.batch(numbers)
print(tracemalloc.get_traced_memory()[1] / 1e6)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's own account of memory")
def test_memory_stays_flat_however_long_a_recording_is(tmp_path: Path):
    """An hour of 4 kHz is 29 MB; neither reading nor evaluation nor training ever holds it."""
    root = tmp_path / "data"
    (root / "short").mkdir(parents=True)
    minute = noise(0, 60.0, 4000)
    with soundfile.SoundFile(root / "hour.wav", "w", 4000, 1, "PCM_16") as file:
        for _ in range(60):
            file.write(minute)
    for i in range(4):
        soundfile.write(root / "short" / f"{i}.wav", noise(i), 4000)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(root), str(tmp_path / "c")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    opening, batch, pieces = map(float, done.stdout.split())
    assert opening < 20
    assert batch < 12  # ten minutes of it, twice
    assert pieces < 8


@pytest.mark.skipif(not FSDD.exists(), reason="the spoken digits are not on this machine")
def test_spoken_digits(tmp_path: Path, cached):
    table = pq.read_table(FSDD).slice(0, 60)
    pq.write_table(table, tmp_path / "part.parquet", row_group_size=20)
    dataset = cached(tmp_path / "part.parquet", label_column="label", group_column="speaker")
    assert dataset.kind == "audio"
    assert dataset.spec.rate == 8000  # type: ignore[union-attr]
    assert dataset.ids.to_pylist() == table["source_file"].to_pylist()
    assert heard(dataset) == [read_sound(cell, 8000).tolist() for cell in table["audio"].to_pylist()]
    assert dataset.group is not None
    json.dumps(dataset.notes.as_dict())


def test_windows_are_even_so_that_frames_can_be_counted():
    for rate in (4_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000):
        spec = audio_spec(rate, 10.0)
        assert spec.window % 2 == 0
        assert abs(spec.window - 0.025 * rate) <= 1
        assert abs(spec.hop - 0.01 * rate) <= 0.5
