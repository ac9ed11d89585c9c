"""The decoding process: reads encoded examples from standard input, and writes results to standard output.

It is started by file name with a memory limit and the decoder, "module:function", of a modality. It therefore imports
only numpy and what that decoder needs, not the rest of the library (0.3 s instead of several). Binary frames on pipes:
nothing is pickled, and a damaged file can only crash this process.

A request is `<I` length + JSON settings, `<I` number of examples, then per example `<cddiI` (kind, p: paths with NUL
between, or b: bytes; for recordings begin and end in seconds and the channel; payload length) and the payload. Answers
are flushed one by one, so that the first missing one belongs to the example that crashed: per example `<c16sI` (k:
done, r: refused, w: still working; content hash; length), then the decoder's result, or the reason as text.
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
    """One example: its bytes or path, of recordings a segment, and the other files where several make up one."""

    source: bytes | Path
    start: float = 0.0  # seconds
    end: float = float("inf")
    channel: int = -1  # -1: as the settings specify
    others: tuple[Path, ...] = ()


Decoder = Callable[[Question, dict[str, Any], Callable[[], None]], tuple[bytes, bytes]]
"""Maps a question, settings, and a heartbeat to call every second, to the content's hash and the result."""


def content_hash(data: bytes | memoryview) -> bytes:
    """Hash an example's content, 16 bytes."""
    return hashlib.blake2b(data, digest_size=16).digest()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes our input
    warnings.simplefilter("ignore")  # Pillow warns about odd metadata; sizes are checked by ourselves
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a decoder prints must not mix with the answers
    module, _, name = sys.argv[2].partition(":")
    decoder: Decoder = getattr(import_module(module), name)
    answers.write(READY)
    answers.flush()
    limit_memory(int(sys.argv[1]))
    while head := requests.read(LENGTH.size):
        settings = json.loads(requests.read(LENGTH.unpack(head)[0]))
        # Read the whole request before answering, so that neither side waits for the other to drain a pipe.
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
    """Decode one example: (done, content hash, result or reason)."""
    try:
        return True, *decoder(question, settings, at_work)
    except MemoryError:
        return False, bytes(16), b"needs more memory than a decoder is allowed"
    except Exception as error:  # a decoder may raise anything; no example may end a run
        return False, bytes(16), _reason(error).encode(errors="replace")


def _still_at_work(answers: IO[bytes]) -> None:
    answers.write(ANSWER.pack(b"w", bytes(16), 0))
    answers.flush()


def limit_memory(extra: int) -> None:
    """Limit this process to `extra` bytes above what it maps now, on Linux; elsewhere the pixel limit must do."""
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
    if kind == b"b":
        return Question(payload, start, end, channel)
    first, *others = (Path(os.fsdecode(path)) for path in payload.split(b"\0"))
    return Question(first, start, end, channel, tuple(others))


def read_whole(source: bytes | Path) -> bytes:
    """Read an encoded example. ValueError where it is too large."""
    if isinstance(source, bytes):
        return source
    if source.stat().st_size > MAX_BYTES:
        raise ValueError(f"the file is larger than {MAX_BYTES >> 20} MB")
    return source.read_bytes()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()  # without the path, which is reported beside it
    return " ".join(str(error).split())[:200] or type(error).__name__


if __name__ == "__main__":
    main()
