"""Open the recordings of a source: stored by an earlier run, or decoded now."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tacit.data.decode import Decoded, Pool
from tacit.data.source import Source
from tacit.data.store import (
    Keeping,
    Kept,
    Ragged,
    Written,
    check_bad,
    hash_of,
    keep,
    nothing_readable,
    read_content,
    unknown_content,
)
from tacit.modalities.audio import decode, decoding
from tacit.modalities.audio.decoding import Plan
from tacit.modalities.audio.options import RATES
from tacit.modalities.audio.recordings import FORMAT, SAMPLES, Recordings, describe
from tacit.modalities.audio.spec import AudioSpec

SECONDS = 10.0  # that an encoder sees at once, by default
RATE = 16_000  # Hz at most, by default: speech has little beyond 8 kHz
WINDOW, HOP = 0.025, 0.010  # seconds
MELS, MELS_NARROW = 64, 40  # from 16 kHz on, and below
LOW = 50.0  # Hz

_PROBED = 64  # recordings whose headers decide about the rate
_MEASURED = 300  # recordings whose log-mel values give mean and deviation
_MEASURED_SECONDS = 5  # of each, from its middle
_LEAST_STD = 1e-2
_GLIMPSED = 128  # recordings at most that stand for all in a glimpse
_GLIMPSED_SECONDS = 30.0  # of each


def audio_spec(rate: int, seconds: float, mean: float = 0.0, std: float = 1.0) -> AudioSpec:
    """The frames of sounds at this rate. The window has an even number of samples, so that S samples make 1 + S // hop
    frames."""
    return AudioSpec(
        rate=rate,
        seconds=seconds,
        window=2 * round(rate * WINDOW / 2),
        hop=round(rate * HOP),
        mels=MELS if rate >= 16_000 else MELS_NARROW,
        low=LOW,
        high=rate / 2,
        mean=mean,
        std=std,
    )


def open_recordings(
    source: Source, keeping: Keeping, *, rate: int | None, seconds: float | None, channels: str | None
) -> Kept:
    """Open the recordings of this source, decoding them unless an earlier run has.

    `rate` in Hz, by default the commonest of the files, 16,000 at most; `channels` mix, left or right, or separate
    where the items of the source name their own.
    """
    seconds, channels = seconds or SECONDS, channels or "mix"
    kept = keep(
        source,
        "sounds",
        [source.fingerprint, "sound", FORMAT, decode.VERSION, decode.versions(), rate, channels],
        keeping,
        lambda folder: Recordings.load(folder, seconds),
        lambda folder: _decode(source, rate, channels, folder, keeping),
        lambda: _glimpse(source, rate, seconds, channels, keeping.patience),
    )
    assert isinstance(kept.cache, Recordings)
    # Sounds of one channel are stored once, whatever `channels` is.
    recordings = replace(kept.cache, spec=replace(kept.cache.spec, channels=channels))
    return replace(kept, cache=recordings)


def _headers(source: Source, pool: Pool) -> list[decode.Header]:
    headers = [header for header in decoding.headers(pool, source.sample(_PROBED)) if header is not None]
    if not headers:
        raise nothing_readable(source, "sound", pool.why_not(next(iter(source.items()))))
    return headers


def _usual_rate(headers: list[decode.Header]) -> int:
    """The commonest rate, of those equally common the highest; in the range for resampled sounds."""
    counts = Counter(header.rate for header in headers)
    return max(RATES[0], min(RATE, max(counts, key=lambda rate: (counts[rate], rate))))


def _rates_differ(headers: list[decode.Header], rate: int) -> tuple[str, ...]:
    rates = sorted({header.rate for header in headers})
    if len(rates) < 2:
        return ()
    return (
        f"the recordings have rates of {', '.join(f'{r:,}' for r in rates[:5])} Hz; all were made into {rate:,} Hz",
    )


# ---------------------------------------------------------------- the whole


def _decode(source: Source, rate: int | None, channels: str, folder: Path, keeping: Keeping) -> Written:
    """Decode into the folder."""
    spilled = folder / "spilled"
    spilled.mkdir()
    bad: list[tuple[int, str]] = []
    with Pool(Plan) as pool:
        headers = _headers(source, pool)
        rate = rate or _usual_rate(headers)
        plan = Plan(rate, channels, folder=str(spilled))
        with Writer(folder) as writer:
            for row, outcome in enumerate(pool.decode(source.items(), plan)):
                _add(writer, row, outcome, bad)
                check_bad(source, bad, row + 1, keeping.max_bad)
                if keeping.progress is not None and (row % 64 == 63 or row + 1 == len(source)):
                    keeping.progress(row + 1, len(source))
    shutil.rmtree(spilled)
    content = read_content(folder)
    if not len(content):
        row, reason = bad[0]
        raise nothing_readable(source, "sound", reason, row)
    found = Recordings(
        Ragged.load(folder, "samples", "starts", SAMPLES), content, audio_spec(rate, SECONDS), hash_of(content)
    )
    describe(folder, replace(found, spec=_measured(found)))
    form = [rate, FORMAT, decode.VERSION]
    return Written(form, bad, counts=writer.counts, remarks=_rates_differ(headers, rate))


def _add(writer: Writer, row: int, outcome: Decoded, bad: list[tuple[int, str]]) -> None:
    if outcome.data is not None:
        writer.write(outcome.content, outcome.data)
    elif outcome.reason == os.strerror(errno.ENOSPC).lower():  # a worker's disk is ours
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    else:
        bad.append((row, outcome.reason))


@dataclass
class Writer:
    """Writes the files of recordings, one recording after the other, and counts their flaws."""

    folder: Path
    samples: int = 0
    counts: dict[str, int] = field(default_factory=lambda: {"silent": 0, "clipped": 0, "truncated": 0})

    def __enter__(self) -> Writer:
        names = ("samples", "starts", "content")
        self._files: dict[str, IO[bytes]] = {name: (self.folder / f"{name}.bin").open("wb") for name in names}
        self._files["starts"].write(bytes(8))
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def write(self, content: bytes, answer: bytes) -> None:
        """Write a worker's answer; samples that are in a file are moved from there."""
        heard, samples = heard_in(answer)
        if heard.file:
            with open(heard.file, "rb") as spilled:
                shutil.copyfileobj(spilled, self._files["samples"], 1 << 20)
            os.unlink(heard.file)
        else:
            self._files["samples"].write(samples)
        self.samples += heard.samples
        self._files["starts"].write(array("q", [self.samples]).tobytes())
        self._files["content"].write(content)
        for name, found in (("silent", heard.silent), ("clipped", heard.clipped), ("truncated", heard.cut)):
            self.counts[name] += found


