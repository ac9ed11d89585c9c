"""The encoder of samples keeps the contracts of encoders of sound; its task equals loops, and its alarm rings."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tacit.core import keys
from tacit.core.errors import UserError
from tacit.core.types import Encoder, Latent, Masking
from tacit.encoders import fresh_twin, load_encoder, save_encoder
from tacit.evaluation.spectrum import idle_codes
from tacit.experiment.validate import codes_used
from tacit.formats.write import export
from tacit.modalities.audio.wav2vec2 import Wav2Vec2 as Wav2Vec2Encoder
from tacit.modalities.audio.wav2vec2 import convolutions
from tacit.tasks.ingredients import Books
from tacit.tasks.wav2vec2 import Quantiser
from tacit.tasks.wav2vec2 import Wav2Vec2 as Wav2Vec2Task
from tests import recordings as made
from tests.recordings import alone, recordings
from tests.tiny import TinyBatches, tiny_audio_encoder, tiny_recipe

STEP = 160  # samples of a token
WINDOW = 4000  # samples


@pytest.fixture(scope="module")
def encoder() -> Wav2Vec2Encoder:
    built = made.encoder("wav2vec2_nano")
    assert isinstance(built, Wav2Vec2Encoder)
    return built


def assert_same(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5 * max(1.0, float(wanted.detach().abs().max())))


@torch.inference_mode()
def test_shapes(encoder: Wav2Vec2Encoder) -> None:
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder, Masking)
    assert isinstance(encoder, Latent)
    features = encoder(recordings(3200, 1, 1601), depths=range(encoder.n_depths))
    assert features.tokens.shape == (3, 20, encoder.dim)
    assert features.valid is not None
    assert features.valid.sum(1).tolist() == [20, 1, 11]
    assert_same(features.depths[-1], features.pooled)
    for row in range(3):
        assert_same(features.pooled[row], features.tokens[row][features.valid[row]].mean(0))


@torch.inference_mode()
def test_padding_and_company_change_nothing(encoder: Wav2Vec2Encoder) -> None:
    """Short ones, a whole window, one sample more, several windows; also what the padding holds."""
    depths = range(encoder.n_depths)
    lengths = (777, WINDOW, WINDOW + 1, 1, 3 * WINDOW - 500, 2 * WINDOW, 3199)
    batch = recordings(*lengths)
    together = encoder(batch, depths=depths)
    for row, length in enumerate(lengths):
        own = encoder(alone(batch, row), depths=depths)
        assert_same(together.pooled[row], own.pooled[0])
        for found, wanted in zip(together.depths, own.depths, strict=True):
            assert_same(found[row], wanted[0])
        n = -(-length // STEP)
        assert_same(together.tokens[row, :n], own.tokens[0, :n])
    short = alone(batch, 0)
    wider = {**short, "audio": nn.functional.pad(short["audio"], (0, 901), value=999)}
    assert_same(encoder(wider).pooled, together.pooled[:1])
    louder = {**short, "audio": short["audio"].float() / 3e4 + 0.2}
    assert_same(encoder(louder).pooled, together.pooled[:1])


@torch.inference_mode()
def test_a_latent_hears_its_own_samples_and_a_few_around(encoder: Wav2Vec2Encoder) -> None:
    batch = recordings(3200)
    latents, valid = encoder.latents(batch)
    assert latents.shape == (1, 20, encoder.latent_dim)
    assert bool(valid.all())
    x, _ = encoder.front(batch["audio"], batch["length"])
    wave = x[:, :, :-1].flatten(1).clone()
    wave[:, 10 * STEP : 11 * STEP] = torch.randn(STEP)
    changed = (encoder._convolved(wave, None) - latents).abs().amax(2)[0] > 1e-5
    assert changed.nonzero()[:, 0].tolist() in ([10], [9, 10, 11])
    assert_same(encoder.together(latents, valid, torch.zeros_like(valid)), encoder(batch).tokens)


@torch.inference_mode()
def test_hidden_latents_are_not_seen(encoder: Wav2Vec2Encoder) -> None:
    batch = recordings(3200, 2000)
    latents, valid = encoder.latents(batch)
    mask = torch.zeros_like(valid)
    mask[0, 3:5] = mask[1, 12] = True
    wanted = encoder.together(latents, valid, mask)
    assert_same(encoder.masked(batch, mask).tokens[valid], wanted[valid])
    assert_same(encoder.masked(batch, torch.zeros_like(mask)).pooled, encoder(batch).pooled)
    assert (wanted - encoder(batch).tokens).abs()[valid].max() > 1e-3
    other = torch.where(mask[:, :, None], torch.randn_like(latents), latents)
    assert_same(encoder.together(other, valid, mask)[valid], wanted[valid])


def test_gradients_reach_every_parameter(encoder: Wav2Vec2Encoder) -> None:
    learner = copy.deepcopy(encoder).train()
    assert not learner.mask_token.requires_grad
    learner.mask_token.requires_grad_(True)
    batch = recordings(3000, 2000)
    mask = torch.zeros(2, 19, dtype=torch.bool)
    mask[:, 1] = True
    learner.masked(batch, mask).tokens.square().mul(torch.rand(learner.dim)).sum().backward()
    missing = [n for n, p in learner.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert missing == []


@torch.inference_mode()
def test_silence_and_extremes_are_finite(encoder: Wav2Vec2Encoder) -> None:
    audio = torch.zeros(3, 2000, dtype=torch.int16)
    audio[1] = 32767
    audio[2, ::2] = -32768
    features = encoder({"audio": audio, "length": torch.tensor([2000, 2000, 1])})
    assert bool(features.tokens.isfinite().all())


@torch.inference_mode()
def test_saved_and_loaded_is_the_same(encoder: Wav2Vec2Encoder, tmp_path: Path) -> None:
    save_encoder(encoder, tmp_path / "run" / "encoder")
    loaded = load_encoder(tmp_path / "run")
    batch = recordings(3000, 9000)
    assert torch.equal(loaded(batch).pooled, encoder(batch).pooled)
    state = encoder.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    twin, same = fresh_twin(encoder, 1).eval(), fresh_twin(encoder, 1).eval()
    assert torch.equal(twin(batch).pooled, same(batch).pooled)
    assert not torch.allclose(twin(batch).pooled, encoder(batch).pooled, atol=1e-3)


def test_convolutions() -> None:
    assert convolutions(320) == ([10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2])  # the paper's, at 16 kHz
    for samples in (80, 160, 441, 442, 512):
        kernels, strides = convolutions(samples)
        assert len(kernels) == len(strides)
        assert np.prod(strides) == samples
        assert all(kernel >= stride for kernel, stride in zip(kernels, strides, strict=True))


def test_frames_alone_are_refused(encoder: Wav2Vec2Encoder) -> None:
    with pytest.raises(UserError, match=r"wav2vec2_nano takes audio \[B S\], not mel, frames"):
        encoder({"mel": torch.zeros(1, 9, 40), "frames": torch.tensor([9])})


@torch.no_grad()
@pytest.mark.parametrize("steps", [0, 3])
def test_the_task_equals_the_loop_over_hidden_places(steps: int) -> None:
    task, batch = made_task(), TinyBatches("audio:wav2vec2", 16).batch(steps)
    assert isinstance(task.encoder, Wav2Vec2Encoder)
    seen = task.views(batch, 0)
    mask = task.masks(seen, task.progress)
    latents, valid = task.encoder.latents(seen)
    told = task.project(task.encoder.together(latents, valid, mask)).double()
    wanted, code, chance = task.quantiser(latents, seen["key"], torch.tensor(task.temperatures[0]))
    others = task.others(mask, seen["key"])
    total, right, count = 0.0, 0, 0
    for b, t in mask.nonzero().tolist():
        drawn = others[b, t].tolist()
        assert all(mask[b, place] for place in drawn)
        assert int(mask[b].sum()) == 1 or t not in drawn
        against = [place for place in drawn if not torch.equal(code[b, place], code[b, t])]
        scores = [float(torch.cosine_similarity(told[b, t], wanted[b, p].double(), 0)) / 0.1 for p in (t, *against)]
        total -= scores[0] - float(torch.tensor(scores, dtype=torch.float64).logsumexp(0))
        right += scores[0] == max(scores)
        count += 1
    mean = chance[mask].double().mean(0)  # [G V]
    used = sum(float(torch.special.entr(book).sum().exp()) for book in mean) / mean.numel()
    out = task(batch)
    assert float(out.loss) == pytest.approx(total / count + 0.1 * (1 - used), rel=1e-4)
    assert float(out.metrics["accuracy"]) == pytest.approx(right / count)
    assert 1 / mean.shape[1] <= float(out.metrics["codes_used"]) <= 1


def made_task() -> Wav2Vec2Task:
    task = tiny_recipe("audio:wav2vec2").task.eval()
    assert isinstance(task, Wav2Vec2Task)
    return task


@torch.no_grad()
def test_negatives_are_drawn_from_all_other_hidden_places() -> None:
    mask = torch.rand(6, 12) < 0.5
    mask[0] = torch.arange(12) == 3
    mask[1] = False
    mask[2] = torch.arange(12) < 2
    others = made_task().others(mask, keys.batch_keys(0, 0, torch.arange(6)))
    assert others.shape == (6, 12, 100)
    assert set(others[0, 3].tolist()) == {3}
    for row in range(2, 6):
        hidden = set(mask[row].nonzero()[:, 0].tolist())
        for place in hidden:
            drawn = others[row, place].tolist()
            assert set(drawn) == hidden - {place}
            assert max(drawn.count(one) for one in drawn) < 3 * 100 / len(set(drawn)) + 10


def test_the_quantiser_passes_gradients_straight_through() -> None:
    torch.manual_seed(0)
    quantiser, key = Quantiser(8, 2, 5, 6), keys.batch_keys(0, 0, torch.arange(4))
    latents = torch.randn(4, 7, 8, requires_grad=True)
    vectors, code, chance = quantiser(latents, key, torch.tensor(0.5))
    for b, n in ((0, 0), (3, 6)):
        side_by_side = torch.cat([quantiser.vectors[book, code[b, n, book]] for book in (0, 1)])
        torch.testing.assert_close(vectors[b, n], quantiser.leave(side_by_side))
    assert chance.shape == (4, 7, 2, 5)
    vectors.square().sum().backward()
    assert latents.grad is not None
    assert bool((latents.grad.abs().sum(2) > 0).all())
    colder = [quantiser(latents, keys.split(key, draw), torch.tensor(0.1))[1] for draw in range(400)]
    share = torch.stack(colder).eq(0).float().mean(0)  # Gumbel's maximum draws by the chances, whatever the temperature
    torch.testing.assert_close(share, chance[..., 0], atol=0.12, rtol=0)


def test_the_alarm_of_a_quantiser_that_collapses() -> None:
    """Where one code is the best of all latents, the task says so, and the diagnosis warns."""
    task, batch = made_task(), TinyBatches("audio:wav2vec2", 16).batch(0)
    healthy = float(task(batch).metrics["codes_used"])
    with torch.no_grad():
        task.quantiser.score.bias[::64] += 1000.0
    collapsed = float(task(batch).metrics["codes_used"])
    assert collapsed == pytest.approx(1 / 64)
    histories = [[{"step": 1, "codes_used": 0.01}, {"step": 2, "codes_used": used}] for used in (healthy, collapsed)]
    assert [list(map(levels, codes_used(history))) for history in histories] == [[[]], [["WARN"]]]
    assert codes_used([{"masked/loss": 1.0, "wav2vec2/codes_used": 0.5}]) == [0.5]


def levels(used: float) -> list[str]:
    return [alarm.level for alarm in idle_codes(used)]


def test_an_encoder_without_latents_is_named() -> None:
    task = made_task()
    with pytest.raises(UserError, match="audio_nano has no latents of samples, which the task 'wav2vec2' needs"):
        Wav2Vec2Task(tiny_audio_encoder("audio_nano"), task.views, task.masks, Books(2, 8))


@pytest.mark.slow
@pytest.mark.usefixtures("shallow")
@torch.inference_mode()
def test_exported(tmp_path: Path) -> None:
    """At few samples a frame, which few convolutions make latents of; opened without Tacit in test_audio_export.py."""
    encoder = made.encoder("wav2vec2_nano", replace(made.SPEC, hop=5, window=50))
    report = export(encoder, "hf", tmp_path / "hf")
    assert report["difference"] < 1e-4
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "FRONT_END.md"} <= set(report["files"])
    assert export(encoder, "onnx", tmp_path / "onnx")["difference"] < 1e-3
    assert "log_mel" not in json.loads((tmp_path / "onnx" / "onnx.json").read_text())
