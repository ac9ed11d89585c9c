"""How often the verdict is wrong: simulated comparisons with real probes on features of random-init encoders.

    python benchmarks/calibration.py [--comparisons 400] [--encoders 40] [--cases checkpoint,shuffled,...]

Every comparison draws two of the untrained ConvNets, a fresh labelled pool and a fresh test set from scikit-learn's
digits. Two untrained encoders are not equally good: of eight partners the one is taken whose true accuracy, known from
many draws tested on all other examples, is the nearest (`any pair` takes the first). `transfers` is the share of
TRANSFERS, nominally 2.5 % where there is no true gain, `wrong` that of TRANSFERS without a true gain, and `missed` that
of 95 % intervals without the true gain; `spread_of_true_gains_points` is the deviation of the true gains. One JSON line
per case, shares with their 95 % Clopper-Pearson bounds:

    checkpoint      200 labels, 10 of 20 per class: half of the pool in every draw, 10 draws
    any pair        the same of two encoders as they come
    pool of 500     500 labels, 10 of 50 per class
    all labels      200 labels, all of them at once, one draw; variance borrowed from the smaller budgets
    recipe          three encoders against the mean of three others
    cross-fitting   90 labels, 5 folds, 5 labels per class
    shuffled        as `checkpoint`, but the labels belong to other examples: there is nothing to find
    power           as `checkpoint`, with a true gain equal to the printed detectable difference planted in the hits
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from record import record
from scipy.stats import beta
from sklearn.datasets import load_digits

from tacit.core.types import Batch, Features
from tacit.encoders import build_encoder
from tacit.evaluation import Arm, Labelled, Selection, evaluate
from tacit.evaluation.statistics import crossed, influence, smoothing
from tacit.evaluation.targets.classification import Classification
from tacit.modalities.image.baselines import ImageSpec

CLASSES = tuple("0123456789")
TEST = 500


@dataclass(frozen=True)
class Case:
    labels: int
    budgets: tuple[int | float, ...] = (5, 10)
    primary: int | float = 10
    seeds: int = 1
    sealed: bool = True
    shuffled: bool = False
    alike: bool = True


CASES = {
    "checkpoint": Case(200, (10,)),
    "any pair": Case(200, (10,), alike=False),
    "pool of 500": Case(500, (10,)),
    "all labels": Case(200, (10, 1.0), 1.0),
    "recipe": Case(200, (10,), seeds=3),
    "cross-fitting": Case(90, (5,), 5, sealed=False),
    "shuffled": Case(200, (10,), shuffled=True),
}


class Lookup:
    """An encoder whose features were computed before."""

    n_depths = 0

    def __init__(self, features: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        self.features, self.rows, self.dim = features, rows, features.shape[1]

    def __call__(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        pooled = torch.from_numpy(self.features[self.rows[batch["index"].numpy()]])
        return Features(pooled[:, None], pooled)


def encode(number: int) -> list[NDArray[np.float32]]:
    """Features [1797 D] of the digits by `number` untrained ConvNets."""
    images = torch.from_numpy((load_digits().images * 255 / 16).astype(np.uint8))[:, None]
    spec = ImageSpec(8, 1, (0.3,), (0.37,))
    features = []
    for seed in range(number):
        torch.manual_seed(seed)
        with torch.no_grad():
            features.append(build_encoder("convnet", spec).eval()({"image": images}).pooled.numpy())
    return features


def draw_pool(rng: np.random.Generator, y: NDArray[np.int64], case: Case) -> tuple[NDArray[np.int64], int]:
    """Dataset rows, the labelled pool (as balanced as can be) first, and its size."""
    order = rng.permutation(len(y))
    per_class = case.labels // len(CLASSES)
    pool = np.concatenate([order[y[order] == c][:per_class] for c in range(len(CLASSES))])
    test = np.setdiff1d(order, pool)
    return np.concatenate([pool, rng.permutation(test)[:TEST]]) if case.sealed else pool, len(pool)


def true_accuracy(features: NDArray[np.float32], y: NDArray[np.int64], per_class: int, draws: int = 40) -> float:
    """Balanced accuracy expected of a fresh draw, tested on all other examples."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        order = rng.permutation(len(y))
        taken = np.concatenate([order[y[order] == c][:per_class] for c in range(len(CLASSES))])
        rest = np.setdiff1d(order, taken)
        [predicted] = Classification(len(CLASSES)).linear(features, y, [taken], features[rest], seed=0, workers=1)
        found.append(np.mean([(predicted == c)[y[rest] == c].mean() for c in range(len(CLASSES))]))
    return float(np.mean(found))


def choose(rng: np.random.Generator, case: Case, truth: NDArray[np.float64]) -> tuple[NDArray[np.int64], float]:
    """Which encoders are compared, the first half with the second, and the true gain.

    A recipe's truth is that of the population of encoders, the baseline's that of the three there are.
    """
    tries = []
    first = rng.choice(len(truth), case.seeds, replace=False)
    for _ in range(8 if case.alike else 1):
        others = rng.choice(np.setdiff1d(np.arange(len(truth)), first), case.seeds, replace=False)
        ours = truth.mean() if case.seeds > 1 else truth[first[0]]
        tries.append((np.concatenate([first, others]), float(ours - truth[others].mean())))
    return min(tries, key=lambda found: abs(found[1]))


