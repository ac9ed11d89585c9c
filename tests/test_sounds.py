"""Every format beside naive arithmetic, resampling beside soxr in one go, and files that are no sounds."""

from __future__ import annotations

import io
import tracemalloc
import warnings
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.io import wavfile

from tacit.modalities.audio import decode
from tacit.modalities.audio.decode import BadSound, Found, as_samples, blocks, header, read_sound
from tacit.modalities.audio.store import audio_spec
from tests.recordings import log_mel_of as log_mel

RATE = 16_000


def tone(seconds: float = 0.5, rate: int = RATE, hz: float = 440.0, channels: int = 1) -> NDArray[np.float32]:
    """A tone with a little noise, another in each channel: [S C], or [S] of one channel."""
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * rate))[:, None] / rate
    wave = 0.4 * np.sin(2 * np.pi * hz * time * (1 + np.arange(channels))) + 0.01 * rng.standard_normal(
        (len(time), channels)
    )
    return wave.astype(np.float32)[:, 0] if channels == 1 else wave.astype(np.float32)


def encoded(samples: NDArray[Any], rate: int = RATE, format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=format, subtype=subtype)
    return buffer.getvalue()


def rounded(samples: NDArray[Any]) -> NDArray[np.int16]:
    return np.clip(np.rint(samples.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)


# Formats


@pytest.mark.parametrize(
    ("format", "subtype", "step"),
    [
        ("WAV", "PCM_U8", 256),
        ("WAV", "PCM_16", 0),
        ("WAV", "PCM_24", 0),
        ("WAV", "PCM_32", 0),
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 0),
        ("WAV", "ULAW", 600),
        ("WAV", "ALAW", 600),
        ("WAVEX", "PCM_24", 0),
        ("RF64", "PCM_16", 0),
        ("W64", "PCM_16", 0),
        ("AU", "PCM_16", 0),
        ("CAF", "PCM_16", 0),
        ("AIFF", "PCM_S8", 256),
        ("AIFF", "PCM_16", 0),
        ("AIFF", "PCM_24", 0),
        ("FLAC", "PCM_S8", 256),
        ("FLAC", "PCM_16", 0),
        ("FLAC", "PCM_24", 0),
    ],
)
def test_formats_that_keep_the_samples(tmp_path: Path, format: str, subtype: str, step: int):
    """16 bits come back as they were; what has fewer differs by a step of its own."""
    wanted = rounded(tone())
    data = encoded(wanted / np.float32(32768), format=format, subtype=subtype)
    (tmp_path / "sound").write_bytes(data)
    for source in (data, tmp_path / "sound", str(tmp_path / "sound")):
        found = read_sound(source, RATE)
        assert found.dtype == np.int16
        assert found.shape == wanted.shape
        assert np.abs(found.astype(int) - wanted).max() <= step
    assert header(data) == (RATE, 1, len(wanted))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_32", "FLOAT"])
