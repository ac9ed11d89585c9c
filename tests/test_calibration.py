"""How often the whole protocol is wrong, at reduced size; `benchmarks/calibration.py` is the full one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from tacit.evaluation import Arm, Labelled, evaluate
from tacit.evaluation.features import Stored
from tests.test_targets import fetch

pytestmark = pytest.mark.usefixtures("few_strengths")

TIMES, POOL, TEST = 40, 200, 200
ALLOWED = int(binom.ppf(0.975, TIMES, 0.05))  # 5 %, and binomial error


def comparison(seed: int, seeds: int, gain: float = 0.0) -> str:
    """The outcome where both arms see the classes through noise of their own, the first through a little less."""
    rng = np.random.default_rng(seed)
    n = POOL + TEST
    y = rng.permutation(np.arange(n) % 4)
    latent = rng.normal(0, 0.8, (4, 12))[y] + rng.normal(0, 0.5, (n, 12))

    def encoders(noise: float) -> tuple[Stored, ...]:
        return tuple(Stored((latent + rng.normal(0, noise, latent.shape)).astype(np.float32)) for _ in range(seeds))

    arms = [Arm("a", "pretrained", encoders(1.0 - gain)), Arm("b", "baseline", encoders(1.0))]
    labelled = Labelled(fetch, y, tuple("wxyz"), np.arange(n), np.arange(POOL), np.arange(POOL, n))
    verdict = evaluate(arms, labelled, budgets=[10], draws=4, seed=seed).verdict
    assert verdict.claim == ("recipe" if seeds > 1 else "checkpoint")
    return verdict.outcome


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_encoders_hardly_ever_transfer(seeds: int) -> None:
    outcomes = [comparison(seed, seeds) for seed in range(TIMES)]
    assert outcomes.count("transfers") <= ALLOWED
    assert outcomes.count("harms") <= ALLOWED


@pytest.mark.slow
def test_a_clear_gain_is_found() -> None:
    outcomes = [comparison(seed, 1, gain=0.4) for seed in range(20)]
    assert outcomes.count("transfers") >= 18
