"""Faults put into trainings on purpose: kills at random moments, damage to any file of a checkpoint."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from tacit.training import checkpoint
from tacit.training.engine import make_fabric
from tacit.training.loop import Run, pretrain
from tests.processes import finish, start
from tests.tiny import TinyBatches, tiny_recipe

OF_EVERY_KIND = ["simclr", "masked", "simclr+0.4*rotation", "text:masked", "text:simclr", "audio:byol", "items:next"]
STEPS = 60


def train(mixture: str, folder: Path | None = None, steps: int = STEPS) -> Run:
    """Checkpoints come after every step, so that a kill often meets one that is being written."""
    torch.set_num_threads(1)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    plan, fabric = tiny_recipe(mixture), make_fabric(device="cpu")
    return pretrain(
        *(plan.task, TinyBatches(mixture)), steps=steps, optim=plan.optim, fabric=fabric, folder=folder, save_every=0.0
    )


def victim(mixture: str, folder: str) -> None:
    train(mixture, Path(folder))


def survives(mixture: str, folder: Path, kills: int, chance: random.Random) -> bool:
    """Whether a training that is killed so often ends with the same bits as one that is not."""
    done = 0
    while done < kills:
        process = start(victim, mixture, str(folder))
        deadline = time.monotonic() + chance.choice([0.05, 0.5, 1.0, 2.0]) * (0.5 + chance.random())
        while time.monotonic() < deadline and process.is_alive():
            time.sleep(0.005)
        process.kill()
        process.join()
        if process.exitcode == 0:  # it had finished: begin again
            shutil.rmtree(folder)
        elif process.exitcode != -signal.SIGKILL:
            return False
        else:
            done += 1
    if finish(start(victim, mixture, str(folder))) != [0]:
        return False
    found, straight = checkpoint.load(folder / "checkpoints" / "task"), train(mixture).task.state_dict()
    names = {name.removeprefix("task/") for name in found.tensors if name.startswith("task/")} if found else set()
    assert found is not None
    return (
        found.step == STEPS
        and found.damaged == ()
        and bool(names)
        and all(torch.equal(found.tensors[f"task/{name}"], straight[name]) for name in names)
    )


class Damage(NamedTuple):
    """What was done to a file of the newest checkpoint, and what came of it."""

    kind: str
    file: str
    noticed: bool  # named, and passed over for the one before


def damages(folder: Path, flips: int, truncations: int, chance: random.Random) -> Iterator[Damage]:
    """Bytes flipped and files cut off at random, and each file deleted once, of the newest of several checkpoints."""
    whole = checkpoint.load(folder)
    assert whole is not None
    newest = folder / f"step-{whole.step:08d}"
    files = sorted(newest.iterdir())
    done = [*["flip"] * flips, *["truncate"] * truncations]
    for kind, file in [*((kind, chance.choice(files)) for kind in done), *(("delete", file) for file in files)]:
        data = bytearray(file.read_bytes())
        place = chance.randrange(len(data))
        if kind == "delete":
            file.unlink()
        elif kind == "truncate":
            file.write_bytes(data[:place])
        else:
            file.write_bytes(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :])
        found = checkpoint.load(folder)
        noticed = found is not None and found.step < whole.step and newest.name in "".join(found.damaged)
        yield Damage(kind, file.name, noticed)
        file.write_bytes(data)
    again = checkpoint.load(folder)
    assert again is not None
    assert again.step == whole.step