def test_samples_are_those_that_scipy_reads(subtype: str):
    data = encoded(tone(channels=2), subtype=subtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # a chunk about the greatest sample
        rate, raw = wavfile.read(io.BytesIO(data))
    assert rate == RATE
    whole = {"PCM_U8": lambda x: (x - 128.0) / 128, "PCM_16": lambda x: x / 2**15, "PCM_32": lambda x: x / 2**31}
    left = whole.get(subtype, lambda x: x)(raw[:, 0].astype(np.float64))
    assert np.abs(read_sound(data, RATE, "left").astype(int) - rounded(left)).max() <= 1


@pytest.mark.parametrize(
    ("format", "subtype", "rate"),
    [("MP3", "MPEG_LAYER_III", 16_000), ("OGG", "VORBIS", 16_000), ("OGG", "OPUS", 48_000)],
)
def test_formats_that_lose_a_little(format: str, subtype: str, rate: int):
    wanted = tone(1.0, rate)
    data = encoded(wanted, rate, format, subtype)
    found = read_sound(data, rate)
    whole, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    assert np.abs(found.astype(int) - rounded(whole)).max() <= 1
    inner = slice(rate // 4, 3 * rate // 4)
    assert np.corrcoef(found[inner], wanted[inner])[0, 1] > 0.95


def test_mu_law_and_a_law_are_those_of_the_standard():
    """ITU-T G.711, written out: what each of the 256 codes means."""
    codes = np.arange(256)
    mu = ~codes & 0xFF
    mu_law = ((((mu & 15) << 3) + 132 << ((mu >> 4) & 7)) - 132) * np.where(mu & 128, -1, 1)
    a = codes ^ 0x55
    step, part = (a >> 4) & 7, (a & 15) << 4
    a_law = np.where(step == 0, part + 8, part + 264 << np.maximum(step - 1, 0)) * np.where(a & 128, 1, -1)
    for form, expected in ((7, mu_law), (6, a_law)):
        fmt = np.array([form, 1], "<u2").tobytes() + np.array([8000, 8000], "<u4").tobytes() + b"\x01\0\x08\0"
        chunks = b"fmt " + np.uint32(16).tobytes() + fmt + b"data" + np.uint32(256).tobytes() + bytes(range(256))
        data = b"RIFF" + np.uint32(4 + len(chunks)).tobytes() + b"WAVE" + chunks
        assert read_sound(data, 8000).tolist() == expected.tolist()


def test_floats_beyond_full_scale_are_clipped_and_seen():
    found = Found()
    data = encoded(np.array([0.0, 0.5, 2.0, -3.0] * 100, np.float32), subtype="FLOAT")
    result = np.concatenate(list(blocks(data, RATE, found=found)))
    assert result[:4].tolist() == [0, 16384, 32767, -32768]
    assert (found.clipped, found.silent, found.full) == (True, False, 200)


# Channels


@pytest.mark.parametrize("channels", [1, 2, 6, 64])
def test_channels_are_mixed_or_chosen(channels: int):
    samples = tone(channels=channels).reshape(-1, channels)
    data = encoded(samples, format="WAV", subtype="FLOAT")
    assert np.abs(read_sound(data, RATE).astype(int) - rounded(samples.mean(axis=1))).max() <= 1
    assert (read_sound(data, RATE, "left") == rounded(samples[:, 0])).all()
    assert (read_sound(data, RATE, "right") == rounded(samples[:, min(1, channels - 1)])).all()


# Resampling


@pytest.mark.parametrize("rate_in", [4_000, 8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_resampling_in_blocks_is_soxr_in_one_go(rate_in: int, monkeypatch: pytest.MonkeyPatch):
    samples = tone(0.7, rate_in)
    whole = soxr.resample(samples, rate_in, RATE, quality="HQ")
    for block in (1 << 16, 1000, 17):
        monkeypatch.setattr(decode, "_BLOCK", block)
        found = read_sound(encoded(samples, rate_in, subtype="FLOAT"), RATE)
        assert found.shape == whole.shape
        assert np.abs(found.astype(int) - rounded(whole)).max() <= 1
        assert (as_samples(samples, rate_in, RATE) == found).all()


@pytest.mark.parametrize(("format", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("FLAC", "PCM_16")])
def test_blocks_are_the_whole(format: str, subtype: str, monkeypatch: pytest.MonkeyPatch):
    data = encoded(tone(1.0, 44_100), 44_100, format, subtype)
    whole = read_sound(data, RATE)
    monkeypatch.setattr(decode, "_BLOCK", 1000)
    assert np.abs(read_sound(data, RATE).astype(int) - whole).max() <= 1


def test_reading_takes_the_memory_of_a_block(tmp_path: Path):
    """Five minutes are 10 MB as floats; reading them block by block never holds a third of that."""
    soundfile.write(tmp_path / "long.wav", rounded(tone(300.0, 8_000)), 8_000)
    soundfile.read(tmp_path / "long.wav", frames=10)
    tracemalloc.start()
    try:
        n = sum(map(len, blocks(tmp_path / "long.wav", RATE)))
        assert n == 300 * RATE
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()


# Stretches


@pytest.mark.parametrize(("format", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_a_stretch_is_a_part_of_the_whole(format: str, subtype: str):
    data = encoded(tone(1.0), format=format, subtype=subtype)
    whole = read_sound(data, RATE)
    part = read_sound(data, RATE, start=0.25, end=0.75)
    assert np.abs(part.astype(int) - whole[RATE // 4 : 3 * RATE // 4]).max() <= 1
    assert len(read_sound(data, RATE, start=0.9, end=5.0)) == RATE // 10
    assert len(read_sound(data, RATE, end=0.1)) == RATE // 10


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [(0.5, 0.5, "no length"), (0.6, 0.5, "no length"), (-1.0, 0.5, "no length"), (2.0, 3.0, "beyond its end")],
)
def test_stretches_that_are_none(start: float, end: float, message: str):
    with pytest.raises(BadSound, match=message):
        read_sound(encoded(tone()), RATE, start=start, end=end)


# In memory


def test_samples_in_memory_are_what_a_file_of_them_is(tmp_path: Path):
    stereo = tone(0.3, 22_050, channels=2)
    wanted = read_sound(encoded(stereo, 22_050, subtype="FLOAT"), RATE)
    assert (as_samples(stereo, 22_050, RATE) == wanted).all()
    assert (as_samples(stereo.astype(np.float64), 22_050, RATE) == wanted).all()
    whole = rounded(tone())
    assert (as_samples(whole, RATE, RATE) == whole).all()
    assert (as_samples((whole.astype(np.int32) << 16), RATE, RATE) == whole).all()
    assert as_samples(np.array([0, 128, 255], np.uint8), RATE, RATE).tolist() == [-32768, 0, 32512]
    (tmp_path / "a.wav").write_bytes(encoded(whole))
    assert (as_samples(tmp_path / "a.wav", None, RATE) == whole).all()
    for wrong, rate, message in (
        (whole, None, "give rate="),
        (whole[:0], RATE, "no sound"),
        (whole[None, None], RATE, r"\[S\] or \[S C\]"),
        (whole[None], RATE, "channels"),
        (np.array([0.0, np.nan]), RATE, "no numbers"),
        (whole.astype(np.float32), RATE, "where 1 is full scale; scale them, as by 32,768"),
    ):
        with pytest.raises(BadSound, match=message):
            as_samples(wrong, rate, RATE)


# What is no sound


def test_what_cannot_be_read_says_why_in_a_few_words(tmp_path: Path):
    good = encoded(tone())
    flac = encoded(tone(), format="FLAC")
    nan = encoded(np.array([0.1, np.nan, 0.2], np.float32), subtype="FLOAT")
    none = encoded(np.zeros(0, np.float32))
    wide = encoded(np.zeros((10, 65), np.float32))
    bad = {
        "empty.wav": (b"", "empty"),
        "text.wav": (b"This is a text, whatever its name says.\n" * 50, "not a sound of a known format"),
        "text.mp3": (b"This is a text, whatever its name says.\n" * 50, "not a sound of a known format"),
        "none.wav": (none, "holds no sound"),
        "head.wav": (good[:20], "truncated or damaged"),
        "head.flac": (flac[:60], "truncated or damaged"),
        "half.flac": (flac[: len(flac) // 2], "truncated or damaged"),
        "nan.wav": (nan, "no numbers"),
        "wide.wav": (wide, "65 channels"),
        "phone.m4a": (b"\0\0\0\x20ftypM4A " + bytes(100), "AAC"),
        "picture.wav": (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a sound"),
    }
    for name, (data, message) in bad.items():
        (tmp_path / name).write_bytes(data)
        for source in (data, tmp_path / name):
            with pytest.raises(BadSound, match=message) as caught:
                read_sound(source, RATE)
            assert len(str(caught.value)) < 120
            assert str(tmp_path) not in str(caught.value)


def test_what_a_damaged_file_still_holds_is_kept():
    data = encoded(tone(20.0), format="FLAC")
    found = Found()
    n = sum(map(len, blocks(data[: len(data) // 2], RATE, found=found)))
    assert found.cut
    assert 5 * RATE < n < 11 * RATE
    wav = encoded(tone(1.0))
    assert abs(len(read_sound(wav[: len(wav) // 2], RATE)) - RATE // 2) < 50


def test_short_and_silent_sounds_are_sounds():
    assert len(read_sound(encoded(tone(0.01, 44_100), 44_100), RATE)) == 160
    with pytest.raises(BadSound, match="shorter than one sample"):
        read_sound(encoded(np.zeros(1, np.float32), 48_000), 4_000)
    for value in (0.0, 0.25):
        found = Found()
        list(blocks(encoded(np.full(1000, value, np.float32)), RATE, found=found))
        assert found.silent
    found = Found()
    list(blocks(encoded(tone()), RATE, found=found))
    assert (found.silent, found.clipped, found.cut) == (False, False, False)


def test_the_standard_library_agrees(tmp_path: Path):
    wanted = rounded(tone())
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(wanted.tobytes())
    assert (read_sound(tmp_path / "a.wav", RATE) == wanted).all()


# Log-mel


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 16_000, 22_050, 48_000])
def test_log_mel_is_a_loop_over_frames(rate: int):
    spec = audio_spec(rate, 10.0)
    samples = rounded(tone(0.1, rate))[: round(0.1 * rate) - 3]
    values = log_mel(samples, spec)
    assert values.shape == (1 + len(samples) // spec.hop, spec.mels)
    mel = lambda hz: hz * 3 / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)  # noqa: E731
    hz = lambda m: m * 200 / 3 if m < 15 else 1000 * np.exp(np.log(6.4) / 27 * (m - 15))  # noqa: E731
    edges = [hz(m) for m in np.linspace(mel(spec.low), mel(spec.high), spec.mels + 2)]
    padded = np.concatenate([np.zeros(spec.window // 2), samples / 32768, np.zeros(spec.window)])
    for t in (0, 1, len(values) // 2, len(values) - 1):
        frame = padded[t * spec.hop :][: spec.window]
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(spec.window) / spec.window)
        power = np.abs(np.fft.rfft(frame * hann)) ** 2
        for m in range(spec.mels):
            low, middle, high = edges[m : m + 3]
            energy = 0.0
            for k, p in enumerate(power):
                f = k * rate / spec.window
                weight = (f - low) / (middle - low) if f <= middle else (high - f) / (high - middle)
                energy += max(0.0, weight) * 2 / (high - low) * p
            assert values[t, m] == pytest.approx(np.log(energy + 1e-6), abs=1e-3)


def test_log_mel_is_that_of_librosa():
    librosa = pytest.importorskip("librosa")
    spec = audio_spec(RATE, 10.0)
    samples = rounded(tone())
    energy = librosa.feature.melspectrogram(
        y=samples / np.float32(32768),
        sr=RATE,
        n_fft=spec.window,
        hop_length=spec.hop,
        pad_mode="constant",
        n_mels=spec.mels,
        fmin=spec.low,
        fmax=spec.high,
    )
    assert np.abs(log_mel(samples, spec) - np.log(energy.T + 1e-6)).max() < 1e-4
