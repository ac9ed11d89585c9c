"""How many seconds of sound a second of one core turns into log-mel frames, against librosa.

    python benchmarks/melspec.py [PYTHON]

PYTHON is an interpreter with librosa installed; without it the peer is left out. librosa is asked clip by clip, as its
users do, and once for the whole batch; `ratio` and `ratio_at_once` say how many times as fast ours is. Seconds are
processor seconds of one thread, the best of several rounds in each of several processes in turn, so that a busy machine
does not blur them; `ratios` are those of each pair of processes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# Hz, seconds, clips, bands
CASES = ((8000, 1, 64, 40), (16000, 10, 16, 64))
ROUNDS, PAIRS = 15, 5


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

    pairs: list[list[tuple[float, Any]]] = [[] for _ in CASES]
    for _ in range(PAIRS):
        said = subprocess.run([peer, __file__, "--librosa"], check=True, stdout=subprocess.PIPE).stdout if peer else ""
        theirs = json.loads(said or "null") or [None] * len(CASES)
        for case, other, of in zip(CASES, theirs, pairs, strict=True):
            of.append((ours(*case), other))
    for (rate, length, clips, _), of in zip(CASES, pairs, strict=True):
        figures: dict[str, Any] = {"milliseconds": round(1e3 * min(taken for taken, _ in of), 2)}
        if peer:
            for number, name in enumerate(("librosa", "librosa_at_once")):
                figures[f"{name}_milliseconds"] = round(1e3 * min(other[number] for _, other in of), 2)
            ratios = [[other[number] / taken for taken, other in of] for number in (0, 1)]
            figures |= {"ratio": round(statistics.median(ratios[0]), 2), "ratios": [round(r, 2) for r in ratios[0]]}
            figures |= {"ratio_at_once": round(statistics.median(ratios[1]), 2)}
        record(f"melspec/{rate}hz", clips=clips, clip_seconds=length, **figures)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
