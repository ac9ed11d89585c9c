"""Contracts that every encoder keeps, whatever its architecture or origin."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tacit.core.errors import UserError
from tacit.core.types import Batch, Dropping, Encoder, Masking
from tacit.encoders import build_encoder, fresh_twin, load_encoder, save_encoder, wrap
from tacit.modalities import architectures
from tacit.modalities.image.convnet import ConvNet
from tacit.modalities.image.encoder import ImageEncoder
from tacit.modalities.image.framing import Framing
from tacit.modalities.image.spec import ImageSpec
from tests import tiny

GREY = ImageSpec(8, 1, (0.3,), (0.25,))
COLOUR = ImageSpec(16, 3, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
LARGE = ImageSpec(72, 3, COLOUR.mean, COLOUR.std)  # above the small-image stem, and not divided by its stride


class Own(nn.Module):
    """A person's module; `shape` says what it answers with."""

    def __init__(self, shape: str) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.BatchNorm2d(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)  # [B 6 4 4]
        return {"map": x, "tokens": x.flatten(2).transpose(1, 2), "vector": x.mean((2, 3))}[self.shape]


def hugging_face_folder(kind: str, folder: Path) -> str:
    """A tiny model with random weights as Hugging Face saves it, with a card and a preprocessing of its own."""
    import transformers as hf

    from tacit.encoders.hf import quiet

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 4}
    stages = {"hidden_sizes": [4, 8, 8, 12], "depths": [1, 1, 1, 1]}
    model = {
        "dinov2": lambda: hf.Dinov2Model(hf.Dinov2Config(**sizes)),
        "vit": lambda: hf.ViTModel(hf.ViTConfig(intermediate_size=32, **sizes)),
        "convnext": lambda: hf.ConvNextModel(hf.ConvNextConfig(**stages)),
        "resnet": lambda: hf.ResNetModel(hf.ResNetConfig(embedding_size=4, **stages)),
        "bert": lambda: hf.BertModel(
            hf.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
        ),
    }[kind]()
    target = folder / kind
    with quiet():
        model.save_pretrained(target)
    size = 64 if kind in {"convnext", "resnet"} else 16
    said = {"do_resize": True, "size": {"shortest_edge": size}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2] * 3}
    (target / "preprocessor_config.json").write_text(json.dumps(said))
    (target / "README.md").write_text("---\ntags: [vision]\nlicense: apache-2.0\n---\n# A model\nlicense: none\n")
    return f"hf:{target}"


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageEncoder]:
    torch.manual_seed(0)
    built = {name: build_encoder(name, COLOUR) for name in ("convnet", "resnet18", "resnet50", "vit_tiny")}
    built["convnet grey"] = build_encoder("convnet", GREY, width=32)
    built["convnet odd"] = build_encoder("convnet", ImageSpec(27, 1, (0.5,), (0.2,)))
    built["resnet18 large"] = build_encoder("resnet18", LARGE)
    built["vit_tiny grey"] = build_encoder("vit_tiny", GREY, patch=2)
    folder = tmp_path_factory.mktemp("hf")
    built |= {f"hf {kind}": build_encoder(hugging_face_folder(kind, folder), COLOUR) for kind in ("dinov2", "resnet")}
    built |= {f"own {shape}": wrap(Own(shape), COLOUR) for shape in ("map", "tokens", "vector")}
    for encoder in built.values():
        settle_norms(encoder)
    return built


def settle_norms(encoder: ImageEncoder) -> None:
    """Running statistics as training would leave them."""
    norms = [layer for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # take the next batch's as they are
    with torch.inference_mode(False), torch.no_grad():
        encoder.train()(images(encoder.spec, 16, seed=9))
    encoder.eval()


NAMES = [
    *("convnet", "convnet grey", "convnet odd", "resnet18", "resnet18 large", "resnet50", "vit_tiny", "vit_tiny grey"),
    *("hf dinov2", "hf resnet", "own map", "own tokens", "own vector"),
]


LARGEST_IS_SLOW = [pytest.param(name, marks=pytest.mark.slow) if name == "resnet50" else name for name in NAMES]


@pytest.fixture(params=LARGEST_IS_SLOW)
def encoder(request: pytest.FixtureRequest, everything: dict[str, ImageEncoder]) -> ImageEncoder:
    return everything[request.param].eval()


@pytest.fixture(params=[name for name in NAMES if name not in {"own tokens", "own vector"}])
def masking(request: pytest.FixtureRequest, everything: dict[str, ImageEncoder]) -> ImageEncoder:
    return everything[request.param].eval()


@pytest.fixture(params=["vit_tiny", "vit_tiny grey"])
def dropping(request: pytest.FixtureRequest, everything: dict[str, ImageEncoder]) -> ImageEncoder:
    return everything[request.param].eval()


def assert_same(features: Tensor, others: Tensor, encoder: ImageEncoder) -> None:
    """Equal but for rounding, which the many norms of a fresh ResNet amplify."""
    allowed = 5e-4 if "resnet" in encoder.name else 1e-5
    assert float((features - others).abs().max() / others.abs().max().clamp(min=1)) <= allowed


def images(spec: ImageSpec, rows: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, spec.channels, spec.size, spec.size)
    return {"image": torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)}


