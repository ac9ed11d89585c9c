"""An exported text encoder says what the encoder said, also where no Tacit is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tacit.encoders import load_encoder, save_encoder
from tacit.formats import head as classifier
from tacit.formats.head import Head
from tacit.formats.write import export
from tacit.modalities.text.encoder import TextEncoder
from tests import texts
from tests.texts import LENGTH, TEXTS

NAMES = ["bert_nano", "modernbert_nano"]
SHORT = [text for text in TEXTS if len(text) < 60]  # within one window

# Runs without Tacit: what people have who were given the folders.
ALONE = """
import json, sys
sys.modules["tacit"] = None
import numpy as np, torch, transformers
from sentence_transformers import SentenceTransformer
transformers.logging.set_verbosity_error()
root, *names = sys.argv[1:]
texts = json.load(open(root + "/texts.json"))
for name in names:
    folder, found = f"{root}/{name}", {}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    found["ids"] = batch["input_ids"].numpy()
    assert set(batch) == {"input_ids", "attention_mask"}, set(batch)
    assert (tokenizer.mask_token, tokenizer.pad_token_id) == ("[MASK]", 0)
    with torch.inference_mode():
        found["tokens"] = transformers.AutoModel.from_pretrained(folder)(**batch).last_hidden_state.numpy()
        head, said = transformers.AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
        assert not any(said.values()), said
        found["logits"] = head(**batch).logits.numpy()
    model = SentenceTransformer(folder, local_files_only=True, device="cpu")
    found["length"] = np.array(model.max_seq_length)
    found["pooled"] = model.encode(texts)
    np.savez(f"{root}/{name}.npz", **found)
try:
    import tacit
except ImportError:
    sys.exit(0)
