"""Several processes are one run: the leader goes first and decides, an error of one ends all, nobody waits for ever."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tacit import cli
from tacit.core import gathering, ranks
from tacit.core.budget import parse_budget
from tacit.core.errors import UserError
from tacit.experiment.folder import Workspace
from tacit.experiment.pacing import planned_steps
from tacit.training.engine import all_processes, make_fabric
from tacit.training.loop import Row, pretrain
from tacit.training.optim import Optim
from tests import few
from tests.clock import count_steps
from tests.processes import finish, start_ranks, two_ranks, two_tasks
from tests.tiny import EXAMPLES, TinyBatches, tiny_recipe

pytestmark = pytest.mark.slow


def as_command(folder: str, *words: str) -> None:
    """A command as a process of its own says and ends it, with little of all that judging repeats."""
    torch.set_num_threads(1)
    patch = pytest.MonkeyPatch()
    for little in (few.brief, few.few_strengths, few.few_fits):
        little(patch)
    for name in ("stdout", "stderr"):
        handle = os.open(f"{folder}/{name}-{_number()}", os.O_WRONLY | os.O_CREAT)
        os.dup2(handle, getattr(sys, f"__{name}__").fileno())
    cli.main(words)


def _number() -> str:
    return os.environ.get("RANK") or os.environ["SLURM_PROCID"]


def said(folder: Path, rank: int) -> str:
    return "".join((folder / f"{name}-{rank}").read_text() for name in ("stdout", "stderr"))


def test_pretraining_by_two_is_one_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("pretrain", "digits", "--task=simclr", "--budget=6steps", f"--out={out}", "--device=cpu", "--precision=32")
    assert two_ranks(as_command, str(tmp_path), *words) == [0, 0]
    assert f"encoder: {out / 'encoder'}" in said(tmp_path, 0)
    assert said(tmp_path, 1) == ""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert (out / "log.txt").read_text().count("1,797 grey images") == 1
    assert (out / "encoder" / "encoder.json").exists()
    assert two_ranks(as_command, str(tmp_path), *words) == [2, 2]
    assert "already holds this run" in said(tmp_path, 0)
    assert said(tmp_path, 1) == ""


def test_a_whole_run_by_tasks_of_slurm(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("run", "digits", "--tasks=simclr", "--budget=4steps", "--label_budgets=1 per class", f"--out={out}")
    assert two_tasks(as_command, str(tmp_path), *words, "--device=cpu", "--precision=32", "--primary_budget=1") == [
        0,
        0,
    ]
    assert said(tmp_path, 1) == ""
    assert json.loads((out / "report.json").read_text())["data"]["seal_reads"] == 1


class Among(TinyBatches):
    among = range(EXAMPLES)


def decided(folder: str) -> None:
    """Each process believes to have another time left; a step takes as long on every machine."""
    count_steps(pytest.MonkeyPatch(), 0.05)
    with all_processes(device="cpu"), Workspace(Path(folder, "run"), {}) as space:
        plan, left = tiny_recipe("simclr"), 6.0 + 50 * gathering.rank()
        source: Any = Among("simclr")
        length, readings, _ = planned_steps(
            *(space, "simclr", plan, source, parse_budget("27s"), left),
            fabric=make_fabric(device="cpu"),
            probe=lambda thinned: lambda task: {},
            seed=0,
        )
        assert gathering.any_rank(length.first) == -gathering.any_rank(-length.first)
        written = ranks.from_leader(lambda: space.read_json("plan.json"))
        assert (written["steps"], written["readings"]) == ({"simclr": length.first}, {"simclr": readings})
        step = length.first // 2
        for seconds in (0.0, 5.7):  # half of the steps took nearly all of the leader's time
            length.revise(step, seconds + 20 * gathering.rank())
            step += 1
        assert length.at(step) < length.first
        assert gathering.any_rank(length.at(step)) == -gathering.any_rank(-length.at(step))


def test_the_leader_decides_what_a_time_comes_to(tmp_path: Path) -> None:
    assert two_ranks(decided, str(tmp_path)) == [0, 0]


def first_and_then(folder: str) -> None:
    with all_processes(device="cpu", timeout=2.0):
        with ranks.leader_first():
            if ranks.is_leader():
                time.sleep(3.0)  # longer than anybody waits for one who shows no sign of life
                Path(folder, "made").write_text("by the leader")
            assert Path(folder, "made").read_text() == "by the leader"
        assert ranks.from_leader(lambda: {"rank": gathering.rank()}) == {"rank": 0}
        ranks.leave_to_leader()
        Path(folder, f"alone-{gathering.rank()}-of-{gathering.world()}").touch()


def test_the_leader_goes_first_and_alone(tmp_path: Path) -> None:
    assert two_ranks(first_and_then, str(tmp_path)) == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone-0-of-1", "made"]


def mistaken(folder: str, who: int) -> None:
    """One process fails by itself, while the other waits for it."""
    try:
        with all_processes(device="cpu", timeout=1000.0):
            if gathering.rank() == who:
                raise UserError("a mistake")
            gathering.any_rank(0)
    except UserError as error:
        Path(folder, f"said-{who}").write_text(str(error))
        raise SystemExit(error.exit_code) from None


@pytest.mark.parametrize("who", [0, 1])
def test_the_error_of_one_ends_all(who: int, tmp_path: Path) -> None:
    assert two_ranks(mistaken, str(tmp_path), who) == [2, 2]
    assert [path.name for path in tmp_path.iterdir()] == [f"said-{who}"]


def interrupted(folder: str, who: int, number: int) -> None:
    """Train, and have one process get a signal at step 3."""

    def watch(row: Row, steps: int) -> None:
        if row["step"] == 3 and gathering.rank() == who:
            os.kill(os.getpid(), number)

    def train() -> int:
        plan = tiny_recipe("simclr")
        with all_processes(device="cpu", timeout=8.0):
            fabric = make_fabric(device="cpu")
            pretrain(
                plan.task,
                TinyBatches("simclr"),
                steps=8,
                optim=Optim(),
                fabric=fabric,
                folder=Path(folder),
                watch=watch,
            )
        return 0

    handle = os.open(f"{folder}/stderr-{gathering.rank()}-{os.getpid()}", os.O_WRONLY | os.O_CREAT)
    os.dup2(handle, sys.__stderr__.fileno())  # type: ignore[union-attr]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "_call", lambda words: train())
        cli.main([])


def test_a_signal_to_one_stops_all_after_a_checkpoint(tmp_path: Path) -> None:
    assert two_ranks(interrupted, str(tmp_path), 1, signal.SIGTERM) == [143, 143]
    assert [path.name for path in (tmp_path / "checkpoints" / "task").iterdir()] == ["step-00000003"]
    told = "".join(path.read_text() for path in tmp_path.glob("stderr-*"))
    assert told.count("tacit: error: interrupted by signal 15") == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows stops no process")
def test_a_stopped_process_is_not_waited_for(tmp_path: Path) -> None:
    """Either of two; both cases wait for their timeouts at once."""
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
    pairs = [start_ranks(interrupted, str(folder), who, signal.SIGSTOP) for who, folder in enumerate(folders)]
    for who, (folder, processes) in enumerate(zip(folders, pairs, strict=True)):
        assert finish(processes[1 - who]) == [1]
        processes[who].kill()
        processes[who].join()
        told = "".join(path.read_text() for path in folder.glob("stderr-*"))
        assert told.count(f"tacit: error: process {1 - who} has lost another one") == 1
        assert "Traceback" not in told
