"""One sound in, one channel of 16-bit samples out: the only decoder of sound, shared by the data and every encoder.

Numpy, soundfile (libsndfile) and soxr only, because the decoding processes import this file and nothing else of the
library. A recording is read, mixed and resampled block by block, so that an hour takes no more memory than a second.
It reads WAV, FLAC, OGG (Vorbis, Opus), MP3, AIFF, AU, CAF and W64 of 8 to 32 bits, float, mu-law or A-law; mixes
channels to their mean; resamples by soxr's HQ recipe; rounds to int16, clipped beyond full scale.
Shapes: S samples, C channels, T frames, M mel bands.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.data.worker import Question
from tacit.modalities.audio.options import MIXES

if TYPE_CHECKING:
    from soundfile import SoundFile

MOST_CHANNELS = 64
LONGEST = 24 * 3600  # seconds of a single recording
MOST_SECONDS = 600  # of a recording that an encoder is given
MOST_PER_BYTE = 256  # frames: speech at the lowest rate that Opus has gives 64, hours of digital silence thousands

# Part of every cache's key: raise it with every change that may alter a single sample, or a statistic of them.
VERSION = 2

_BLOCK = 1 << 16  # frames read at a time
_MARKS = (b"RIFF", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b"ID3", b"caff", b".snd")
_READABLE = (100, 1_000_000)  # Hz, of a file
_FULL = 32_767 / 32_768  # full scale of 16 bits
_LOUDEST = 32.0  # of full scale; what a decoder or a mix overshoots is a few times less, integers as floats far more
_CLIPPED = 1e-3  # the share of samples at full scale that makes a recording a clipped one
_SHORT = 4_608  # frames that an encoder's own delay explains

Samples = NDArray[np.int16]
Source = bytes | Path | str


class BadSound(ValueError):
    """The reason why a sound is refused, in a few words, without its name."""


class Header(NamedTuple):
    """The header of a sound file, read without decoding its samples."""

    rate: int  # Hz
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


@dataclass
class Found:
    """Statistics of a sound, gathered before it is resampled; full scale is 1."""

    frames: int = 0
    least: float = math.inf
    most: float = -math.inf
    full: int = 0  # samples at full scale or beyond
    cut: bool = False  # it ends earlier than its header says, or is damaged from there on

    @property
    def silent(self) -> bool:
        """True if all samples have the same value, 0 or another."""
        return self.most - self.least < 1 / 32_768

    @property
    def clipped(self) -> bool:
        return self.full > _CLIPPED * self.frames


def header(source: Source) -> Header:
    """Read rate, channels and frames. Raises BadSound for what cannot be read as sound."""
    with _opened(source) as file:
        return Header(file.samplerate, file.channels, file.frames)


def read_sound(
    source: Source, rate: int, channels: str | int = "mix", *, start: float = 0.0, end: float = math.inf
) -> Samples:
    """Read the sound in a file, or in its bytes, at `rate` Hz, from `start` to `end` in seconds: [S].

    `channels` is mix (their mean), left or right (the second, or the only one), or a channel's number. Raises
    BadSound where there is none to read.
    """
    return np.concatenate(list(blocks(source, rate, channels, start=start, end=end)))


def blocks(
    source: Source,
    rate: int,
    channels: str | int = "mix",
    *,
    start: float = 0.0,
    end: float = math.inf,
    found: Found | None = None,
) -> Iterator[Samples]:
    """`read_sound` block by block, at least one sample in all; fills in `found`. BadSound may come after some."""
    found = Found() if found is None else found
    n = 0
    with _opened(source) as file:
        _refuse_endless(file, source, start, end)
        for block in _resampled(_segment(file, channels, start, end, found), file.samplerate, rate):
            if len(block):
                n += len(block)
                yield _as_int16(block)
    if not n:
        raise BadSound("holds no sound" if not found.frames else f"shorter than one sample at {rate:,} Hz")


def as_samples(
    sound: Source | NDArray[Any],
    rate_in: int | None,
    rate: int,
    channels: str | int = "mix",
    *,
    start: float = 0.0,
    end: float = math.inf,
) -> Samples:
    """Convert a sound as the data layer does: [S] at `rate` Hz.

    Args:
        sound: a file, its bytes, or samples [S] or [S C]: floats with full scale 1, or integers
        rate_in: Hz of samples; files hold their own
        rate: Hz
        channels: as `read_sound` takes them
        start, end: seconds

    Raises `BadSound` for what cannot be read, and for samples without a rate.
    """
    if isinstance(sound, bytes | Path | str):
        return read_sound(sound, rate, channels, start=start, end=end)
    if rate_in is None:
        raise BadSound("samples do not say how many there are in a second: give rate=, in Hz")
    samples = _as_floats(np.asarray(sound))
    if not len(samples):
        raise BadSound("holds no sound")
    check_channel(channels, samples.shape[1])
    first, last = check_segment(start, end, len(samples), rate_in)
    samples = samples[first:last]
    found = Found()
    mono = (_mono(samples[at : at + _BLOCK], channels, found) for at in range(0, len(samples), _BLOCK))
    result = np.concatenate([_as_int16(block) for block in _resampled(mono, rate_in, rate)])
    if not len(result):
        raise BadSound(f"shorter than one sample at {rate:,} Hz")
    return result


def channels_of(sound: Source | NDArray[Any]) -> int:
    """Count the channels of a sound. Raises BadSound for what cannot be read."""
    if isinstance(sound, bytes | Path | str):
        return header(sound).channels
    return int(_as_floats(np.asarray(sound)).shape[1])


def check_channel(channels: str | int, there: int) -> None:
    """Raise BadSound for the number of a channel that does not exist."""
    assert channels in MIXES or isinstance(channels, int), channels
    if isinstance(channels, int) and channels >= there:
        raise BadSound(f"has no channel {channels + 1}")


def check_segment(start: float, end: float, frames: int, rate: int) -> tuple[int, int]:
    """The first frame of a segment given in seconds, and the one after its last. Raises BadSound where it is empty."""
    length = frames / rate
    if not 0 <= start < end:
        raise BadSound(f"a stretch from {start:g} to {end:g} s has no length")
    if start > 0 and start >= length:
        raise BadSound(f"a stretch from {start:g} s on lies beyond its end, which is at {length:g} s")
    first = round(start * rate)
    return first, frames if end >= length else first + round((end - start) * rate)


def excerpt(sound: Samples, seconds: float, rate: int) -> Samples:
    """Shorten a sound to what an encoder takes: at most `MOST_SECONDS` of it.

    A longer one is represented by segments of `seconds`, evenly spaced from its beginning to its end, of that length
    in total.
    """
    if len(sound) <= MOST_SECONDS * rate:
        return sound
    width = round(seconds * rate)
    firsts = np.linspace(0, len(sound) - width, MOST_SECONDS * rate // width).astype(np.int64)
    return np.concatenate([sound[at : at + width] for at in firsts.tolist()])


def is_sound(head: bytes) -> bool:
    """True if these are the first bytes of a sound file whose format they name."""
    return head.startswith(_MARKS) and head[8:12] not in (b"WEBP", b"AVI ")


def versions() -> str:
    """Versions of the libraries that decode and resample: part of every cache's key."""
    import soundfile
    import soxr

    return f"{soundfile.__libsndfile_version__} {soxr.__version__}"