def compare(
    rng: np.random.Generator,
    case: Case,
    features: Sequence[NDArray[np.float32]],
    chosen: NDArray[np.int64],
    y: NDArray[np.int64],
) -> Any:
    """The report on these encoders."""
    rows, n_pool = draw_pool(rng, y, case)
    labels = y[rows]
    if case.shuffled:  # pool and test apart, so that every class keeps its labels
        labels = np.concatenate([rng.permutation(labels[:n_pool]), rng.permutation(labels[n_pool:])])
    encoders = [Lookup(features[i], rows) for i in chosen]
    labelled = Labelled(
        lambda positions: {"index": torch.from_numpy(positions)},
        labels,
        CLASSES,
        np.arange(len(rows)),
        np.arange(n_pool),
        np.arange(n_pool, len(rows)),
    )
    arms = [
        Arm("a", "pretrained", tuple(encoders[: case.seeds])),
        Arm("b", "baseline", tuple(encoders[case.seeds :])),
    ]
    return evaluate(
        arms,
        labelled,
        budgets=case.budgets,
        primary=case.primary,
        seed=int(rng.integers(2**31)),
        selection=Selection("a", {"a": "pooled", "b": "pooled"}),
    )


def calibrate(name: str, comparisons: int, features: Sequence[NDArray[np.float32]], y: NDArray[np.int64]) -> None:
    case = CASES[name]
    n_primary = case.labels // len(CLASSES) if case.primary == 1.0 else int(case.primary)
    truth = np.zeros(len(features))
    if not case.shuffled:
        truth = np.array([true_accuracy(f, y, n_primary) for f in features])
    rng = np.random.default_rng(1)
    outcomes, missed, wrong, gains, widths = [], 0, 0, [], []
    for _ in range(comparisons):
        chosen, gain = choose(rng, case, truth)
        verdict = compare(rng, case, features, chosen, y).verdict
        outcomes.append(verdict.outcome)
        missed += not verdict.low <= gain <= verdict.high
        wrong += verdict.outcome == "transfers" and gain <= 0
        gains.append(gain)
        widths.append(verdict.high - verdict.low)
    record(
        f"calibration/{name}",
        comparisons=comparisons,
        transfers=share(outcomes.count("transfers"), comparisons),
        harms=share(outcomes.count("harms"), comparisons),
        wrong=share(wrong, comparisons),
        missed=share(missed, comparisons),
        half_width_points=round(50 * float(np.mean(widths)), 2),
        spread_of_true_gains_points=round(100 * float(np.std(gains)), 2),
    )


def power(comparisons: int) -> None:
    """Hits of two encoders that share items' difficulty and draws' luck, one better by the detectable difference.

    Planted, because real encoders cannot be made better by a given amount.
    """
    rng = np.random.default_rng(2)
    y = np.arange(TEST) % len(CLASSES)
    both_wrong = float(np.mean([(simulated_hits(rng).sum(0) == 0).mean() for _ in range(200)]))

    def difference(gain: float) -> NDArray[np.float64]:
        hits = simulated_hits(rng)
        mended = (hits.sum(0) == 0) & (rng.random((10, TEST)) < gain / both_wrong)  # so that the first gains `gain`
        hits[0][mended] = 1.0
        return influence((hits[0] - hits[1])[None], y, np.arange(TEST))

    extra = smoothing(y, np.arange(TEST))
    detectable = float(np.mean([crossed(difference(0.0), extra=extra).detectable() for _ in range(50)]))
    detectable = float(np.mean([crossed(difference(detectable), extra=extra).detectable() for _ in range(50)]))
    found = sum(crossed(difference(detectable), extra=extra).interval()[0] > 0 for _ in range(comparisons))
    record(
        "calibration/power",
        comparisons=comparisons,
        detectable_points=round(100 * detectable, 2),
        found=share(found, comparisons),
    )


def simulated_hits(rng: np.random.Generator) -> NDArray[np.float64]:
    """Of two equally good encoders: [2 S n]."""
    shared = rng.normal(1.2, 1.0, TEST) + rng.normal(0, 0.7, (10, TEST))
    own = rng.normal(0, 0.7, (2, 10, TEST)) + rng.normal(0, 0.05, (2, 10, 1))
    return (shared + own > 0).astype(np.float64)


def share(count: int, of: int) -> list[float]:
    """The share with its Clopper-Pearson bounds."""
    low = float(beta.ppf(0.025, count, of - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, of - count)) if count < of else 1.0
    return [round(count / of, 4), round(low, 4), round(high, 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=400)
    parser.add_argument("--encoders", type=int, default=40)
    parser.add_argument("--cases", default=",".join([*CASES, "power"]))
    given = parser.parse_args()
    features, y = encode(given.encoders), load_digits().target.astype(np.int64)
    for name in given.cases.split(","):
        if name == "power":
            power(given.comparisons)
        else:
            calibrate(name, given.comparisons, features, y)


if __name__ == "__main__":
    main()