def test_every_name_of_the_table_is_covered() -> None:
    same_code = {"vit_small", "vit_base"}  # other widths of vit_tiny, see test_vit_layouts
    images = {name for name, of in architectures().items() if of.modality == "image"}
    assert {name.split()[0] for name in NAMES} >= images - same_code


@torch.inference_mode()
def test_shapes(encoder: ImageEncoder) -> None:
    assert isinstance(encoder, Encoder)
    features = encoder(images(encoder.spec, 3), depths=range(encoder.n_depths))
    assert features.tokens.shape == (3, np.prod(encoder.grid), encoder.dim)
    assert features.pooled.shape == (3, encoder.dim)
    assert features.grid == encoder.grid
    assert [depth.shape[0] for depth in features.depths] == [3] * encoder.n_depths
    assert all(depth.ndim == 2 for depth in features.depths)
    torch.testing.assert_close(features.pooled, features.tokens.mean(1))
    torch.testing.assert_close(features.depths[-1], features.pooled)
    assert encoder(images(encoder.spec, 3)).depths == ()


@torch.inference_mode()
def test_a_row_does_not_depend_on_its_batch(encoder: ImageEncoder) -> None:
    batch = images(encoder.spec, 5)
    together = encoder(batch).pooled
    alone = torch.cat([encoder({"image": row[None]}).pooled for row in batch["image"]])
    assert_same(together, alone, encoder)
    assert together.std(0).max() > 1e-3  # and is not the same whatever comes in


@torch.inference_mode()
def test_integer_and_float_images_mean_the_same(encoder: ImageEncoder) -> None:
    image = images(encoder.spec, 2)["image"]
    eight = encoder({"image": image}).pooled
    sixteen = encoder({"image": image.to(torch.uint16) * torch.tensor(257, dtype=torch.uint16)}).pooled
    assert_same(eight, sixteen, encoder)
    assert_same(eight, encoder({"image": image.float() / 255}).pooled, encoder)


@torch.inference_mode()
def test_hidden_pixels_do_not_matter_and_others_do(masking: ImageEncoder) -> None:
    assert isinstance(masking, Masking)
    batch, other = images(masking.spec, 2), images(masking.spec, 2, seed=1)
    mask = torch.rand(2, int(np.prod(masking.grid)), generator=torch.Generator().manual_seed(2)) < 0.5
    mask[:, 0], mask[:, -1] = True, False  # one of each at least
    hidden = where(masking, mask)
    swapped = {"image": torch.where(hidden, other["image"], batch["image"])}
    assert torch.equal(masking.masked(batch, mask).tokens, masking.masked(swapped, mask).tokens)
    shown = {"image": torch.where(hidden, batch["image"], other["image"])}
    assert not torch.allclose(masking.masked(batch, mask).pooled, masking.masked(shown, mask).pooled, atol=1e-4)
    none = torch.zeros_like(mask)
    assert_same(masking.masked(batch, none).tokens, masking(batch).tokens, masking)


