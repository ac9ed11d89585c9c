"""An exported encoder says what the encoder said, or is not there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tacit.core import folders
from tacit.core.errors import UserError
from tacit.encoders import build_encoder, load_encoder, save_encoder
from tacit.formats.write import export
from tacit.modalities.image.encoder import ImageEncoder
from tacit.modalities.image.spec import ImageSpec

SMALL = ImageSpec(8, 1, (0.3,), (0.25,))
COLOUR = ImageSpec(16, 3, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


@pytest.fixture
def encoder() -> ImageEncoder:
    torch.manual_seed(0)
    return build_encoder("convnet", SMALL, width=16)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("convnet", SMALL),
        pytest.param("vit_tiny", COLOUR, marks=pytest.mark.slow),
        pytest.param("resnet18", COLOUR, marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("shallow")
def test_onnx(name: str, spec: ImageSpec, tmp_path: Path) -> None:
    import onnxruntime

    torch.manual_seed(0)
    encoder = build_encoder(name, spec)
    report = export(encoder, "onnx", tmp_path / "out", card={"task": "rotation"})
    assert encoder.training  # as it was
    assert report["difference"] < 1e-4
    assert report["scale"] > 0.1
    assert {"encoder.onnx", "onnx.json", "encoder.json", "encoder.safetensors"} <= set(report["files"])
    assert load_encoder(tmp_path / "out").name == name

    said = json.loads((tmp_path / "out" / "onnx.json").read_text())
    assert said["input"]["image"]["shape"] == ["batch", spec.channels, spec.size, spec.size]
    session = onnxruntime.InferenceSession(tmp_path / "out" / "encoder.onnx", providers=["CPUExecutionProvider"])
    encoder.eval()
    for rows in (1, 3, 64):  # sizes that the export itself did not try
        image = torch.rand(rows, spec.channels, spec.size, spec.size)
        pooled, tokens = session.run(["pooled", "tokens"], {"image": image.numpy()})
        with torch.inference_mode():
            features = encoder({"image": image})
        np.testing.assert_allclose(pooled, features.pooled.numpy(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(tokens, features.tokens.numpy(), rtol=1e-4, atol=1e-4)
        assert list(pooled.shape[1:]) == said["output"]["pooled"]["shape"][1:]
        assert list(tokens.shape[1:]) == said["output"]["tokens"]["shape"][1:]


def test_hugging_face(tmp_path: Path) -> None:
    torch.manual_seed(0)
    report = export(build_encoder("vit_tiny", COLOUR), "hf", tmp_path / "out")
    assert report["difference"] < 1e-5
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= set(report["files"])
    assert "cannot express" not in report["note"]


def test_hugging_face_cannot_express_it(encoder: ImageEncoder, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="convnet for images of 8 px has no form in Hugging Face's library; use --to onnx"
    ):
        export(encoder, "hf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_safetensors(encoder: ImageEncoder, tmp_path: Path) -> None:
    report = export(encoder, "safetensors", tmp_path / "out")
    assert report["difference"] == 0
    assert report["files"] == ["encoder.json", "encoder.safetensors"]
    assert "cannot express this encoder" in report["note"]


def test_a_copy_that_differs_is_not_kept(
    encoder: ImageEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tacit.encoders import folder as saved

    whole = saved.restore

    def damaged(twin: ImageEncoder, folder: Path) -> None:
        whole(twin, folder)
        list(twin.parameters())[-1].data += 1

    monkeypatch.setattr(saved, "restore", damaged)
    with pytest.raises(RuntimeError, match="it was not kept"):
        export(encoder, "safetensors", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_refusals(encoder: ImageEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cannot export to 'tflite'; choose hf, onnx, safetensors"):
        export(encoder, "tflite", tmp_path / "out")
    monkeypatch.setattr("tacit.formats.onnx.PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(UserError, match=r"needs no_such_package; install with: pip install 'tacit-learn\[onnx\]'"):
        export(encoder, "onnx", tmp_path / "out")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"dear to someone")
    with pytest.raises(UserError, match="holds something else"):
        export(encoder, "safetensors", tmp_path / "photos")
    (tmp_path / "run").mkdir()
    folders.mark(tmp_path / "run", "run")
    for place in ("encoder", "encoders/simclr"):
        save_encoder(encoder, tmp_path / "run" / place)
        with pytest.raises(UserError, match=r"is an encoder of the run .*, which is not replaced"):
            export(encoder, "safetensors", tmp_path / "run" / place)
