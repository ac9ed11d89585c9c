"""Decodes images in a worker process: its requests, and its answers."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tacit.data.worker import Question, content_hash, read_whole
from tacit.modalities.image import decode, medical
from tacit.modalities.image.framing import Framing
from tacit.modalities.medical import files

# Before the pixels of an answer: which of `decode.FINDINGS` were made, a bit each; and of a file that may hold several
# images or none how many it holds, whose hashes then come before the pixels.
_FOUND = struct.Struct("<Ii")
_ONE = -1  # of a file that is one image, whose hash is the file's
_HASH = 16  # bytes
_SIGN = 1.0  # seconds between signs of life


def answer(question: Question, settings: dict[str, Any], at_work: Callable[[], None]) -> tuple[bytes, bytes]:
    """A `tacit.data.worker.Decoder`: returns findings and pixels, or the requested header or values as JSON."""
    if form := files.form(question.source):
        return bytes(_HASH), _of_medical(question.source, form, settings, at_work)
    data = read_whole(question.source)
    content = content_hash(data)
    if settings["probe"] == "values":
        return content, as_json(decode.values(data))
    if settings["probe"]:
        return content, json.dumps(decode.probe(data)).encode()
    found: set[str] = set()
    square = decode.decode(data, *_form(settings), **_how(settings, found))
    return content, _FOUND.pack(_bits(found), _ONE) + square.tobytes()


def _of_medical(source: bytes | Path, form: str, settings: dict[str, Any], at_work: Callable[[], None]) -> bytes:
    """The same of all images of a medical file."""
    if settings["probe"] == "values":
        return as_json(medical.values(source, form))
    if settings["probe"]:
        return json.dumps(medical.header(source, form)).encode()
    found: set[str] = set()
    contents, squares, last = [], [], time.monotonic()
    for image, square in medical.squares(source, form, *_form(settings), **_how(settings, found)):
        contents.append(content_hash(f"{image.dtype} {image.shape}".encode() + image.tobytes()))
        squares.append(square.tobytes())
        if time.monotonic() - last > _SIGN:
            at_work()
            last = time.monotonic()
    return b"".join([_FOUND.pack(_bits(found), len(squares)), *contents, *squares])


def _form(settings: dict[str, Any]) -> tuple[int, int, np.dtype[Any], Framing | None]:
    framing = None if settings["framing"] is None else Framing(*settings["framing"])
    return settings["size"], settings["channels"], np.dtype(settings["dtype"]), framing


def _how(settings: dict[str, Any], found: set[str]) -> dict[str, Any]:
    scale = None if settings["scale"] is None else decode.Scale(*settings["scale"])
    return {"scale": scale, "strict": settings["strict"], "found": found}


def _bits(found: set[str]) -> int:
    return sum(1 << number for number, name in enumerate(decode.FINDINGS) if name in found)


def answered(content: bytes, result: bytes) -> tuple[bytes, tuple[str, ...], bytes]:
    """The hashes of the images of an answer, the findings and the pixels."""
    bits, several = _FOUND.unpack_from(result)
    found = tuple(name for number, name in enumerate(decode.FINDINGS) if bits >> number & 1)
    begin = _FOUND.size
    if several == _ONE:
        return content, found, result[begin:]
    end = begin + _HASH * several
    return result[begin:end], found, result[end:]


def as_json(values: decode.Values | None) -> bytes:
    """The summary of an image's numbers as JSON."""
    return json.dumps(None if values is None else [*values[:3], values.some.tolist()]).encode()
