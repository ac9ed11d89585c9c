"""Steps in parts equal whole ones; memory that runs out, losses that jump, and time are told as they are."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tacit.core import gathering, keys
from tacit.core.errors import UserError
from tacit.core.types import Batch, Output
from tacit.tasks.base import Task
from tacit.tasks.simclr import SimCLR
from tacit.training import fitting
from tacit.training.engine import make_fabric
from tacit.training.fitting import limited, most_that_fit
from tacit.training.loop import Row, Run, pretrain
from tacit.training.optim import Optim
from tacit.training.profiling import SECTIONS, Profile, profile_lines
from tacit.training.spikes import ENOUGH, Spikes
from tacit.training.stepping import NonFinite, OutOfMemory, Stepper, StepSettings, is_out_of_memory, parted
from tests.tiny import TinyBatches, tiny_encoder, tiny_recipe, without_dropout

PLAIN = Optim("sgd", lr=0.4, weight_decay=1e-4)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def taken(task: Task, batch: Batch, parts: int, optim: Optim = PLAIN) -> Output:
    """One step of a task, in so many parts."""
    fabric = make_fabric(device="cpu")
    model, optimizer = fabric.setup(task, optim.build(task))
    task.train()
    return Stepper(fabric, model, task, optimizer, optim, len(batch["index"]), 10, 0, StepSettings(parts))(batch, 3)


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("kind", ["items:simclr", "rotation"])
def test_a_step_in_parts_is_the_same_step(kind: str, parts: int) -> None:
    def made() -> Task:
        return without_dropout(tiny_recipe(kind, encoder="vit_tiny" if kind == "rotation" else None).task)

    batch = TinyBatches(kind).batch(0)
    whole, pieces = made(), made()
    one, many = taken(whole, batch, 1), taken(pieces, batch, parts)
    torch.testing.assert_close(many.loss, one.loss.detach())
    torch.testing.assert_close(many.metrics, one.metrics)
    for a, b in zip(whole.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6)


def test_cached_gradients_are_those_of_one_graph() -> None:
    """With dropout and batch norms: the naive way keeps the graphs of all parts."""
    cached, naive = tiny_recipe("items:simclr", seed=1).task, tiny_recipe("items:simclr", seed=1).task
    assert isinstance(naive, SimCLR)
    batch = TinyBatches("items:simclr").batch(0)
    taken(cached, batch, 4)
    naive.train()
    naive.progress.fill_(0.3)
    embedded = []
    for number, part in enumerate(parted(batch, 4)):
        torch.manual_seed(keys.fold(0, 3, gathering.rank(), number))
        embedded.append(naive.embed(part))
    optimizer = PLAIN.build(naive)
    naive.compared(torch.cat(embedded)).loss.backward()
    for group in optimizer.param_groups:
        group["lr"] = PLAIN.rate(3, 10, 32)
    optimizer.step()
    for a, b in zip(naive.parameters(), cached.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6)


def test_batch_norms_count_each_part_once() -> None:
    task = tiny_recipe("simclr").task
    taken(task, TinyBatches().batch(0), 4)
    counts = [m.num_batches_tracked for m in task.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert counts
    assert all(int(count) == 4 for count in counts if count is not None)


def test_unequal_parts_are_refused() -> None:
    with pytest.raises(UserError, match="32 examples per process have no 5 equal parts; choose another --accumulate"):
        parted(TinyBatches().batch(0), 5)


def greedy(size: int) -> float:
    """Needs 64 MiB for every example."""
    np.empty((size, 1 << 26), np.uint8)
    return 0.0


def test_the_largest_batch_that_fits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "free_memory", lambda: 3500 << 20)
    assert most_that_fit(greedy, 16, 4096) == 32  # 2 GiB fit into four fifths of 3.5, and 4 do not
    assert most_that_fit(greedy, 4, 16) == 16
    assert most_that_fit(lambda size: 6.0, 16, 4096) == 16  # a step would take too long
    with pytest.raises(MemoryError):
        most_that_fit(greedy, 128, 4096)
    with pytest.raises(ValueError, match="another fault"):
        most_that_fit(failing, 16, 4096)


def failing(size: int) -> float:
    raise ValueError("another fault")


class Wasteful(Task):
    """Asks for more memory than there is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    @property
    def exported(self) -> dict[str, object]:  # type: ignore[override]
        return {}

    def forward(self, batch: Batch) -> Output:
        return Output(self.weight.sum() * torch.ones(1 << 40).sum(), {}, {})

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {}


