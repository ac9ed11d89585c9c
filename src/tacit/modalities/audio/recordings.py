"""The store of recordings: decoded once, then memory-mapped, the samples of all recordings end to end.

Its folder, sounds/KEY/ beside the folders of `tacit.modalities.image.store`, holds
    samples.bin       int16, one channel at the rate of the spec
    starts.bin        int64 [N + 1], where each recording begins in samples.bin
    content.bin       16-byte hash per recording, of its samples
    meta.json         the AudioSpec, and a check that the files are whole
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tacit.data.store import CONTENT, META, Ragged, read_content, write_meta
from tacit.modalities.audio import decode as sounds
from tacit.modalities.audio.spec import AudioSpec

if TYPE_CHECKING:
    from tacit.core.types import Batch

FORMAT = 2
FILES = ("samples.bin", "starts.bin", CONTENT)
SAMPLES = np.dtype(np.int16)

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Recordings:
    """Sounds of any length; only the segments that are read are ever copied. May be read from several threads.

    A glimpse holds a few recordings, which stand in for all N in turn.
    """

    sounding: Ragged[np.int16]  # the samples of all recordings
    content: NDArray[np.void]  # [N] 16-byte hash of each recording
    spec: AudioSpec
    data_hash: str
    folder: Path | None = None  # where it is stored; None for a glimpse

    @classmethod
    def load(cls, folder: Path, seconds: float) -> Recordings:
        meta = json.loads((folder / META).read_text())
        return cls(
            sounding=Ragged.load(folder, "samples", "starts", SAMPLES),
            content=read_content(folder),
            spec=AudioSpec.of({**meta["spec"], "seconds": seconds}),
            data_hash=str(meta["data_hash"]),
            folder=folder,
        )

    def __len__(self) -> int:
        return len(self.content)

    @property
    def nbytes(self) -> int:
        """Bytes on disk; of a glimpse, what all recordings would take."""
        return self.sounding.nbytes(len(self)) + self.content.nbytes

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Samples of each recording, [N]."""
        return self.sounding.spans(np.arange(len(self)))[1]

    @property
    def seconds(self) -> float:
        """The length of all recordings together."""
        return float(self.lengths.sum()) / self.spec.rate

    def sounds(self, rows: Rows) -> list[NDArray[np.int16]]:
        """Copy each of these recordings, shortened by `tacit.modalities.audio.decode.excerpt`."""
        wholes = self.sounding.take(np.asarray(rows, np.int64))
        return [np.array(sounds.excerpt(whole, self.spec.seconds, self.spec.rate)) for whole in wholes]

    def batch(self, rows: Rows) -> Batch:
        """`audio` [B S] int16, 0 where padding, `length` [B] and `index` [B]: each recording as `sounds` returns it."""
        return padded(self.sounds(rows), np.asarray(rows, np.int64))


class Pieces:
    """The recordings `rows`, each cut into equal pieces of at most `seconds`: an hour is many examples, a word is one.

    The place of a piece is computed from the recordings' lengths, so that random access costs the same for all.
    """

    def __init__(self, recordings: Recordings, rows: Rows, seconds: float) -> None:
        assert len(rows), "nothing to cut"
        self.recordings, self.rows = recordings, np.asarray(rows, np.int64)
        longest = max(1, round(seconds * recordings.spec.rate))
        _, lengths = recordings.sounding.spans(self.rows)
        self.ends = np.cumsum(-(-lengths // longest))  # [rows] pieces up to each recording's last

    def __len__(self) -> int:
        return int(self.ends[-1])

    def spans(self, numbers: Rows) -> tuple[Rows, Rows, Rows]:
        """Where these pieces begin in `samples`, how many samples they have, and the rows they belong to, [B] each."""
        numbers = np.asarray(numbers, np.int64)
        at = np.searchsorted(self.ends, numbers, side="right")
        last = self.ends[at]
        first = np.where(at > 0, self.ends[at - 1], 0)
        begins, lengths = self.recordings.sounding.spans(self.rows[at])
        pieces, inside = last - first, numbers - first
        left, right = lengths * inside // pieces, lengths * (inside + 1) // pieces
        return begins + left, right - left, self.rows[at]

    def batch(self, numbers: Rows) -> Batch:
        """`audio` [B S] int16, 0 where padding, `length` [B], and `index` [B], the row of the recording."""
        begins, lengths, rows = self.spans(numbers)
        spans = zip(begins.tolist(), lengths.tolist(), strict=True)
        return padded([self.recordings.sounding.values[begin : begin + length] for begin, length in spans], rows)


def padded(sounds: list[NDArray[np.int16]], index: Rows) -> Batch:
    """Collate sounds into a batch: `audio` [B S], zeros on the right, `length` [B], `index` [B]."""
    import torch

    lengths = np.array([len(sound) for sound in sounds], np.int64)
    audio = np.zeros((len(sounds), int(lengths.max(initial=1))), np.int16)
    for row, sound in zip(audio, sounds, strict=True):
        row[: len(sound)] = sound
    return {
        "audio": torch.from_numpy(audio),
        "length": torch.from_numpy(lengths),
        "index": torch.from_numpy(index.copy()),
    }


def describe(folder: Path, found: Recordings) -> None:
    """Write the metadata that `Recordings.load` reads, beside the samples."""
    meta = {"format": FORMAT, "n": len(found), "samples": len(found.sounding.values)}
    write_meta(folder, {**meta, "data_hash": found.data_hash, "spec": asdict(found.spec)}, FILES)
