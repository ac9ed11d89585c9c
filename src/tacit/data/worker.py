"""The decoding process: reads images or sounds from its standard input, answers on its standard output.

It is started by file name, so that it imports numpy and Pillow and not the rest of the library (0.3 s instead of
several). Plain frames on plain pipes: nothing is pickled, and a damaged file can only break this process.

A request is `<I` length + JSON settings, `<I` number of examples, then per example `<cddiI` kind (p: path, b: bytes),
of a sound where it begins and ends in seconds and its channel, then length, and the payload. The answers are flushed
one by one, so that the first one missing is the one that crashed: per example `<c16sI` (k: done, r: refused, w: still
at work on it), the content's hash and length; then what it was decoded to, header numbers, or the reason as text. A
sound is a line of JSON (see `Heard`) and its samples, or these lie in a file that the line names.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np

from tacit.modalities.audio import decode as sounds
from tacit.modalities.image import decode
from tacit.modalities.image.framing import Framing

READY = b"tacit decoder"
LENGTH = struct.Struct("<I")
QUESTION = struct.Struct("<cddiI")
ANSWER = struct.Struct("<c16sI")
FOUND = struct.Struct("<I")  # before the pixels of an image: which of `pixels.FINDINGS` were made, a bit each

MAX_BYTES = 1 << 30  # a single image file above 1 GiB is refused unread
INLINE = 1 << 18  # bytes of samples that an answer carries; a longer sound goes through a file
SIGN_OF_LIFE = 1.0  # seconds


class Question(NamedTuple):
    """One example: its bytes, or where it lies, and of a sound the stretch that is meant."""

    source: bytes | Path
    start: float = 0.0  # seconds
    end: float = float("inf")
    channel: int = -1  # -1: as the settings say


class Heard(NamedTuple):
    """What the first line of a decoded sound tells."""

    samples: int
    silent: bool
    clipped: bool
    cut: bool
    file: str  # that holds the samples, empty where they follow


def content_hash(data: bytes | memoryview) -> bytes:
    """16 bytes that name an example by its content."""
    return hashlib.blake2b(data, digest_size=16).digest()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes our input
    warnings.simplefilter("ignore")  # Pillow warns about odd metadata; sizes are checked by ourselves
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a decoder prints must not end up among the answers
    answers.write(READY)
    answers.flush()
    limit_memory(int(sys.argv[1]))
    while head := requests.read(LENGTH.size):
        settings = json.loads(requests.read(LENGTH.unpack(head)[0]))
        # The whole request is read before the first answer: neither side ever waits for the other to drain a pipe.
        (n,) = LENGTH.unpack(requests.read(LENGTH.size))
        questions = [_question(requests) for _ in range(n)]
        for question in questions:
            done, content, result = answer(question, settings, lambda: _still_at_work(answers))
            answers.write(ANSWER.pack(b"k" if done else b"r", content, len(result)))
            answers.write(result)
            answers.flush()


def answer(question: Question, settings: dict[str, Any], at_work: Callable[[], None]) -> tuple[bool, bytes, bytes]:
    """Decode one example: (done, content hash, what it was decoded to or header numbers or the reason why not)."""
    try:
        return True, *DECODERS[settings["decoder"]](question, settings, at_work)
    except MemoryError:
        return False, bytes(16), b"needs more memory than a decoder is allowed"
    except Exception as error:  # a decoder may raise anything at all; none of it ends a run
        return False, bytes(16), _reason(error).encode(errors="replace")


def _image(question: Question, settings: dict[str, Any], at_work: Callable[[], None]) -> tuple[bytes, bytes]:
    data = question.source if isinstance(question.source, bytes) else _read(question.source)
    content = content_hash(data)
    if settings["probe"] == "values":
        return content, told(decode.values(data))
    if settings["probe"]:
        return content, json.dumps(decode.probe(data)).encode()
    found: set[str] = set()
    scale = None if settings["scale"] is None else decode.Scale(*settings["scale"])
    framing = None if settings["framing"] is None else Framing(*settings["framing"])
    how = {"framing": framing, "scale": scale, "strict": settings["strict"], "found": found}
    square = decode.decode(data, settings["size"], settings["channels"], np.dtype(settings["dtype"]), **how)
    bits = sum(1 << number for number, name in enumerate(decode.FINDINGS) if name in found)
    return content, FOUND.pack(bits) + square.tobytes()


def told(values: decode.Values | None) -> bytes:
    """An image's numbers in short, as JSON."""
    return json.dumps(None if values is None else [*values[:3], values.some.tolist()]).encode()


def _sound(question: Question, settings: dict[str, Any], at_work: Callable[[], None]) -> tuple[bytes, bytes]:
    """The hash is that of the samples: a stretch has one of its own, and a file need not be read twice."""
    source, start, end, channel = question
    if settings["probe"]:
        return bytes(16), json.dumps(sounds.header(source)).encode()
    found = sounds.Found()
    content = hashlib.blake2b(digest_size=16)
    chosen = settings["channels"] if channel < 0 else channel
    end = min(end, start + (settings["most"] or float("inf")))
    inline, spilled, size, said = bytearray(), None, 0, time.monotonic()
    with ExitStack() as stack:
        for block in sounds.blocks(source, settings["rate"], chosen, start=start, end=end, found=found):
            content.update(block.data)
            size += block.nbytes
            inline += block.data
            if settings["folder"] and len(inline) > INLINE:
                if spilled is None:
                    spilled = stack.enter_context(_spilling(settings["folder"]))
                spilled.write(inline)
                inline.clear()
            if time.monotonic() - said > SIGN_OF_LIFE:
                at_work()
                said = time.monotonic()
        if spilled is not None:
            spilled.write(inline)
            inline.clear()
    heard = Heard(size // 2, found.silent, found.clipped, found.cut, "" if spilled is None else spilled.name)
    return content.digest(), json.dumps(heard).encode() + b"\n" + inline


DECODERS = {"image": _image, "sound": _sound}


def _spilling(folder: str) -> IO[bytes]:
    handle, name = tempfile.mkstemp(dir=folder)
    os.close(handle)
    return open(name, "wb")


def _still_at_work(answers: IO[bytes]) -> None:
    answers.write(ANSWER.pack(b"w", bytes(16), 0))
    answers.flush()


def limit_memory(extra: int) -> None:
    """Cap this process at `extra` bytes above what it maps now; where Linux is not, the pixel limit has to do."""
    if not sys.platform.startswith("linux"):
        return
    import resource

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = mapped + extra if hard == resource.RLIM_INFINITY else min(mapped + extra, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _question(requests: BinaryIO) -> Question:
    kind, start, end, channel, length = QUESTION.unpack(requests.read(QUESTION.size))
    payload = requests.read(length)
    return Question(payload if kind == b"b" else Path(os.fsdecode(payload)), start, end, channel)


def _read(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"the file is larger than {MAX_BYTES >> 20} MB")
    return path.read_bytes()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()  # without the path, which stands beside it
    return " ".join(str(error).split())[:200] or type(error).__name__


if __name__ == "__main__":
    main()
