"""The decoding process: reads images from its standard input, answers with pixels on its standard output.

It is started by file name, so that it imports numpy and Pillow and not the rest of the library (0.3 s instead of
several). Plain frames on plain pipes: nothing is pickled, and a damaged image can only break this process.

A request is `<I` length + JSON settings, `<I` number of images, then per image `<cI` kind (p: path, b: bytes) and
length, and the payload. The answers are flushed one by one, so that the first one missing is the one that crashed: per
image `<c16sI` (k: done, r: refused), the content's hash and length; then pixels, header numbers, or the reason as text.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import sys
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tacit import pixels

READY = b"tacit decoder"
LENGTH = struct.Struct("<I")
QUESTION = struct.Struct("<cI")
ANSWER = struct.Struct("<c16sI")

MAX_BYTES = 1 << 30  # a single image file above 1 GiB is refused unread


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
        images = [_payload(requests) for _ in range(n)]
        for kind, payload in images:
            done, content, result = answer(kind, payload, settings)
            answers.write(ANSWER.pack(b"k" if done else b"r", content, len(result)))
            answers.write(result)
            answers.flush()


def answer(kind: bytes, payload: bytes, settings: dict[str, Any]) -> tuple[bool, bytes, bytes]:
    """Decode one image: (done, content hash, pixels or header numbers or the reason why not)."""
    content = bytes(16)
    try:
        data = payload if kind == b"b" else _read(Path(os.fsdecode(payload)))
        content = content_hash(data)
        if settings["size"] == 0:
            return True, content, json.dumps(pixels.probe(data)).encode()
        square = pixels.decode(data, settings["size"], settings["channels"], np.dtype(settings["dtype"]))
        return True, content, square.tobytes()
    except MemoryError:
        return False, content, b"needs more memory than a decoder is allowed"
    except Exception as error:  # a decoder may raise anything at all; none of it ends a run
        return False, content, _reason(error).encode(errors="replace")


def limit_memory(extra: int) -> None:
    """Cap this process at `extra` bytes above what it maps now; where Linux is not, the pixel limit has to do."""
    if not sys.platform.startswith("linux"):
        return
    import resource

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = mapped + extra if hard == resource.RLIM_INFINITY else min(mapped + extra, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _payload(requests: BinaryIO) -> tuple[bytes, bytes]:
    kind, length = QUESTION.unpack(requests.read(QUESTION.size))
    return kind, requests.read(length)


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
