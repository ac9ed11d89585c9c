"""Losses of pretext tasks against loops that follow the papers' equations, and what they remember between steps."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tacit.core.errors import UserError
from tacit.core.nn import to_float
from tacit.core.types import Batch
from tacit.encoders import build_encoder
from tacit.modalities import modality_named
from tacit.modalities.image.baselines import patches
from tacit.modalities.image.spec import ImageSpec
from tacit.tasks import parse_mixture
from tacit.tasks.barlow import BarlowTwins
from tacit.tasks.base import of_one_group
from tacit.tasks.colour import Colourisation
from tacit.tasks.jigsaw import Jigsaw
from tacit.tasks.latent import LatentPrediction
from tacit.tasks.mocov3 import MoCoV3
from tacit.tasks.nnclr import NNCLR
from tacit.tasks.sigreg import SIGReg
from tacit.tasks.simsiam import SimSiam
from tacit.tasks.swav import SwAV
from tacit.tasks.tsdae import TSDAE
from tests.tiny import TinyBatches, tiny_recipe

N, D = 6, 5


@pytest.fixture(scope="module")
def batch() -> Batch:
    return TinyBatches(batch_size=16).batch(0)


@pytest.fixture
def z() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(N, 2, D, dtype=torch.float64)


def cross_entropy(logits: list[float], k: int) -> float:
    return math.log(sum(math.exp(x) for x in logits)) - logits[k]


@torch.no_grad()
def test_barlow(z: Tensor) -> None:
    task = tiny_recipe("barlow").task
    assert isinstance(task, BarlowTwins)
    x = z.numpy()
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    total = 0.0
    for i, j in itertools.product(range(D), repeat=2):
        c = sum(x[n, 0, i] * x[n, 1, j] for n in range(N)) / N
        total += (1 - c) ** 2 if i == j else 5e-3 * c**2
    assert float(task.compared(z).loss) == pytest.approx(total / D, rel=1e-9)


@torch.no_grad()
def test_simsiam(batch: Batch) -> None:
    task = tiny_recipe("simsiam").task.eval()
    assert isinstance(task, SimSiam)
    projected = [task.projector(task.encoder(task.views(batch, view)).pooled) for view in (0, 1)]
    predicted = [task.predictor(of) for of in projected]
    total = 0.0
    for example, view in itertools.product(range(16), (0, 1)):
        p, w = predicted[view][example], projected[1 - view][example]
        total -= float(p @ w / (p.norm() * w.norm())) / 2
    assert float(task(batch).loss) == pytest.approx(total / 16, rel=1e-4)


def test_no_gradient_reaches_what_is_predicted(batch: Batch) -> None:
    """SimSiam's projector learns through predictions alone: with them cut off, its gradient is none."""
    task = tiny_recipe("simsiam").task
    assert isinstance(task, SimSiam)
    task.predictor.register_forward_hook(lambda module, inputs, output: output.detach().requires_grad_())
    task(batch).loss.backward()
    assert all(parameter.grad is None for parameter in task.projector.parameters())


@torch.no_grad()
def test_mocov3(z: Tensor) -> None:
    task = tiny_recipe("mocov3").task
    assert isinstance(task, MoCoV3)
    keys = torch.randn_like(z)
    q, k = normalize(z, dim=2), normalize(keys, dim=2)
    total, t = 0.0, task.temperature
    for view, i in itertools.product((0, 1), range(N)):
        total += 2 * t * cross_entropy([float(q[i, view] @ k[j, 1 - view]) / t for j in range(N)], i)
    assert float(task.compare(z, keys).loss) == pytest.approx(total / N, rel=1e-9)


@torch.no_grad()
def test_nnclr(z: Tensor) -> None:
    plain = tiny_recipe("nnclr").task
    assert isinstance(plain, NNCLR)
    task = NNCLR(plain.encoder, plain.views, hidden=8, out=D, queue=10).double()
    said = torch.randn_like(z)
    own, p = normalize(z, dim=2), normalize(said, dim=2)
    total = 0.0
    for view, i in itertools.product((0, 1), range(N)):
        near = max(task.remembered, key=lambda of: float(of @ own[i, view]))
        total += cross_entropy([float(near @ p[j, 1 - view]) / task.temperature for j in range(N)], i) / 2
    out = task.compare(z, said)
    assert float(out.loss) == pytest.approx(total / N, rel=1e-9)
    before = task.remembered.clone()
    task.after_step(out.carry)
    task.after_step({"projected": own[:, 1]})
    assert torch.equal(task.remembered, torch.cat([own[4:, 1], own[2:, 0], own[:4, 1]]))  # the oldest made room
    assert not torch.equal(before, task.remembered)
    assert int(task.place) == 2


