"""Public models open as they are meant to be used, by every way in which others write them; the rest is refused."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from tacit.core.errors import UserError
from tacit.core.types import Masking
from tacit.encoders import fresh_twin, load_encoder, save_encoder
from tacit.encoders.hf import quiet
from tacit.formats.write import export
from tacit.modalities.image.encoder import ImageEncoder

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
PATCHES = {"image_size": 32, "patch_size": 8, **SIZES}
STAGES = {"hidden_sizes": [4, 8, 8, 12], "depths": [1, 1, 1, 1]}
SQUARE = {"size": {"height": 32, "width": 32}}
CUT = {"crop_size": {"height": 32, "width": 32}}
Made = tuple[Any, Any]  # a model, and what prepares its images

IMAGES: dict[str, Callable[[], Made]] = {
    "vit with a head": lambda: (
        hf.ViTForImageClassification(hf.ViTConfig(**PATCHES)),
        hf.ViTImageProcessorPil(**SQUARE, do_rescale=False, image_mean=[100.0] * 3, image_std=[60.0] * 3),
    ),
    "deit": lambda: (
        hf.DeiTModel(hf.DeiTConfig(**PATCHES)),
        hf.DeiTImageProcessorPil(size={"height": 40, "width": 40}, **CUT),
    ),
    "beit": lambda: (hf.BeitModel(hf.BeitConfig(**PATCHES)), hf.BeitImageProcessorPil(**SQUARE, **CUT)),
    "mae": lambda: (hf.ViTMAEModel(hf.ViTMAEConfig(mask_ratio=0.8, **PATCHES)), hf.ViTImageProcessorPil(**SQUARE)),
    "dinov2": lambda: (
        hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(num_register_tokens=4, **PATCHES)),
        hf.BitImageProcessorPil(size={"shortest_edge": 37}, **CUT),
    ),
    "swin": lambda: (
        hf.SwinModel(
            hf.SwinConfig(image_size=32, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4)
        ),
        hf.ViTImageProcessorPil(**SQUARE, resample=1, do_normalize=False),
    ),
    "convnext": lambda: (
        hf.ConvNextModel(hf.ConvNextConfig(**STAGES)),
        hf.ConvNextImageProcessorPil(size={"shortest_edge": 64}, crop_pct=0.9),
    ),
    "resnet": lambda: (
        hf.ResNetModel(hf.ResNetConfig(embedding_size=4, **STAGES)),
        hf.ConvNextImageProcessorPil(size={"shortest_edge": 32}),
    ),
    "mobilevit": lambda: (
        hf.MobileViTModel(
            hf.MobileViTConfig(image_size=32, hidden_sizes=[8, 8, 8], neck_hidden_sizes=[4, 4, 8, 8, 8, 8, 8])
        ),
        hf.MobileViTImageProcessorPil(size={"shortest_edge": 36}, **CUT),
    ),
    "clip": lambda: (
        hf.CLIPModel(
            hf.CLIPConfig(text_config={"vocab_size": 9, **SIZES}, vision_config={**PATCHES}, projection_dim=8)
        ),
        hf.CLIPImageProcessorPil(size={"shortest_edge": 32}, **CUT),
    ),
    "siglip": lambda: (hf.SiglipVisionModel(hf.SiglipVisionConfig(**PATCHES)), hf.SiglipImageProcessorPil(**SQUARE)),
    "levit": lambda: (
        hf.LevitModel(
            hf.LevitConfig(
                image_size=32, hidden_sizes=[16] * 3, num_attention_heads=[2] * 3, depths=[1] * 3, key_dim=[4] * 3
            )
        ),
        hf.LevitImageProcessorPil(size={"shortest_edge": 32}, **CUT),
    ),
}


def shaken(model: Any) -> Any:
    """With weights far from the start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("zoo")
    for name, make in IMAGES.items():
        torch.manual_seed(0)
        model, processor = make()
        with quiet():
            shaken(model).save_pretrained(root / name)
        processor.save_pretrained(root / name)
    return {name: root / name for name in IMAGES}


