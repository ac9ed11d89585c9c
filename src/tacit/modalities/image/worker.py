"""Decodes images in a worker process: its requests, and its answers."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from tacit.data.worker import Question, content_hash, read_whole
from tacit.modalities.image import decode
from tacit.modalities.image.framing import Framing

_FOUND = struct.Struct("<I")  # before the pixels of an answer: which of `decode.FINDINGS` were made, a bit each


def answer(question: Question, settings: dict[str, Any], at_work: Callable[[], None]) -> tuple[bytes, bytes]:
    """A `tacit.data.worker.Decoder`: returns findings and pixels, or the requested header or values as JSON."""
    data = read_whole(question.source)
    content = content_hash(data)
    if settings["probe"] == "values":
        return content, as_json(decode.values(data))
    if settings["probe"]:
        return content, json.dumps(decode.probe(data)).encode()
    found: set[str] = set()
    scale = None if settings["scale"] is None else decode.Scale(*settings["scale"])
    framing = None if settings["framing"] is None else Framing(*settings["framing"])
    how = {"framing": framing, "scale": scale, "strict": settings["strict"], "found": found}
    square = decode.decode(data, settings["size"], settings["channels"], np.dtype(settings["dtype"]), **how)
    bits = sum(1 << number for number, name in enumerate(decode.FINDINGS) if name in found)
    return content, _FOUND.pack(bits) + square.tobytes()


def answered(result: bytes) -> tuple[tuple[str, ...], bytes]:
    """The findings and the pixels of an answer."""
    (bits,) = _FOUND.unpack_from(result)
    return tuple(name for number, name in enumerate(decode.FINDINGS) if bits >> number & 1), result[_FOUND.size :]


def as_json(values: decode.Values | None) -> bytes:
    """The summary of an image's numbers as JSON."""
    return json.dumps(None if values is None else [*values[:3], values.some.tolist()]).encode()
