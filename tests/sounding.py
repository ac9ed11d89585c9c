"""Small sounds on the disk for the tests of data, and what a dataset holds of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from tacit.dataset import Dataset
from tacit.modalities.audio.recordings import Recordings

RATE = 8_000


def noise(number: int, seconds: float = 0.2, rate: int = RATE, channels: int = 1) -> NDArray[np.int16]:
    rng = np.random.default_rng(number)
    shape = (round(seconds * rate), channels) if channels > 1 else round(seconds * rate)
    return rng.integers(-9000, 9000, shape).astype(np.int16)


def encoded(samples: NDArray[Any], rate: int = RATE, format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=format, subtype=subtype)
    return buffer.getvalue()


def folder(root: Path, n: int = 6) -> Path:
    """n sounds of growing length in two class folders."""
    for i in range(n):
        path = root / ("dog", "cat")[i % 2] / f"{i}{('.wav', '.flac', '.aiff')[i % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(i, 0.1 + i / 100), RATE)
    return root


def recordings_of(dataset: Dataset) -> Recordings:
    assert isinstance(dataset.cache, Recordings)
    return dataset.cache


def heard(dataset: Dataset) -> list[list[int]]:
    return [sound.tolist() for sound in recordings_of(dataset).sounds(np.arange(len(dataset)))]
