"""The same test, the same result: one thread, fixed seeds, no network, a cache of its own.

Warnings are errors, see pyproject.toml.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests import few

# Before anything imports numpy or torch, and inherited by the processes that tests start.
for _pool in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
    os.environ[f"{_pool}_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# The same few examples everywhere and always: a failure repeats, and a run costs the same time.
hypothesis.settings.register_profile("ci", derandomize=True, database=None, deadline=None, max_examples=25)
# HYPOTHESIS_PROFILE=search looks for new counterexamples.
hypothesis.settings.register_profile("search", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


# Files that take longest come first: a long one at the end would leave the other workers without work.
_LONG = (
    *("tasks", "train", "targets", "audio_export", "text_export", "ranks", "pipeline", "evaluate", "every_target"),
    *("text_pipeline", "sharding", "calibration", "agenda", "encoders", "items_encoders", "series", "wav2vec2"),
    *("audio_pipeline", "items_run", "starting", "embedded", "exporting", "seeds", "afterwards", "contributing"),
)


# They start processes by a server, which takes 9 s to start: one worker has all of them.
_BY_SERVER = ("audio_export", "cli", "contributing", "faults", "parts", "ranks", "sharding", "train")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "by server" if Path(file).stem.removeprefix("test_") in _BY_SERVER else file

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {f"test_{name}.py": number for number, name in enumerate(_LONG)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_collection_finish() -> None:
    """What was imported stays until the end: the collector of garbage need not look through it again and again."""
    gc.collect()
    gc.freeze()
    for logger in logging.Logger.manager.loggerDict.values():  # else pytest attaches to each of torch's, at every test
        if isinstance(logger, logging.Logger):
            logger.propagate = True


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """What draws from the global generators, as initial weights do, draws the same in any order of tests."""
    if torch := sys.modules.get("torch"):
        torch.default_generator.manual_seed(0)  # `torch.manual_seed` keeps its stack for accelerators: 1 ms
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)


@pytest.fixture
def cached(tmp_path: Path) -> Callable[..., Any]:
    """`open_dataset` with a cache of the test's own."""

    def open_(data: Any, **settings: Any) -> Any:
        from tacit.dataset import open_dataset

        return open_dataset(data, **{"cache": str(tmp_path / "cache"), **settings})

    return open_


@pytest.fixture(scope="module")
def brief() -> Iterator[None]:
    """Training on labels for two steps: what a command does with the figure is tested, not the figure."""
    with pytest.MonkeyPatch.context() as patch:
        few.brief(patch)
        yield


@pytest.fixture(scope="module")
def few_strengths() -> Iterator[None]:
    """For tests of what is done with a probe, not of the choice of its penalty."""
    with pytest.MonkeyPatch.context() as patch:
        few.few_strengths(patch)
        yield


@pytest.fixture(scope="module")
def few_fits(few_strengths: None) -> Iterator[None]:
    """For tests of what is done with a judgement."""
    with pytest.MonkeyPatch.context() as patch:
        few.few_fits(patch)
        yield


@pytest.fixture
def usual_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are as wide and deep as people have them."""
    from tests import narrow

    narrow.with_usual_sizes(monkeypatch)


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models have one block, and the exporter's table of operators is made once: graphs take it seconds each."""
    from tests.narrow import make_shallow

    pytest.importorskip("onnxscript")
    registration = pytest.importorskip("torch.onnx._internal.exporter._registration")
    make_shallow(monkeypatch)
    monkeypatch.setattr(registration.ONNXRegistry, "from_torchlib", staticmethod(_operators(registration)))


@cache
def _operators(registration: Any) -> Callable[..., Any]:
    return cache(registration.ONNXRegistry.from_torchlib)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor fill the cache of the person who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TACIT_CONFIG", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """A test that reaches beyond this machine fails instead of depending on what it finds there."""
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise RuntimeError(f"a test tried to reach {address[0]}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", only_here)
        yield
