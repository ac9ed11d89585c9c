"""An exported encoder of sound says what the encoder said, also where no Tacit is installed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tacit.core.errors import UserError
from tacit.encoders import load_encoder
from tacit.formats import head as classifier
from tacit.formats.head import Head
from tacit.formats.write import export
from tacit.modalities.audio.encoder import AudioEncoder
from tests import recordings as made
from tests.processes import run_anew
from tests.recordings import SPEC, WINDOW, recordings

NAMES = ["audio_convnet", "audio_nano"]  # that Hugging Face's library cannot express

# Runs without Tacit: what people have who were given the folders.
ALONE = """
import os, sys
sys.modules["tacit"] = None
import numpy as np, onnxruntime, soundfile
audio, rate = soundfile.read("sound.wav", dtype="float32")
os.chdir("onnx")
session = onnxruntime.InferenceSession("encoder.onnx", providers=["CPUExecutionProvider"])
[onnx] = session.run(["embedding"], {"audio": audio[None], "length": np.array([len(audio)])})
found = {"onnx": onnx[0]}
for name in ("ast_nano", "wav2vec2_nano"):
    os.chdir("../" + name)
    names = {"audio": audio}
    exec(open("FRONT_END.md").read().split("```python")[1].split("```")[0], names)
    found[name] = names["embedding"].numpy()
np.savez("../found.npz", **found)
try:
    import tacit
except ImportError:
    sys.exit(0)
sys.exit("tacit was there")
"""


def fed(lengths: tuple[int, ...]) -> dict[str, np.ndarray]:
    batch = recordings(*lengths)
    return {"audio": batch["audio"].float().numpy() / 32768, "length": batch["length"].numpy()}


@pytest.mark.slow
@pytest.mark.usefixtures("shallow")
@torch.inference_mode()
def test_onnx(tmp_path: Path) -> None:
    """From samples: the log-mel frames are in the graph. Any batch, any length up to a window."""
    import onnxruntime

    encoder = made.encoder("audio_causal_nano")
    report = export(encoder, "onnx", tmp_path / "out")
    assert report["difference"] < 1e-3
    assert {"encoder.onnx", "onnx.json", "encoder.json"} <= set(report["files"])
    said = json.loads((tmp_path / "out" / "onnx.json").read_text())
    assert said["input"]["audio"]["shape"] == ["batch", "samples"]
    assert (said["rate"], said["log_mel"]["hop"]) == (8000, 80)
    assert said["samples"] == WINDOW * SPEC.hop - 1
    session = onnxruntime.InferenceSession(tmp_path / "out" / "encoder.onnx", providers=["CPUExecutionProvider"])
    for lengths in ((3000, 1, 777), (said["samples"],), (80, 2400), (5,), tuple(range(1, 3400, 100))):
        features = encoder(recordings(*lengths))
        pooled, tokens = session.run(["pooled", "tokens"], fed(lengths))
        assert np.abs(pooled - features.pooled.numpy()).max() < 1e-4
        valid = features.valid.numpy()
        assert tokens.shape == (*valid.shape, encoder.dim)
        assert np.abs(tokens - features.tokens.numpy())[valid].max() < 1e-4
    loaded = load_encoder(tmp_path / "out")
    assert torch.equal(loaded(recordings(*lengths)).pooled, features.pooled)


def head_for(encoder: AudioEncoder, depth: str) -> Head:
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        width = encoder(recordings(900), depths=[int(depth[-1])]).depths[0].shape[1]
    W, b = 0.1 * rng.standard_normal((width, 3)), rng.standard_normal(3)
    return Head(W, b, "softmax", "classification", ("a", "b", "c"), depth, False, 30)


@pytest.mark.slow
@pytest.mark.usefixtures("shallow")
def test_copies_open_without_tacit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what the README of a folder with a head says runs, in a graph and beside the encoder, and gives the same."""
    soundfile = pytest.importorskip("soundfile")
    encoders = {name: made.encoder(name) for name in ("audio_convnet", "ast_nano", "wav2vec2_nano")}
    convnet = encoders["audio_convnet"]
    head, batch = head_for(convnet, "depth1"), recordings(2900)
    soundfile.write(tmp_path / "sound.wav", batch["audio"][0].numpy(), SPEC.rate)
    for name in ("ast_nano", "wav2vec2_nano"):
        assert export(encoders[name], "hf", tmp_path / name)["difference"] < 1e-4
    with torch.inference_mode():
        deep = convnet(batch, depths=[1]).depths[0].numpy()
    for to in ("onnx", "safetensors"):
        report = export(convnet, to, tmp_path / to, head=head)
        assert report["difference"] < 1e-3
        assert "resample to 8000 Hz" in report["caller"]
        shutil.copy(tmp_path / "sound.wav", tmp_path / to)
        monkeypatch.chdir(tmp_path / to)
        readme = (tmp_path / to / classifier.README).read_text()
        assert "What is left to do to a recording first" in readme
        names: dict[str, object] = {}
        with torch.no_grad():
            exec(readme.split("```python\n")[1].split("```")[0], names)
        logits = torch.from_numpy(deep @ head.W + head.b)
        answer = torch.as_tensor(names["probabilities"]).double()
        torch.testing.assert_close(answer, logits.softmax(1), rtol=0, atol=1e-4)
    done = run_anew(ALONE, folder=tmp_path)
    assert done.code == 0, done.out[-2000:]
    found = np.load(tmp_path / "found.npz")
    assert np.abs(found["onnx"] - deep[0]).max() < 1e-4
    with torch.inference_mode():
        for name in ("ast_nano", "wav2vec2_nano"):
            wanted = encoders[name](encoders[name].prepare(tmp_path / "sound.wav")).pooled[0].numpy()
            assert np.abs(found[name] - wanted).max() < 1e-4


def test_forms_that_there_are_not(tmp_path: Path) -> None:
    for name in NAMES:
        with pytest.raises(UserError, match=f"{name} has no form in Hugging Face's library; use --to onnx"):
            export(made.encoder(name), "hf", tmp_path / "out")


def test_safetensors(tmp_path: Path) -> None:
    for name in NAMES:
        report = export(made.encoder(name), "safetensors", tmp_path / name)
        assert report["difference"] == 0
        assert set(report["files"]) == {"encoder.json", "encoder.safetensors"}
