"""The same test, the same result: one thread, fixed seeds, no network, no home folder. Warnings are errors (pyproject)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Before anything imports numpy or torch, and inherited by the processes that tests start.
for _pool in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
    os.environ[f"{_pool}_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import hypothesis
import pytest

# The same few examples everywhere and always: a failure repeats, and a run costs the same time.
hypothesis.settings.register_profile("ci", derandomize=True, database=None, deadline=None, max_examples=25)
# HYPOTHESIS_PROFILE=search looks for new counterexamples.
hypothesis.settings.register_profile("search", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """What draws from the global generators, as initial weights do, draws the same in any order of tests."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests neither read nor fill the cache of the person who runs them."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACIT_CACHE", str(cache))
        yield cache
