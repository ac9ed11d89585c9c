"""A contract that every task keeps, and each loss against a naive oracle."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import tacit
from tacit.core import keys
from tacit.core.errors import UserError
from tacit.core.nn import to_float
from tacit.core.types import Batch
from tacit.experiment.tasks import tasks_of
from tacit.modalities import MODALITIES
from tacit.tasks import TASKS, needs, parse_mixture, task_class
from tacit.tasks.byol import BYOL
from tacit.tasks.clip import Clip
from tacit.tasks.ingredients import NAMES, Target
from tacit.tasks.masked import Masked
from tacit.tasks.mixture import Sum
from tacit.tasks.next import Next
from tacit.tasks.rotation import Rotation
from tacit.tasks.siglip import SigLIP
from tacit.tasks.simclr import SimCLR
from tacit.tasks.vicreg import VICReg
from tacit.training.engine import make_fabric
from tacit.training.loop import pretrain
from tests import narrow
from tests.tiny import (
    AUDIO_SPEC,
    MIXTURES,
    SERIES_SPEC,
    TinyBatches,
    learning,
    tiny_audio_encoder,
    tiny_encoder,
    tiny_recipe,
    without_dropout,
)

# These learn little by little, so that a fall shows later than in the others; one shows none in a narrow model.
SLOW = dict.fromkeys(["audio:vicreg", "audio:bestrq", "audio:wav2vec2", "items:simcse"], 24)
SLOW |= dict.fromkeys(["text:masked", "audio:simclr", "audio:masked", "audio:data2vec", "items:masked"], 48)
WIDE = "audio:bestrq"


@pytest.fixture(scope="module")
def batch() -> Batch:
    return TinyBatches(batch_size=16).batch(0)


@pytest.mark.parametrize("mixture", learning())
def test_the_loss_falls(mixture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if mixture == WIDE:
        narrow.with_usual_sizes(monkeypatch)
    batch_size, steps = (64, SLOW[mixture]) if mixture in SLOW else (32, 18)
    plan = tiny_recipe(mixture, batch_size=batch_size)
    source, fabric = TinyBatches(mixture, batch_size), make_fabric(device="cpu")
    run = pretrain(plan.task, source, steps=steps, optim=plan.optim, fabric=fabric, rows=steps)
    losses = [float(row["loss"]) for row in run.history]
    assert sum(losses[-5:]) < sum(losses[:5]) - 0.03 * abs(sum(losses[:5]))


@pytest.mark.parametrize("mixture", MIXTURES)
def test_a_task_keeps_its_contract(mixture: str) -> None:
    task, batch = without_dropout(tiny_recipe(mixture).task), TinyBatches(mixture, 16).batch(0)
    encoder = task.exported["encoder"]
    assert isinstance(encoder, torch.nn.Module)
    assert {id(p) for p in encoder.parameters()} <= {id(p) for p in task.parameters()}
    assert task.vain(batch) == ""
    out, again = task(batch), task(batch)  # the loss is a function of key and weights
    assert torch.equal(out.loss, again.loss)
    other = task({**batch, "key": keys.split(batch["key"], "other")})
    if mixture not in ("rotation", "text:simcse", "audio:next"):  # whose views of what is tiny or short draw nothing
        assert not torch.equal(out.loss, other.loss)
    assert all(not value.requires_grad and value.ndim == 0 for value in out.metrics.values())
    assert all(not value.requires_grad and len(value) == 16 for value in out.carry.values())
    out.loss.backward()
    missing = [name for name, p in task.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    with torch.no_grad():
        pictures = task.eval().preview(batch)
    assert pictures
    for name, picture in pictures.items():
        if "text.tokens" in batch:  # of pairs each side in its own form
            assert len(picture) == len(batch["index"])
            assert picture.dtype == torch.int64 if name.endswith("text") else picture.is_floating_point()
            continue
        if "tokens" in batch:
            assert (len(picture), picture.dtype) == (len(batch["tokens"]), torch.int64)
        elif "audio" in batch:  # log-mel frames
            assert (len(picture), picture.shape[2]) == (len(batch["audio"]), AUDIO_SPEC.mels)
        elif "series" in batch:
            assert (len(picture), picture.shape[2]) == (len(batch["series"]), SERIES_SPEC.channels)
        else:
            assert picture.shape == batch["image"].shape
            assert float(picture.min()) >= 0
            assert float(picture.max()) <= 1


def test_every_task_of_images_is_trained_by_the_command(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    for name in tasks_of("image"):
        tacit.pretrain(
            images,
            task=name,
            budget="1steps",
            batch_size=8,
            out=str(tmp_path / name),
            cache=str(tmp_path),
            device="cpu",
        )
        assert (tmp_path / name / "encoder").is_dir()


def test_two_views_differ(batch: Batch) -> None:
    task = tiny_recipe("simclr").task
    first, second = task.preview(batch).values()
    assert not torch.equal(first, second)


@torch.no_grad()
def test_simclr_equals_the_double_loop(batch: Batch) -> None:
    torch.manual_seed(0)
    z = normalize(torch.randn(6, 2, 5), dim=2)
    task = tiny_recipe("simclr").task
    assert isinstance(task, SimCLR)
    views = [z[example, view] for example in range(6) for view in (0, 1)]
    total = 0.0
    for i, anchor in enumerate(views):
        partner = i + 1 if i % 2 == 0 else i - 1
        others = sum(math.exp(float(anchor @ other) / task.temperature) for k, other in enumerate(views) if k != i)
        total -= math.log(math.exp(float(anchor @ views[partner]) / task.temperature) / others)
    assert float(task.compared(z).loss) == pytest.approx(total / len(views), rel=1e-5)


@torch.no_grad()
def test_vicreg_equals_the_loops_over_features() -> None:
    torch.manual_seed(0)
    z = 0.8 * torch.randn(6, 2, 5, dtype=torch.float64)
    task = tiny_recipe("vicreg").task
    assert isinstance(task, VICReg)
    n, _, d = z.shape
    total = 25 * sum(float((row[0] - row[1]).square().sum()) for row in z) / (n * d)
    for view in (0, 1):
        x = [[float(z[row, view, j]) for row in range(n)] for j in range(d)]
        mean = [sum(values) / n for values in x]
        for i in range(d):
            for j in range(d):
                both = sum((x[i][row] - mean[i]) * (x[j][row] - mean[j]) for row in range(n)) / (n - 1)
                total += 25 * max(0.0, 1 - math.sqrt(both + 1e-4)) / d if i == j else both**2 / d
    assert float(task.compared(z).loss) == pytest.approx(total, rel=1e-9)


@torch.no_grad()
def test_byol_equals_the_loop_over_views(batch: Batch) -> None:
    task = tiny_recipe("byol").task.eval()
    assert isinstance(task, BYOL)
    for parameter in task.teacher.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    views = [task.views(batch, view) for view in (0, 1)]
    told = [task.predictor(task.head(task.encoder(view).pooled)) for view in views]
    wanted = [task.teacher["head"](task.teacher["encoder"](view).pooled) for view in views]
    total = 0.0
    for example in range(len(batch["key"])):
        for view in (0, 1):
            q, z = told[view][example], wanted[1 - view][example]
            total += float((q / q.norm() - z / z.norm()).square().sum())
    out = task(batch)
    assert float(out.loss) == pytest.approx(total / len(batch["key"]), rel=1e-4)
    assert 0 < float(out.metrics["spread"]) < 1.1


@pytest.mark.parametrize("name", ["clip", "siglip"])
@torch.no_grad()
def test_losses_of_pairs_equal_the_double_loop(name: str) -> None:
    task = tiny_recipe(f"pair:{name}").task
    assert isinstance(task, Clip | SigLIP)
    batch = TinyBatches(f"pair:{name}", 8).batch(0)
    one, other = (task.encoder.embed(side, view(batch, 0)) for side, view in task.sides.items())
    scale, total = float(task.log_scale.exp()), 0.0
    logit = [[scale * float(x @ y) for y in other] for x in one]
    for i in range(8):
        if isinstance(task, SigLIP):
            signed = [(logit[i][j] + float(task.bias)) * (1 if i == j else -1) for j in range(8)]
            total += sum(math.log1p(math.exp(-value)) for value in signed)
        else:
            ways = [[logit[i][j] for j in range(8)], [logit[j][i] for j in range(8)]]
            total += sum(math.log(sum(map(math.exp, way))) - logit[i][i] for way in ways) / 2
    assert float(task(batch).loss) == pytest.approx(total / 8, rel=1e-4)


def test_a_teacher_is_the_moving_average() -> None:
    """Weights by the cosine of the progress, counts of batch norm as the student has them; no gradient, ever."""
    task, plan = tiny_recipe("audio:byol").task, tiny_recipe("audio:byol")
    assert isinstance(task, BYOL)
    assert isinstance(plan.task, BYOL)
    students = {"encoder": plan.task.encoder, "head": plan.task.head}
    assert not any(parameter.requires_grad for parameter in task.teacher.parameters())
    expected = {name: value.clone() for name, value in task.teacher.named_parameters()}
    for progress in (0.0, 0.3, 0.9):
        with torch.no_grad():
            for parameter in plan.task.parameters():
                parameter.add_(torch.randn_like(parameter))
        keep = 1 - (1 - 0.99) * (math.cos(math.pi * progress) + 1) / 2
        task.teacher.follow(students, torch.tensor(progress))
        for name, value in torch.nn.ModuleDict(students).named_parameters():
            expected[name] = keep * expected[name] + (1 - keep) * value
    for name, value in task.teacher.named_parameters():
        torch.testing.assert_close(value, expected[name])


@torch.no_grad()
def test_rotation_equals_the_loop_over_turns(batch: Batch) -> None:
    task = tiny_recipe("rotation").task.eval()
    assert isinstance(task, Rotation)
    seen = task.views(batch, 0)["image"]
    total = 0.0
    for image in seen:
        for turn in range(4):
            turned = image
            for _ in range(turn):
                turned = turned.transpose(1, 2).flip(1)  # a quarter turn against the clock
            logits = task.head(task.encoder({"image": turned[None]}).pooled)[0]
            total -= math.log(float(logits.softmax(0)[turn]))
    assert float(task(batch).loss) == pytest.approx(total / (4 * len(seen)), rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("encoder", ["convnet", "vit_tiny"])
def test_masked_equals_the_loop_over_hidden_places(encoder: str, batch: Batch) -> None:
    task = tiny_recipe("masked", encoder=encoder).task.eval()
    assert isinstance(task, Masked)
    assert task.drop == (encoder == "vit_tiny")
    seen = task.views(batch, 0)
    mask = task.masks(seen, task.progress)
    answer = task.predict(seen, mask)
    patch = task.encoder.stride
    total, count = 0.0, 0
    for image, hidden, said in zip(to_float(seen["image"]), mask, answer, strict=True):
        for place in hidden.nonzero()[:, 0].tolist():
            row, column = divmod(place, 8 // patch)
            square = image[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            total += float((square.permute(1, 2, 0).flatten() - said[place]).square().sum())
            count += square.numel()
    assert float(task(batch).loss) == pytest.approx(total / count, rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("encoder", ["convnet", "vit_tiny"])
def test_masked_does_not_see_what_is_hidden(encoder: str, batch: Batch) -> None:
    task = tiny_recipe("masked", encoder=encoder).task.eval()
    assert isinstance(task, Masked)
    seen = task.views(batch, 0)
    mask = task.masks(seen, task.progress)
    side, patch = task.encoder.grid[0], task.encoder.stride
    squares = mask.view(-1, 1, side, side).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    changed = {**seen, "image": torch.where(squares, 1 - seen["image"], seen["image"])}
    torch.testing.assert_close(task.predict(changed, mask), task.predict(seen, mask))


@torch.no_grad()
def test_masked_takes_integer_targets(batch: Batch) -> None:
    """The same file serves identities: here each place's own number modulo 3."""
    encoder = tiny_encoder()
    plain = tiny_recipe("masked").task
    assert isinstance(plain, Masked)
    places = math.prod(encoder.grid)
    target = Target(lambda b: torch.arange(places).expand(len(b["key"]), -1) % 3, 3)
    task = Masked(encoder, plain.views, plain.masks, target)
    out = task.eval()(batch)
    seen = task.views(batch, 0)
    mask = task.masks(seen, task.progress)
    chances = task.predict(seen, mask).softmax(2)
    logs = [-math.log(float(chances[b, n, n % 3])) for b, n in mask.nonzero().tolist()]
    assert float(out.loss) == pytest.approx(sum(logs) / len(logs), rel=1e-5)
    assert "accuracy" in out.metrics
    shares = [sum(n % 3 == k for _, n in mask.nonzero().tolist()) / len(logs) for k in range(3)]
    variety = math.exp(-sum(share * math.log(share) for share in shares))
    assert float(out.metrics["variety"]) == pytest.approx(variety, rel=1e-5)


