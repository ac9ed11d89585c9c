"""Files that are no sounds, or odd ones, and settings that make no sense: counted notes, or one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from tacit.core.errors import UserError
from tacit.modalities.audio.views import frames_of
from tests.sounding import RATE, encoded, heard, noise, recordings_of


def bad_files(root: Path) -> Path:
    good = encoded(noise(0, 1.0))
    files = {
        "clip.wav": encoded(noise(1, 0.01)),
        "called.wav": encoded(noise(6), format="FLAC"),
        "constant.wav": encoded(np.full(4000, 0.25, np.float32)),
        "cut.flac": encoded(noise(7, 20.0), format="FLAC")[:150_000],
        "fine.wav": good,
        "fine64.wav": encoded(noise(2, channels=64)),
        "loud.wav": encoded(np.sign(noise(3)) * np.float32(2), subtype="FLOAT"),
        "silent.wav": encoded(np.zeros(4000, np.float32)),
        "x-empty.wav": b"",
        "x-half.flac": encoded(noise(4), format="FLAC")[:500],
        "x-infinite.wav": encoded(np.array([0.1, np.inf], np.float32), subtype="FLOAT"),
        "x-nan.wav": encoded(np.array([0.1, np.nan], np.float32), subtype="FLOAT"),
        "x-picture.wav": b"\x89PNG\r\n\x1a\n" + bytes(100),
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
    assert dataset.ids.to_pylist() == [
        *("called.wav", "clip.wav", "constant.wav", "cut.flac", "fine.wav", "fine64.wav", "loud.wav", "silent.wav")
    ]
    assert heard(dataset)[0] == noise(6).tolist()
    reasons = dict(text.split(": ", 1) for text in dataset.notes.skipped.first)
    assert sorted(reasons) == sorted(path.name for path in root.glob("x-*"))
    for name, reason in (
        ("empty.wav", "empty"),
        ("half.flac", "truncated or damaged"),
        ("infinite.wav", "no numbers"),
        ("nan.wav", "no numbers"),
        ("picture.wav", "not a sound of a known format"),
        ("none.wav", "no sound"),
        ("text.wav", "not a sound of a known format"),
        ("truncated.wav", "truncated or damaged"),
        ("wide.wav", "65 channels"),
    ):
        assert reason in reasons[f"x-{name}"]
    assert (dataset.notes.silent, dataset.notes.clipped, dataset.notes.truncated) == (2, 1, 1)
    told = "\n".join(dataset.notes.lines())
    assert "2 recordings hold nothing but silence" in told
    assert "1 recordings are clipped" in told
    assert "1 recordings are damaged" in told
    mel, _ = frames_of(dataset.batch(np.arange(len(dataset))), dataset.spec)
    assert bool(mel.isfinite().all())
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
    with pytest.raises(UserError, match="--kind audio is not read from a ndarray: give a folder"):
        cached(np.zeros((4, 800)), kind="audio")