def heard_in(answer: bytes) -> tuple[decode.Heard, bytes]:
    """Split a worker's answer into its first line and the samples."""
    line, _, samples = answer.partition(b"\n")
    return decode.Heard(*json.loads(line)), samples


def _measured(recordings: Recordings) -> AudioSpec:
    """The spec with the mean and deviation of log-mel values, measured in the middle of some of the recordings."""
    import torch

    from tacit.modalities.audio.logmel import log_mel

    n = len(recordings.sounding.starts) - 1
    rows = np.linspace(0, n - 1, min(n, _MEASURED)).astype(np.int64)
    most = _MEASURED_SECONDS * recordings.spec.rate
    count, total, squares = 0, 0.0, 0.0
    for samples in recordings.sounding.take(rows):
        at = max(0, len(samples) - most) // 2
        audio = torch.from_numpy(samples[at : at + most].copy())[None]
        values = log_mel(audio, torch.tensor([audio.shape[1]]), recordings.spec)[0].double()
        count, total = count + values.numel(), total + float(values.sum())
        squares += float(values.square().sum())
    mean = total / count
    deviation = math.sqrt(max(squares / count - mean * mean, _LEAST_STD**2))
    return replace(recordings.spec, mean=float(mean), std=deviation)


# ---------------------------------------------------------------- a glimpse


def _glimpse(source: Source, rate: int | None, seconds: float, channels: str, patience: float) -> Kept | None:
    """A sample of the recordings in place of all, or None if all can be decoded within `patience` seconds."""
    parts: list[NDArray[np.int16]] = []
    with Pool(Plan) as pool:
        headers = _headers(source, pool)  # also starts the workers
        rate = rate or _usual_rate(headers)
        plan = Plan(rate, channels, most=_GLIMPSED_SECONDS)
        began = time.perf_counter()
        for seen, outcome in enumerate(pool.decode(source.sample(_GLIMPSED), plan), 1):
            parts += [np.frombuffer(heard_in(outcome.data)[1], np.int16)] if outcome.data is not None else []
            if parts and seen % plan.batch == 0 and time.perf_counter() - began > patience / 2:
                break
        spent = time.perf_counter() - began
    if not parts:
        return None
    decoded = sum(map(len, parts)) / rate
    whole = len(source) * float(np.mean([header.seconds for header in headers]))
    total = spent * max(whole / decoded, len(source) / len(parts))
    if total <= patience:
        return None
    recordings = Recordings(
        sounding=Ragged.of(parts),
        content=unknown_content(len(source)),
        spec=audio_spec(rate, seconds),
        data_hash="not decoded yet",
    )
    recordings = replace(recordings, spec=_measured(recordings))
    return Kept(recordings, np.arange(len(source)), seconds_left=total, remarks=_rates_differ(headers, rate))
