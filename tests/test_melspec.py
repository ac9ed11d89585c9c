"""Log-mel values are what the definition says, and what librosa says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tacit.modalities.audio.logmel import LogMel, filters, log_mel
from tacit.modalities.audio.spec import AudioSpec


def spec_for(rate: int, mels: int = 40, *, window: int | None = None, hop: int | None = None) -> AudioSpec:
    return AudioSpec(
        rate, 10.0, window or round(0.025 * rate), hop or round(0.01 * rate), mels, 50.0, rate / 2, -6.0, 3.0
    )


SPECS = [
    spec_for(8000),
    spec_for(16000, 64),
    spec_for(11025, 40, window=275),  # an odd window
    spec_for(4000, 40),  # bands narrower than a frequency, which hear nothing
    spec_for(22050, 80, window=1024, hop=256),
]


def sounds(spec: AudioSpec, samples: int, seed: int = 0) -> NDArray[np.float64]:
    """Tones over noise, in [-1, 1]."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / spec.rate
    tones = sum(0.3 * np.sin(2 * math.pi * rng.uniform(60, spec.rate / 2) * t) for _ in range(2))
    return np.clip(tones + 0.05 * rng.standard_normal(samples), -1, 1).astype(np.float32).astype(np.float64)


def naive(sound: NDArray[np.float64], spec: AudioSpec) -> NDArray[np.float64]:
    """Frame by frame, frequency by frequency, band by band, as the docstring of the module says it."""
    n = np.arange(spec.window)
    hann = 0.5 - 0.5 * np.cos(2 * math.pi * n / spec.window)
    frequencies = np.arange(spec.window // 2 + 1) * spec.rate / spec.window
    waves = np.exp(-2j * math.pi * np.outer(np.arange(spec.window // 2 + 1), n) / spec.window)
    padded = np.pad(sound, (spec.window // 2, spec.window))
    edges = [hz(mel(spec.low) + k * (mel(spec.high) - mel(spec.low)) / (spec.mels + 1)) for k in range(spec.mels + 2)]
    found = np.zeros((1 + len(sound) // spec.hop, spec.mels))
    for t in range(len(found)):
        energy = np.abs(waves @ (padded[t * spec.hop :][: spec.window] * hann)) ** 2
        for m in range(spec.mels):
            below, peak, above = edges[m : m + 3]
            rising, falling = (frequencies - below) / (peak - below), (above - frequencies) / (above - peak)
            triangle = np.maximum(0, np.minimum(rising, falling)) * 2 / (above - below)
            found[t, m] = math.log(triangle @ energy + 1e-6)
    return found


def mel(frequency: float) -> float:
    return frequency / (200 / 3) if frequency < 1000 else 15 + 27 * math.log(frequency / 1000, 6.4)


def hz(value: float) -> float:
    return value * 200 / 3 if value < 15 else float(1000 * 6.4 ** ((value - 15) / 27))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.rate}")
def test_equals_the_definition(spec: AudioSpec) -> None:
    lengths = [1, spec.hop, spec.window, spec.rate // 5 + 3]
    audio, length = np.zeros((len(lengths), max(lengths))), torch.tensor(lengths)
    for row, samples in enumerate(lengths):
        audio[row, :samples] = sounds(spec, samples, row)
    found, frames = log_mel(torch.from_numpy(audio).float(), length, spec)
    assert found.shape == (len(lengths), 1 + max(lengths) // spec.hop, spec.mels)
    assert found.dtype == torch.float32
    assert frames.tolist() == [1 + (samples - 1) // spec.hop for samples in lengths]
    for row, samples in enumerate(lengths):
        wanted = naive(audio[row, :samples], spec)
        assert np.abs(found[row, : len(wanted)].numpy() - wanted).max() < 1e-4


@pytest.mark.parametrize("name", ["silence", "constant", "clipped", "a click", "full scale"])
def test_odd_sounds_equal_the_definition(name: str) -> None:
    """As the integers that files become; beside a loud band, a faint one is as exact as the loud one's rounding."""
    spec, n = SPECS[1], 2000
    wave = np.sin(np.arange(n) * 0.3)
    made = {
        "silence": np.zeros(n),
        "constant": np.full(n, 8192.0),
        "clipped": np.clip(90_000 * wave, -32768, 32767),
        "a click": 32767.0 * (np.arange(n) == 900),
        "full scale": np.where(np.arange(n) % 2, 32767.0, -32768.0),
    }
    sound = made[name].astype(np.int16)
    found, _ = log_mel(torch.from_numpy(sound)[None], torch.tensor([n]), spec)
    said, wanted = np.exp(found[0].double().numpy() / 2), np.exp(naive(sound / 32768, spec) / 2)  # amplitudes
    assert (np.abs(said - wanted) <= 5e-5 * wanted + 1e-6 * wanted.max()).all()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.rate}")
def test_equals_librosa(spec: AudioSpec) -> None:
    librosa = pytest.importorskip("librosa")
    sound = sounds(spec, spec.rate).astype(np.float32)
    found, _ = log_mel(torch.from_numpy(sound)[None], torch.tensor([len(sound)]), spec)
    wanted = librosa.feature.melspectrogram(
        y=sound,
        sr=spec.rate,
        n_fft=spec.window,
        hop_length=spec.hop,
        n_mels=spec.mels,
        fmin=spec.low,
        fmax=spec.high,
        center=True,
        pad_mode="constant",
    )
    assert found.shape[1:] == wanted.T.shape
    assert np.abs(found[0].numpy() - np.log(wanted.T + 1e-6)).max() < 1e-4


def test_filters_have_the_same_area() -> None:
    weight = filters(16000, 4096, 40, 50.0, 8000.0)
    torch.testing.assert_close(weight.sum(0) * (16000 / 4096), torch.ones(40, dtype=torch.float64), rtol=0.02, atol=0)


def test_padding_changes_nothing_whatever_it_holds() -> None:
    spec = SPECS[0]
    sound = torch.from_numpy(sounds(spec, 4001)).float()
    wanted, frames = log_mel(sound[None], torch.tensor([4001]), spec)
    audio = torch.full((3, 9000), torch.nan)
    audio[:, :4001] = sound
    found, others = log_mel(audio, torch.tensor([4001, 80, 4001]), spec)
    assert others.tolist() == [int(frames), 1, int(frames)]
    torch.testing.assert_close(found[[0, 2], : wanted.shape[1]], wanted.expand(2, -1, -1), rtol=0, atol=1e-5)
    assert torch.equal(found[1, 4:], torch.full_like(found[1, 4:], math.log(1e-6)))


def test_integers_are_fractions_of_full_scale() -> None:
    spec = SPECS[1]
    whole = torch.from_numpy(sounds(spec, 3000) * 32767).round().to(torch.int16)[None]
    length = torch.tensor([3000])
    found, wanted = log_mel(whole, length, spec)[0], log_mel(whole.float() / 32768, length, spec)[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert torch.equal(log_mel(whole.double() / 32768, length, spec)[0], wanted)


def test_silence_and_single_samples() -> None:
    spec = SPECS[0]
    found, frames = log_mel(torch.zeros(2, 400, dtype=torch.int16), torch.tensor([400, 1]), spec)
    assert frames.tolist() == [5, 1]
    torch.testing.assert_close(found, torch.full((2, 6, 40), math.log(1e-6)))
    found, frames = log_mel(torch.full((1, 1), 0.5), torch.tensor([1]), spec)
    assert found.shape == (1, 1, 40)
    assert bool((found > math.log(1e-6)).all())


def test_long_batches_are_taken_in_parts() -> None:
    """More rows and more frames than are transformed together."""
    spec = SPECS[0]
    audio = torch.from_numpy(sounds(spec, 90_000)).float().reshape(3, -1)
    whole = log_mel(audio.reshape(1, -1), torch.tensor([90_000]), spec)[0]
    assert whole.shape[1] > 1024
    later = log_mel(audio.reshape(1, -1)[:, 40_000:], torch.tensor([50_000]), spec)[0]
    torch.testing.assert_close(later[0, 2:], whole[0, 502:])
    rows = log_mel(audio, torch.full((3,), 30_000), spec)[0]
    torch.testing.assert_close(rows[0, :370], whole[0, :370])


def test_no_precision_is_lost_under_autocast() -> None:
    spec = SPECS[0]
    audio, length = torch.from_numpy(sounds(spec, 2000)).float()[None], torch.tensor([2000])
    wanted = log_mel(audio, length, spec)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(log_mel(audio, length, spec)[0], wanted)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.rate}")
def test_as_matrix_products(spec: AudioSpec) -> None:
    audio = torch.from_numpy(np.stack([sounds(spec, 3001), sounds(spec, 3001, 1)])).float()
    length = torch.tensor([3001, 1700])
    wanted, frames = log_mel(audio, length, spec)
    found, others = LogMel(spec)(audio, length)
    assert torch.equal(frames, others)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
