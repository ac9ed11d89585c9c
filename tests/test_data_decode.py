"""Real bad files, and decoders that crash, hang and die: injected into the worker by a script of the test's own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tacit.data import decode
from tacit.data.decode import Pool
from tacit.modalities.image import decode as pixels
from tacit.modalities.image.decoding import Plan, headers

PLAN = Plan(8, 1, "uint8")


def decode_all(items: Iterable[decode.Item], plan: Plan, *, workers: int) -> Iterator[decode.Decoded]:
    with Pool(Plan, workers) as pool:
        yield from pool.decode(items, plan)


def png(value: int, size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (size, size), value).save(buffer, "PNG")
    return buffer.getvalue()


def value(outcome: decode.Decoded) -> int:
    assert outcome.data is not None, outcome.reason
    return outcome.data[0]


@pytest.fixture
def sabotaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Workers whose decoder does what the last bytes of an image say."""
    script = tmp_path / "sabotaged.py"
    script.write_text(
        """
import os, signal, sys, time
from tacit.modalities.image import decode as pixels
from tacit.data import worker

real = pixels.decode

def decode(data, *settings, **how):
    if data.endswith(b"CRASH"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if data.endswith(b"LEAVE"):
        os._exit(3)
    if data.endswith(b"HANG"):
        time.sleep(60)
    if data.endswith(b"SWELL"):
        bytearray(1 << 40)
    if data.endswith(b"PRINT"):
        os.write(1, b"libfoo: warning" * 100)
    if data.endswith(b"WAIT") and not os.path.exists(__file__ + ".waits"):
        open(__file__ + ".waits", "w").close()
        time.sleep(60)
    return real(data, *settings, **how)

pixels.decode = decode
worker.main()
"""
    )
    monkeypatch.setattr(decode, "COMMAND", [sys.executable, "-P", str(script)])
    return script


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Every worker that a test starts."""
    decode.end_idle_workers()
    processes: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            processes.append(self)

    monkeypatch.setattr(decode.subprocess, "Popen", Recorded)
    return processes


def test_outcomes_come_in_order_and_whole(tmp_path: Path):
    items: list[decode.Item] = []
    for i in range(200):
        if i % 3 == 0:
            items.append(png(i))
        elif i % 3 == 1:
            (tmp_path / f"{i}.png").write_bytes(png(i))
            items.append(tmp_path / f"{i}.png")
        else:
            items.append(np.full((8, 8), i, np.uint8))
    outcomes = list(decode_all(items, PLAN, workers=2))
    assert [value(outcome) for outcome in outcomes] == list(range(200))
    assert len({outcome.content for outcome in outcomes}) == 200


def test_bad_files_are_refused_with_a_reason_and_nothing_else_is_lost(tmp_path: Path):
    bomb = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(bomb, "PNG")
    half = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(half, "JPEG")
    bad = {
        "empty.png": (b"", "empty"),
        "text.jpg": (b"I am a text", "not an image"),
        "bomb.png": (bomb.getvalue(), "megapixels"),
        "half.jpg": (half.getvalue()[:700], "truncated"),
    }
    items: list[decode.Item] = [
        tmp_path / "good.png",
        *(tmp_path / name for name in bad),
        tmp_path / "absent.png",
        png(3),
    ]
    (tmp_path / "good.png").write_bytes(png(2))
    for name, (data, _) in bad.items():
        (tmp_path / name).write_bytes(data)
    outcomes = list(decode_all(items, PLAN, workers=1))
    assert value(outcomes[0]) == 2
    assert value(outcomes[-1]) == 3
    for outcome, reason in zip(outcomes[1:-1], [*(why for _, why in bad.values()), "no such file"], strict=True):
        assert outcome.data is None
        assert reason in outcome.reason
        assert str(tmp_path) not in outcome.reason


@pytest.mark.usefixtures("sabotaged")
@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_a_crash_costs_the_image_that_caused_it():
    items: list[decode.Item] = [png(1), png(2) + b"CRASH", png(3), png(4) + b"LEAVE", png(5) + b"PRINT"]
    outcomes = list(decode_all(items, PLAN, workers=1))
    assert [outcome.data is not None for outcome in outcomes] == [True, False, True, False, True]
    assert "SIGSEGV" in outcomes[1].reason
    assert "exit code 3" in outcomes[3].reason
    assert value(outcomes[4]) == 5


@pytest.mark.slow
@pytest.mark.usefixtures("sabotaged")
def test_a_hanging_decoder_is_stopped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decode, "SECONDS_PER_EXAMPLE", 1.5)
    start = time.monotonic()
    outcomes = list(decode_all([png(1), png(2) + b"HANG", png(3)], PLAN, workers=1))
    assert time.monotonic() - start < 30
    assert "took longer than 1.5 s" in outcomes[1].reason
    assert [value(outcomes[0]), value(outcomes[2])] == [1, 3]


@pytest.mark.usefixtures("sabotaged")
def test_memory_is_limited():
    outcomes = list(decode_all([png(2) + b"SWELL", png(3)], PLAN, workers=1))
    assert "memory" in outcomes[0].reason
    assert value(outcomes[1]) == 3


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the address space is limited on Linux only")
def test_the_limit_is_on_the_whole_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decode, "MEMORY", 40 << 20)
    wide = io.BytesIO()
    Image.new("RGB", (6000, 6000)).save(wide, "PNG", compress_level=1)  # 108 MB once decoded
    outcomes = list(decode_all([wide.getvalue(), png(3)], PLAN, workers=1))
    assert "memory" in outcomes[0].reason
    assert value(outcomes[1]) == 3


def test_a_worker_killed_from_outside_costs_no_image(sabotaged: Path, started: list[subprocess.Popen[bytes]]):
    def kill() -> None:
        while not Path(f"{sabotaged}.waits").exists():
            time.sleep(0.02)
        started[0].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    outcomes = list(decode_all([png(1), png(2) + b"WAIT", png(3)], PLAN, workers=1))
    thread.join()
    assert [value(outcome) for outcome in outcomes] == [1, 2, 3]
    assert len(started) == 2


def test_a_worker_that_cannot_start_is_our_failure_not_the_images(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decode, "COMMAND", [sys.executable, "-c", "raise ImportError('no numpy here')"])
    with pytest.raises(RuntimeError, match=r"does not start.*no numpy here"):
        list(decode_all([png(1)], PLAN, workers=1))


def test_leaving_early_leaves_no_process_behind(started: list[subprocess.Popen[bytes]]):
    outcomes = decode_all((png(i % 256) for i in range(10_000)), PLAN, workers=2)
    next(outcomes)
    assert started
    outcomes.close()
    decode.end_idle_workers()
    assert all(process.poll() is not None for process in started)


def test_the_next_pool_takes_the_workers_of_the_last(started: list[subprocess.Popen[bytes]], tmp_path: Path):
    for _ in range(3):
        assert len(list(decode_all([png(1)], PLAN, workers=1))) == 1
    assert len(started) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)  # where relative paths mean something else
        list(decode_all([png(1)], PLAN, workers=1))
    assert len(started) == 2
    decode.end_idle_workers()
    assert all(process.poll() is not None for process in started)


def test_headers_come_from_readable_items_only(tmp_path: Path):
    items: list[decode.Item] = [png(1), b"", tmp_path / "absent.png", np.zeros((5, 6, 3), np.uint16)]
    with Pool(Plan, 1) as pool:
        assert headers(pool, items) == [pixels.Header(8, 8, True, False), pixels.Header(6, 5, False, True)]


def test_the_worker_imports_little():
    """Its start-up is paid by every run: numpy and Pillow, not arrow, torch or the rest of the library."""
    code = (
        "import runpy, sys; "
        f"runpy.run_path({decode.COMMAND[-1]!r}, run_name='x'); "
        "import tacit.modalities.image.worker, tacit.modalities.audio.decode; "
        "print([m for m in ('torch', 'pyarrow', 'sklearn', 'tacit.dataset') if m in sys.modules])"
    )
    source = str(Path(pixels.__file__).parents[3])
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": source},
        check=True,
    )
    assert said.stdout.strip() == "[]"
