"""How often verdicts are wrong where nothing is to be found: a grid of made nulls through the real `evaluate`.

    python benchmarks/calibration_grid.py FILE [--nulls 400] [--cells 'classification, 4'] [--seconds 500]

Two encoders see every example through noise of their own, alike in everything: neither has a gain over the other in the
population of examples, groups and labels, so that every TRANSFERS is false (nominally 2.5 %) and every 95 % interval
without 0 misses (5 %). A group (a patient, a speaker) shifts what both see of its examples, each in its own way.
Features are stored, and the linear probe is a ridge regression with one penalty: what is calibrated is the inference,
which must hold for any probe (`calibration.py` judges by the real ones). A cell is a target and

    groups        how many to train on, and to test on; none: every example alone
    pure          all examples of a group are of one class, as patients have one diagnosis
    imbalance     classes of 1 : 2 : 5
    copies        every example is there five times, and no group column says so
    rare          two classes, one of 3 %

FILE has one JSON line per cell, with the shares and their 95 % Clopper-Pearson bounds. It is written twenty nulls at a
time, all cells in turn: a run that was stopped, or came to the end of its `--seconds`, goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from tacit.core.types import Batch
from tacit.evaluation import Arm, Labelled, Verdict, evaluate
from tacit.evaluation.features import Stored
from tacit.evaluation.probes.linear import Probe
from tacit.evaluation.probes.ridge import Ridge
from tacit.evaluation.targets import classification, multilabel, ordinal, regression

CHUNK = 20  # nulls of a cell between two writings
WIDTH = 6  # features of each encoder
BINS = 5  # of numbers
COUNTED = ("transfers", "harms", "equivalent", "underpowered", "none")


@dataclass(frozen=True)
class Cell:
    """One kind of data; examples do not count copies."""

    target: str = "classification"
    train_groups: int = 0
    test_groups: int = 0
    pure: bool = False
    imbalance: bool = False
    copies: int = 1
    rare: bool = False
    train: int = 240
    test: int = 240
    seeds: int = 1  # of either encoder; three make it a claim about the recipe
    strength: float = 0.7  # deviation of the groups' shifts, in that of an example's noise

    @property
    def name(self) -> str:
        groups = f"{self.train_groups or 'no'} + {self.test_groups or 'no'} groups"
        seeds = [f"{self.seeds} seeds"] if self.seeds > 1 else []
        flags = [flag for flag in ("pure", "imbalance", "rare") if getattr(self, flag)]
        return ", ".join([self.target, groups, *flags, *seeds, *([f"{self.copies} copies"] if self.copies > 1 else [])])


def cells() -> list[Cell]:
    """The grid."""
    groups = [(0, 0), (2, 40), (4, 40), (12, 40), (40, 40), (40, 12), (40, 4)]
    few = [groups[0], groups[2], groups[4]]
    found = [Cell(train_groups=train, test_groups=test, imbalance=i) for train, test in groups for i in (False, True)]
    found += [Cell(train_groups=train, test_groups=test, copies=5) for train, test in few]
    found += [Cell(train_groups=n, test_groups=40, pure=True) for n in (12, 40)]
    found += [Cell(train_groups=n, test_groups=n, rare=True, train=600, test=600) for n in (0, 12, 40)]
    found += [Cell("regression", train_groups=train, test_groups=test) for train, test in groups]
    found += [
        Cell(target, train_groups=train, test_groups=test)
        for target in ("ordinal", "multilabel")
        for train, test in few
    ]
    found += [Cell(seeds=3), Cell(train_groups=12, test_groups=40, seeds=3)]
    return found + [Cell("retrieval", test_groups=test, test=200) for test in (0, 5, 40)]


def null(cell: Cell, number: int, *, gain: float = 0.0, draws: int | None = None) -> Verdict:
    """The verdict on one null; with a `gain` the first encoder sees with so much less noise."""
    rng = np.random.default_rng([crc32(cell.name.encode()), number])
    sides = [_dealt(cell.train_groups, cell.train), _dealt(cell.test_groups, cell.test)]
    group = np.concatenate([sides[0], sides[0].max() + 1 + sides[1]])
    y, truth, signal = _truth(rng, cell, group)
    seen = []
    for noise in [1.0 - gain] * cell.seeds + [1.0] * cell.seeds:
        x = signal + rng.normal(0, noise, signal.shape)
        if cell.train_groups or cell.test_groups:
            x += rng.normal(0, cell.strength * noise, (group.max() + 1, WIDTH))[group]
        seen.append(x.astype(np.float32))
    of = np.repeat(np.arange(len(y)), cell.copies)  # which example each row is a copy of
    trained = of < cell.train
    labelled = Labelled(
        _stored,
        y[of],
        tuple(
            f"class {c:02}" for c in range(y.max() + 1 if truth is None else truth.shape[-1] if truth.ndim > 1 else 0)
        ),
        group[of] if cell.train_groups or cell.test_groups else np.arange(len(of)),
        np.flatnonzero(trained),
        np.flatnonzero(~trained),
        content=np.array([int(i).to_bytes(16, "big") for i in of], "V16"),
        target=cell.target,
        truth=None if truth is None else truth[of],
    )
    stored = [Stored(x[of]) for x in seen]
    arms = [
        Arm("a", "pretrained", tuple(stored[: cell.seeds])),
        Arm("b", "baseline", tuple(stored[cell.seeds :])),
    ]
    budget = {"retrieval": None, "classification": "100 in all" if cell.rare else 10, "ordinal": 10}.get(
        cell.target, 60
    )
    budgets = None if budget is None else [budget]
    return evaluate(arms, labelled, budgets=budgets, primary=budget, draws=draws, seed=number).verdict


def quick_probe(X: Any, y: NDArray[np.int64], *, n_classes: int, groups: Any = None, seed: int = 0) -> Probe:
    """Ridge regression on the classes as 0 and 1, in place of logistic regression."""
    W, b = _ridge(X, y[:, None] == np.arange(n_classes))
    return Probe(W, np.where(np.bincount(y, minlength=n_classes) > 0, b, -np.inf), 1.0, False, 0.0)


def quick_ridge(X: Any, y: NDArray[np.float64], *, groups: Any = None, seed: int = 0) -> Ridge:
    """Ridge regression with one penalty."""
    w, b = _ridge(X, y[:, None])
    return Ridge(w[:, 0], float(b[0]), 1.0)


def _ridge(X: Any, Y: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean, offset = X.mean(axis=0, dtype=np.float64), Y.mean(axis=0)
    Z = X - mean
    W = np.linalg.solve(Z.T @ Z + np.eye(Z.shape[1]), Z.T @ (Y - offset))
    return W, offset - mean @ W


@contextmanager
def quick_probes() -> Iterator[None]:
    """Probes that cost next to nothing, for as long as this lasts."""
    with ExitStack() as patches:
        for module in (classification, multilabel):
            patches.enter_context(patch.object(module, "fit_probe", quick_probe))
        for module in (regression, ordinal):
            patches.enter_context(patch.object(module, "fit_ridge", quick_ridge))
        for target in (classification.Classification, multilabel.Multilabel, regression.Regression, ordinal.Ordinal):
            near = lambda self, X, truth, test: self.fit(X, truth, None, 0)(test)  # noqa: E731
            patches.enter_context(patch.object(target, "near", near))
        yield


def _stored(rows: NDArray[np.int64]) -> Batch:
    raise AssertionError("everything is stored")


def _dealt(groups: int, n: int) -> NDArray[np.int64]:
    """The group of each of n examples, each its own where there are none."""
    return np.arange(n) % groups if groups else np.arange(n)


def _truth(
    rng: np.random.Generator, cell: Cell, group: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None, NDArray[np.float64]]:
    """Classes or strata [n], the truth of targets without classes, and what both encoders see of it [n WIDTH]."""
    n = len(group)
    if cell.target in ("regression", "ordinal"):
        number = rng.normal(size=n)
        edges = np.quantile(number[: cell.train], np.arange(1, BINS) / BINS)
        y = np.searchsorted(edges, number)
        return y, number if cell.target == "regression" else None, np.outer(number, rng.normal(0, 0.6, WIDTH))
    if cell.target == "multilabel":
        has = (rng.random((n, 3)) < 0.3).astype(np.float64)
        has[: cell.train][:6], has[cell.train :][:6] = np.eye(3).repeat(2, 0), np.eye(3).repeat(2, 0)
        return np.where(has.any(axis=1), has.argmax(axis=1), 3), has, has @ rng.normal(0, 0.9, (3, WIDTH))
    if cell.target == "retrieval":
        y = np.arange(n) % 40
        y[cell.train :] = rng.permutation(y[cell.train :])
        return y, None, rng.normal(0, 1.0, (40, WIDTH))[y]
    shares = [0.97, 0.03] if cell.rare else [1 / 8, 2 / 8, 5 / 8] if cell.imbalance else [1 / 3] * 3
    if cell.pure:
        y = (group % 3).astype(np.int64)
    else:
        y = np.concatenate([rng.permutation(_shared(shares, size)) for size in (cell.train, cell.test)])
    return y, None, rng.normal(0, 0.8, (len(shares), WIDTH))[y]


def _shared(shares: list[float], n: int) -> NDArray[np.int64]:
    """n class numbers in these shares."""
    return np.searchsorted(np.cumsum(shares), (np.arange(n) + 0.5) / n)


def share(count: int, of: int) -> list[float]:
    """The share with its Clopper-Pearson bounds."""
    low = float(beta.ppf(0.025, count, of - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, of - count)) if count < of else 1.0
    return [round(count / of, 4), round(low, 4), round(high, 4)]


def grow(cell: Cell, known: dict[str, Any], nulls: int) -> dict[str, Any]:
    """The line of a cell with more nulls."""
    from record import described

    counts = Counter({name: known.get("counts", {}).get(name, 0) for name in (*COUNTED, "missed")})
    began, first = time.process_time(), known.get("nulls", 0)
    widths = known.get("half_width_points", 0.0) * first
    for number in range(first, first + nulls):
        verdict = null(cell, number)
        assert verdict.low is not None
        assert verdict.high is not None
        counts[verdict.outcome] += 1
        counts["missed"] += not verdict.low <= 0 <= verdict.high
        widths += 50 * (verdict.high - verdict.low)
    done = first + nulls
    return {
        "case": f"calibration grid: {cell.name}",
        "nulls": done,
        "transfers": share(counts["transfers"], done),
        "harms": share(counts["harms"], done),
        "missed": share(counts["missed"], done),
        "half_width_points": round(widths / done, 3),
        "counts": dict(counts),
        "processor_seconds": round(known.get("processor_seconds", 0.0) + time.process_time() - began, 1),
        **described(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--nulls", type=int, default=400)
    parser.add_argument("--cells", default="", help="those whose name holds this")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    given = parser.parse_args()
    end = time.monotonic() + given.seconds
    lines = given.file.read_text().splitlines() if given.file.exists() else []
    known = {line["case"]: line for line in map(json.loads, lines)}
    chosen = [cell for cell in cells() if given.cells in cell.name]
    for upto in range(CHUNK, given.nulls + CHUNK, CHUNK):
        for cell in chosen:
            case = f"calibration grid: {cell.name}"
            before = known.get(case, {})
            if (more := min(upto, given.nulls) - before.get("nulls", 0)) <= 0:
                continue
            if time.monotonic() > end:
                return
            with quick_probes():
                known[case] = grow(cell, before, more)
            text = "".join(json.dumps(line) + "\n" for line in known.values())
            beside = given.file.with_suffix(".new")
            beside.write_text(text)
            beside.replace(given.file)
            print(json.dumps(known[case]), flush=True)


if __name__ == "__main__":
    main()
