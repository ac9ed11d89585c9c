"""Sounds from the things people have to a dataset: every kind of source, rates, channels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from tacit.core.columns import Few
from tacit.core.errors import UserError
from tacit.data.opened import open_tables
from tacit.modalities.audio.decode import read_sound
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.audio.store import audio_spec
from tests.recordings import log_mel_of as log_mel
from tests.sounding import RATE, encoded, folder, heard, noise, recordings_of

FSDD = Path(__file__).resolve().parents[2] / "shared" / "data" / "fsdd" / "train.parquet"


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
    few.write_text("file,label\ncat/1.flac,meow\ndata/cat/3.wav,meow\ndog/0.wav,bark\n2.aiff,bark\nno.wav,bark\n")
    dataset = cached(root, labels=str(few))
    assert [dataset.classes[c] if c >= 0 else "" for c in dataset.label] == ["meow", "meow", "", "bark", "bark", ""]
    assert dataset.notes.unmatched == Few(1, ("no.wav",))
    few.write_text("file,label\n1,meow\n3,meow\n0,bark\n2,bark\n")
    assert (cached(root, labels=str(few)).label >= 0).sum() == 4


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


def test_a_test_set_of_sounds_is_held_out(tmp_path: Path, cached):
    one, other = folder(tmp_path / "one"), folder(tmp_path / "other", 4)
    dataset = cached(one, test=other)
    assert len(dataset) == 10
    assert dataset.split is not None
    assert dataset.split.tolist() == [0] * 6 + [1] * 4


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


def test_one_speaker_stays_together_by_default(tmp_path: Path, cached):
    sounds = [encoded(noise(i)) for i in range(24)]
    table = {"audio": sounds, "label": ["a", "b"] * 12, "speaker": [f"who {i % 6}" for i in range(24)]}
    dataset = cached(pa.table(table), label_column="label")
    assert dataset.group is not None
    assert [len(set(dataset.group[i::6])) for i in range(6)] == [1] * 6
    assert len(np.unique(dataset.group)) == 6
    assert any("grouped by the column speaker" in line for line in dataset.notes.lines())
    held = cached(pa.table(table), label_column="label", holdout="speaker=who 1")
    assert held.group is None
    few = cached(pa.table({**table, "speaker": ["one", "two"] * 12}), label_column="label")
    assert few.group is None
    assert any("2 speakers are too few" in line for line in few.notes.lines())
    labels = tmp_path / "labels.csv"
    folder(tmp_path / "sounds", 12)
    rows = [f"{path.name},{i % 2},{i // 2}" for i, path in enumerate(sorted((tmp_path / "sounds").rglob("*.*")))]
    labels.write_text("\n".join(["file,label,speaker", *rows]))
    beside = cached(tmp_path / "sounds", labels=str(labels))
    assert beside.group is not None
    assert len(np.unique(beside.group)) == 6