def test_an_encoder_that_cannot_mask_is_named() -> None:
    class Plain(torch.nn.Module):
        dim, n_depths, grid = 4, 0, (2, 2)

    plain = tiny_recipe("masked").task
    assert isinstance(plain, Masked)
    for drop, lacks in ((True, "leave tokens out"), (False, "hide tokens")):
        with pytest.raises(UserError, match=f"Plain cannot {lacks}"):
            Masked(Plain(), plain.views, plain.masks, Target(plain.target, 4), drop=drop)  # type: ignore[arg-type]


@torch.no_grad()
@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("integer", [False, True])
def test_next_equals_the_loop_over_tokens(integer: bool, ahead: int) -> None:
    plain = tiny_recipe("audio:next").task
    assert isinstance(plain, Next)
    encoder, views, frames = plain.encoder, plain.views, plain.target

    def target(batch: Batch) -> torch.Tensor:
        return (
            (frames(batch)[..., 0] > 0).long() + torch.arange(frames(batch).shape[1]) % 2 if integer else frames(batch)
        )

    width = 3 if integer else 4 * AUDIO_SPEC.mels
    task, batch = (
        Next(encoder, views, Target(target, width), ahead=ahead).eval(),
        TinyBatches("audio:next", 16).batch(0),
    )
    seen = task.views(batch, 0)
    features, truth = task.encoder(seen), target(seen)
    assert features.valid is not None
    losses = []
    for row, n in enumerate(features.valid.sum(1).tolist()):
        for token in range(n - ahead):
            said, wanted = task.answer(features.tokens[row, token]), truth[row, token + ahead]
            losses.append(-float(said.log_softmax(0)[wanted]) if integer else float((said - wanted).abs().mean()))
    out = task(batch)
    assert float(out.loss) == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert ("accuracy" in out.metrics) == integer