def pictures() -> list[Image.Image]:
    """Photographs of several shapes, of one grey and as narrow as a line another."""
    rng = np.random.default_rng(0)

    def smooth(height: int, width: int) -> Image.Image:
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        fine = np.asarray(coarse.resize((width, height), 3)).astype(int) + rng.integers(-20, 20, (height, width, 3))
        return Image.fromarray(fine.clip(0, 255).astype(np.uint8))

    return [smooth(50, 71), smooth(33, 33), smooth(120, 80), smooth(32, 32), smooth(20, 20), smooth(90, 3)]


@torch.inference_mode()
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_embedded_as_by_its_own_library(folders: dict[str, Path], name: str, tmp_path: Path) -> None:
    encoder = load_encoder(f"hf:{folders[name]}")
    assert isinstance(encoder, ImageEncoder)
    processor = IMAGES[name]()[1]
    with quiet():
        model = hf.AutoModel.from_pretrained(folders[name])
    model = getattr(model, "vision_model", model).eval()
    for picture in pictures():
        batch = encoder.prepare(picture)
        pixels = torch.from_numpy(np.stack(processor(images=picture)["pixel_values"])).float()
        torch.testing.assert_close(encoder.normalise(batch), pixels, rtol=1e-4, atol=1e-4)
        more = {}
        if name == "mae":
            model.config.mask_ratio, more = 0.0, {"noise": torch.arange(16.0)[None]}
        hidden = model(pixels, **more).last_hidden_state
        pooled = eval(encoder.pooling, {"last_hidden_state": hidden})
        torch.testing.assert_close(encoder(batch).pooled, pooled, rtol=1e-3, atol=1e-4)
    batch = encoder.prepare(pictures())
    features = encoder(batch, depths=range(encoder.n_depths))
    assert torch.equal(features.pooled, encoder(batch).pooled)  # nothing is drawn
    assert features.tokens.shape[1] == np.prod(encoder.grid)
    assert isinstance(encoder, Masking)
    save_encoder(encoder, tmp_path / "out")
    for again in (load_encoder(tmp_path / "out"), load_encoder(f"hf:{tmp_path / 'out'}")):
        assert torch.equal(again(again.prepare(pictures())).pooled, features.pooled)
    twin = fresh_twin(encoder, 1)
    assert not torch.allclose(twin(batch).pooled, features.pooled, atol=1e-3)


