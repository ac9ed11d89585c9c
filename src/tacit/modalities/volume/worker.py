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

_MANY = struct.Struct("<II")  # volumes of an answer, and bytes of what was found, which follows with hashes and voxels
_HASH = 16  # bytes


def answer(question: Question, settings: dict[str, Any], at_work: Callable[[], None]) -> tuple[bytes, bytes]:
    """A `tacit.data.worker.Decoder`: the voxels, or shape, spacing and some values of the first volume as JSON."""
    sources = (question.source, *question.others)
    if settings["probe"]:
        scan = next(decode.scans(sources, at_work))
        values = decode.sample(scan.voxels, decode.SOME)
        facts = {"shape": scan.voxels.shape, "spacing": scan.spacing.tolist(), "values": values.tolist()}
        return bytes(_HASH), json.dumps(facts).encode()
    grid = Grid(settings["axis"], tuple(settings["shape"]), tuple(settings["spacing"]))
    ends = None if settings["range"] is None else Range(*settings["range"])
    contents, volumes = [], []
    found: list[str] = []
    for scan in decode.scans(sources, at_work):
        volume = decode.fit(scan, grid, ends)
        volumes.append(volume.tobytes())
        found += decode.findings(scan.voxels, volume)
        contents.append(content_hash(f"{scan.voxels.dtype} {scan.voxels.shape}".encode() + scan.voxels.tobytes()))
        at_work()
    findings = json.dumps(found).encode()
    return bytes(_HASH), b"".join([_MANY.pack(len(volumes), len(findings)), findings, *contents, *volumes])


def answered(result: bytes) -> tuple[bytes, tuple[str, ...], bytes]:
    """The hashes, the findings and the voxels of the volumes of an answer."""
    many, size = _MANY.unpack_from(result)
    begin = _MANY.size + size
    end = begin + _HASH * many
    return result[begin:end], tuple(json.loads(result[_MANY.size : begin])), result[end:]