def test_out_of_memory_names_the_remedy() -> None:
    with pytest.raises(OutOfMemory, match=r"32 examples per step in 2 parts: .* --accumulate 4, .* 16 ") as found:
        taken(Wasteful(), TinyBatches().batch(0), 2)
    assert is_out_of_memory(found.value.__cause__)  # type: ignore[arg-type]
    with limited(1 << 26), pytest.raises(RuntimeError) as refused:
        torch.ones(1 << 34)  # more than what earlier tests may give back meanwhile
    assert is_out_of_memory(refused.value)
    assert torch.ones(1 << 20).sum() == 1 << 20
    assert not is_out_of_memory(ValueError("a shape"))


class Erring(Task):
    """A linear model whose loss is multiplied at some steps, whenever they come."""

    def __init__(self, at: dict[int, float], start: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((4,), start))
        self.at = at

    @property
    def exported(self) -> dict[str, object]:  # type: ignore[override]
        return {}

    def forward(self, batch: Batch) -> Output:
        step = round(float(self.progress) * STEPS)
        loss = (self.weight * batch["image"].float().mean() / 255).square().mean() + 1
        return Output(loss * self.at.get(step, 1.0), {}, {})

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {}


STEPS = 40
NAN = float("nan")


def trained(task: Task, folder: Path | None = None, **settings: object) -> Run:
    given = {"steps": STEPS, "optim": PLAIN, "fabric": make_fabric(device="cpu"), "folder": folder, **settings}
    return pretrain(task, TinyBatches(), **given)  # type: ignore[arg-type]


def test_bad_steps_are_passed_over_from_a_checkpoint_on(tmp_path: Path) -> None:
    heard: list[str] = []
    task = Erring({7: NAN, 30: 1e4, 35: NAN})
    trained(task, tmp_path, say=heard.append, skip_bad_steps=3, save_every=0.0)
    assert [line.partition(":")[0] for line in heard] == [
        "the loss became non-finite at step 7 on rank 0 (data rows 224, 225, 226, 227, ...)",
        "the loss jumped from about 1.0" + heard[1].partition("1.0")[2].partition(":")[0],
        "the loss became non-finite at step 35 on rank 0 (data rows 96, 97, 98, 99, ...)",
    ]
    assert all("going back to the newest checkpoint, and passing over that step" in line for line in heard)

    def only_good(row: Row, steps: int) -> None:
        seen.append(int(row["step"]))

    seen: list[int] = []
    again = Erring({7: NAN, 30: 1e4, 35: NAN})
    trained(again, tmp_path / "other", skip_bad_steps=3, watch=only_good)  # no checkpoint but the first: all from there
    assert torch.equal(again.weight, task.weight)
    assert {8, 31, 36}.isdisjoint(seen[-37:])


def test_more_bad_steps_than_allowed_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(NonFinite, match="at step 9"):
        trained(Erring({5: NAN, 7: NAN, 9: NAN}), tmp_path, skip_bad_steps=2)
    with pytest.raises(UserError, match="give a folder"):
        trained(Erring({}), skip_bad_steps=1)


def test_a_jump_is_told_and_changes_nothing() -> None:
    heard: list[str] = []
    trained(Erring({30: 50.0}), say=heard.append)
    assert len(heard) == 1
    assert heard[0].endswith("at step 30")


def test_ordinary_losses_do_not_jump() -> None:
    chance = np.random.default_rng(0)
    falling = Spikes()
    assert not any(falling.jumped(5 * 0.99**n + chance.normal(0, 0.3)) for n in range(2000))
    spikes = Spikes([1.0, 1.1, 0.9] * (ENOUGH // 3))
    assert not spikes.jumped(50.0)  # too few to tell
    spikes = Spikes([1.0, 1.1, 0.9] * ENOUGH)
    assert spikes.jumped(3.0) == "the loss jumped from about 1 to 3"
    assert not Spikes([1.0] * ENOUGH).jumped(1.2)


def test_a_profile_accounts_for_the_time(tmp_path: Path) -> None:
    profile, task = Profile(on=True), tiny_recipe("simclr").task
    views = task.views
    began = time.perf_counter()
    trained(task, tmp_path, profile=profile, rows=40, probe=lambda task: {"probe": 0.5})
    passed = time.perf_counter() - began
    assert task.views is views
    assert profile.steps == STEPS
    assert 0.8 * passed < sum(profile.seconds.values()) <= passed
    assert all(profile.seconds[section] > 0 for section in SECTIONS)
    assert len(profile_lines(profile.seconds, profile.steps)) == 1 + len(SECTIONS)
    off = Profile()
    trained(tiny_recipe("rotation", encoder="vit_tiny").task, profile=off, steps=2)
    assert not any(off.seconds.values())


def test_encoders_are_not_told_from_profiled_views() -> None:
    task, profile = SimCLR(tiny_encoder(), lambda batch, view: batch, out=8), Profile(on=True)
    with profile.within(task):
        task(TinyBatches().batch(0))
    assert profile.seconds["views"] > 0
