"""What choosing the labels is worth: `tacit next-labels` against drawing them at random.

    python benchmarks/next_labels.py digits [--seconds 60]
    python benchmarks/next_labels.py TRAIN.parquet --test TEST.parquet --label-column label [--seconds 150]

A ConvNet is pretrained by contrast for so many seconds on all of the training part. Then, 20 times over, a pool of at
most 4,000 of its examples is drawn, whose labels are bought: one per class and round on average, by `auto` from no
label at all, or all of them at once by TypiClust; against random choice from the same pool (the mean of three). A
linear probe of what was bought is judged on the test set. One JSON line per representation and way of choosing:
balanced accuracy in percent by labels per class, and the paired gain over random choice with its 95 % interval over
the repetitions, which share the encoder and the test set.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from record import record
from scipy import stats

import tacit
from tacit.commands.next_labels import SWITCH, by_margin, by_typicality
from tacit.dataset import TEST, open_dataset
from tacit.evaluation.features import extract
from tacit.evaluation.probes.linear import fit_probe
from tacit.modalities.image.baselines import PixelStatistics

PER_CLASS = (1, 2, 3, 4, 5, 10, 20)
AT_ONCE = PER_CLASS[:5]
POOL = 4_000
DRAWS = 3  # of random choice, averaged

Rows = NDArray[np.int64]
Curve = dict[int, float]


class Pool:
    """Examples whose labels can be bought, and the test set that says what they were worth."""

    def __init__(self, X: NDArray[np.float32], y: Rows, X_test: NDArray[np.float32], y_test: Rows, n_classes: int):
        self.X, self.y, self.X_test, self.y_test, self.n_classes = X, y, X_test, y_test, n_classes

    def worth(self, rows: Rows) -> float:
        """Balanced accuracy in percent of a probe of these labels; a class without any counts as always missed."""
        probe = fit_probe(self.X[rows], self.y[rows], n_classes=self.n_classes, seed=0)
        hit = probe.predict(self.X_test) == self.y_test
        return 100 * float(np.mean([hit[self.y_test == c].mean() for c in range(self.n_classes)]))

    def at_random(self, chance: np.random.Generator) -> Curve:
        order = chance.permutation(len(self.X))
        return {n: self.worth(order[: n * self.n_classes]) for n in PER_CLASS}

    def in_rounds(self, seed: int) -> Curve:
        """As somebody would who asks `auto` again after every round."""
        bought, curve = np.empty(0, np.int64), {}
        for n in range(1, PER_CLASS[-1] + 1):
            rest = np.setdiff1d(np.arange(len(self.X)), bought)
            if n <= SWITCH:
                features = self.X[np.concatenate([bought, rest])]
                chose = by_typicality(features, len(bought), self.n_classes, seed=seed)
            else:
                known, y = np.unique(self.y[bought], return_inverse=True)
                probe = fit_probe(self.X[bought], y.astype(np.int64), n_classes=len(known), seed=seed)
                names = [str(label) for label in known]
                chose = by_margin(probe.probabilities(self.X[rest]), self.n_classes, names)
            bought = np.concatenate([bought, rest[chose.picked]])
            if n in PER_CLASS:
                curve[n] = self.worth(bought)
        return curve

    def at_once(self, seed: int) -> Curve:
        return {n: self.worth(by_typicality(self.X, 0, n * self.n_classes, seed=seed).picked) for n in AT_ONCE}


def compare(name: str, X: NDArray[np.float32], y: Rows, test: NDArray[np.bool_], repeats: int, **facts: Any) -> None:
    """Record the curves of every way of choosing, and their gains over random choice."""
    began = time.process_time()
    n_classes = int(y.max()) + 1
    train = np.flatnonzero(~test)
    curves: dict[str, list[Curve]] = {"random": [], "auto": [], "at-once": []}
    for repeat in range(repeats):
        chance = np.random.default_rng(repeat)
        rows = chance.choice(train, min(POOL, 2 * len(train) // 3), replace=False)
        pool = Pool(X[rows], y[rows], X[test], y[test], n_classes)
        drawn = [pool.at_random(chance) for _ in range(DRAWS)]
        curves["random"].append({n: float(np.mean([curve[n] for curve in drawn])) for n in PER_CLASS})
        curves["auto"].append(pool.in_rounds(repeat))
        curves["at-once"].append(pool.at_once(repeat))
    for way, found in curves.items():
        accuracy = {n: round(float(np.mean([curve[n] for curve in found])), 1) for n in found[0]}
        gains = {}
        for n in accuracy if way != "random" else ():
            gain = np.array([one[n] - other[n] for one, other in zip(found, curves["random"], strict=True)])
            margin = stats.t.ppf(0.975, repeats - 1) * gain.std(ddof=1) / repeats**0.5
            gains[n] = [round(float(value), 1) for value in (gain.mean(), gain.mean() - margin, gain.mean() + margin)]
        record(f"{name}/{way}", balanced_accuracy=accuracy, gain_low_high=gains, repeats=repeats, **facts)
    facts["cpu_seconds"] = round(time.process_time() - began)
    record(f"{name}/cost", **facts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--test")
    parser.add_argument("--label-column")
    parser.add_argument("--seconds", type=int, default=60, help="of pretraining")
    parser.add_argument("--repeats", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    given = {"label_column": asked.label_column, "test": asked.test}
    dataset = open_dataset(asked.data, **given)
    y = dataset.label
    if asked.data == "digits":  # whose labels are hidden but for a few
        from sklearn.datasets import load_digits

        y = load_digits().target.astype(np.int64)
    assert dataset.split is not None, "name a test set"
    test = dataset.split == TEST
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run = tacit.pretrain(asked.data, task="simclr", budget=f"{asked.seconds}s", out=str(out), test=asked.test)
        encoder = tacit.load_encoder(out)
    pixels = PixelStatistics.fit(dataset.batch, np.flatnonzero(~test), dataset.spec, seed=0)
    named = "/".join(Path(asked.data).parts[-2:])
    facts = {"size_px": dataset.spec.size, "steps": run.steps, "pretraining_seconds": round(run.seconds)}
    for arm, embedder in (("simclr", encoder), ("pixels", pixels)):
        features = extract(embedder, dataset.batch, np.arange(len(y)))["pooled"]
        compare(f"next_labels/{named}/{arm}", features, y, test, asked.repeats, **facts)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