# ---------------------------------------------------------------- reading


@contextmanager
def _opened(source: Source) -> Iterator[SoundFile]:
    import soundfile  # here, so that images work without libsndfile

    if source == b"" or (not isinstance(source, bytes) and Path(source).stat().st_size == 0):
        raise BadSound("the file is empty")
    try:
        file = soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else str(source))
    except soundfile.LibsndfileError as error:
        raise BadSound(_why(source, error.error_string)) from None
    except (TypeError, RuntimeError) as error:  # a raw file, without a header
        raise BadSound(_why(source, str(error))) from None
    with file:
        if file.channels > MOST_CHANNELS:
            raise BadSound(f"{file.channels} channels, more than the {MOST_CHANNELS} that are read")
        if not _READABLE[0] <= file.samplerate <= _READABLE[1]:
            raise BadSound(f"a rate of {file.samplerate:,} Hz, out of {_READABLE[0]} to {_READABLE[1]:,}")
        yield file


def _why(source: Source, message: str) -> str:
    """Explain an error of libsndfile, which takes a damaged file for one of an unknown format."""
    head = source[:12] if isinstance(source, bytes) else _head(Path(source))
    if head[4:8] == b"ftyp":
        return "AAC or MP4, which cannot be read; convert it to WAV, FLAC or OGG"
    if is_sound(head):
        return "truncated or damaged: no sound can be read from it" + (f" ({message.rstrip('. ')})" if message else "")
    return "not a sound of a known format (WAV, FLAC, OGG, MP3, AIFF)"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)


def _refuse_endless(file: SoundFile, source: Source, start: float, end: float) -> None:
    """Raise BadSound for a segment longer than any recording, and for hours of sound in hardly any bytes."""
    seconds = min(end, file.frames / file.samplerate) - start
    if seconds > LONGEST:
        raise BadSound(f"longer than {LONGEST // 3600} hours")
    size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    if seconds > 3600 and file.frames > MOST_PER_BYTE * size:
        raise BadSound(f"says that {size:,} bytes are {seconds / 3600:.1f} hours of sound")