@torch.no_grad()
@pytest.mark.parametrize("mixture", ["mocov3", "nnclr"])
def test_examples_of_one_group_are_no_negatives(mixture: str, z: Tensor) -> None:
    task = tiny_recipe(mixture).task
    assert isinstance(task, MoCoV3 | NNCLR)
    one, other = (torch.randn(N, 2, task.predictor[-1].out_features) for _ in range(2))
    spared = of_one_group({"group": torch.tensor([0, 1, 2, 0, 4, 5])})
    assert spared is not None
    assert spared.nonzero().tolist() == [[0, 3], [3, 0]]
    pairs = torch.tensor([0, 3])  # two examples of one group alone leave no negative at all
    assert float(task.compare(one[pairs], other[pairs], spared[pairs][:, pairs]).loss) == 0.0
    assert float(task.compare(one, other, spared).loss) < float(task.compare(one, other).loss)


@torch.no_grad()
def test_swav(z: Tensor) -> None:
    task = tiny_recipe("swav").task
    assert isinstance(task, SwAV)
    products = normalize(z, dim=2)  # in [-1, 1]
    codes = []
    for view in (0, 1):
        q = np.exp(products[:, view].numpy() / 0.05)
        for _ in range(3):
            q = q / q.sum(0)
            q = q / q.sum(1, keepdims=True)
        codes.append(q)
    total = 0.0
    for view, i, k in itertools.product((0, 1), range(N), range(D)):
        total += codes[1 - view][i, k] * cross_entropy((products[i, view] / 0.1).tolist(), k) / (2 * N)
    assert float(task.compared(products).loss) == pytest.approx(total, rel=1e-6)


@torch.no_grad()
def test_sigreg_is_small_for_a_gaussian_alone() -> None:
    task = tiny_recipe("sigreg").task
    assert isinstance(task, SIGReg)
    torch.manual_seed(0)
    normal = torch.randn(512, 2, 16)
    assert 0.5 < float(task.normality(normal)) < 2  # it has mean 1.06
    for other in (0 * normal, 2 * normal, normal + 1, normal[:, :, :1].expand(-1, -1, 16)):
        assert float(task.normality(other)) > 5


@torch.no_grad()
def test_sigreg() -> None:
    task = tiny_recipe("sigreg").task
    assert isinstance(task, SIGReg)
    torch.manual_seed(0)
    z = torch.randn(N, 3, 4)
    directions = task._directions(z).numpy()
    assert directions.shape == (4, task.directions)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1, rtol=1e-5)
    t = np.linspace(-3, 3, 33)
    statistic = 0.0
    for view in range(3):
        waves = np.exp(1j * (z[:, view].numpy() @ directions)[..., None] * t).mean(0)  # [A T]
        distance = np.abs(waves - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)
        statistic += N * np.trapezoid(distance, t).mean() / 3
    centre = z[:, :2].mean(1)
    apart = np.mean([float((z[n, v] - centre[n]).square().mean()) for n in range(N) for v in range(3)])
    assert float(task.compared(z).loss) == pytest.approx(0.95 * apart + 0.05 * statistic, rel=1e-4)
    task.progress.fill_(0.5)
    assert not np.allclose(task._directions(z).numpy(), directions)  # anew at every step


