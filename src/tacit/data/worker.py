"""The decoding process: reads encoded examples from its standard input, answers on its standard output.

It is started by file name with the memory that it may take and the decoder, "module:function", of a modality. So it
imports numpy and what that decoder needs, and not the rest of the library (0.3 s instead of several). Plain frames on
plain pipes: nothing is pickled, and a damaged file can only break this process.

A request is `<I` length + JSON settings, `<I` number of examples, then per example `<cddiI` kind (p: path, b: bytes),
of a recording where it begins and ends in seconds and its channel, then length, and the payload. The answers are
flushed one by one, so that the first one missing is the one that crashed: per example `<c16sI` (k: done, r: refused,
w: still at work on it), the content's hash and length; then what the decoder made of it, or the reason as text.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

READY = b"tacit decoder"
LENGTH = struct.Struct("<I")
QUESTION = struct.Struct("<cddiI")
ANSWER = struct.Struct("<c16sI")

MAX_BYTES = 1 << 30  # a single file above 1 GiB is refused unread


class Question(NamedTuple):
    """One example: its bytes, or where it lies, and of a recording the stretch that is meant."""

    source: bytes | Path
    start: float = 0.0  # seconds
    end: float = float("inf")
    channel: int = -1  # -1: as the settings say


Decoder = Callable[[Question, dict[str, Any], Callable[[], None]], tuple[bytes, bytes]]
"""From a question, the settings and a sign of life to give every second, to the content's hash and the answer."""


def content_hash(data: bytes | memoryview) -> bytes:
    """16 bytes that name an example by its content."""
    return hashlib.blake2b(data, digest_size=16).digest()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes our input
    warnings.simplefilter("ignore")  # Pillow warns about odd metadata; sizes are checked by ourselves
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a decoder prints must not end up among the answers
    module, _, name = sys.argv[2].partition(":")
    decoder: Decoder = getattr(import_module(module), name)
    answers.write(READY)
    answers.flush()
    limit_memory(int(sys.argv[1]))
    while head := requests.read(LENGTH.size):
        settings = json.loads(requests.read(LENGTH.unpack(head)[0]))
        # The whole request is read before the first answer: neither side ever waits for the other to drain a pipe.
        (n,) = LENGTH.unpack(requests.read(LENGTH.size))
        questions = [_question(requests) for _ in range(n)]
        for question in questions:
            done, content, result = answer(decoder, question, settings, lambda: _still_at_work(answers))
            answers.write(ANSWER.pack(b"k" if done else b"r", content, len(result)))
            answers.write(result)
            answers.flush()


def answer(
    decoder: Decoder, question: Question, settings: dict[str, Any], at_work: Callable[[], None]
) -> tuple[bool, bytes, bytes]:
    """Decode one example: (done, content hash, what was made of it or the reason why not)."""
    try:
        return True, *decoder(question, settings, at_work)
    except MemoryError:
        return False, bytes(16), b"needs more memory than a decoder is allowed"
    except Exception as error:  # a decoder may raise anything at all; none of it ends a run
        return False, bytes(16), _reason(error).encode(errors="replace")


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


def read_whole(source: bytes | Path) -> bytes:
    """An encoded example. ValueError for one that is too large."""
    if isinstance(source, bytes):
        return source
    if source.stat().st_size > MAX_BYTES:
        raise ValueError(f"the file is larger than {MAX_BYTES >> 20} MB")
    return source.read_bytes()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()  # without the path, which stands beside it
    return " ".join(str(error).split())[:200] or type(error).__name__


if __name__ == "__main__":
    main()