sys.exit("tacit was there")
"""


@pytest.mark.slow
@torch.inference_mode()
def test_opens_without_tacit(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    encoders = {name: texts.encoder(name) for name in NAMES}
    for encoder in encoders.values():
        encoder.train_head()
    encoders["roberta"] = opened(texts.folder_of("roberta", tmp_path / "hub"))
    for name, encoder in encoders.items():
        assert export(encoder, "hf", tmp_path / name)["difference"] < 1e-5
    given = [*SHORT, "a [MASK] dog", "[CLS] a [SEP]dog[PAD]"]
    (tmp_path / "texts.json").write_text(json.dumps(given))
    program = [sys.executable, "-I", "-c", ALONE, str(tmp_path), *encoders]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, encoder in encoders.items():
        found = np.load(tmp_path / f"{name}.npz")
        batch = encoder.prepare(given, masks=True)
        features = encoder(batch)
        valid = batch["valid"].numpy()
        assert (found["ids"] == batch["tokens"].numpy()).all()
        assert int(found["length"]) == LENGTH
        assert np.abs(found["tokens"] - features.tokens.numpy())[valid].max() < 1e-5
        read = encoder(encoder.prepare(given)).pooled.numpy()  # where [MASK] is a word
        assert np.abs(found["pooled"] - read).max() < 1e-5  # the empty text too
        assert np.abs(found["logits"][valid] - encoder.logits(features.tokens).numpy()[valid]).max() < 1e-4


def opened(source: str | Path) -> TextEncoder:
    found = load_encoder(source)
    assert isinstance(found, TextEncoder)
    return found


@torch.inference_mode()
def test_its_own_folder_through_the_other_door(tmp_path: Path) -> None:
    for name in NAMES:
        encoder = texts.encoder(name)
        encoder.train_head()
        save_encoder(encoder, tmp_path / name)
        again = opened(f"hf:{tmp_path / name}")
        assert again.headed
        assert again.packs
        assert again.spec == encoder.spec
        torch.testing.assert_close(again(again.prepare(TEXTS)).pooled, encoder(encoder.prepare(TEXTS)).pooled)


@torch.inference_mode()
def test_a_tokenizer_that_frames_nothing_is_taught_to(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    encoder = texts.encoder("bert_nano")
    encoder.spec = texts.spec(framed=False)
    batch = encoder.prepare(SHORT)
    assert int(batch["tokens"][0, 0]) == encoder.spec.cls
    save_encoder(encoder, tmp_path / "out")
    assert torch.equal(opened(tmp_path / "out").prepare(SHORT)["tokens"], batch["tokens"])
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")(SHORT, padding=True, return_tensors="pt")
    assert torch.equal(theirs["input_ids"], batch["tokens"])


@pytest.mark.slow
@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_onnx(name: str, tmp_path: Path) -> None:
    import onnxruntime

    encoder = texts.encoder(name)
    report = export(encoder, "onnx", tmp_path / "out")
    assert report["difference"] < 1e-4
    assert {"encoder.onnx", "onnx.json", "encoder.json", "tokenizer.json"} <= set(report["files"])
    said = json.loads((tmp_path / "out" / "onnx.json").read_text())
    assert said["input"]["input_ids"]["shape"] == ["batch", "tokens"]
    session = onnxruntime.InferenceSession(tmp_path / "out" / "encoder.onnx", providers=["CPUExecutionProvider"])
    for given in (SHORT, SHORT[:1], ["dog"] * 33, ["a b c d e f g h i j k l m n o p q r s t u v"], [""]):
        batch = encoder.prepare(given)
        features = encoder(batch)
        feed = {"input_ids": batch["tokens"].numpy(), "attention_mask": batch["valid"].long().numpy()}
        pooled, tokens = session.run(["pooled", "tokens"], feed)
        assert np.abs(pooled - features.pooled.numpy()).max() < 1e-5
        valid = batch["valid"].numpy()
        assert np.abs(tokens - features.tokens.numpy())[valid].max() < 1e-5
    assert torch.equal(opened(tmp_path / "out")(batch).pooled, features.pooled)
    assert "reads the first one alone" in report["note"]
    feed = {name: np.ones((1, LENGTH + 1), np.int64) for name in feed}
    with pytest.raises(Exception, match="ONNXRuntimeError"):  # more than a window is refused, not read in another way
        session.run(["pooled", "tokens"], feed)


def head_for(encoder: TextEncoder) -> Head:
    rng = np.random.default_rng(0)
    W, b = rng.standard_normal((encoder.dim, 3)), rng.standard_normal(3)
    return Head(W, b, "softmax", "classification", ("a", "b", "c"), "depth0", False, 30)


@pytest.mark.slow
@pytest.mark.usefixtures("shallow")
def test_a_head_and_the_lines_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a graph and beside the encoder: what the README of the folder says to type runs, and gives the same."""
    import onnxruntime

    encoder = texts.encoder("bert_nano")
    head = head_for(encoder)
    answers = {}
    for to in ("onnx", "safetensors"):
        report = export(encoder, to, tmp_path / to, head=head)
        assert report["difference"] < 1e-4
        assert "tokenise with tokenizer.json" in report["caller"]
        monkeypatch.chdir(tmp_path / to)
        readme = (tmp_path / to / classifier.README).read_text()
        assert "What is left to do to a text first" in readme
        names: dict[str, object] = {}
        with torch.no_grad():
            exec(readme.split("```python\n")[1].split("```")[0], names)
        answers[to] = torch.as_tensor(names["probabilities"])
    torch.testing.assert_close(answers["onnx"].double(), answers["safetensors"], rtol=0, atol=1e-5)
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "encoder.onnx", providers=["CPUExecutionProvider"])
    batch = encoder.prepare(SHORT)
    feed = {"input_ids": batch["tokens"].numpy(), "attention_mask": batch["valid"].long().numpy()}
    embedding, probabilities = session.run(["embedding", "probabilities"], feed)
    with torch.inference_mode():
        wanted = encoder(batch, depths=[0]).depths[0].numpy()
    assert np.abs(embedding - wanted).max() < 1e-5
    logits = torch.from_numpy(wanted @ head.W + head.b)
    assert np.abs(probabilities - logits.softmax(1).numpy()).max() < 1e-5
