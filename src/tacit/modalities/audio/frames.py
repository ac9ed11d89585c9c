"""Frame labels from the labelled segments of recordings: what `--target tokens` evaluates for sound."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.modalities.audio.recordings import Pieces, Recordings
from tacit.modalities.base import Units

if TYPE_CHECKING:
    from tacit.data.resolved import Spans

MOST = 20_000  # frames evaluated, evenly spread over all labelled ones

_NONE, _SEVERAL = -1, -2  # in place of a frame's class

Codes = NDArray[np.int64]


def labelled_frames(recordings: Recordings, spans: Spans, rows: Codes, stride: int) -> Units:
    """List the labelled frames of these recordings, the middle one of each token of `stride` frames.

    A frame has the class of the segment that it lies in; one in no segment, or in segments of several classes, is left
    out. Raises UserError where no frame is labelled.
    """
    spec = recordings.spec
    pieces = Pieces(recordings, rows, spec.seconds)
    numbers = np.arange(len(pieces))
    begins, lengths, of = pieces.spans(numbers)
    middle = (stride - 1) / 2  # of a token, in frames
    counts = np.maximum(0, 1 + ((lengths - 1) // spec.hop - middle) // stride).astype(np.int64)
    piece = np.repeat(numbers, counts)
    place = np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts)  # of the token in its piece
    frame = place * stride + middle
    row = of[piece]
    moment = (begins[piece] - recordings.sounding.spans(row)[0] + frame * spec.hop) / spec.rate  # seconds
    label = _classes_at(row, moment, spans)
    kept = np.flatnonzero(label >= 0)
    if not len(kept):
        raise UserError("no frame lies in a labelled stretch: check the columns of starts and ends, in seconds")
    kept = kept[np.linspace(0, len(kept) - 1, min(len(kept), MOST)).astype(np.int64)]
    tokens = np.stack([piece[kept], frame[kept].astype(np.int64)], axis=1)
    return Units(pieces.batch, tokens, row[kept], label[kept], _hashes(recordings.content[row[kept]], moment[kept]))


def _classes_at(row: Codes, moment: NDArray[np.float64], spans: Spans) -> Codes:
    """The class at each moment [n] of the recordings `row`; rows of one recording are contiguous, in order of time."""
    found = np.full(len(row), _NONE, np.int64)
    changes = np.flatnonzero(np.diff(row, prepend=-1))
    first = dict(zip(row[changes].tolist(), changes.tolist(), strict=True))
    last = dict(zip(row[changes].tolist(), [*changes[1:].tolist(), len(row)], strict=True))
    for of, begin, end, label in zip(*(values.tolist() for values in spans), strict=True):
        if of in first:
            inside = slice(first[of], last[of])
            low, high = first[of] + np.searchsorted(moment[inside], (begin, end))
            before = found[low:high]
            found[low:high] = np.where((before == _NONE) | (before == label), label, _SEVERAL)
    return found


def _hashes(content: NDArray[np.void], moment: NDArray[np.float64]) -> NDArray[np.void]:
    """A hash of each frame, from its recording's content and its time."""
    parts = zip(content.tolist(), moment.tolist(), strict=True)
    return np.array([hashlib.blake2b(b"%b %.6f" % of, digest_size=16).digest() for of in parts], "V16")
