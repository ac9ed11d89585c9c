"""Frames that lie in labelled stretches, judged one by one: which they are, what they are called, who tells them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import tacit
from tacit.core.errors import UserError
from tacit.dataset import open_dataset
from tacit.encoders import build_encoder
from tacit.evaluation.features import extract_tokens
from tacit.experiment.split import split_dataset
from tacit.modalities.audio import frames
from tacit.modalities.audio.frames import labelled_frames
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.audio.views import CONTEXT, FrameStatistics, frames_of
from tests.recordings import SPEC, recordings
from tests.sounding import RATE, noise
from tests.test_audio_spans import events

NAMES, WHO = ("low", "high"), "file,start,end,label,who"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """24 recordings, each a low and a high tone in turn, with a little noise; of the last two nothing is said."""
    root, chance, rows = tmp_path_factory.mktemp("tones"), np.random.default_rng(0), []
    (root / "tones").mkdir()
    for number in range(24):
        sound, at, side = [], 0.0, "test" if number % 3 == 2 else "train"
        for part in range(4):
            length, high = chance.uniform(0.2, 0.5), (number + part) % 2
            time = np.arange(round(length * RATE)) / RATE
            sound.append(0.3 * np.sin(2 * np.pi * (1500 if high else 300) * chance.uniform(0.8, 1.2) * time))
            if number < 22:
                rows.append((f"{number:02}.wav", f"{at:.4f}", f"{at + len(time) / RATE:.4f}", NAMES[high], side))
            at += len(time) / RATE
        whole = np.concatenate(sound)
        soundfile.write(root / "tones" / f"{number:02}.wav", whole + 0.01 * chance.normal(size=len(whole)), RATE)
    return str(root / "tones"), events(root / "events.csv", rows, "file,start,end,label,side")


@pytest.mark.parametrize("stride", [1, 4, 5])
def test_a_frame_has_the_class_of_the_stretch_that_it_lies_in(tmp_path: Path, cached, stride: int):
    """Beside a loop over pieces, tokens and rows of the file."""
    for number, seconds in enumerate((1.3, 0.5, 0.7)):
        soundfile.write(tmp_path / f"{number}.wav", noise(number, seconds), RATE)
    rows: list[Any] = [("0.wav", 0.1, 0.5, "a"), ("0.wav", 0.4, 0.7, "b"), ("0.wav", 0.65, 0.9, "b")]
    rows += [("0.wav", 1.2, "", "a"), ("1.wav", "", 0.21, "b"), ("1.wav", 0.4, 0.3, "a"), ("1.wav", 0.45, 9, "-")]
    told = events(tmp_path / "events.csv", rows)
    dataset = cached(tmp_path, labels=told, target="tokens", seconds=0.5, ignore_label=["-"])
    assert dataset.ids.to_pylist() == ["0.wav", "1.wav", "2.wav"]
    assert [dataset.classes[c] if c >= 0 else "" for c in dataset.label] == ["b", "b", ""]
    assert dataset.group is not None
    assert len(np.unique(dataset.group)) == 3
    found = labelled_frames(dataset.cache, dataset.spans, np.array([0, 1]), stride)
    expected = []
    for piece, (row, begin, length) in enumerate([(0, 0, 3466), (0, 3466, 3467), (0, 6933, 3467), (1, 0, 4000)]):
        for token in range(1 + (length - 1) // 80 // stride):
            middle = token * stride + (stride - 1) / 2
            if middle > (length - 1) // 80:
                continue
            at = (begin + 80 * middle) / RATE
            of = {name for file, b, e, name in rows if file[0] == str(row) and (b or 0) <= at < (e or 99)} - {"-"}
            if len(of) == 1:
                expected.append((piece, int(middle), row, *of))
    assert expected
    assert [
        (*token, row, dataset.classes[c])
        for token, row, c in zip(found.tokens.tolist(), found.row.tolist(), found.label.tolist(), strict=True)
    ] == expected
    assert len(np.unique(found.content)) == len(expected)


def test_an_encoder_is_asked_for_the_token_of_each_frame(data: tuple[str, str], cached):
    dataset = cached(data[0], labels=data[1], target="tokens")
    encoder = build_encoder("audio_nano", dataset.spec).eval()
    labelled = split_dataset(dataset, seed=0, stride=encoder.stride).labelled
    assert labelled is not None
    assert labelled.tokens is not None
    states = extract_tokens(encoder, labelled.fetch, labelled.tokens)["pooled"]
    for position in (0, 7, len(labelled.y) - 1):
        piece, frame = labelled.tokens[position]
        with torch.no_grad():
            alone = encoder(labelled.fetch(np.array([piece]))).tokens[0, frame // encoder.stride]
        torch.testing.assert_close(torch.from_numpy(states[position]), alone, rtol=1e-4, atol=1e-5)


def test_too_many_frames_are_thinned_evenly(data: tuple[str, str], cached, monkeypatch: pytest.MonkeyPatch):
    dataset = cached(data[0], labels=data[1], target="tokens")
    every = labelled_frames(dataset.cache, dataset.spans, np.arange(22), 4)
    monkeypatch.setattr(frames, "MOST", 100)
    some = labelled_frames(dataset.cache, dataset.spans, np.arange(22), 4)
    assert len(some.label) == 100
    assert set(some.row.tolist()) == set(range(22))
    assert set(some.content.tolist()) <= set(every.content.tolist())


def test_the_statistics_of_a_frame_are_a_loop_over_its_neighbours():
    batch = recordings(1500, 700)
    found = FrameStatistics(SPEC)(batch)
    mel, n = frames_of(batch, SPEC)
    for row, t in ((0, 0), (0, 9), (0, int(n[0]) - 1), (1, 2), (1, int(n[1]) - 1)):
        near = mel[row, max(0, t - CONTEXT) : min(int(n[row]), t + CONTEXT + 1)] - SPEC.mean
        wanted = torch.cat([mel[row, t] - SPEC.mean, near.mean(0), near.std(0, correction=0)])
        torch.testing.assert_close(found.tokens[row, t], wanted, rtol=1e-3, atol=1e-3)
    assert found.valid is not None
    assert found.valid.sum(1).tolist() == n.tolist()
    assert not found.tokens[~found.valid].any()
    torch.testing.assert_close(found.pooled[1], found.tokens[1, : int(n[1])].mean(0))
    assert found.pooled.shape == (2, FrameStatistics(SPEC).dim)


@pytest.mark.slow
@pytest.mark.usefixtures("brief", "few_fits")
def test_a_run_is_judged_by_frames(data: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings: dict[str, Any] = {"labels": data[1], "split_column": "side", "target": "tokens", "encoder": "audio_nano"}
    settings |= {"label_budgets": ["5"], "primary_budget": 5}
    report = tacit.run(data[0], tasks="masked", budget="2steps", out=str(out), **settings)
    content = json.loads((out / "report.json").read_text())
    arms = {arm["name"] for arm in content["arms"]}
    assert arms == {"masked", "random-init", "log-mel", "majority"}
    best = {(r.arm, r.protocol): r.mean for r in report.results if r.metric == "macro_f1"}
    assert best["log-mel", "linear"] > 0.9
    assert best["majority", "rule"] < 0.5
    assert "frames are judged" in (out / "log.txt").read_text()
    with pytest.raises(UserError, match="was judged by frames"):
        tacit.predict(str(out), data[0], out=str(tmp_path / "predicted.csv"))


def test_mistakes_are_one_line(data: tuple[str, str], tmp_path: Path, cached):
    few = tmp_path / "few.csv"
    few.write_text("file,label\n00.wav,a\n01.wav,b\n")
    with pytest.raises(UserError, match="file,start,end,label"):
        cached(data[0], labels=str(few), target="tokens")
    with pytest.raises(UserError, match="exclude each other"):
        cached(data[0], labels=data[1], target="tokens", channels="separate")
    both = events(tmp_path / "both.csv", [("00.wav", 0, 1, "a", "m"), ("00.wav", 1, 2, "b", "n")], WHO)
    with pytest.raises(UserError, match=r"rows of 00\.wav differ in their group"):
        cached(data[0], labels=both, target="tokens", group_column="who")
    thin = events(tmp_path / "thin.csv", [(f"{n:02}.wav", 0.0811, 0.0812, "ab"[n % 2]) for n in range(6)])
    with pytest.raises(UserError, match="no frame lies in a labelled stretch"):
        split_dataset(cached(data[0], labels=thin, target="tokens"), seed=0, stride=4)


def test_recordings_are_sealed_whole(tmp_path: Path) -> None:
    rows = []
    for number in range(120):
        soundfile.write(tmp_path / f"{number:03}.wav", noise(number, 0.3), RATE)
        rows += [(f"{number:03}.wav", 0, 0.15, "a"), (f"{number:03}.wav", 0.15, 0.3, "b")]
    dataset = open_dataset(tmp_path, labels=events(tmp_path / "events.csv", rows), target="tokens")
    assert isinstance(dataset.spec, AudioSpec)
    split = split_dataset(dataset, seed=0, stride=4)
    assert split.labelled is not None
    tested, trained = (set(split.rows[side].tolist()) for side in (split.labelled.test, split.labelled.train))
    assert len(tested) == 36
    assert not tested & trained
    assert set(split.pretrain.tolist()) == trained