def where(encoder: ImageEncoder, mask: Tensor) -> Tensor:
    """The pixels [B 1 S S] that the contract says a mask [B N] hides, pixel by pixel."""
    size, (rows, columns) = encoder.spec.size, encoder.grid
    hidden = torch.zeros(len(mask), 1, size, size, dtype=torch.bool)
    for place in range(rows * columns):
        y, x = (place // columns) * encoder.stride, (place % columns) * encoder.stride
        hidden[:, :, y : y + encoder.stride, x : x + encoder.stride] = mask[:, place, None, None, None]
    return hidden


@torch.inference_mode()
def test_visible_tokens(dropping: ImageEncoder) -> None:
    assert isinstance(dropping, Dropping)
    batch = images(dropping.spec, 2)
    places = int(np.prod(dropping.grid))
    everything = torch.stack([torch.arange(places), torch.arange(places)])
    assert_same(dropping.visible(batch, everything), dropping(batch).tokens, dropping)
    keep = torch.tensor([[3, 0, 5], [1, 2, 7]])
    some = dropping.visible(batch, keep)
    turned = dropping.visible(batch, keep.flip(1))  # the order of places means nothing
    assert_same(some, turned.flip(1), dropping)
    mask = torch.ones(2, places, dtype=torch.bool).scatter(1, keep, False)
    other = torch.where(where(dropping, mask), images(dropping.spec, 2, seed=1)["image"], batch["image"])
    assert torch.equal(some, dropping.visible({"image": other}, keep))


def test_what_cannot_be_masked_says_so(everything: dict[str, ImageEncoder]) -> None:
    for name in ("own tokens", "own vector"):
        assert not isinstance(everything[name], Masking)
    assert not isinstance(everything["convnet"], Dropping)


def test_gradients_reach_every_parameter(encoder: ImageEncoder) -> None:
    encoder.train()
    encoder(images(encoder.spec, 3)).tokens.square().mul(torch.rand(encoder.dim)).sum().backward()
    without = [
        name for name, parameter in encoder.named_parameters() if parameter.requires_grad and no_gradient(parameter)
    ]
    encoder.zero_grad()
    assert without == []


def test_gradients_reach_the_mask_token_once_a_task_asks(masking: ImageEncoder) -> None:
    assert not masking.mask_token.requires_grad
    mask = torch.arange(np.prod(masking.grid))[None] == 0
    masking.mask_token.requires_grad_(True)
    masking.masked(images(masking.spec, 1), mask).tokens.square().mul(torch.rand(masking.dim)).sum().backward()
    masking.mask_token.requires_grad_(False)
    assert not no_gradient(masking.mask_token)
    masking.zero_grad()


def no_gradient(parameter: nn.Parameter) -> bool:
    return parameter.grad is None or not bool(parameter.grad.abs().sum() > 0)


@torch.inference_mode()
def test_saved_and_loaded_is_the_same(encoder: ImageEncoder, tmp_path: Path) -> None:
    own = getattr(encoder, "module", None)
    before = torch.get_rng_state()
    save_encoder(encoder.to(memory_format=torch.channels_last), tmp_path / "run" / "encoder", card={"task": "simclr"})
    fresh = Own(own.shape) if own is not None else None
    loaded = load_encoder(tmp_path / "run", module=fresh)  # a run folder
    if own is None:
        assert torch.equal(torch.get_rng_state(), before)
    assert not loaded.training
    state = encoder.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    batch = images(encoder.spec, 3)
    assert_same(loaded(batch).tokens, encoder(batch).tokens, encoder)
    assert (loaded.name, loaded.spec, loaded.source) == (encoder.name, encoder.spec, encoder.source)
    assert (loaded.dim, loaded.n_depths, loaded.grid, loaded.stride) == (
        (encoder.dim, encoder.n_depths, encoder.grid, encoder.stride)
    )
    said = json.loads((tmp_path / "run" / "encoder" / "encoder.json").read_text())
    assert said["card"] == {"task": "simclr"}
    files = {path.name for path in (tmp_path / "run" / "encoder").iterdir()}
    assert said["weights"].keys() == {name for name in files if name.endswith(".safetensors")}
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["encoder"]  # nothing partial is left


@pytest.mark.parametrize("name", ["vit_tiny", "vit_tiny grey", "resnet18 large", "hf dinov2", "hf resnet"])
@torch.inference_mode()
def test_opens_without_tacit(name: str, everything: dict[str, ImageEncoder], tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, AutoModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    from tacit.encoders.hf import quiet

    encoder = everything[name]
    save_encoder(encoder, tmp_path / "out")
    with quiet():
        model, said = AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(said.values())  # nothing missing, nothing left over
    try:
        processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    except ImportError:  # transformers 5.17 asks for torchvision at this door
        processor = ViTImageProcessorPil.from_pretrained(tmp_path / "out")
    rng = np.random.default_rng(0)
    shape = (50, 40) if encoder.spec.channels == 1 else (50, 40, 3)
    pictures = [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for _ in range(2)]
    pixels = torch.from_numpy(np.stack(processor(images=pictures)["pixel_values"]))
    batch = encoder.prepare(pictures)
    if encoder.spec.size >= 50 / 3:  # below a third, Pillow takes a shortcut that the processor knows nothing of
        torch.testing.assert_close(pixels, encoder.normalise(batch), rtol=1e-5, atol=1e-5)
    hidden = model(encoder.normalise(batch)).last_hidden_state
    pooled = eval(encoder.pooling, {"last_hidden_state": hidden})  # what encoder.json tells people to write
    assert_same(pooled, encoder(batch).pooled, encoder)
    again = load_encoder(f"hf:{tmp_path / 'out'}")  # its own folder through the other door
    assert_same(again(batch).tokens, encoder(batch).tokens, encoder)


@torch.inference_mode()
def test_hugging_face_folder(tmp_path: Path, everything: dict[str, ImageEncoder]) -> None:
    from transformers import AutoModel

    from tacit.encoders.hf import quiet

    encoder = load_encoder(hugging_face_folder("vit", tmp_path), offline=True)
    assert encoder.spec == ImageSpec(16, 3, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), framing=Framing(16, False, 2))
    assert encoder.source["licence"] == "apache-2.0"
    assert encoder.source["name"] == "vit"
    assert len(encoder.source["sha256"]["model.safetensors"]) == 64
    batch = images(encoder.spec, 2)
    with quiet():
        model = AutoModel.from_pretrained(tmp_path / "vit")
    hidden = model(encoder.normalise(batch), output_hidden_states=True)
    features = encoder(batch, depths=[0])
    torch.testing.assert_close(features.tokens, hidden.last_hidden_state[:, 1:])
    torch.testing.assert_close(features.depths[0], hidden.hidden_states[1][:, 1:].mean(1))
    # Other shapes of data are fitted to the model, so that it can be compared on the same batches.
    grey = torch.rand(2, 1, 8, 8)
    assert encoder({"image": grey}).pooled.shape == (2, 16)
    torch.testing.assert_close(encoder({"image": grey}).pooled, encoder({"image": grey.expand(-1, 3, -1, -1)}).pooled)
    flat = torch.full((1, 1, 8, 8), 0.25)
    torch.testing.assert_close(
        encoder({"image": flat}).pooled, encoder({"image": torch.full((1, 3, 16, 16), 0.25)}).pooled
    )


def test_hugging_face_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image model"):
        load_encoder(hugging_face_folder("bert", tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no config\.json"):
        load_encoder(f"hf:{tmp_path / 'empty'}")
    with pytest.raises(UserError, match="offline"):
        load_encoder("hf:nobody-at-all/no-such-model", offline=True)
    with pytest.raises(UserError, match="neither a folder here nor a name"):
        load_encoder("hf:not a name", offline=True)
    vit = Path(hugging_face_folder("vit", tmp_path).removeprefix("hf:"))
    (vit / "model.safetensors").rename(vit / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled"):
        load_encoder(f"hf:{vit}")
    (vit / "pytorch_model.bin").rename(vit / "model.safetensors")
    with pytest.raises(UserError, match="write hf:"):
        load_encoder(vit)
    config = json.loads((vit / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.EvilConfig"}}
    (vit / "config.json").write_text(json.dumps(config))
    (vit / "evil.py").write_text("raise SystemExit('ran remote code')")
    with pytest.raises(UserError, match="knows no model_type 'evil'"):
        load_encoder(f"hf:{vit}")


@pytest.mark.usefixtures("usual_sizes")
def test_vit_layouts() -> None:
    with torch.device("meta"):
        counts = {
            name: sum(p.numel() for p in build_encoder(name, ImageSpec(224, 3, (0.5,) * 3, (0.5,) * 3)).parameters())
            for name in ("vit_tiny", "vit_small", "vit_base")
        }
    # Touvron et al. 2020, table 1: 5, 22 and 86 million, of which 0.2 to 0.8 million are the classifier.
    assert {name: round(count / 1e6, 1) for name, count in counts.items()} == {
        "vit_tiny": 5.5,
        "vit_small": 21.7,
        "vit_base": 85.8,
    }


@pytest.mark.parametrize(
    ("size", "patch"), [(8, 1), (16, 2), (28, 4), (32, 4), (48, 6), (64, 8), (96, 12), (128, 16), (224, 16), (7, 1)]
)
def test_default_patch(size: int, patch: int) -> None:
    from tacit.modalities.image.vit import patch_size

    assert patch_size(size, None) == patch


def test_a_patch_that_does_not_fit() -> None:
    with pytest.raises(
        UserError, match=r"patch of 5 px does not divide an image of 28 px; choose one of 1, 2, 4, 7, 14"
    ):
        build_encoder("vit_tiny", ImageSpec(28, 1, (0.5,), (0.5,)), patch=5)


@pytest.mark.parametrize(
    ("size", "grid", "stages"),
    [(8, 2, 3), (16, 4, 3), (17, 3, 5), (28, 4, 5), (32, 4, 5), (33, 3, 7), (64, 4, 7), (96, 3, 9), (4, 1, 3)],
)
def test_convnet_stages(size: int, grid: int, stages: int) -> None:
    encoder = ConvNet("convnet", ImageSpec(size, 1, (0.5,), (0.5,)))
    assert (encoder.grid, encoder.n_depths) == ((grid, grid), stages)
    assert encoder({"image": torch.rand(2, 1, size, size)}).grid == (grid, grid)


def test_fresh_weights_come_from_torch_alone() -> None:
    def fresh(seed: int) -> Tensor:
        torch.manual_seed(seed)
        np.random.default_rng().random()
        return torch.cat([p.flatten() for p in build_encoder("vit_tiny", GREY).parameters()])

    assert torch.equal(fresh(1), fresh(1))
    assert not torch.equal(fresh(1), fresh(2))


def test_a_fresh_twin_has_the_shape_and_other_weights(encoder: ImageEncoder) -> None:
    before = torch.get_rng_state()
    twin, same, other = fresh_twin(encoder, 1), fresh_twin(encoder, 1), fresh_twin(encoder, 2)
    assert torch.equal(torch.get_rng_state(), before)
    batch = images(encoder.spec, 4)
    with torch.inference_mode():
        pooled = [one.train()(batch).pooled for one in (twin, same, other, copy.deepcopy(encoder))]
    assert torch.equal(pooled[0], pooled[1])
    assert all((pooled[0] - another).abs().max() > 1e-3 for another in pooled[2:])
    assert (twin.dim, twin.grid, twin.stride, twin.n_depths) == (
        (encoder.dim, encoder.grid, encoder.stride, encoder.n_depths)
    )


@pytest.mark.usefixtures("usual_sizes")
def test_unknown_names_and_options() -> None:
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        build_encoder("resnet-18", COLOUR)
    with pytest.raises(UserError, match="has no option 'patch'; it has width"):
        build_encoder("convnet", COLOUR, patch=4)
    assert build_encoder("convnet", COLOUR, patch=None).options == {"width": 128}


def test_images_of_another_shape() -> None:
    with pytest.raises(UserError, match=r"takes images \[B 3 H W\]"):
        build_encoder("convnet", COLOUR)(images(GREY, 1))
    with pytest.raises(UserError, match="images of 8 px, not 16 x 16"):
        build_encoder("vit_tiny", GREY)({"image": torch.rand(1, 1, 16, 16)})


def test_own_module_with_another_answer() -> None:
    with pytest.raises(UserError, match="Flatten answers 2 images with"):
        wrap(nn.Flatten(0), COLOUR)
    module = Own("map").train()
    wrap(module, COLOUR)
    assert module.training


def test_prepare(tmp_path: Path) -> None:
    encoder = build_encoder("convnet", COLOUR)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    from_path = encoder.prepare(tmp_path / "a.png")["image"]
    assert from_path.shape == (1, 3, 16, 16)
    assert from_path.dtype == torch.uint8
    for same in (str(tmp_path / "a.png"), Image.fromarray(pixels), pixels, pixels[None], [pixels]):
        assert torch.equal(encoder.prepare(same)["image"], from_path)
    both = encoder.prepare([tmp_path / "a.png", pixels[::-1].copy()])
    assert both["image"].shape == (2, 3, 16, 16)
    assert both["index"].tolist() == [0, 1]
    exact = np.random.default_rng(1).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    assert torch.equal(encoder.prepare(exact)["image"], torch.from_numpy(exact))
    assert torch.equal(encoder.prepare(exact / 255)["image"], torch.from_numpy(exact))
    grey = build_encoder("convnet", GREY)
    deep = grey.prepare([np.full((8, 8), 65535, np.uint16), np.full((8, 8), 255, np.uint8)])["image"]
    assert deep.dtype == torch.uint16
    assert deep.unique().tolist() == [65535]


def test_prepare_refuses_what_is_no_image(tmp_path: Path) -> None:
    encoder = build_encoder("convnet", COLOUR)
    (tmp_path / "no.png").write_bytes(b"no image")
    for bad, match in [
        (tmp_path / "no.png", r"no\.png: not an image"),
        (tmp_path / "absent.png", "absent"),
        (np.zeros((2, 2, 2, 2, 2), np.uint8), "an array of shape"),
        ([], "nothing to prepare"),
    ]:
        with pytest.raises(UserError, match=match):
            encoder.prepare(bad)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_encoder(build_encoder("convnet", GREY, width=8), tmp_path / "encoder")
    return tmp_path / "encoder"


def test_damage_is_named(folder: Path) -> None:
    weights = folder / "encoder.safetensors"
    whole = bytearray(weights.read_bytes())
    whole[-1] ^= 1
    weights.write_bytes(whole)
    with pytest.raises(UserError, match=r"encoder\.safetensors is damaged"):
        load_encoder(folder)
    weights.unlink()
    with pytest.raises(UserError, match="is missing"):
        load_encoder(folder)


def test_folders_from_before_there_were_kinds(folder: Path) -> None:
    path = folder / "encoder.json"
    said = json.loads(path.read_text())
    assert said.pop("kind") == "image"
    del said["sha256"]  # nor did they have one
    path.write_text(json.dumps(said))
    assert load_encoder(folder).spec == GREY


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": 99}, "newer Tacit"),
        ({"version": None}, "damaged"),
        ({"options": {"width": 16}}, "do not fit convnet"),
    ],
)
def test_descriptions_that_are_refused(folder: Path, change: dict[str, object], match: str) -> None:
    path = folder / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": None} | change))
    with pytest.raises(UserError, match=match):
        load_encoder(folder)


def test_pickles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"\x80\x02.")
    for source in (tmp_path / "model.pt", tmp_path):
        with pytest.raises(UserError, match=r"(is|holds) a pickle"):
            load_encoder(source)
    with pytest.raises(UserError, match="there is no encoder at"):
        load_encoder(tmp_path / "absent")


def test_saving_replaces_an_encoder_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    second = build_encoder("convnet", GREY, width=16)
    save_encoder(second, folder)
    assert load_encoder(folder).dim == 16

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tacit.encoders.folder.sha256", full_disk)
        with pytest.raises(OSError, match="No space left"):
            save_encoder(build_encoder("convnet", GREY, width=8), folder)
    assert load_encoder(folder).dim == 16  # what was there is still there
    assert [path.name for path in folder.parent.iterdir()] == ["encoder"]
    (folder.parent / "photos").mkdir()
    (folder.parent / "photos" / "a.png").write_bytes(b"dear to someone")
    with pytest.raises(UserError, match="holds something else"):
        save_encoder(second, folder.parent / "photos")


def test_own_module_is_needed_to_load_it(tmp_path: Path) -> None:
    save_encoder(wrap(Own("map"), COLOUR), tmp_path / "own")
    with pytest.raises(UserError, match=r"module=Own\(\.\.\.\)"):
        load_encoder(tmp_path / "own")


@pytest.mark.parametrize("given", [None, 0, b"abc", {"a": 1}, {1, 2}, [], iter(())])
def test_what_is_no_list_of_examples_is_refused_in_a_line(given: object) -> None:
    for make in (
        tiny.tiny_encoder,
        tiny.tiny_text_encoder,
        tiny.tiny_audio_encoder,
        tiny.tiny_series_encoder,
        tiny.tiny_volume_encoder,
        tiny.tiny_item_encoder,
    ):
        with pytest.raises(UserError, match=r"cannot prepare a \w+; pass|nothing to prepare; pass at least one of"):
            make().prepare(given)  # type: ignore[arg-type]


def test_tensors_are_prepared_as_arrays() -> None:
    images = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    encoder = tiny.tiny_encoder()
    assert torch.equal(encoder.prepare(images)["image"], encoder.prepare(list(images.numpy()))["image"])
    assert torch.equal(encoder.prepare([*images])["image"], encoder.prepare(list(images.numpy()))["image"])
