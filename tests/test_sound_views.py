"""Views, masks, targets and statistics of sound, against what a loop over recordings says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.fft import dct

from tacit.core import keys
from tacit.core.masks import MaskSchedule
from tacit.core.nn import variety
from tacit.core.types import Batch
from tacit.modalities.audio.codes import QuantisedTarget
from tacit.modalities.audio.logmel import log_mel
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.audio.views import CEPSTRA, SEGMENTS, SILENCE, FrameTarget, SoundStatistics, SoundViews, SpanMask

SPEC = AudioSpec(rate=8000, seconds=2.0, window=200, hop=80, mels=20, low=50.0, high=4000.0, mean=-8.0, std=3.0)
LENGTHS = [1, 700, 4000, 8000, 15000]
STILL = SoundViews(SPEC, 400)
STRONG = replace(STILL, crop=(0.5, 0.9), tempo=0.3, spread=0.2, shift=0.1, gain=1.0, tilt=1.0, hidden=0.3)


def sounds(seed: int = 0) -> Batch:
    chance = torch.Generator().manual_seed(seed)
    audio = torch.randint(-9000, 9000, (len(LENGTHS), max(LENGTHS)), generator=chance, dtype=torch.int16)
    length = torch.tensor(LENGTHS)
    audio[torch.arange(audio.shape[1]) >= length[:, None]] = 0
    index = torch.arange(len(LENGTHS))
    return {"audio": audio, "length": length, "index": index, "key": keys.batch_keys(3, 0, index)}


def test_nothing_asked_for_is_the_recording_itself() -> None:
    batch = sounds()
    mel, frames = log_mel(batch["audio"], batch["length"], SPEC)
    seen = STILL(batch, 0)
    assert torch.equal(seen["frames"], frames)
    assert torch.equal(seen["audio"][:, : batch["audio"].shape[1]], batch["audio"])
    assert torch.equal(seen["length"], batch["length"])
    for row, n in enumerate(frames.tolist()):
        torch.testing.assert_close(seen["mel"][row, :n], mel[row, :n], atol=2e-4, rtol=0)
        assert torch.all(seen["mel"][row, n:] == torch.tensor(SILENCE))


def test_a_view_is_a_function_of_the_key() -> None:
    whole = STRONG(sounds(), 1)
    for row in range(len(LENGTHS)):
        alone = {name: value[row : row + 1] for name, value in sounds().items()}
        seen, n = STRONG(alone, 1), int(whole["frames"][row])
        assert int(seen["frames"][0]) == n
        torch.testing.assert_close(seen["mel"][0, :n], whole["mel"][row, :n], atol=1e-4, rtol=0)
    assert not torch.allclose(STRONG(sounds(), 0)["mel"][3, :20], whole["mel"][3, :20])


def test_stretches_lie_inside_and_keep_to_their_share() -> None:
    batch = sounds()
    mel, frames = log_mel(batch["audio"], batch["length"], SPEC)
    rising = torch.arange(mel.shape[1]).float()[None, :, None].expand(len(LENGTHS), -1, SPEC.mels).clone()
    slow = replace(STILL, crop=(0.5, 0.9), most=60)
    for view in range(20):
        seen = slow({**batch, "mel": rising, "frames": frames}, view)
        for row, n in enumerate(seen["frames"].tolist()):
            at = seen["mel"][row, :n, 0]
            assert -0.5 <= at[0] <= at[-1] <= frames[row] - 0.5
            assert min(60, round(0.5 * int(frames[row]) - 0.5)) <= n <= max(1, min(60, 0.9 * int(frames[row]) + 0.5))
            torch.testing.assert_close(at.diff()[:-1], torch.ones(n)[:-2], atol=1e-3, rtol=0)


def test_samples_are_those_of_the_stretch() -> None:
    batch = sounds()
    views = replace(STILL, crop=(0.5, 0.9), tempo=0.3, most=60)
    for view in range(5):
        seen = views(batch, view)
        assert seen["audio"].shape == (len(LENGTHS), 60 * SPEC.hop)
        for row, n in enumerate(seen["length"].tolist()):
            said, whole = seen["audio"][row, :n].tolist(), batch["audio"][row].tolist()
            assert any(whole[at : at + n] == said for at in range(LENGTHS[row] - n + 1))
            assert not seen["audio"][row, n:].any()
            assert n <= 60 * SPEC.hop
            assert (
                min(60 * SPEC.hop * math.exp(-0.3), 0.5 * LENGTHS[row]) - SPEC.hop <= n <= 0.9 * LENGTHS[row] + SPEC.hop
            )


def test_pitch_moves_every_band_alike() -> None:
    batch = sounds()
    _, frames = log_mel(batch["audio"], batch["length"], SPEC)
    bands = torch.arange(SPEC.mels).float().expand(len(LENGTHS), 188, -1).clone()
    seen = replace(STILL, spread=0.2, shift=0.1)({**batch, "mel": bands, "frames": frames}, 0)["mel"]
    for row in range(len(LENGTHS)):
        inner = seen[row, 0, 6:14].diff()
        torch.testing.assert_close(inner, inner.mean().expand(7), atol=1e-4, rtol=0)
        assert math.exp(-0.2) <= float(inner.mean()) <= math.exp(0.2)


def test_loudness_adds_and_masks_hide() -> None:
    batch = sounds()
    still = STILL(batch, 0)["mel"]
    louder = replace(STILL, gain=0.5)(batch, 0)["mel"]
    added = (louder - still)[3, :100]
    assert float(added.std()) < 1e-4 < float(added.abs().mean())
    hidden = replace(STILL, hidden=0.5)(batch, 0)["mel"]
    changed = hidden[4, :188] != still[4, :188]
    assert torch.all(hidden[4, :188][changed] == SPEC.mean)
    across, along = changed.all(0), changed.all(1)
    assert torch.equal(changed, across[None] | along[:, None])
    assert across.sum() + along.sum() > 0
    assert across.sum() <= 10
    assert along.sum() <= 94


def crowd(n: int) -> Batch:
    """So many recordings, each loud in one band of its own."""
    mel = torch.full((n, 30, SPEC.mels), SILENCE)
    mel[torch.arange(n), :, torch.arange(n) % SPEC.mels] = 0.0
    index = torch.arange(n)
    frames = torch.full((n,), 30)
    return {"mel": mel, "frames": frames, "index": index, "key": keys.batch_keys(5, 0, index)}


def energy(mel: torch.Tensor) -> torch.Tensor:
    return mel.double().exp() - math.exp(SILENCE)


def test_neighbours_are_mixed_by_energy() -> None:
    """Exactly one other band is heard, of one of the eight, at most as loud as asked for; which one varies."""
    views, batch = replace(STILL, most=30, mix=0.4), crowd(20)
    partners = []
    for view in range(6):
        heard = energy(views(batch, view)["mel"])
        assert torch.allclose(heard, heard[:, :1].expand_as(heard), atol=1e-6)
        for row, bands in enumerate(heard[:, 0]):
            [other] = [band for band in (bands > 1e-5).nonzero()[:, 0].tolist() if band != row]
            assert other // 8 == row // 8
            assert 0 < bands[other] <= 0.4
            assert float(bands[other] + bands[row]) == pytest.approx(1.0, abs=1e-4)
            partners.append((other - row) % 8)
    assert set(partners) == set(range(1, 8))


def test_any_number_of_ranks_mixes_alike() -> None:
    views, batch = replace(STILL, most=30, mix=0.4, echo=0.3, noise=0.5), crowd(32)
    whole = views(batch, 1)["mel"]
    for rank in range(2):
        part = {name: value[16 * rank : 16 * (rank + 1)] for name, value in batch.items()}
        torch.testing.assert_close(views(part, 1)["mel"], whole[16 * rank : 16 * (rank + 1)])
    alone = {name: value[:1] for name, value in batch.items()}
    torch.testing.assert_close(replace(STILL, most=30, mix=0.4)(alone, 0)["mel"], batch["mel"][:1], atol=1e-4, rtol=0)


def test_an_echo_dies_away_by_the_same_factor() -> None:
    """A click: the energy stays, and falls by 60 dB in a time that is drawn up to the longest."""
    batch = crowd(20)
    batch["mel"][:, 1:] = SILENCE
    heard = energy(replace(STILL, most=30, echo=0.2)(batch, 0)["mel"])
    assert float(heard.sum((1, 2)).max()) == pytest.approx(1.0, abs=1e-3)
    times = []
    for row in range(20):
        falling = heard[row, :, row]
        fall = math.log(float(falling[0] / falling[1])) if falling[1] > 1e-4 else math.inf
        assert float(falling[2]) == pytest.approx(float(falling[0]) * math.exp(-2 * fall), abs=2e-6)
        times.append(6 * math.log(10) / fall * SPEC.hop / SPEC.rate)
    assert 0.1 < max(times) <= 0.2


def test_noise_is_as_loud_as_asked_for() -> None:
    batch = crowd(20)
    batch["frames"] = torch.arange(11, 31)
    seen = replace(STILL, most=30, noise=0.5)(batch, 0)
    for row, n in enumerate(seen["frames"].tolist()):
        assert torch.all(seen["mel"][row, n:] == torch.tensor(SILENCE))
        clean, heard = energy(STILL(batch, 0)["mel"])[row, :n], energy(seen["mel"])[row, :n]
        share = float((heard - clean).sum() / clean.sum())
        assert 0.5e-3 * 0.7 < share < 0.5 * 1.3
    added = energy(seen["mel"])[:, :11] - energy(STILL(batch, 0)["mel"])[:, :11]
    assert len(added.mean((1, 2)).unique()) == 20
    deviation = (added / added.mean((1, 2), keepdim=True)).std()
    assert float(deviation) == pytest.approx(1.0, abs=0.1)  # as of energies of white noise


@pytest.mark.parametrize("stride", [1, 4])
def test_spans_are_hidden_and_to_be_predicted(stride: int) -> None:
    batch = STILL(sounds(), 0)
    mask = SpanMask(SPEC, stride, MaskSchedule(0.4), 3.0)(batch, torch.tensor(0.0))
    tokens = -(-batch["frames"] // stride)
    target = FrameTarget(SPEC, stride)(batch)
    assert mask.shape == target.shape[:2] == (len(LENGTHS), -(-batch["mel"].shape[1] // stride))
    for row, n in enumerate(tokens.tolist()):
        assert not mask[row, n:].any()
        assert 1 <= int(mask[row].sum()) <= max(1, math.ceil(0.4 * n) + 12)
        for token in range(n):
            frames = batch["mel"][row, token * stride : (token + 1) * stride].flatten()
            expected = (frames - SPEC.mean) / SPEC.std
            torch.testing.assert_close(target[row, token, : len(expected)], expected)
    back = FrameTarget(SPEC, stride).picture(target, batch)
    torch.testing.assert_close(back, batch["mel"], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("stride", [1, 4])
def test_codes_are_the_nearest_of_a_random_codebook(stride: int) -> None:
    target, batch = QuantisedTarget(SPEC, stride, codes=64, seed=3), STILL(sounds(), 0)
    A, codebook = target.projection.double().numpy(), target.codebook.double().numpy()
    found = target(batch)
    assert found.shape == (len(LENGTHS), -(-batch["mel"].shape[1] // stride))
    for row, n in enumerate(batch["frames"].tolist()):
        mel = batch["mel"][row, :n].double().numpy()
        x = (mel - mel.mean(0)) / np.sqrt(mel.var(0) + 1e-5)
        x = np.concatenate([x, np.zeros((-n % stride, SPEC.mels))])
        for token in range(len(x) // stride):
            y = x[token * stride : (token + 1) * stride].ravel() @ A
            distance = np.linalg.norm(y / max(np.linalg.norm(y), 1e-12) - codebook, axis=1)
            assert distance[found[row, token]] <= distance.min() + 1e-4


def test_codes_are_a_function_of_the_seed_and_many_are_in_use() -> None:
    target, batch = QuantisedTarget(SPEC, 4, codes=64), STILL(sounds(), 0)
    assert list(target.parameters()) == []
    assert torch.equal(target(batch), QuantisedTarget(SPEC, 4, codes=64)(batch))
    assert not torch.equal(target(batch), QuantisedTarget(SPEC, 4, codes=64, seed=1)(batch))
    louder = {**batch, "mel": batch["mel"] + torch.linspace(0, 5, SPEC.mels)}
    assert torch.equal(target(batch)[4, :46], target(louder)[4, :46])  # whole tokens of the longest recording
    assert float(variety(target(batch)[4, :46], 64)) > 20


@pytest.mark.parametrize("cepstral", [False, True])
def test_statistics_of_parts(cepstral: bool) -> None:
    batch = sounds()
    mel, frames = log_mel(batch["audio"], batch["length"], SPEC)
    if cepstral:
        mel = torch.from_numpy(dct(mel.numpy(), norm="ortho")[..., :CEPSTRA])
    statistics = SoundStatistics(SPEC, cepstral)
    said = statistics(batch, depths=(0,))
    assert said.pooled.shape == (len(LENGTHS), statistics.dim)
    for row, n in enumerate(frames.tolist()):
        parts = []
        for part in range(SEGMENTS):
            last = min(n, max(math.floor((part + 1) / SEGMENTS * n), math.floor(part / SEGMENTS * n) + 1))
            first = min(math.floor(part / SEGMENTS * n), last - 1)
            values = mel[row, first:last].double().numpy()
            parts += [values.mean(0), values.std(0)]
        np.testing.assert_allclose(said.pooled[row], np.concatenate(parts), atol=1e-3)
        whole = mel[row, :n].double().numpy()
        np.testing.assert_allclose(said.depths[0][row], np.concatenate([whole.mean(0), whole.std(0)]), atol=1e-3)
