"""Tacit side by side with its peers.

    python -m benchmarks [NAME ...] [--data FOLDER] [--rounds N]
    python -m benchmarks [NAME ...] --before CHECKOUT
    python -m benchmarks --list
    python -m benchmarks --table        write the table of docs/benchmarks.md anew, from benchmarks/results

Every side of a case runs in a process of its own, all of them in turn, so many rounds; each peer is installed once into
an environment of its own under benchmarks/.peers, in the versions that benchmarks/peers.py pins. A ratio says how many
times as much ours does as the peer in the same round: their median, and the least and the most. What is printed is also
appended to benchmarks/results/compared.jsonl. A case without its data, its device or any of its peers is skipped, and a
line says so. With --before, another checkout of Tacit takes the place of the peers, so that a change shows what it
costs; its figures are appended to benchmarks/results/before.jsonl. The data are real and not part of Tacit; --data
names a folder that has them as `--list` calls them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import figures, peers
from benchmarks.cases import CASES, Case

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OURS = "tacit"
BEFORE = HERE / "results" / "before.jsonl"

Figures = dict[str, float]  # of one part in one round: `rate`, of which more is better, and what else a side tells


@dataclass(frozen=True)
class Side:
    """A side of a case as it is run: the name that its script calls it, the interpreter, and the checkout it is of."""

    name: str
    label: str
    python: Path
    root: Path = ROOT


class Failed(Exception):
    """Why a case came to nothing, in one line."""


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    asked = parser.parse_args()
    if asked.list:
        listing()
        return 0
    if asked.table:
        figures.write()
        return 0
    for name in asked.names:
        if name not in CASES:
            parser.error(f"no case is named {name!r}; choose {', '.join(CASES)}")
    failures = 0
    print(f"{'case':28} {'Tacit':>10} {'peer':>10} {'':15} ratio (least to most)  peer", flush=True)
    for name in asked.names or CASES:
        try:
            run(name, CASES[name], asked.data, asked.rounds or CASES[name].rounds, asked.before)
        except Failed as why:
            print(f"{name}: {why}", flush=True)
            failures += 1
    return min(1, failures)


def run(name: str, case: Case, data: Path, rounds: int, before: Path | None) -> None:
    """Print and append what a case finds, or why it is skipped."""
    why = missing(case, data)
    if why:
        print(f"{name}: skipped, {why}", flush=True)
        return
    sides, results = (peers_of(name, case), figures.COMPARED) if before is None else ([earlier(before)], BEFORE)
    for found in compared(name, case, sides, data, rounds):
        print(told(found), flush=True)
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")


def listing() -> None:
    for name, case in CASES.items():
        needs = [f"--data with {case.data}"] if case.data else []
        needs += ["a GPU"] if case.on == "cuda" else []
        beside = ", ".join(label for _, label in case.peers.values())
        print(f"{name:14} {case.what}, beside {beside}" + (f" (needs {' and '.join(needs)})" if needs else ""))


def missing(case: Case, data: Path) -> str:
    """Why a case cannot run here, if so."""
    if case.on == "cuda" and not has_cuda():
        return "there is no GPU that CUDA knows"
    if case.data and not (data / case.data).is_file():
        return f"{data / case.data} is not there; name the folder of the data with --data"
    return ""


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def peers_of(name: str, case: Case) -> list[Side]:
    """The peers of a case that can be installed; a line says which cannot."""
    sides = []
    for side, (peer, label) in case.peers.items():
        try:
            sides.append(Side(side, label, peers.python_of(peer)))
        except peers.NotInstalled as why:
            print(f"{name}: {label} does not install here: {why}", flush=True)
    return sides


def earlier(checkout: Path) -> Side:
    """Tacit as it is in another checkout, by this interpreter."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return Side(OURS, f"Tacit at {commit}", Path(sys.executable), checkout.resolve())


def compared(name: str, case: Case, others: list[Side], data: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """A line for every part of the case and every other side."""
    if not others:
        return
    sides = [Side(OURS, "Tacit", Path(sys.executable)), *others]
    said: list[list[Any]] = [[] for _ in sides]
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for side, rows in zip(sides, said, strict=True):
                rows.append(one_side(case, side, data, Path(folder), number))
    for side, rows in list(zip(sides, said, strict=True))[1:]:
        for part in said[0][0]:
            mine, other = ([of[part] for of in who] for who in (said[0], rows))
            yield line(f"{name}/{part}", case, side, mine, other)


def one_side(case: Case, side: Side, data: Path, folder: Path, number: int) -> Any:
    """What one side says of every part; its last words where it fails. Another checkout has a folder of its own."""
    if side.root != ROOT:
        folder = folder / "before"
        folder.mkdir(exist_ok=True)
    command = [str(side.python), str(side.root / "benchmarks" / case.script), side.name, "--device", case.on]
    command += ["--round", str(number), "--folder", str(folder), "--data", str((data / case.data).resolve())]
    threads = {} if case.threads is None else {"OMP_NUM_THREADS": str(case.threads)}
    given = {**os.environ, **threads, "PYTHONPATH": str(side.root / "src"), "PYTHONNOUSERSITE": "1"}
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
        raise Failed(f"{case.script} {side.name} failed: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def line(
    name: str, case: Case, side: Side, mine: list[dict[str, float]], other: list[dict[str, float]]
) -> dict[str, Any]:
    """Ours and the peer's, medians over the rounds; and of the ratios of the rounds the median, least and most."""
    from benchmarks.record import described

    found: dict[str, Any] = {"case": name, "side": side.name, "peer": side.label, "unit": case.unit}
    for key in ("rate", "per_processor_second"):
        if key in mine[0]:
            ratios = sorted(ours[key] / theirs[key] for ours, theirs in zip(mine, other, strict=True))
            found[key] = [digits(statistics.median(values[key] for values in who)) for who in (mine, other)]
            found[f"{key}_ratio"] = [digits(statistics.median(ratios)), digits(ratios[0]), digits(ratios[-1])]
    for key in [key for key in mine[0] if f"{key}_ratio" not in found]:
        found[key] = [digits(statistics.median(values[key] for values in who)) for who in (mine, other)]
    return {**found, "rounds": len(mine), **described()}


def digits(value: float) -> float:
    """Four of them are all that a timing is good for."""
    return float(f"{value:.4g}")


def told(found: dict[str, Any]) -> str:
    (mine, other), (ratio, least, most) = found["rate"], found["rate_ratio"]
    said = (
        f"{found['case']:28} {mine:>10,.6g} {other:>10,.6g} {found['unit']:15} {ratio:.3g} ({least:.3g} to {most:.3g})"
    )
    if "per_processor_second_ratio" in found:
        said += f", by processor time {found['per_processor_second_ratio'][0]:.3g}"
    return f"{said}  {found['peer']}"


if __name__ == "__main__":
    sys.exit(main())
