"""The loop: exact, interruptible, honest about what is not finite; and two processes are as good as one."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tacit.core import gathering
from tacit.core.errors import Interrupted, RunFailed, UserError
from tacit.core.types import Batch, Output
from tacit.experiment.pacing import Paced
from tacit.tasks.base import Task
from tacit.training import checkpoint
from tacit.training.engine import make_fabric
from tacit.training.loop import Row, Run, pretrain, read_history, seconds_per_step
from tacit.training.optim import Optim
from tacit.training.stepping import NonFinite
from tests.processes import two_ranks
from tests.tiny import COVER, TinyBatches, kind_and_tasks, tiny_recipe, without_dropout

STEPS, FEW = 12, 5


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def train(mixture: str, folder: Path | None = None, steps: int | Paced = STEPS, **settings: object) -> Run:
    plan = tiny_recipe(mixture)
    settings = {"optim": plan.optim, "fabric": make_fabric(device="cpu"), "folder": folder, "name": "task", **settings}
    return pretrain(plan.task, TinyBatches(mixture), steps=steps, **settings)  # type: ignore[arg-type]


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("mixture", COVER)
def test_interrupted_and_resumed_is_bit_identical(mixture: str, tmp_path: Path) -> None:
    def stop_at_three(row: Row, steps: int) -> None:
        if row["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as stopped:
        train(mixture, tmp_path, watch=stop_at_three, steps=FEW)
    assert stopped.value.exit_code == 143
    found = checkpoint.load(tmp_path / "checkpoints" / "task")
    assert found is not None
    assert found.step == 3
    resumed, straight = train(mixture, tmp_path, steps=FEW), train(mixture, steps=FEW)
    assert same(resumed.task, straight.task)
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in straight.history]
    assert [row["step"] for row in read_history(tmp_path / "metrics.jsonl")] == list(range(1, FEW + 1))


@pytest.mark.parametrize("killed", [3, 6, 9])
def test_a_corrected_length_is_resumed_bit_by_bit(killed: int, tmp_path: Path) -> None:
    """Also where the correction had been kept, but not come to, when the run was stopped."""
    changes = [[5, 8], [7, 11]]

    def length() -> Paced:
        return Paced(STEPS, [list(change) for change in changes], lambda kept: None)

    whole = train("simclr", steps=length())

    def stop(row: Row, steps: int) -> None:
        if row["step"] == killed:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        train("simclr", steps=length(), folder=tmp_path, watch=stop)
    resumed = train("simclr", steps=length(), folder=tmp_path)
    assert (whole.steps, resumed.steps) == (11, 11)
    assert same(whole.task, resumed.task)
    again = train("simclr", steps=length(), folder=tmp_path)  # which is at its end
    assert same(whole.task, again.task)


def test_a_sum_keeps_its_encoder_once(tmp_path: Path) -> None:
    train("simclr+0.4*rotation", tmp_path)
    found = checkpoint.load(tmp_path / "checkpoints" / "task")
    assert found is not None
    encoders = [name for name in found.tensors if name.startswith("task/") and ".encoder." in name]
    assert encoders
    assert all(name.startswith("task/tasks.simclr.") for name in encoders)


# Adam divides by gradients near 0 and makes rounding large; plain descent shows whether the gradients are equal.
def descent(mixture: str) -> Optim:
    rate = 0.01 if mixture.startswith("audio") else 0.02 if mixture.startswith("text:electra") else 0.4
    return Optim("sgd", lr=rate, weight_decay=1e-4)


def as_two(folder: str) -> None:
    """Every task on two ranks; rank 0 keeps what came out."""
    fabric = make_fabric(device="cpu")
    for mixture in COVER:
        plan = tiny_recipe(mixture)
        task, source = without_dropout(plan.task), TinyBatches(mixture)
        pretrain(task, source, steps=3, optim=descent(mixture), fabric=fabric)
        if gathering.rank() == 0:
            kept = {k: v.clone(memory_format=torch.contiguous_format) for k, v in plan.task.state_dict().items()}
            save_file(kept, f"{folder}/{mixture}.safetensors")
    x = torch.arange(4.0).reshape(2, 2).add(10 * gathering.rank()).requires_grad_()
    everyone = gathering.gather(x)
    (everyone.square().sum() / 2).backward()
    assert torch.equal(everyone.detach(), torch.tensor([[0.0, 1], [2, 3], [10, 11], [12, 13]]))
    assert x.grad is not None
    assert torch.equal(x.grad, 2 * x.detach())  # both ranks' gradients, each of half the loss
    for dtype, within in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        for layout in (torch.contiguous_format, torch.channels_last):
            normed_alike(dtype, layout, within)
    bad = Poisoned(1 if gathering.rank() else -1, "loss")
    with pytest.raises(NonFinite, match="at step 1 on rank 1") as found:
        pretrain(bad, TinyBatches(), steps=3, optim=Optim(), fabric=fabric)
    assert found.value.rows == TinyBatches().batch(1, 1, 2)["index"].tolist()
    bad = Poisoned(1 if gathering.rank() else -1, "gradient")
    with pytest.raises(NonFinite, match="the gradient became non-finite at step 1 on one of the ranks") as found:
        pretrain(bad, TinyBatches(), steps=3, optim=Optim(), fabric=fabric)
    assert found.value.rows == [row for rank in (0, 1) for row in TinyBatches().batch(1, rank, 2)["index"].tolist()]


def normed_alike(dtype: torch.dtype, layout: torch.memory_format, within: float) -> None:
    """Batch norm over ranks against one over the whole batch: what comes out, gradients, running statistics."""
    chance = torch.Generator().manual_seed(0)
    whole = 3 * torch.randn(8, 6, 5, 5, generator=chance) + 1
    slope = torch.randn(whole.shape, generator=chance)
    one = nn.BatchNorm2d(6)
    nn.init.uniform_(one.weight, 0.5, 2, generator=chance)
    shared = copy.deepcopy(one)
    gathering.sync_batchnorm(shared)
    x, share = (
        whole.clone().requires_grad_(),
        whole.chunk(2)[gathering.rank()].to(dtype).contiguous(memory_format=layout),
    )
    share.requires_grad_()
    said, said_here = one(x), shared(share)
    (said * slope).sum().backward()
    (said_here * slope.chunk(2)[gathering.rank()]).sum().backward()
    assert said_here.dtype == dtype
    assert x.grad is not None
    assert share.grad is not None
    assert shared.weight.grad is not None
    pairs = [(said_here, said.chunk(2)[gathering.rank()]), (share.grad, x.grad.chunk(2)[gathering.rank()])]
    pairs += [(gathering.total(shared.weight.grad), one.weight.grad), (shared.running_var, one.running_var)]
    for found, wanted in pairs:
        torch.testing.assert_close(found.float(), wanted, rtol=within, atol=3 * within)


@pytest.mark.slow
def test_two_processes_equal_one_at_equal_global_batch(tmp_path: Path) -> None:
    assert two_ranks(as_two, str(tmp_path)) == [0, 0]
    for mixture in COVER:
        alone = without_dropout(tiny_recipe(mixture).task)
        pretrain(alone, TinyBatches(mixture), steps=3, optim=descent(mixture), fabric=make_fabric(device="cpu"))
        one = alone.state_dict()
        # Batch norm of maps that lie channels last rounds by the order of examples, and the head's makes it large.
        atol = {"audio": 1e-3, "volume": 1e-3}.get(kind_and_tasks(mixture)[0], 2e-5)
        for name, value in load_file(tmp_path / f"{mixture}.safetensors").items():
            torch.testing.assert_close(
                value, one[name], rtol=2e-4, atol=atol, msg=lambda m, n=f"{mixture} {name}": f"{n}: {m}"
            )


class Poisoned(Task):
    """A linear model whose loss, or whose gradient alone, stops being a number at one step."""

    def __init__(self, step: int, where: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.at, self.where, self.seen = step, where, 0

    @property
    def exported(self) -> Mapping[str, object]:  # type: ignore[override]
        return {}

    def forward(self, batch: Batch) -> Output:
        loss = (self.weight * batch["image"].float().mean()).square().mean()
        if self.seen == self.at:
            none = self.weight - self.weight.detach()  # the root of |0| is 0, and its slope no number
            loss = loss * float("nan") if self.where == "loss" else loss + none.abs().sqrt().sum()
        self.seen += 1
        return Output(loss, {}, {})

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {}


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_stops_before_the_update(where: str, tmp_path: Path) -> None:
    def run(task: Task, steps: int) -> None:
        pretrain(task, TinyBatches(), steps=steps, optim=Optim(), fabric=make_fabric(device="cpu"), folder=tmp_path)

    task = Poisoned(3, where)
    kept = []
    before = torch.ones(4)

    def remember(module: nn.Module, inputs: object) -> None:
        kept.append(task.weight.detach().clone())

    task.register_forward_pre_hook(remember)
    with pytest.raises(NonFinite, match=f"the {where} became non-finite at step 3 on rank 0") as failed:
        run(task, 9)
    assert failed.value.rows == TinyBatches().batch(3)["index"].tolist()
    assert torch.equal(task.weight.detach(), kept[-1])
    assert not torch.equal(kept[-1], before)
    assert isinstance(failed.value, RunFailed)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    train("rotation", tmp_path)
    with pytest.raises(UserError, match="made with steps 12, not 13"):
        train("rotation", tmp_path, steps=13)
    with pytest.raises(UserError, match="made with seed 0, not 1"):
        train("rotation", tmp_path, seed=1)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = train("rotation", tmp_path)
    again = train("rotation", tmp_path)
    assert same(first.task, again.task)
    assert [row["step"] for row in again.history] == [row["step"] for row in first.history]


def test_a_probe_does_not_change_the_run() -> None:
    def nosy(task: Task) -> dict[str, float]:
        assert not task.training
        torch.rand(3)
        return {"probe": 0.5}

    watched, alone = train("simclr", probe=nosy, probes=4), train("simclr")
    assert same(watched.task, alone.task)
    assert sum("probe" in row for row in watched.history) >= 4


def test_timing_leaves_the_task_as_it_was() -> None:
    plan = tiny_recipe("simclr")
    before = {name: value.clone() for name, value in plan.task.state_dict().items()}
    spent = seconds_per_step(plan.task, TinyBatches(), optim=plan.optim, fabric=make_fabric(device="cpu"), steps=8)
    assert 0 < spent < 5
    assert all(torch.equal(value, before[name]) for name, value in plan.task.state_dict().items())


def test_a_budget_below_one_step_is_refused() -> None:
    with pytest.raises(UserError, match="too small for one step"):
        train("simclr", steps=0)


def test_a_cut_off_line_of_metrics_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(json.dumps({"task": "task", "step": 1, "loss": 0.5, "seconds": 1.0}) + '\n{"task": "ta')
    assert [row["step"] for row in read_history(file)] == [1]
