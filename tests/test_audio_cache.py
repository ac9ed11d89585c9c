"""Decoded once: the cache of recordings, how it comes about, what is read from it, and the memory that takes."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import RunFailed
from tacit.data import decode
from tacit.data.copies import exact_copies
from tacit.data.decode import Pool, Segment
from tacit.data.store import Ragged
from tacit.dataset import clean
from tacit.modalities.audio import decode as sounds
from tacit.modalities.audio import store
from tacit.modalities.audio.decoding import Plan, headers
from tacit.modalities.audio.recordings import Pieces, Recordings
from tacit.modalities.audio.spec import AudioSpec
from tacit.training.batches import Batches, Span
from tests.sounding import RATE, encoded, folder, heard, noise, recordings_of

# The cache


def test_the_second_opening_reads_nothing(tmp_path: Path, cached, monkeypatch: pytest.MonkeyPatch):
    root = folder(tmp_path / "data")
    first = cached(root)
    monkeypatch.setattr(decode, "COMMAND", ["false"])
    second = cached(root, seconds=3.0)
    assert heard(second) == heard(first)
    assert second.spec.seconds == 3.0  # type: ignore[union-attr]
    assert recordings_of(second).folder == recordings_of(first).folder
    assert isinstance(recordings_of(second).sounding.values.base, np.memmap)
    assert clean(tmp_path / "cache") > 2 * 6000
    with pytest.raises(RuntimeError, match="does not start"):
        cached(root)


def test_nothing_is_left_of_a_failure(tmp_path: Path, cached, monkeypatch: pytest.MonkeyPatch):
    root = folder(tmp_path / "data")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store.Writer, "write", full)
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
    assert exact_copies(dataset.content, np.array([4]), np.arange(4)).twin.tolist() == [2]


# Decoding


def test_long_sounds_go_through_a_file(tmp_path: Path):
    long = noise(0, 40.0)
    items: list[decode.Item] = [encoded(long), encoded(noise(1)), Segment(encoded(long), 1.0, 39.0)]
    (tmp_path / "spilled").mkdir()
    for place in (str(tmp_path / "spilled"), ""):
        with Pool(Plan, 1) as pool:
            answers = [
                store.heard_in(outcome.data or b"") for outcome in pool.decode(items, Plan(RATE, "mix", folder=place))
            ]
        for (told, samples), expected in zip(answers, (long, noise(1), long[RATE : 39 * RATE]), strict=True):
            assert bool(told.file) == (place != "" and len(expected) * 2 > sounds.INLINE)
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
from tacit.modalities.audio import decode as sounds
from tacit.data import worker
real, sounds._SIGN_OF_LIFE = sounds.blocks, 0.05
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
    with Pool(Plan, 1) as pool:
        list(headers(pool, items[:1]))  # what is imported first does not count
        outcomes = list(pool.decode(items, Plan(RATE, "mix")))
    assert [outcome.data is not None for outcome in outcomes] == [True, False, True]
    assert "took longer than 1.5 s" in outcomes[1].reason


# Batches and pieces


def made(lengths: list[int], seconds: float = 2.0, rate: int = 10) -> Recordings:
    """Recordings of these lengths, in which every sample is another."""
    starts = np.cumsum([0, *lengths])
    spec = AudioSpec(rate, seconds, 4, 2, 1, 0.0, rate / 2, 0.0, 1.0)
    content = np.arange(2 * len(lengths)).view("V16")
    return Recordings(
        Ragged(np.arange(1, starts[-1] + 1).astype(np.int16), starts), content, spec, "made", Path("made")
    )


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
        whole = cache.sounding.values[cache.sounding.starts[row] : cache.sounding.starts[row + 1]].tolist()
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
    monkeypatch.setattr(sounds, "MOST_SECONDS", 6)
    cache = made([60, 61, 5, 600])
    batch = cache.batch(np.array([0, 1, 2, 3]))
    assert batch["length"].tolist() == [60, 60, 5, 60]
    for row, starts in ((1, [0, 20, 41]), (3, [0, 290, 580])):
        begin = int(cache.sounding.starts[row])
        expected = [sample + 1 for start in starts for sample in range(begin + start, begin + start + 20)]
        assert batch["audio"][row].tolist() == expected
    assert batch["audio"][0].tolist() == list(range(1, 61))


# Memory


MEMORY = """
import re, sys, tracemalloc
from pathlib import Path
import numpy as np
from tacit.dataset import open_dataset
from tacit.modalities.audio.recordings import Pieces

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