def test_next_takes_a_loss_of_its_own() -> None:
    plain, batch = tiny_recipe("audio:next").task, TinyBatches("audio:next", 16).batch(0)
    assert isinstance(plain, Next)
    given = []

    def loss(states: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        given.append((states.shape, truth.shape))
        return (states[:, 0] - truth[:, 0]).square()

    task = Next(plain.encoder, plain.views, Target(plain.target, 0, loss=loss))
    assert [name for name, _ in task.named_parameters() if not name.startswith("encoder.")] == []
    assert float(task(batch).loss.detach()) > 0
    (states, truth), width = given[0], 4 * AUDIO_SPEC.mels
    assert states == (truth[0], plain.encoder.dim)
    assert truth[1] == width


@pytest.mark.parametrize("own", [False, True])
def test_where_nothing_comes_next_the_loss_is_0(own: bool) -> None:
    plain, batch = tiny_recipe("audio:next").task, TinyBatches("audio:next", 4).batch(0)
    assert isinstance(plain, Next)
    loss = (lambda states, truth: states.sum(1)) if own else None
    task = Next(plain.encoder, plain.views, Target(plain.target, 4 * AUDIO_SPEC.mels, loss=loss))
    out = task({**batch, "length": torch.full_like(batch["length"], 60)})
    out.loss.backward()
    assert float(out.loss.detach()) == 0.0


def test_an_encoder_that_looks_ahead_is_named() -> None:
    plain, nano = tiny_recipe("audio:next").task, tiny_audio_encoder("audio_nano")
    assert isinstance(plain, Next)
    with pytest.raises(UserError, match="audio_nano sees what comes after a token, which the task 'next' must not"):
        Next(nano, plain.views, Target(plain.target, 4))


@torch.no_grad()
def test_a_sum_is_the_weighted_sum(batch: Batch) -> None:
    task = tiny_recipe("simclr+0.4*rotation").task
    assert isinstance(task, Sum)
    out = task(batch)
    expected = out.metrics["simclr/loss"] + 0.4 * out.metrics["rotation/loss"]
    assert float(out.loss.detach()) == pytest.approx(float(expected), rel=1e-6)


def test_the_table_is_complete() -> None:
    for name, entry in TASKS.items():
        assert task_class(name).__name__
        assert needs(name) <= NAMES
        assert any(name in tasks_of(modality) for modality in MODALITIES)
        assert entry.paper


@pytest.mark.parametrize(
    ("text", "message"), [("simcrl", "did you mean 'simclr'"), ("x*simclr", "weight"), ("", "no pretext")]
)
def test_unreadable_mixtures_name_the_remedy(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_mixture(text)
