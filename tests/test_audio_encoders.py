"""Contracts that every encoder of sound keeps, whatever its architecture."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tacit.core.errors import UserError
from tacit.core.types import Causal, Encoder, Masking
from tacit.encoders import build_encoder, fresh_twin, is_own, load_encoder, save_encoder
from tacit.modalities import architectures
from tacit.modalities.audio.encoder import AudioEncoder
from tacit.modalities.audio.logmel import log_mel
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.image.spec import ImageSpec
from tests import recordings as made
from tests.recordings import SPEC, WINDOW, alone, recordings

NAMES = ["audio_convnet", "audio_nano", "audio_causal_nano", "ast_nano"]
HOP = SPEC.hop


@pytest.fixture(scope="module")
def everything() -> dict[str, AudioEncoder]:
    return {name: made.encoder(name) for name in NAMES}


@pytest.fixture(params=NAMES)
def encoder(request: pytest.FixtureRequest, everything: dict[str, AudioEncoder]) -> AudioEncoder:
    return everything[request.param].eval()


def assert_same(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * max(1.0, float(wanted.detach().abs().max())))


def test_every_architecture_of_the_table_is_covered() -> None:
    table = {name: of.where for name, of in architectures().items() if of.modality == "audio"}
    assert set(table.values()) == {table[name] for name in (*NAMES, "wav2vec2_nano")}  # which test_wav2vec2.py covers


@torch.inference_mode()
def test_shapes(encoder: AudioEncoder) -> None:
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder, Masking)
    assert is_own(encoder)
    assert encoder.length == WINDOW
    features = encoder(recordings(3200, 1, 1601), depths=range(encoder.n_depths))
    N = encoder.tokens_of(41)
    assert features.tokens.shape == (3, N, encoder.dim)
    assert features.valid is not None
    assert features.valid.sum(1).tolist() == [encoder.tokens_of(frames) for frames in (40, 1, 21)]
    assert features.grid is None
    assert len(features.depths) == encoder.n_depths >= 3
    assert_same(features.depths[-1], features.pooled)
    for row in range(3):
        assert_same(features.pooled[row], features.tokens[row][features.valid[row]].mean(0))
    assert_same(encoder.tokens_of(torch.tensor([1, encoder.stride, encoder.stride + 1])), torch.tensor([1, 1, 2]))


@torch.inference_mode()
def test_padding_and_company_change_nothing(encoder: AudioEncoder) -> None:
    """Short ones, a whole window, one frame more, several windows; also what the padding holds."""
    depths = range(encoder.n_depths)
    lengths = (777, WINDOW * HOP, WINDOW * HOP + 1, 1, 3 * WINDOW * HOP - 500, 2 * WINDOW * HOP, 3199)
    batch = recordings(*lengths)
    together = encoder(batch, depths=depths)
    for row in range(len(lengths)):
        own = encoder(alone(batch, row), depths=depths)
        assert_same(together.pooled[row], own.pooled[0])
        for found, wanted in zip(together.depths, own.depths, strict=True):
            assert_same(found[row], wanted[0])
        n = encoder.tokens_of(1 + (lengths[row] - 1) // HOP)
        assert_same(together.tokens[row, :n], own.tokens[0, :n])
    short = alone(batch, 0)
    wider = {**short, "audio": nn.functional.pad(short["audio"], (0, 901), value=999)}
    assert_same(encoder(wider).pooled, together.pooled[:1])


@torch.inference_mode()
def test_log_mel_frames_are_taken_as_well(encoder: AudioEncoder) -> None:
    batch = recordings(777, 3000)
    mel, frames = log_mel(batch["audio"], batch["length"], SPEC)
    wanted = encoder(batch).pooled
    assert_same(encoder({"mel": mel, "frames": frames}).pooled, wanted)
    for row in range(2):
        mel[row, frames[row] :] = torch.nan
    mel = nn.functional.pad(mel, (0, 0, 0, 70), value=5.0)  # more than a window, all of it padding
    assert_same(encoder({**batch, "mel": mel, "frames": frames}).pooled, wanted)
    assert not torch.allclose(encoder({"mel": mel + 1, "frames": frames}).pooled, wanted)


@torch.inference_mode()
def test_long_recordings_are_embedded_in_windows(encoder: AudioEncoder) -> None:
    mel, frames = log_mel(*(recordings((5 * WINDOW + 9) * HOP)[name] for name in ("audio", "length")), SPEC)
    whole = encoder({"mel": mel, "frames": frames}, depths=[0])
    parts = mel[:, : int(frames)].split(WINDOW, 1)
    said = [encoder({"mel": part, "frames": torch.tensor([part.shape[1]])}, depths=[0]) for part in parts]
    assert_same(whole.tokens[:, : encoder.tokens_of(int(frames))], torch.cat([part.tokens for part in said], 1))
    weight = torch.tensor([float(part.tokens.shape[1]) for part in said])[:, None] / encoder.tokens_of(int(frames))
    assert_same(whole.pooled[0], (torch.cat([part.pooled for part in said]) * weight).sum(0))
    few = copy.deepcopy(encoder)
    few.at_once = 2
    again = few({"mel": mel, "frames": frames}, depths=[0])
    assert_same(again.tokens, whole.tokens)
    assert_same(again.depths[0], whole.depths[0])


@torch.inference_mode()
def test_hidden_tokens_are_not_seen(encoder: AudioEncoder) -> None:
    encoder = copy.deepcopy(encoder)
    encoder.mask_token.copy_(torch.linspace(-1, 1, SPEC.mels))
    batch = recordings(3000, 2000)
    mel, frames = log_mel(batch["audio"], batch["length"], SPEC)
    N, stride = encoder.tokens_of(mel.shape[1]), encoder.stride
    mask = torch.zeros(2, N, dtype=torch.bool)
    mask[0, 1:3] = mask[1, -1] = True
    mask[1, encoder.tokens_of(int(frames[1])) - 1] = True
    features = encoder.masked(batch, mask)
    assert features.tokens.shape == (2, N, encoder.dim)
    for row in range(2):
        for token in mask[row].nonzero()[:, 0].tolist():
            mel[row, token * stride : (token + 1) * stride] = torch.randn(SPEC.mels)
    other = encoder.masked({"mel": mel, "frames": frames}, mask)
    assert_same(other.tokens[features.valid], features.tokens[features.valid])
    there = (encoder.mask_token * SPEC.std + SPEC.mean).expand(mel.shape)
    hidden = mask.repeat_interleave(stride, 1)[:, : mel.shape[1], None]
    assert_same(encoder({"mel": torch.where(hidden, there, mel), "frames": frames}).pooled, features.pooled)
    assert_same(encoder.masked(batch, torch.zeros_like(mask)).pooled, encoder(batch).pooled)
    assert encoder(batch).valid.equal(features.valid)  # type: ignore[union-attr]


@torch.inference_mode()
def test_hidden_tokens_of_long_recordings(encoder: AudioEncoder) -> None:
    batch = recordings(WINDOW * HOP, 3 * WINDOW * HOP + 700)
    N = encoder.tokens_of(1 + batch["audio"].shape[1] // HOP)
    mask = torch.zeros(2, N, dtype=torch.bool)
    mask[1, 2 * encoder.grid[0] + 1] = True  # in the third window
    features, open_ = encoder.masked(batch, mask), encoder(batch)
    changed = (features.tokens - open_.tokens).abs().amax(2) > 1e-4
    assert not changed[0].any()
    assert not changed[1, : 2 * encoder.grid[0]].any()
    assert changed[1, 2 * encoder.grid[0] + 1]


@torch.inference_mode()
@pytest.mark.parametrize("length", [3000, 2 * WINDOW * HOP + 300])
def test_a_causal_encoder_does_not_look_ahead(everything: dict[str, AudioEncoder], length: int) -> None:
    """Frames behind a token may be anything, up to the first one behind it; a token of it changes with its own."""
    encoder = everything["audio_causal_nano"].eval()
    assert isinstance(encoder, Causal)
    assert encoder.causal
    batch = recordings(length, length // 2)
    mel, frames = log_mel(batch["audio"], batch["length"], SPEC)
    said = encoder({"mel": mel, "frames": frames}).tokens
    for token in range(encoder.tokens_of(length // 2 // HOP) - 1):
        other = mel.clone()
        other[:, (token + 1) * encoder.stride :] = torch.randn(SPEC.mels)
        changed = (encoder({"mel": other, "frames": frames}).tokens - said).abs().amax(2) > 1e-4
        assert not changed[:, : token + 1].any()
        assert changed[:, token + 1].all()


def test_a_task_that_hides_tokens_learns_the_mask_token(encoder: AudioEncoder) -> None:
    encoder = copy.deepcopy(encoder).train()
    assert not encoder.mask_token.requires_grad
    encoder.mask_token.requires_grad_(True)
    batch = recordings(3000, 2000)
    mask = torch.zeros(2, encoder.tokens_of(38), dtype=torch.bool)
    mask[:, 1] = True
    encoder.masked(batch, mask).tokens.square().sum().backward()
    assert no_gradient_of(encoder) == []


def no_gradient_of(encoder: AudioEncoder) -> list[str]:
    def without(parameter: nn.Parameter) -> bool:
        return parameter.grad is None or not bool(parameter.grad.abs().sum() > 0)

    return [name for name, one in encoder.named_parameters() if one.requires_grad and without(one)]


def test_gradients_reach_every_parameter(encoder: AudioEncoder) -> None:
    encoder = copy.deepcopy(encoder).train()
    encoder(recordings(3000, 2000)).tokens.square().mul(torch.rand(encoder.dim)).sum().backward()
    assert no_gradient_of(encoder) == []


@torch.inference_mode()
def test_silence_and_extremes_are_finite(encoder: AudioEncoder) -> None:
    audio = torch.zeros(3, 2000, dtype=torch.int16)
    audio[1] = 32767
    audio[2, ::2] = -32768
    features = encoder({"audio": audio, "length": torch.tensor([2000, 2000, 1])}, depths=range(encoder.n_depths))
    assert all(bool(said.isfinite().all()) for said in (features.tokens, features.pooled, *features.depths))


@torch.inference_mode()
def test_half_precision_says_nearly_the_same(encoder: AudioEncoder) -> None:
    batch = recordings(3000, 2 * WINDOW * HOP, 900)
    wanted = encoder(batch).pooled
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder(batch).pooled
    assert float((found.float() - wanted).norm() / wanted.norm()) < 0.03


@torch.inference_mode()
def test_saved_and_loaded_is_the_same(encoder: AudioEncoder, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    save_encoder(encoder, tmp_path / "run" / "encoder", card={"task": "masked"})
    loaded = load_encoder(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(loaded, AudioEncoder)
    assert not loaded.training
    state = encoder.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    batch = recordings(3000, 9000)
    assert torch.equal(loaded(batch).pooled, encoder(batch).pooled)
    assert (loaded.name, loaded.spec, loaded.source) == (encoder.name, encoder.spec, encoder.source)
    assert (loaded.dim, loaded.n_depths, loaded.options) == (encoder.dim, encoder.n_depths, encoder.options)
    said = json.loads((tmp_path / "run" / "encoder" / "encoder.json").read_text())
    assert said["kind"] == "audio"
    assert (said["spec"]["rate"], said["spec"]["hop"], said["stride"]) == (8000, 80, encoder.stride)


@torch.inference_mode()
def test_a_copy_and_a_fresh_twin(encoder: AudioEncoder) -> None:
    batch = recordings(3000, 900)
    before = torch.get_rng_state()
    twin, same, other = fresh_twin(encoder, 1), fresh_twin(encoder, 1), fresh_twin(encoder, 2)
    assert torch.equal(torch.get_rng_state(), before)
    pooled = [one.eval()(batch).pooled for one in (twin, same, other, encoder)]
    assert torch.equal(pooled[0], pooled[1])
    assert all((pooled[0] - another).abs().max() > 1e-3 for another in pooled[2:])
    assert (twin.spec, twin.dim, twin.options) == (encoder.spec, encoder.dim, encoder.options)
    copied = copy.deepcopy(encoder)
    assert torch.equal(copied(batch).pooled, pooled[3])


def test_prepare(everything: dict[str, AudioEncoder], tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    encoder = everything["audio_convnet"]
    rows = [
        row[:n].numpy() for row, n in zip(*(recordings(2000, 1200)[name] for name in ("audio", "length")), strict=True)
    ]
    soundfile.write(tmp_path / "a.wav", rows[0], 8000, subtype="PCM_16")
    batch = encoder.prepare([tmp_path / "a.wav", rows[1], rows[1][:, None] / 32768], rate=8000)
    assert batch["audio"].dtype == torch.int16
    assert batch["length"].tolist() == [2000, 1200, 1200]
    assert batch["index"].tolist() == [0, 1, 2]
    assert np.array_equal(batch["audio"][0].numpy(), rows[0])
    assert np.array_equal(batch["audio"][1, :1200].numpy(), rows[1])
    assert torch.equal(batch["audio"][2], batch["audio"][1])
    assert not batch["audio"][1, 1200:].any()
    assert torch.equal(encoder.prepare(str(tmp_path / "a.wav"))["audio"], batch["audio"][:1])
    t = np.arange(44_100) / 44_100
    stereo = np.stack([0.8 * np.sin(2 * math.pi * 440 * t), np.zeros(44_100)], 1)
    found = encoder.prepare(stereo, rate=44_100)
    assert found["length"].tolist() == [8000]
    tone = 0.4 * 32768 * np.sin(2 * math.pi * 440 * np.arange(8000) / 8000)
    assert np.abs(found["audio"][0, 200:-200].numpy() - tone[200:-200]).max() < 40


def test_prepare_is_what_the_data_hold(everything: dict[str, AudioEncoder], tmp_path: Path) -> None:
    """Other rates and channels too: the same samples, so the same embeddings."""
    soundfile = pytest.importorskip("soundfile")
    from tacit.dataset import open_dataset

    encoder = everything["audio_convnet"]
    (tmp_path / "sounds").mkdir()
    paths = [tmp_path / "sounds" / f"{number}.wav" for number in range(4)]
    for number, (path, rate) in enumerate(zip(paths, (8000, 8000, 16000, 44100), strict=True)):
        sound = np.random.default_rng(number).uniform(-0.3, 0.3, (rate // (1 + number), 1 + number // 2))
        soundfile.write(path, sound, rate)
    dataset = open_dataset(tmp_path / "sounds", cache=str(tmp_path / "cache"), rate=8000)
    data, own = dataset.batch(np.arange(4)), encoder.prepare(paths)
    assert torch.equal(data["length"], own["length"])
    assert torch.equal(data["audio"], own["audio"])


def test_what_is_no_sound_is_refused(everything: dict[str, AudioEncoder], tmp_path: Path) -> None:
    encoder = everything["audio_nano"]
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(UserError, match=r"text\.wav"):
        encoder.prepare(tmp_path / "text.wav")
    with pytest.raises(UserError, match="nothing to prepare"):
        encoder.prepare([])
    with pytest.raises(UserError, match=r"cannot prepare 7, a int"):
        encoder.prepare([7])  # type: ignore[list-item]
    with pytest.raises(UserError, match=r"an array of shape \[100\].*rate="):
        encoder.prepare(np.zeros(100))
    with pytest.raises(UserError, match=r"an array of shape \[0\]"):
        encoder.prepare(np.zeros(0), rate=8000)


def test_wrong_kinds(everything: dict[str, AudioEncoder]) -> None:
    image = ImageSpec(8, 1, (0.3,), (0.25,))
    with pytest.raises(
        UserError, match=r"convnet reads images, and the data are recordings; choose audio_convnet, audio"
    ):
        build_encoder("convnet", SPEC)
    with pytest.raises(UserError, match=r"audio_nano reads recordings, and the data are images; choose convnet"):
        build_encoder("audio_nano", image)
    with pytest.raises(UserError, match="has no option 'patch'; it has width, dim"):
        build_encoder("audio_convnet", SPEC, patch=4)
    encoder = everything["audio_nano"]
    with pytest.raises(UserError, match=r"takes audio \[B S\], not image"):
        encoder({"image": torch.zeros(1, 1, 8, 8)})
    with pytest.raises(UserError, match=r"takes audio \[B S\], not audio \[9\]"):
        encoder({"audio": torch.zeros(9)})
    with pytest.raises(UserError, match=r"takes mel \[B T 40\], not \[1, 9, 64\]"):
        encoder({"mel": torch.zeros(1, 9, 64), "frames": torch.tensor([9])})


def test_dropout() -> None:
    built = made.encoder("audio_nano", dropout=0.5).train()
    batch = recordings(3000, 2000)
    assert not torch.equal(built(batch).pooled, built(batch).pooled)
    built.eval()
    assert torch.equal(built(batch).pooled, built(batch).pooled)
    assert fresh_twin(built, 0).options == {"dropout": 0.5}


@pytest.mark.usefixtures("usual_sizes")
def test_sizes() -> None:
    with torch.device("meta"):
        built = {name: build_encoder(name, SPEC) for name, of in architectures().items() if of.modality == "audio"}
    sizes = {name: (one.n_depths, one.dim, one.stride) for name, one in built.items()}
    assert sizes == {
        "audio_convnet": (4, 1024, 8),
        "audio_nano": (3, 128, 4),
        "audio_tiny": (5, 256, 4),
        "audio_small": (13, 384, 4),
        "audio_base": (13, 768, 4),
        "ast_nano": (3, 128, 8),
        "ast_tiny": (5, 256, 8),
        "ast_small": (13, 384, 8),
        "ast_base": (13, 768, 8),
        "wav2vec2_nano": (3, 128, 2),
        "wav2vec2_tiny": (5, 256, 2),
        "wav2vec2_small": (13, 384, 2),
        "wav2vec2_base": (13, 768, 2),
        "audio_causal_nano": (3, 128, 4),
        "audio_causal_tiny": (5, 256, 4),
        "audio_causal_small": (13, 384, 4),
        "audio_causal_base": (13, 768, 4),
    }


def test_spec_survives_json() -> None:
    from dataclasses import asdict

    assert AudioSpec.of(json.loads(json.dumps(asdict(SPEC)))) == SPEC
