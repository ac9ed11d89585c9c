"""An exported classifier says what `tacit predict` says, wherever it is opened."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tacit
from tacit import cli
from tacit.core.errors import UserError
from tacit.evaluation import Report, Verdict
from tests.made import change_settings
from tests.tiny import digit_labels, digits

NAMES = ["finding-0", "finding-1", "finding-2"]
ALL = 90


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 digits as files, 60 of them labelled, and a run of a moment."""
    root = tmp_path_factory.mktemp("digits")
    (root / "images").mkdir()
    lines = ["file,label"]
    for row in range(ALL):
        Image.fromarray(digits()[row, 0].numpy()).save(root / "images" / f"{row:02d}.png")
        lines += [f"{row:02d}.png,{NAMES[digit_labels()[row] % 3]}"] * (row < 60)
    (root / "few.csv").write_text("\n".join(lines))
    tacit.pretrain(str(root / "images"), labels=str(root / "few.csv"), budget="3steps", out=str(root / "run"))
    return root


def judged(folder: Path, out: Path, depth: str) -> Path:
    """The run as if an evaluation had chosen this representation."""
    shutil.copytree(folder / "run", out)
    verdict = Verdict("none", "checkpoint", "", "simclr", None, "", None, None, None, False, "")
    data = {"selected_arm": "simclr", "representation": {"simclr": depth}}
    Report(verdict=verdict, verdicts=(), results=(), arms=(), data=data).save(out)
    return out


def predicted(run: Path, folder: Path) -> np.ndarray[Any, Any]:
    table = tacit.predict(str(run), str(folder / "images"))
    return np.stack([table[f"p({name})"].to_numpy() for name in NAMES], axis=1)


def from_the_readme(exported: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the lines to paste come to, in the exported folder, for this image."""
    shutil.copy(image, exported / "image.png")
    monkeypatch.chdir(exported)
    found: dict[str, Any] = {}
    [code] = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    exec(code, found)
    return found


@pytest.mark.usefixtures("shallow")
def test_one_graph_from_pixels_to_probabilities(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    run = judged(folder, tmp_path / "run", "grid2")
    expected = predicted(run, folder)
    with pytest.raises(SystemExit) as ended:
        cli.main(["export", str(run), "--to", "onnx", "--with-head", "--out", str(tmp_path / "out")])
    assert ended.value.code == 0
    session = onnxruntime.InferenceSession(tmp_path / "out" / "encoder.onnx", providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["classes"]) == NAMES
    assert json.loads(said["representation"]) == "grid2"
    assert [(given.name, given.type) for given in session.get_inputs()] == [("image", "tensor(uint8)")]
    pixels = digits()[:ALL].numpy()
    for size in (1, 7, ALL):
        embedding, probabilities = session.run(["embedding", "probabilities"], {"image": pixels[:size]})
        np.testing.assert_allclose(probabilities, expected[:size], atol=1e-4)
        assert embedding.shape == (size, 4 * tacit.load_encoder(run).dim)
    assert np.abs(expected - expected.mean(axis=0)).max() > 0.1  # they do differ
    pasted = from_the_readme(tmp_path / "out", folder / "images" / "07.png", monkeypatch)
    assert pasted["classes"] == NAMES
    np.testing.assert_allclose(pasted["probabilities"], expected[7:8], atol=1e-4)


@pytest.mark.parametrize("depth", ["pooled", "depth0", "grid2"])
def test_a_head_beside_the_encoder_is_three_lines_away(
    depth: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in its README."""
    run = judged(folder, tmp_path / "run", depth)
    expected = predicted(run, folder)
    tacit.export(str(run), to="safetensors", out=str(tmp_path / "out"), with_head=True)
    said = json.loads((tmp_path / "out" / "head.json").read_text())
    assert (said["classes"], said["representation"], said["labels"]) == (NAMES, depth, 60)
    readme = (tmp_path / "out" / "README.md").read_text()
    assert all(step in readme for step in said["caller"])
    assert "resize the whole image to 8 x 8 px" in readme
    pasted = from_the_readme(tmp_path / "out", folder / "images" / "07.png", monkeypatch)
    np.testing.assert_allclose(pasted["probabilities"].detach().numpy(), expected[7:8], atol=1e-5)


def test_what_is_left_to_do_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = judged(folder, tmp_path / "run", "pooled")
    tacit.export(str(run), to="safetensors", out=str(tmp_path / "out"), with_head=True)
    assert "convert to one channel of grey, uint8, 0 to 255; resize" in capsys.readouterr().out
    tacit.export(str(run), to="safetensors", out=str(tmp_path / "bare"))
    assert "caller" not in capsys.readouterr().out
    assert not (tmp_path / "bare" / "head.json").exists()


def test_a_head_needs_a_run(folder: Path, tmp_path: Path) -> None:
    for encoder in (str(folder / "run" / "encoder"), "hf:someone/something"):
        with pytest.raises(UserError, match="holds no run of Tacit"):
            tacit.export(encoder, to="safetensors", out=str(tmp_path / "out"), with_head=True)
    assert not (tmp_path / "out").exists()
    run = judged(folder, tmp_path / "run", "pooled")
    change_settings(run, f"labels: {folder / 'few.csv'}", "labels: null")
    with pytest.raises(UserError, match="has no labels to learn from"):
        tacit.export(str(run), to="safetensors", out=str(tmp_path / "out"), with_head=True, trust=True)
