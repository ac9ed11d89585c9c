"""Do label-free metrics agree with the transfer measured on labels? Observed, not assumed.

A proxy (the pretext loss, RankMe, ...) is held against the measured transfer by Kendall's tau-b, the surplus of pairs
that both put in the same order, corrected for ties (Kendall 1945, "The treatment of ties in ranking problems"). p is
the probability of a tau at least as far from 0 when all orders are equally likely: exact, by counting the permutations
of each number of inversions. With a few arms p has a floor, which every row states. Three kinds of pairs:

over the arms   one point per encoder, seeds averaged, and the untrained twin. No loss: losses of different tasks share
                no unit
over seeds      of one arm that was pretrained several times
over time       the readings of one training against its online probe. Neighbouring readings resemble each other, so
                that not all orders are equally likely: p is too small there, and tau is a description
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tacit.evaluation.predictions import Predictions
from tacit.evaluation.spectrum import METRICS
from tacit.evaluation.targets import make_target

FEWEST = 3  # pairs; two can only agree or disagree
_ALL_ORDERS = 8  # items whose permutations are gone through where both sides have ties
_SOME_ORDERS = 20_000  # random ones beyond

Scope = Literal["arms", "seeds", "over time"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b of n pairs, its p-value, and the smallest p-value possible with so few."""

    tau: float
    p: float
    smallest_p: float
    n: int


def agreement(one: Sequence[float], other: Sequence[float]) -> Agreement | None:
    """Of two sequences of n numbers; None below three pairs, or where one side is constant.

    p is exact, save where both sides have ties and there are more than eight pairs: then it is that of 20,000 random
    orders, always the same.
    """
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    n = len(x)
    assert n == len(y), (n, len(y))
    if n < FEWEST or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    ties = [list(Counter(side.tolist()).values()) for side in (x, y)]
    untied = [math.comb(n, 2) - sum(math.comb(size, 2) for size in sizes) for sizes in ties]
    surplus = _surplus(x, y)
    if max(ties[0]) == 1 or max(ties[1]) == 1:
        sizes = ties[0] if max(ties[1]) == 1 else ties[1]
        values, counts = _orders(sizes)
    else:
        values, counts = _orders_with_ties(x, y)
    far = np.abs(values)
    p, smallest = (float(counts[far >= bound].sum() / counts.sum()) for bound in (abs(surplus), far.max()))
    return Agreement(surplus / math.sqrt(untied[0] * untied[1]), p, smallest, n)


def _surplus(x: Floats, y: Floats) -> int:
    """Pairs in the same order less pairs in opposite order."""
    return int((np.sign(x[:, None] - x) * np.sign(y[:, None] - y)).sum()) // 2


def _orders(sizes: Sequence[int]) -> tuple[Floats, Floats]:
    """All surpluses of n distinct numbers against groups of ties of these sizes, and how many orders have each.

    Orders of the groups' members by their number of inversions have the generating function of the Gaussian
    multinomial coefficient, a product of quotients (1 - q^i) / (1 - q^j).
    """
    counts, n = [1], 0
    for size in sizes:
        for i in range(1, size + 1):
            counts = _divided(_times(counts, n + i), i)
        n += size
    inversions = np.arange(len(counts), dtype=np.float64)
    return len(counts) - 1 - 2 * inversions, np.array(counts, np.float64)


def _times(counts: Sequence[int], i: int) -> list[int]:
    """The polynomial times 1 - q^i."""
    return [a - b for a, b in zip([*counts, *[0] * i], [*[0] * i, *counts], strict=True)]


def _divided(counts: Sequence[int], i: int) -> list[int]:
    """The polynomial over 1 - q^i, which divides it."""
    quotient: list[int] = []
    for k in range(len(counts) - i):
        quotient.append(counts[k] + (quotient[k - i] if k >= i else 0))
    return quotient


def _orders_with_ties(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Surpluses of x against permutations of y, all of them where they are few, each once."""
    from scipy.stats import permutation_test

    signs = np.sign(x[:, None] - x)
    few = len(x) <= _ALL_ORDERS
    null: Floats = permutation_test(
        (y,),
        lambda y, axis: (signs * np.sign(y[..., :, None] - y[..., None, :])).sum((-2, -1)) / 2,
        permutation_type="pairings",
        n_resamples=math.factorial(len(x)) if few else _SOME_ORDERS,
        batch=2_000,
        vectorized=True,
        rng=np.random.default_rng(0),
    ).null_distribution
    values: Floats = np.append(null, [] if few else _surplus(x, y))  # what was seen counts among random orders
    return values, np.ones(len(values))


def proxy_rows(
    scope: Scope, measured: Sequence[Mapping[str, float]], transfer: Sequence[float], arm: str | None = None
) -> list[dict[str, Any]]:
    """A row for each proxy that was measured beside at least three values of transfer, and varied: see `Agreement`."""
    rows = []
    for name in ("loss", *METRICS):
        pairs = [(of[name], value) for of, value in zip(measured, transfer, strict=True) if name in of]
        found = agreement(*zip(*pairs, strict=True)) if pairs else None
        if found is not None:
            rows.append({"scope": scope, "arm": arm, "proxy": name, **vars(found)})
    return rows


def over_time(arm: str, history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one training: at each reading of the online probe the label-free metrics, and the loss since the last."""
    measured, transfer, losses = [], [], []
    for row in history:
        losses.append(float(row["loss"]))
        if "probe" in row:
            figures = {name: float(row[name]) for name in METRICS if name in row}
            measured.append({"loss": float(np.mean(losses)), **figures})
            transfer.append(float(row["probe"]))
            losses = []
    return proxy_rows("over time", measured, transfer, arm)


def transfer_by_seed(predictions: Predictions, arm: int) -> list[float]:
    """The measured transfer of each encoder of the arm at this place: the verdict's metric at the primary budget."""
    target = make_target(predictions.target, 0)
    found = predictions.predicted[arm][next(iter(target.protocols)), predictions.primary]  # [P S n ...]
    values = target.metric(predictions.metric).influence(found, predictions.truth, predictions.unit)
    return [float(value) for value in values.mean((-2, -1))]
