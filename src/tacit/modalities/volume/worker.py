"""Decodes volumes in a worker process: its requests, and its answers."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from tacit.data.worker import Question, content_hash
from tacit.modalities.volume import decode
from tacit.modalities.volume.decode import Grid
from tacit.modalities.volume.spec import Range

_MANY = struct.Struct("<i")  # volumes of an answer, whose hashes and voxels follow
_HASH = 16  # bytes


def answer(question: Question, settings: dict[str, Any], at_work: Callable[[], None]) -> tuple[bytes, bytes]:
    """A `tacit.data.worker.Decoder`: the voxels, or shape, spacing and some values of the first volume as JSON."""
    sources = (question.source, *question.others)
    if settings["probe"]:
        scan = next(decode.scans(sources, at_work))
        values = decode.sample(scan.voxels, decode.SOME)
        told = {"shape": scan.voxels.shape, "spacing": scan.spacing.tolist(), "values": values.tolist()}
        return bytes(_HASH), json.dumps(told).encode()
    grid = Grid(settings["axis"], tuple(settings["shape"]), tuple(settings["spacing"]))
    ends = None if settings["range"] is None else Range(*settings["range"])
    contents, volumes = [], []
    for scan in decode.scans(sources, at_work):
        volumes.append(decode.fit(scan, grid, ends).tobytes())
        contents.append(content_hash(f"{scan.voxels.dtype} {scan.voxels.shape}".encode() + scan.voxels.tobytes()))
        at_work()
    return bytes(_HASH), b"".join([_MANY.pack(len(volumes)), *contents, *volumes])


def answered(result: bytes) -> tuple[bytes, bytes]:
    """The hashes and the voxels of the volumes of an answer."""
    (many,) = _MANY.unpack_from(result)
    end = _MANY.size + _HASH * many
    return result[_MANY.size : end], result[end:]
