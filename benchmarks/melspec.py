"""How many seconds of sound a second of one core turns into log-mel frames, against librosa.

    python benchmarks/melspec.py [PYTHON]

PYTHON is an interpreter with librosa installed; without it the peer is left out. librosa is asked clip by clip, as its
users do, and once for the whole batch; `ratio` and `ratio_at_once` say how
many times as fast ours is. Seconds are processor seconds of one thread,
the best of several rounds, so that a busy machine does not blur them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# Hz, seconds, clips, bands
CASES = ((8000, 1, 64, 40), (16000, 10, 16, 64))
ROUNDS = 15


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds, after a round that does not count."""
    taken = []
    for _ in range(ROUNDS + 1):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken[1:])


def raw(rate: int, length: int, clips: int) -> np.ndarray:
    """Noise, int16 [B S]."""
    return np.random.default_rng(0).integers(-20000, 20000, (clips, rate * length), dtype=np.int16)


def ours(rate: int, length: int, clips: int, mels: int) -> float:
    import torch

    from tacit.melspec import log_mel
    from tacit.spec import AudioSpec

    torch.set_num_threads(1)
    audio = torch.from_numpy(raw(rate, length, clips))
    ends = torch.full((clips,), audio.shape[1])
    spec = AudioSpec(rate, float(length), rate // 40, rate // 100, mels, 50.0, rate / 2, 0.0, 1.0)
    return seconds(lambda: log_mel(audio, ends, spec))


def librosa(rate: int, length: int, clips: int, mels: int) -> tuple[float, float]:
    """Clip by clip, and all at once."""
    import librosa

    audio = raw(rate, length, clips).astype(np.float32) / 32768

    def log_mel(sound: np.ndarray) -> np.ndarray:
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

    return seconds(lambda: [log_mel(sound) for sound in audio]), seconds(lambda: log_mel(audio))


def main(peer: str | None) -> None:
    if peer == "--librosa":
        print(json.dumps([librosa(*case) for case in CASES]))
        return
    from record import record

    theirs: list[Any] = [None] * len(CASES)
    if peer:
        theirs = json.loads(subprocess.run([peer, __file__, "--librosa"], check=True, stdout=subprocess.PIPE).stdout)
    for case, other in zip(CASES, theirs, strict=True):
        rate, length, clips, _ = case
        figures: dict[str, Any] = {"milliseconds": round(1e3 * (taken := ours(*case)), 2)}
        if other:
            clip_by_clip, at_once = other
            figures |= {"librosa_milliseconds": round(1e3 * clip_by_clip, 2)}
            figures |= {"librosa_at_once_milliseconds": round(1e3 * at_once, 2)}
            figures |= {"ratio": round(clip_by_clip / taken, 2), "ratio_at_once": round(at_once / taken, 2)}
        record(f"melspec/{rate}hz", clips=clips, clip_seconds=length, **figures)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
