"""How many seconds of sound a second of one core turns into log-mel frames, against librosa.

librosa is asked clip by clip, as its users do, and as `librosa_at_once` for the whole batch. Seconds are processor
seconds of one thread, the best of several rounds, so that a busy machine does not blur them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sides import Asked, Said, seconds, take_side

# Hz, seconds, clips, bands
CASES = ((8000, 1, 64, 40), (16000, 10, 16, 64))
TIMES = 15


def rates(make: Callable[[int, int, int, int], Callable[[], object]]) -> Said:
    """Of every case, by what `make` makes of it."""
    said = {}
    for rate, length, clips, mels in CASES:
        taken = seconds(make(rate, length, clips, mels), times=TIMES)
        said[f"{rate // 1000} kHz"] = {"rate": clips * length / taken, "clips": clips, "clip_seconds": length}
    return said


def raw(rate: int, length: int, clips: int) -> np.ndarray:
    """Noise, int16 [B S]."""
    return np.random.default_rng(0).integers(-20000, 20000, (clips, rate * length), dtype=np.int16)


def ours(asked: Asked) -> Said:
    import torch

    from tacit.modalities.audio.logmel import log_mel
    from tacit.modalities.audio.spec import AudioSpec

    torch.set_num_threads(1)

    def make(rate: int, length: int, clips: int, mels: int) -> Callable[[], object]:
        audio = torch.from_numpy(raw(rate, length, clips))
        ends = torch.full((clips,), audio.shape[1])
        spec = AudioSpec(rate, float(length), rate // 40, rate // 100, mels, 50.0, rate / 2, 0.0, 1.0)
        return lambda: log_mel(audio, ends, spec)

    return rates(make)


def librosa(asked: Asked) -> Said:
    def make(rate: int, length: int, clips: int, mels: int) -> Callable[[], object]:
        audio = raw(rate, length, clips).astype(np.float32) / 32768
        return lambda: [theirs(sound, rate, mels) for sound in audio]

    return rates(make)


def librosa_at_once(asked: Asked) -> Said:
    def make(rate: int, length: int, clips: int, mels: int) -> Callable[[], object]:
        audio = raw(rate, length, clips).astype(np.float32) / 32768
        return lambda: theirs(audio, rate, mels)

    return rates(make)


def theirs(sound: np.ndarray, rate: int, mels: int) -> np.ndarray:
    import librosa

    mel = librosa.feature.melspectrogram(
        y=sound,
        sr=rate,
        n_fft=rate // 40,
        hop_length=rate // 100,
        n_mels=mels,
        fmin=50.0,
        fmax=rate / 2,
        pad_mode="constant",
    )
    return np.log(mel + 1e-6)


if __name__ == "__main__":
    take_side({"tacit": ours, "librosa": librosa, "librosa_at_once": librosa_at_once})