def _segment(
    file: SoundFile, channels: str | int, start: float, end: float, found: Found
) -> Iterator[NDArray[np.float32]]:
    """Read one channel from `start` to `end` seconds, block by block [S]."""
    import soundfile

    check_channel(channels, file.channels)
    first, last = check_segment(start, end, file.frames, file.samplerate)
    left = last - first
    if start > 0:
        file.seek(first)
    while left > 0:
        try:
            block = file.read(min(_BLOCK, left), dtype="float32", always_2d=True)  # [S C]
        except soundfile.LibsndfileError as error:
            if not found.frames:
                raise BadSound("truncated or damaged: " + (error.error_string or "nothing can be read")) from None
            found.cut = True
            return
        if not len(block):
            break
        left -= len(block)
        yield _mono(block, channels, found)
    found.cut = left > _SHORT


def _mono(block: NDArray[np.float32], channels: str | int, found: Found) -> NDArray[np.float32]:
    """Take one channel [S] of [S C], and add its statistics to `found`."""
    if not np.isfinite(block).all():
        raise BadSound("holds samples that are no numbers (NaN or infinite)")
    if (peak := float(np.abs(block).max(initial=0.0))) > _LOUDEST:
        raise BadSound(
            f"samples reach {peak:,.0f}, where 1 is full scale; scale them, as by 32,768, and save them again"
        )
    column = channels if isinstance(channels, int) else min(1, block.shape[1] - 1) if channels == "right" else 0
    mono: NDArray[np.float32] = block[:, column]
    if channels == "mix" and block.shape[1] > 1:
        mono = block.mean(axis=1, dtype=np.float32)
    found.frames += len(mono)
    found.least, found.most = min(found.least, float(mono.min())), max(found.most, float(mono.max()))
    found.full += int((np.abs(mono) >= _FULL).sum())
    return mono


def _resampled(parts: Iterator[NDArray[np.float32]], rate_in: int, rate: int) -> Iterator[NDArray[np.float32]]:
    if rate_in == rate:
        yield from parts
        return
    import soxr

    stream = soxr.ResampleStream(rate_in, rate, 1, dtype="float32", quality="HQ")
    for part in parts:
        yield stream.resample_chunk(np.ascontiguousarray(part))
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _as_int16(block: NDArray[np.float32]) -> Samples:
    samples: Samples = np.clip(np.rint(block * np.float32(32_768)), -32_768, 32_767).astype(np.int16)
    return samples


def _as_floats(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples in memory as [S C] with full scale 1."""
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "iuf":
        raise BadSound(f"samples are [S] or [S C] of floats or integers, not {samples.dtype} {list(samples.shape)}")
    samples = samples[:, None] if samples.ndim == 1 else samples  # [S C]
    if samples.shape[1] > MOST_CHANNELS:
        raise BadSound(f"{samples.shape[1]} channels, more than the {MOST_CHANNELS} that are read; samples are [S C]")
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    zero = scale if samples.dtype.kind == "u" else 0.0
    floats: NDArray[np.float32] = ((samples - zero) / scale).astype(np.float32)
    return floats


# ---------------------------------------------------------------- in a decoding process

INLINE = 1 << 18  # bytes of samples that an answer holds; a longer sound goes through a file
_SIGN_OF_LIFE = 1.0  # seconds


class Heard(NamedTuple):
    """The first line of a decoded sound: its length, warnings, and where its samples are."""

    samples: int
    silent: bool
    clipped: bool
    cut: bool
    file: str  # that holds the samples, empty where they follow


def answer(question: Question, settings: dict[str, Any], at_work: Callable[[], None]) -> tuple[bytes, bytes]:
    """A `tacit.data.worker.Decoder`: `Heard` as a line of JSON and the samples, or the numbers of a header.

    The hash is that of the samples: each segment has its own, and a file need not be read twice.
    """
    source, start, end, channel, _ = question
    if settings["probe"]:
        return bytes(16), json.dumps(header(source)).encode()
    found = Found()
    content = hashlib.blake2b(digest_size=16)
    chosen = settings["channels"] if channel < 0 else channel
    end = min(end, start + (settings["most"] or float("inf")))
    inline, spilled, size, reported = bytearray(), None, 0, time.monotonic()
    with ExitStack() as stack:
        for block in blocks(source, settings["rate"], chosen, start=start, end=end, found=found):
            content.update(block.data)
            size += block.nbytes
            inline += block.data
            if settings["folder"] and len(inline) > INLINE:
                if spilled is None:
                    spilled = stack.enter_context(_spilling(settings["folder"]))
                spilled.write(inline)
                inline.clear()
            if time.monotonic() - reported > _SIGN_OF_LIFE:
                at_work()
                reported = time.monotonic()
        if spilled is not None:
            spilled.write(inline)
            inline.clear()
    heard = Heard(size // 2, found.silent, found.clipped, found.cut, "" if spilled is None else spilled.name)
    return content.digest(), json.dumps(heard).encode() + b"\n" + inline


def _spilling(folder: str) -> IO[bytes]:
    handle, name = tempfile.mkstemp(dir=folder)
    os.close(handle)
    return open(name, "wb")
