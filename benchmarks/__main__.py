"""Tacit side by side with its peers.

    python -m benchmarks [NAME ...] [--data FOLDER] [--rounds N]
    python -m benchmarks --list
    python -m benchmarks --readme       write the README's table of figures anew, from benchmarks/results

Every side of a case runs in a process of its own, all of them in turn, so many rounds; each peer is installed once into
an environment of its own under benchmarks/.peers, in the versions that benchmarks/peers.py pins. A ratio says how many
times as much ours does as the peer in the same round: their median, and the least and the most. What is printed is also
appended to benchmarks/results/compared.jsonl. A case without its data, its device or any of its peers is skipped, and a
line says so. The data are real and not part of Tacit; --data names a folder that has them as `--list` calls them.
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
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "src")]

import figures  # noqa: E402  after the paths, by which the scripts beside this one are found
import peers  # noqa: E402
from cases import CASES, Case  # noqa: E402
from record import described  # noqa: E402

from tacit.errors import UserError  # noqa: E402

OURS = "tacit"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    parser.add_argument("--rounds", type=int)
    asked = parser.parse_args()
    if asked.list:
        return listing()
    if asked.readme:
        return figures.write()
    for name in asked.names:
        if name not in CASES:
            raise UserError(f"no case is named {name!r}; choose {', '.join(CASES)}")
    for name in asked.names or CASES:
        case = CASES[name]
        why = missing(case, asked.data)
        if why:
            print(f"{name}: skipped, {why}")
            continue
        for line in compared(name, case, asked.data, asked.rounds or case.rounds):
            print(told(line), flush=True)
            with figures.COMPARED.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def listing() -> None:
    for name, case in CASES.items():
        needs = [f"--data with {case.data}"] if case.data else []
        needs += ["a GPU"] if case.on == "cuda" else []
        beside = ", ".join(label for _, label in case.peers.values())
        print(f"{name:14} {case.what}, beside {beside}" + (f" (needs {' and '.join(needs)})" if needs else ""))


def missing(case: Case, data: Path) -> str:
    """Why a case cannot run here, if so."""
    import torch

    if case.on == "cuda" and not torch.cuda.is_available():
        return "there is no GPU that CUDA knows"
    if case.data and not (data / case.data).is_file():
        return f"{data / case.data} is not there; name the folder of the data with --data"
    return ""


def compared(name: str, case: Case, data: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """A line for every part of the case and every peer that could be installed."""
    pythons = {OURS: Path(sys.executable)}
    for side, (peer, label) in case.peers.items():
        try:
            pythons[side] = peers.python_of(peer)
        except peers.NotInstalled as why:
            print(f"{name}: {label} does not install here: {why}")
    if len(pythons) == 1:
        return
    said: dict[str, list[Any]] = {side: [] for side in pythons}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for side, python in pythons.items():
                said[side].append(one_side(case, side, python, data, Path(folder), number))
    for side in list(pythons)[1:]:
        for part in said[OURS][0]:
            mine, other = ([told[part] for told in said[who]] for who in (OURS, side))
            yield line(f"{name}/{part}", case, case.peers[side][1], mine, other)


def one_side(case: Case, side: str, python: Path, data: Path, folder: Path, number: int) -> Any:
    """What one side says of every part; its last words where it fails."""
    command = [str(python), str(HERE / case.script), side, "--device", case.on, "--round", str(number)]
    command += ["--folder", str(folder), "--data", str((data / case.data).resolve())]
    threads = {} if case.threads is None else {"OMP_NUM_THREADS": str(case.threads)}
    given = {**os.environ, **threads, "PYTHONPATH": str(ROOT / "src"), "PYTHONNOUSERSITE": "1"}
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{case.script} {side} failed: {(done.stderr.strip().splitlines() or ['no word of why'])[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def line(case: str, of: Case, peer: str, mine: list[dict[str, float]], other: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over the rounds, and the ratio of every round."""
    found: dict[str, Any] = {"case": case, "what": of.what, "unit": of.unit, "peer": peer}
    for key in ("rate", "per_processor_second"):
        if key in mine[0]:
            ratios = sorted(ours[key] / theirs[key] for ours, theirs in zip(mine, other, strict=True))
            found[key] = [digits(statistics.median(values[key] for values in side)) for side in (mine, other)]
            found[f"{key}_ratio"] = [digits(statistics.median(ratios)), digits(ratios[0]), digits(ratios[-1])]
    for key in mine[0].keys() - {"rate", "per_processor_second"}:
        found[key] = [digits(statistics.median(values[key] for values in side)) for side in (mine, other)]
    return {**found, "rounds": len(mine), **described()}


def digits(value: float) -> float:
    """Four of them are all that a timing is good for."""
    return float(f"{value:.4g}")


def told(line: dict[str, Any]) -> str:
    (mine, other), (ratio, least, most) = line["rate"], line["rate_ratio"]
    said = f"{line['case']:28} {mine:>10,.6g} {other:>10,.6g} {line['unit']:15} {ratio:6.3g} times"
    return f"{said} ({least:.3g} to {most:.3g} in {line['rounds']} rounds)  {line['peer']}"


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