@torch.no_grad()
@pytest.mark.parametrize(("mixture", "encoder"), [("data2vec", "convnet"), ("ijepa", "vit_tiny")])
def test_latents_are_the_teachers_at_hidden_tokens(mixture: str, encoder: str, batch: Batch) -> None:
    task = tiny_recipe(mixture, encoder=encoder).task.eval()
    assert isinstance(task, LatentPrediction)
    assert task.masked.drop == (mixture == "ijepa")
    for parameter in task.teacher.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    seen = task.masked.views(batch, 0)
    mask = task.masked.masks(seen, task.progress)
    states, said = task.teacher["encoder"](seen).tokens, task.masked.predict(seen, mask)
    losses = []
    for example, token in mask.nonzero().tolist():
        state = states[example, token]
        wanted = (state - state.mean()) / (state.var(unbiased=False) + 1e-5).sqrt()
        apart = (said[example, token] - wanted).abs()
        losses.append(float(torch.where(apart < 1, apart.square() / 2, apart - 0.5).mean()))
    assert float(task(batch).loss) == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_blocks_need_an_encoder_that_leaves_tokens_out() -> None:
    with pytest.raises(UserError, match="convnet cannot leave parts out, as 'ijepa' must; choose --encoder vit_tiny"):
        tiny_recipe("ijepa", encoder="convnet")


@torch.no_grad()
def test_tsdae_knows_the_text_by_one_vector_alone() -> None:
    task, batch = tiny_recipe("text:tsdae").task.eval(), TinyBatches("text:tsdae", 8).batch(0)
    assert isinstance(task, TSDAE)
    seen, noisy = task.whole(batch, 0), task.noisy(batch, 0)
    assert int(noisy["valid"].sum()) < 0.7 * int(seen["valid"].sum())
    pooled = task.encoder(noisy).pooled
    losses = []
    for row, n in enumerate(seen["valid"].sum(1).tolist()):
        for place in range(1, n):
            state = task.rebuild(pooled[row : row + 1], seen["tokens"][row : row + 1, :place])[0, -1]
            logits = task.embedding.weight @ state
            losses.append(-float(logits.log_softmax(0)[seen["tokens"][row, place]]))
    assert float(task(batch).loss) == pytest.approx(sum(losses) / len(losses), rel=1e-4)


@torch.no_grad()
def test_jigsaw_puts_pieces_in_the_named_order(batch: Batch) -> None:
    task = tiny_recipe("jigsaw").task.eval()
    assert isinstance(task, Jigsaw)
    corners = torch.zeros(2, 1, 16, 16)
    for place, (row, column) in enumerate(itertools.product((0, 8), repeat=2)):
        corners[:, :, row : row + 8, column : column + 8] = (place + 1) / 4
    order = torch.tensor([[2, 0, 3, 1], [0, 1, 2, 3]])
    put = task.pieces.put({"image": corners, "key": batch["key"][:2]}, order)["image"]
    assert torch.equal(put[0, 0, ::8, ::8], torch.tensor([[3 / 4, 1 / 4], [1.0, 2 / 4]]))
    assert torch.equal(put[1], corners[1])
    puzzle, which = task.puzzle(batch)
    assert sorted(map(tuple, task.orders.tolist())) == sorted(itertools.permutations(range(4)))
    logits = task.head(task.encoder(puzzle).pooled)
    total = sum(cross_entropy(row.tolist(), k) for row, k in zip(logits, which.tolist(), strict=True))
    assert float(task(batch).loss) == pytest.approx(total / 16, rel=1e-4)


def test_colours_are_hidden_and_predicted() -> None:
    spec = ImageSpec(size=8, channels=3, mean=(0.3,) * 3, std=(0.4,) * 3)
    encoder = build_encoder("convnet", spec, width=16)
    task = modality_named("image").recipe(parse_mixture("colour"), encoder, examples=64).task.eval()
    assert isinstance(task, Colourisation)
    image = torch.rand(4, 3, 8, 8)
    batch = {"image": image, "key": torch.arange(4)}
    with torch.no_grad():
        seen = task.views(batch, 0)
        shown = to_float(task.colours.without(seen)["image"])
        assert torch.equal(shown[:, 0], shown[:, 1])
        torch.testing.assert_close(
            shown[:, 0], torch.einsum("c,bchw->bhw", torch.tensor([0.299, 0.587, 0.114]), seen["image"])
        )
        said = task.head(task.encoder(task.colours.without(seen)).tokens)
        wanted = patches(seen["image"] - shown, encoder.stride)
        assert float(task(batch).loss) == pytest.approx(float((said - wanted).square().mean()), rel=1e-4)
    assert task.vain({**batch, "image": shown}) == "the images have no colours"
    assert task.vain(batch) == ""
    with pytest.raises(UserError, match="needs images in colour, and these have 1 channels"):
        tiny_recipe("colour")