@torch.inference_mode()
def test_models_without_a_square_of_tokens_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rectangle = hf.ViTModel(hf.ViTConfig(**{**PATCHES, "image_size": [32, 16]}))
    convnext = hf.DINOv3ConvNextModel(hf.DINOv3ConvNextConfig(image_size=64, **STAGES))
    dinov3 = hf.DINOv3ViTModel(hf.DINOv3ViTConfig(num_register_tokens=4, **PATCHES))
    four = hf.ViTModel(hf.ViTConfig(num_channels=4, **PATCHES))
    with quiet():
        four.save_pretrained(tmp_path / "four")
    bands = load_encoder(f"hf:{tmp_path / 'four'}")
    assert bands.spec.channels == 4  # type: ignore[union-attr]
    assert bands(bands.prepare(np.zeros((2, 40, 40, 4), np.uint8))).pooled.shape == (2, 16)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="reads 4 channels, and the images have 3"):
        bands({"image": torch.zeros(1, 3, 32, 32)})
    for name, model, grid in (("a", rectangle, (4, 2)), ("b", convnext, (2, 2)), ("c", dinov3, (4, 4))):
        with quiet():
            shaken(model).save_pretrained(tmp_path / name)
        encoder = load_encoder(f"hf:{tmp_path / name}")
        assert encoder.grid == grid
        assert isinstance(encoder, Masking) == (name != "a")
        assert f"hf:{name}: its folder does not say how images are prepared" in caplog.text
        said = model(encoder.normalise(encoder.prepare(pictures()))).last_hidden_state  # type: ignore[operator, arg-type]
        prefix = said.shape[1] - int(np.prod(grid))
        assert prefix == {"a": 1, "b": 1, "c": 5}[name]
        torch.testing.assert_close(encoder(encoder.prepare(pictures())).pooled, said[:, prefix:].mean(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["processor_config.json", "preprocessor_config.json", "nested", "fast", "nowhere"])
def test_preprocessing_is_read_wherever_it_is_written(
    folders: dict[str, Path], where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(folders["clip"], tmp_path / "model")
    path = folder / "preprocessor_config.json"
    told = json.loads(path.read_text()) | {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    path.unlink()
    if where == "processor_config.json":
        whole = {"processor_class": "CLIPProcessor", "image_processor": told}
        (folder / where).write_text(json.dumps(whole))
        path.write_text(json.dumps({"image_mean": [0.9] * 3}))  # what transformers itself passes over
    elif where == "nested":
        path.write_text(json.dumps({"image_processor": told, "feature_extractor": {}}))
    elif where != "nowhere":
        path.write_text(json.dumps({**told, "image_processor_type": "CLIPImageProcessor" + "Fast" * (where == "fast")}))
    spec = load_encoder(f"hf:{folder}").spec
    said = caplog.text
    if where == "nowhere":  # as for this kind of model, and so told
        assert spec.mean == tuple(hf.CLIPImageProcessorPil().image_mean)
        assert "no preprocessor_config.json" in said
    else:
        assert (spec.mean, spec.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
        assert spec.framing == (32, True, 3)
        assert said == ""


def test_data_are_opened_in_the_form_of_the_encoder(folders: dict[str, Path], tmp_path: Path, cached: Any) -> None:
    """A dataset and `prepare` give the same squares; other encoders of that size do not share their cache."""
    from tacit.modalities import modality_of

    (tmp_path / "data").mkdir()
    for number, picture in enumerate(pictures()):
        picture.save(tmp_path / "data" / f"{number}.png")
    encoder = load_encoder(f"hf:{folders['dinov2']}")
    dataset = cached(tmp_path / "data", **modality_of(encoder.spec).options_of(encoder.spec))
    batch = encoder.prepare(sorted((tmp_path / "data").iterdir()))  # type: ignore[arg-type]
    assert torch.equal(dataset.batch(np.arange(len(dataset)))["image"], batch["image"])
    assert dataset.spec.framing == encoder.spec.framing  # type: ignore[union-attr]
    other = cached(tmp_path / "data", image_size=32)
    assert other.spec.framing is None
    assert not torch.equal(other.batch(np.arange(len(other)))["image"], batch["image"])
    assert not modality_of(encoder.spec).compatible(other.spec, encoder.spec)


def test_masked_prediction_goes_on_from_colour_on_grey_images(folders: dict[str, Path]) -> None:
    from tacit.core import keys
    from tacit.modalities import modality_of
    from tacit.modalities.recipe import make_task

    encoder = load_encoder(f"hf:{folders['dinov2']}")
    assert isinstance(encoder, ImageEncoder)
    task = make_task(modality_of(encoder.spec), "masked", encoder)
    rows = torch.arange(2)
    batch = {"image": torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8), "index": rows}
    output = task({**batch, "key": keys.batch_keys(0, 0, rows), "progress": torch.zeros(2)})
    assert bool(output.loss.isfinite())


# ---------------------------------------------------------------- weights


@pytest.fixture
def vit(folders: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(folders["vit with a head"], tmp_path / "vit")


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> str:
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return f"hf:{folder}"


@torch.inference_mode()
@pytest.mark.parametrize("prefix", ["student.backbone.", "module.", "_orig_mod.", "model.", ""])
def test_a_plain_prefix_is_left_out_and_said(
    vit: Path, prefix: str, folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Also of weights in half precision, which are computed with in float32."""
    found = load_encoder(rewritten(vit, lambda of: {prefix + name: value.half() for name, value in of.items()}))
    assert (f"prefix {prefix!r}" in caplog.text) == bool(prefix)
    wanted = load_encoder(f"hf:{folders['vit with a head']}")
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}
    batch = wanted.prepare(pictures())  # type: ignore[arg-type]
    torch.testing.assert_close(found(batch).pooled, wanted(batch).pooled, rtol=1e-2, atol=5e-3)
    assert {parameter.dtype for parameter in fresh_twin(found, 1).parameters()} == {torch.float32}


@torch.inference_mode()
def test_the_tower_for_images_of_any_model(tmp_path: Path) -> None:
    """Also where AutoModel knows none such: as it is opened, saved, and drawn anew."""
    words = {
        "vocab_size": 50,
        "encoder_hidden_size": 16,
        "bos_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        **SIZES,
    }
    config = hf.BlipConfig(text_config={**words, "sep_token_id": 1}, vision_config={**PATCHES})
    with quiet():
        shaken(hf.BlipModel(config)).save_pretrained(tmp_path / "blip")
        hf.BlipImageProcessorPil(**SQUARE).save_pretrained(tmp_path / "blip")
    encoder = load_encoder(f"hf:{tmp_path / 'blip'}")
    batch = encoder.prepare(pictures())  # type: ignore[arg-type]
    save_encoder(encoder, tmp_path / "out")
    for again in (load_encoder(tmp_path / "out"), load_encoder(f"hf:{tmp_path / 'out'}")):
        assert torch.equal(again(batch).pooled, encoder(batch).pooled)
    export(encoder, to="hf", out=tmp_path / "exported")
    assert fresh_twin(encoder, 1)(batch).pooled.isfinite().all()


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"size": {"height": 40, "width": 48}, "crop_size": {"height": 32, "width": 32}}, True),
        ({"size": {"shortest_edge": 32, "longest_edge": 40}, "crop_size": {"height": 32, "width": 32}}, True),
        ({"do_resize": False, "do_center_crop": False}, True),
        ({"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}, False),
    ],
)
def test_preprocessing_that_is_not_followed_is_said(
    vit: Path, told: dict[str, Any], said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = vit / "preprocessor_config.json"
    clip = {"image_processor_type": "CLIPImageProcessor", "do_center_crop": True}
    path.write_text(json.dumps(json.loads(path.read_text()) | clip | told))
    load_encoder(f"hf:{vit}")
    assert ("makes other pixels" in caplog.text) == said


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda of: {k: (100 * v).to(torch.int8) for k, v in of.items()}, "as whole numbers: such quantised weights"),
        (
            lambda of: {k: v for k, v in of.items() if "layer.1." not in k},
            r"holds no weights for layers\.1\..* 15 others",
        ),
        (lambda of: {k: v for k, v in of.items() if "cls_token" not in k}, r"no weights for embeddings\.cls_token"),
        (
            lambda of: {f"{p}.{k}": v.clone() for k, v in of.items() for p in ("a", "b")},
            r"no weights for .* but some of a\.",
        ),
        (lambda of: {k[::-1]: v for k, v in of.items()}, "no weights for embeddings"),
        (
            lambda of: {**of, "projector.weight": torch.ones(3)},
            "weights of projector.weight, for which vit has no place",
        ),
        (
            lambda of: {k: v[..., :1] if "cls" in k else v for k, v in of.items()},
            r"cls_token is \[1, 1, 1\] in the weights",
        ),
    ],
)
def test_no_weight_stays_random(vit: Path, change: Any, match: str) -> None:
    with pytest.raises(UserError, match=match):
        load_encoder(rewritten(vit, change))


def test_what_embeddings_do_not_depend_on_may_be_missing(vit: Path) -> None:
    """A pooler, and heads on top: the file has a classifier and no pooler."""
    names = load_file(vit / "model.safetensors").keys()
    assert any("classifier" in name for name in names)
    assert not any("pooler" in name for name in names)
    assert load_encoder(f"hf:{vit}").dim == 16


def header(shapes: dict[str, list[int]], data: int) -> bytes:
    """A file of weights of which each claims to be all of its bytes."""
    tensors = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, data]} for name, shape in shapes.items()}
    said = json.dumps(tensors).encode()
    return struct.pack("<Q", len(said)) + said + bytes(data)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("model.safetensors", lambda of: of[:-100], r"bytes of .*: it is cut off"),
        ("model.safetensors", lambda of: of[:200], "cut off"),
        ("model.safetensors", lambda of: b"", r"model\.safetensors is empty"),
        ("model.safetensors", lambda of: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("model.safetensors", lambda of: struct.pack("<Q", 1 << 60) + of[8:], "cut off or no safetensors"),
        ("model.safetensors", lambda of: header({"a": [1 << 40]}, 4), "damaged header"),
        ("model.safetensors", lambda of: header({"a": [1], "b": [1]}, 4), "overlap"),
        ("config.json", lambda of: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("config.json", lambda of: of[:50], "cannot be read"),
        ("config.json", lambda of: b"[" * 100_000, "cannot be read"),
        ("config.json", lambda of: b"[1]", "no JSON object"),
        ("config.json", lambda of: of.replace(b'"vit"', b'"vitt"'), r"no model_type 'vitt'; did you mean 'vit'"),
        ("config.json", lambda of: of.replace(b'"model_type": "vit",', b""), "names no model_type"),
        ("config.json", lambda of: b'{"architecture": "resnet18", "pretrained_cfg": {}}', r"of timm \(resnet18\)"),
        ("config.json", lambda of: of.replace(b'_layers": 2', b'_layers": 1000000000'), "_layers 1,000,000,000"),
        ("config.json", lambda of: of.replace(b'hidden_size": 16', b'hidden_size": 1048576'), "describes a model of"),
        ("config.json", lambda of: of.replace(b'hidden_size": 16', b'hidden_size": 1000000000'), "hidden_size 1,000"),
        ("config.json", lambda of: of.replace(b'"image_size": 32', b'"image_size": 100000'), "describes a model of"),
        ("config.json", lambda of: of.replace(b'"num_channels": 3', b'"num_channels": 5'), "5 channels"),
        ("config.json", lambda of: of.replace(b"{", b'{"quantization_config": {"bits": 4},', 1), "quantised"),
        ("preprocessor_config.json", lambda of: of.replace(b"60.0", b"0"), "deviations above 0"),
        ("preprocessor_config.json", lambda of: of.replace(b"60.0", b"6, 7", 1), r"one for each of its channels \(3\)"),
        ("preprocessor_config.json", lambda of: b'{"size": 1000000}', "1000000 px"),
        ("adapter_config.json", lambda of: b"{}", "merge it into its model"),
    ],
)  # fmt: skip
def test_damaged_and_hostile_folders_are_refused(vit: Path, name: str, content: Any, match: str) -> None:
    path = vit / name
    path.write_bytes(content(path.read_bytes() if path.exists() else b""))
    with pytest.raises(UserError, match=match) as caught:
        load_encoder(f"hf:{vit}")
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_all_there(vit: Path) -> None:
    weights = vit / "model.safetensors"
    names = sorted(load_file(weights))
    for file, some in (
        ("model-00001-of-00002.safetensors", names[::2]),
        ("model-00002-of-00002.safetensors", names[1::2]),
    ):
        save_file({name: load_file(weights)[name] for name in some}, vit / file, metadata={"format": "pt"})
    weights.unlink()
    with pytest.raises(UserError, match=r"a part of the weights .* no model\.safetensors\.index\.json"):
        load_encoder(f"hf:{vit}")
    index = vit / "model.safetensors.index.json"
    told = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    index.write_text(json.dumps({"metadata": {}, "weight_map": told}))
    assert len(load_encoder(f"hf:{vit}").source["sha256"]) == 2
    index.write_text(json.dumps({"weight_map": {**told, names[0]: "../secret.safetensors"}}))
    with pytest.raises(UserError, match="no file of its folder"):
        load_encoder(f"hf:{vit}")
    index.write_text(json.dumps({"weight_map": told}))
    (vit / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match="lacks 1 of 2 files of weights"):
        load_encoder(f"hf:{vit}")
    for file in vit.glob("model*"):
        file.unlink()
    (vit / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match=r"pytorch_model\.bin, which could run code; .* convert them"):
        load_encoder(f"hf:{vit}")


def test_a_tower_that_no_auto_model_opens_is_told(tmp_path: Path) -> None:
    small = {"vocab_size": 64, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    hf.ClapTextModel(hf.ClapTextConfig(intermediate_size=8, **small)).save_pretrained(tmp_path / "tower")
    with pytest.raises(UserError, match=r"holds a clap_text_model, .* save the whole model there"):
        load_encoder(f"hf:{tmp_path / 'tower'}")


def test_a_configuration_names_no_code_to_fetch(vit: Path) -> None:
    path = vit / "config.json"
    told = {"_attn_implementation": "someone/kernel", "attn_implementation": "someone/kernel", "use_kernels": True}
    path.write_text(json.dumps(json.loads(path.read_text()) | told))
    assert load_encoder(f"hf:{vit}").dim == 16


# ---------------------------------------------------------------- sound

CONVOLUTIONS = {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
SAMPLES: dict[str, Any] = {**SIZES, **CONVOLUTIONS}
SOUNDS: dict[str, Callable[[], Made]] = {
    "wav2vec2": lambda: (hf.Wav2Vec2ForCTC(hf.Wav2Vec2Config(vocab_size=9, **SAMPLES)), hf.Wav2Vec2FeatureExtractor()),
    "layer norm": lambda: (
        hf.Wav2Vec2Model(hf.Wav2Vec2Config(feat_extract_norm="layer", do_stable_layer_norm=True, **SAMPLES)),
        hf.Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=False),
    ),
    "hubert": lambda: (hf.HubertModel(hf.HubertConfig(**SAMPLES)), hf.Wav2Vec2FeatureExtractor()),
    "wavlm": lambda: (hf.WavLMModel(hf.WavLMConfig(**SAMPLES)), hf.Wav2Vec2FeatureExtractor()),
    "data2vec": lambda: (
        hf.Data2VecAudioModel(
            hf.Data2VecAudioConfig(**{**SAMPLES, "num_conv_pos_embeddings": 2}, conv_pos_kernel_size=3)
        ),
        hf.Wav2Vec2FeatureExtractor(),
    ),
    "ast": lambda: (
        hf.ASTModel(hf.ASTConfig(max_length=100, num_mel_bins=32, **SIZES)),
        hf.ASTFeatureExtractor(max_length=100, num_mel_bins=32),
    ),
    "whisper": lambda: (
        hf.WhisperModel(
            hf.WhisperConfig(
                d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
                encoder_ffn_dim=16, decoder_ffn_dim=16, max_source_positions=50, max_target_positions=8, vocab_size=30,
                num_mel_bins=16, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
            )
        ),
        hf.WhisperFeatureExtractor(feature_size=16, chunk_length=1),
    ),
}  # fmt: skip
RATE = 16_000


def noise(samples: int, seed: int = 0) -> NDArray[np.int16]:
    return (np.random.default_rng(seed).standard_normal(samples) * 3000).astype(np.int16)


@torch.inference_mode()
@pytest.mark.parametrize("name", SOUNDS)
def test_a_sound_is_embedded_as_by_its_own_library(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, extractor = SOUNDS[name]()
    with quiet():
        shaken(model).save_pretrained(tmp_path / "model")
        extractor.save_pretrained(tmp_path / "model")
        own = hf.AutoModel.from_pretrained(tmp_path / "model").eval()
    own = own.get_encoder() if name == "whisper" else own
    encoder = load_encoder(f"hf:{tmp_path / 'model'}")
    sounds = [noise(RATE), noise(9_000, 1), noise(14_321, 2), noise(300, 3)]
    batch = encoder.prepare(sounds, rate=RATE)  # type: ignore[call-arg, arg-type]
    features = encoder(batch, depths=range(encoder.n_depths))
    for row, sound in enumerate(sounds[:3]):
        given = extractor(sound.astype(np.float32) / 32768, sampling_rate=RATE, return_tensors="pt")
        key = next(iter(given))
        said = own(given[key], output_hidden_states=True)
        for states, found in ((said.last_hidden_state, features.pooled), (said.hidden_states[1], features.depths[0])):
            tokens = states[0]
            if name == "ast":  # 2 bands of 9 stretches of 10 frames
                tokens = tokens[-18:].reshape(2, 9, -1).mean(0)[: -(-len(sound) // 1600)]
            if name == "whisper":
                tokens = tokens[: -(-len(sound) // 320)]
            torch.testing.assert_close(found[row], tokens.mean(0), rtol=1e-4, atol=1e-5)
        alone = encoder(encoder.prepare(sound, rate=RATE))  # type: ignore[call-arg]
        torch.testing.assert_close(alone.pooled[0], features.pooled[row])
        counts = features.valid[row]  # type: ignore[index]
        torch.testing.assert_close(features.tokens[row][counts].mean(0), features.pooled[row], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.depths[-1], features.pooled)
    assert not isinstance(encoder, Masking)
    with pytest.raises(UserError, match="has no graph"):
        export(encoder, to="onnx", out=tmp_path / "graph")
    if name in ("ast", "whisper"):  # which hear a second at once: all copies are compared on whole windows
        export(encoder, to="hf", out=tmp_path / "out")
    else:
        save_encoder(encoder, tmp_path / "out")
    for again in (load_encoder(tmp_path / "out"), load_encoder(f"hf:{tmp_path / 'out'}")):
        assert torch.equal(again(batch).pooled, features.pooled)
    assert fresh_twin(encoder, 1)(batch).pooled.shape == features.pooled.shape


@torch.inference_mode()
def test_long_sounds_are_heard_in_windows(tmp_path: Path) -> None:
    for name in ("ast", "whisper"):
        model, extractor = SOUNDS[name]()
        with quiet():
            shaken(model).save_pretrained(tmp_path / name)
            extractor.save_pretrained(tmp_path / name)
        encoder = load_encoder(f"hf:{tmp_path / name}")
        whole, cut = noise(40_000), 16_000
        parts = [whole[begin : begin + cut] for begin in range(0, 40_000, cut)]
        said = [encoder(encoder.prepare(part, rate=RATE)) for part in parts]  # type: ignore[call-arg]
        together = encoder(encoder.prepare(whole, rate=RATE))  # type: ignore[call-arg]
        counts = torch.tensor([float(part.valid.sum()) for part in said])  # type: ignore[union-attr]
        wanted = (torch.cat([part.pooled for part in said]) * counts[:, None]).sum(0) / counts.sum()
        torch.testing.assert_close(together.pooled[0], wanted, rtol=1e-4, atol=1e-5)


def test_frames_of_public_models_are_those_of_data() -> None:
    from tacit.modalities.audio import hf as hf_audio
    from tacit.modalities.audio import store

    for name in ("WINDOW", "HOP", "MELS", "MELS_NARROW", "LOW"):
        assert getattr(hf_audio, name) == getattr(store, name)


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"sampling_rate": 96_000}, "96,000 Hz; 4,000 to 48,000 Hz can be read"),
        ({"feature_extractor_type": "EncodecFeatureExtractor"}, "which is not read; choose a model like"),
        ({"feature_extractor_type": "WhisperFeatureExtractor", "chunk_length": 10**9}, "do not trust it"),
        ({"feature_extractor_type": "ASTFeatureExtractor", "num_mel_bins": 10**9}, "do not trust it"),
    ],
)
def test_sounds_that_cannot_be_read(tmp_path: Path, told: dict[str, Any], match: str) -> None:
    model, extractor = SOUNDS["hubert"]()
    with quiet():
        model.save_pretrained(tmp_path)
        extractor.save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | told))
    with pytest.raises(UserError, match=match):
        load_encoder(f"hf:{tmp_path}")
