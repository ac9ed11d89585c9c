"""Cut into pieces, everything is as it was whole: losses, weights, checkpoints, also at another number of processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tacit.core import gathering, ranks
from tacit.core.errors import Interrupted, UserError
from tacit.core.nn import blocks
from tacit.core.types import Batch
from tacit.tasks.base import Task
from tacit.training import checkpoint
from tacit.training.batches import Batches
from tacit.training.engine import all_processes, make_fabric
from tacit.training.loop import Row, Run, pretrain, read_history
from tacit.training.optim import Optim
from tests.processes import two_ranks
from tests.tiny import TinyBatches, tiny_encoder, tiny_recipe

pytestmark = pytest.mark.slow

STEPS = 4
SHARDED = ["simclr+0.4*rotation", "byol", "masked", "text:electra", "audio:wav2vec2", "items:next"]
EXAMPLES, BATCH, LAST = 200, 16, 8


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_blocks_are_what_repeats() -> None:
    assert len(blocks(tiny_encoder("vit_tiny"))) == 4
    assert [len(blocks(part)) for part in (tiny_encoder(), nn.Linear(2, 2))] == [3, 0]
    twice = nn.ModuleList([nn.ModuleList([nn.Linear(1, 1)]), nn.ReLU()])
    assert blocks(nn.Sequential(twice)) == [twice[0]]


def steady(task: Task) -> Task:
    """Without dropout, which every process draws for itself."""
    for module in task.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return task


def both_ways(folder: str) -> None:
    """Every task as copies and in pieces; the leader keeps losses and weights."""
    for sharded in (False, True):
        fabric = make_fabric(device="cpu", sharded=sharded)
        for mixture in SHARDED:
            plan = tiny_recipe(mixture)
            optim = Optim("lars" if mixture == "byol" else "sgd", lr=0.01, clip=1.0)
            run = pretrain(steady(plan.task), TinyBatches(mixture), steps=STEPS, optim=optim, fabric=fabric)
            if gathering.rank() == 0:
                kept = {
                    name: value.clone(memory_format=torch.contiguous_format)
                    for name, value in run.task.state_dict().items()
                }
                kept["losses"] = torch.tensor([float(row["loss"]) for row in run.history])
                save_file(kept, f"{folder}/{mixture}-{sharded}.safetensors")


def test_pieces_train_as_copies_do(tmp_path: Path) -> None:
    assert two_ranks(both_ways, str(tmp_path)) == [0, 0]
    for mixture in SHARDED:
        whole, cut = (load_file(tmp_path / f"{mixture}-{sharded}.safetensors") for sharded in (False, True))
        assert whole.keys() == cut.keys()
        torch.testing.assert_close(
            cut.pop("losses"), whole["losses"], rtol=5e-6, atol=1e-6, msg=lambda m, n=mixture: f"{n}: {m}"
        )
        for name, value in cut.items():
            torch.testing.assert_close(
                value, whole[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=f"{mixture} {name}": f"{n}: {m}"
            )


class Seen:
    """Batches of digits by the library's order, which write down the rows that are handed out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inner = Batches(self.read, np.arange(EXAMPLES), batch_size=BATCH, seed=3)
        self.batch_size = BATCH

    def read(self, rows: np.ndarray) -> Batch:  # type: ignore[type-arg]
        return TinyBatches("simclr").images(torch.from_numpy(rows)) | {"index": torch.from_numpy(rows)}

    def stream(self, start: int, stop: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        for step in range(start, stop):
            batch = self.inner(step, rank, world)
            with (self.folder / f"seen-{rank}-of-{world}.jsonl").open("a") as file:
                file.write(json.dumps([step, batch["index"].tolist()]) + "\n")
            yield batch


def train(folder: Path, *, sharded: bool, stop: int | None = None) -> Run:
    def watch(row: Row, steps: int) -> None:
        if row["step"] == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    plan = tiny_recipe("byol", batch_size=BATCH)
    return pretrain(
        plan.task,
        Seen(folder),
        steps=LAST,
        optim=Optim("sgd", lr=0.2),
        fabric=make_fabric(device="cpu", sharded=sharded),
        folder=folder,
        watch=watch,
    )


def stopped_and_continued(folder: str) -> None:
    """Stopped by two processes, and continued by two and, from a copy of the folder, by one; in pieces and whole."""
    with all_processes(device="cpu", timeout=60.0):
        for sharded in (True, False):
            of = Path(folder, f"{sharded}-2")
            of.mkdir(exist_ok=True)
            with pytest.raises(Interrupted):
                train(of, sharded=sharded, stop=5)
            with ranks.leader_first():
                if ranks.is_leader():
                    shutil.copytree(of, Path(folder, f"{sharded}-1"))
            train(of, sharded=not sharded)
        ranks.leave_to_leader()
        for sharded in (True, False):
            train(Path(folder, f"{sharded}-1"), sharded=not sharded)
        train(Path(folder), sharded=False)


def final(folder: Path) -> dict[str, torch.Tensor]:
    found = checkpoint.load(folder / "checkpoints" / "task")
    assert found is not None
    assert (found.step, found.damaged) == (LAST, ())
    return {name: value for name, value in found.tensors.items() if name.startswith("task/")}


def seen_once(folder: Path) -> None:
    """Every example of the order once: the steps' rows over all processes are the order's."""
    told = [json.loads(line) for path in folder.glob("seen-*") for line in path.read_text().splitlines()]
    order = Batches(lambda rows: {}, np.arange(EXAMPLES), batch_size=BATCH, seed=3)
    for step in range(LAST):
        rows = [row for at, rows in told if at == step for row in rows]
        assert sorted(rows) == sorted(order.rows(step).tolist()), step


def test_two_go_on_as_one_or_two(tmp_path: Path) -> None:
    assert two_ranks(stopped_and_continued, str(tmp_path)) == [0, 0]
    wanted = final(tmp_path)
    for sharded, processes in product((True, False), (1, 2)):
        folder = tmp_path / f"{sharded}-{processes}"
        assert [row["step"] for row in read_history(folder / "metrics.jsonl")] == list(range(1, LAST + 1))
        seen_once(folder)
        for name, value in final(folder).items():
            torch.testing.assert_close(
                value, wanted[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=f"{folder.name} {name}": f"{n}: {m}"
            )
    damage_to_any_piece_is_named(tmp_path / "True-1" / "checkpoints" / "task" / "step-00000005")


def damage_to_any_piece_is_named(place: Path) -> None:
    shutil.rmtree(place.with_name(f"step-{LAST:08d}"))
    for name in ("state-1.safetensors", "state.safetensors"):
        kept = (place / name).read_bytes()
        (place / name).write_bytes(kept[:-5] + bytes([kept[-5] ^ 4]) + kept[-4:])
        with pytest.raises(UserError, match=f"{name} is damaged"):
            checkpoint.load(place.parent)
        (place / name).unlink()
        with pytest.raises(UserError, match=f"{name} is missing"):
            checkpoint.load(place.parent)
        (place / name).write_bytes(kept)
    assert checkpoint.load(place.parent) is not None
