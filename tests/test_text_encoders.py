"""Contracts that every encoder of text keeps, whatever its architecture or origin."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tacit.core.errors import UserError
from tacit.core.types import Batch, Encoder
from tacit.encoders import build_encoder, fresh_twin, is_own, load_encoder, save_encoder
from tacit.modalities import architectures
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.text.encoder import TextEncoder, packed
from tests import texts
from tests.texts import LENGTH, TEXTS, alone, documents

OURS = ["bert_nano", "modernbert_nano"]
THEIRS = ["bert", "modernbert", "roberta", "distilbert", "electra"]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TextEncoder]:
    folder = tmp_path_factory.mktemp("hf")
    built = {name: texts.encoder(name) for name in OURS}
    for kind in THEIRS:
        found = load_encoder(texts.folder_of(kind, folder))
        assert isinstance(found, TextEncoder)
        built[f"hf {kind}"] = found
    return built


@pytest.fixture(params=[*OURS, *(f"hf {kind}" for kind in THEIRS)])
def encoder(request: pytest.FixtureRequest, everything: dict[str, TextEncoder]) -> TextEncoder:
    return everything[request.param].eval()


@pytest.fixture(params=[*OURS, "hf bert", "hf modernbert"])
def packing(request: pytest.FixtureRequest, everything: dict[str, TextEncoder]) -> TextEncoder:
    return everything[request.param].eval()


def assert_same(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * max(1.0, float(wanted.detach().abs().max())))


def test_every_name_of_the_table_is_covered() -> None:
    families = {name.partition("_")[0] for name, of in architectures().items() if of.modality == "text"}
    assert families == {name.partition("_")[0] for name in OURS}


@torch.inference_mode()
def test_shapes(encoder: TextEncoder) -> None:
    assert isinstance(encoder, Encoder)
    assert is_own(encoder)
    batch = documents(7, 12, 2)
    features = encoder(batch, depths=range(encoder.n_depths))
    assert features.tokens.shape == (3, 12, encoder.dim)
    assert len(features.depths) == encoder.n_depths == 3
    assert_same(features.depths[-1], features.pooled)
    assert not torch.allclose(features.depths[0], features.pooled)
    assert features.valid is not None
    assert features.valid.sum(1).tolist() == [5, 10, 2]  # no padding, nothing special, but where there is nothing else
    for row in range(3):
        assert_same(features.pooled[row], features.tokens[row][features.valid[row]].mean(0))


@torch.inference_mode()
def test_one_window_is_what_hugging_face_says(encoder: TextEncoder) -> None:
    batch = documents(LENGTH, 9)
    said = encoder.base(batch["tokens"], attention_mask=batch["valid"].long(), output_hidden_states=True)
    features = encoder(batch, depths=[0])
    assert_same(features.tokens[batch["valid"]], said[0][batch["valid"]])
    assert features.valid is not None
    first = said.hidden_states[0]
    assert_same(features.depths[0][1], first[1][features.valid[1]].mean(0))


@torch.inference_mode()
def test_padding_and_company_change_nothing(encoder: TextEncoder) -> None:
    batch = documents(5, LENGTH, 3 * LENGTH + 1, 2 * LENGTH)
    together = encoder(batch, depths=[0])
    for row in range(4):
        own = encoder(alone(batch, row), depths=[0])
        assert_same(together.pooled[row], own.pooled[0])
        assert_same(together.depths[0][row], own.depths[0][0])
        assert_same(together.tokens[row, : own.tokens.shape[1]], own.tokens[0])
    wider = {name: nn.functional.pad(batch[name], (0, 5)) for name in ("tokens", "valid")}
    assert_same(encoder(wider).pooled, together.pooled)


@torch.inference_mode()
def test_long_rows_are_read_in_windows(encoder: TextEncoder) -> None:
    batch = documents(2 * LENGTH + 7)
    features = encoder(batch)
    parts = [
        encoder({"tokens": part, "valid": torch.ones_like(part, dtype=torch.bool)}).tokens
        for part in batch["tokens"].split(LENGTH, 1)
    ]
    assert_same(features.tokens, torch.cat(parts, 1))
    assert_same(features.pooled[0], features.tokens[0, 1:-1].mean(0))
    assert_same(encoder({"tokens": batch["tokens"]}).pooled, features.pooled)  # no `valid`: nothing is padding


@torch.inference_mode()
def test_packed_documents_are_as_alone(packing: TextEncoder) -> None:
    """Also one that the row's end cuts, one longer than a window, and padding behind them."""
    assert packing.packs
    batch = documents(7, 12, 2, 2 * LENGTH + 3, 9, seed=1)
    documents_ = [alone(batch, row)["tokens"][0] for row in range(5)]
    documents_[-1] = documents_[-1][:5]  # cut
    row = torch.cat([*documents_, torch.zeros(6, dtype=torch.int64)])
    segment = torch.cat([torch.full((len(own),), number) for number, own in enumerate([*documents_, row[:6]])])
    other = torch.cat([documents_[3], documents_[0], row.new_zeros(len(row))])[: len(row)]
    rows = torch.stack([row, other])
    segments = torch.stack([segment, (torch.arange(len(row)) >= len(documents_[3])).long() * 7])
    said = packing({"tokens": rows, "valid": rows != 0, "segment": segments}).tokens
    begin = 0
    for own in documents_:
        wanted = packing({"tokens": own[None], "valid": own[None] != 0}).tokens[0]
        assert_same(said[0, begin : begin + len(own)], wanted)
        begin += len(own)
    assert_same(said[1, : len(documents_[3])], packing({"tokens": documents_[3][None]}).tokens[0])
    assert bool(said.isfinite().all())


@torch.inference_mode()
def test_rows_of_nothing_are_finite(encoder: TextEncoder) -> None:
    for length in (5, 2 * LENGTH):
        empty = torch.zeros(2, length, dtype=torch.int64)
        features = encoder({"tokens": empty, "valid": empty != 0})
        assert features.tokens.shape == (2, length, encoder.dim)
        assert bool(features.tokens.isfinite().all())
        assert not features.pooled.any()


def test_positions_of_packed_rows() -> None:
    segment = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 5]])
    mask, position = packed(segment, segment < 5, 4)
    assert position is not None
    assert position.tolist() == [[0, 1, 2, 0, 1, 2, 3, 0, 0]]
    assert mask is not None
    assert mask[0, 0].sum(1).tolist() == [3, 3, 3, 4, 4, 4, 4, 1, 1]


def test_other_models_refuse_packed_rows(everything: dict[str, TextEncoder]) -> None:
    batch = documents(7)
    with pytest.raises(UserError, match="leave packing out"):
        everything["hf roberta"]({**batch, "segment": torch.zeros_like(batch["tokens"])})


def test_gradients_reach_every_parameter(encoder: TextEncoder) -> None:
    encoder = copy.deepcopy(encoder)
    encoder(documents(LENGTH, LENGTH, LENGTH, 9)).tokens.square().mul(torch.rand(encoder.dim)).sum().backward()
    assert [name for name, one in encoder.named_parameters() if one.requires_grad and no_gradient(one)] == []


def no_gradient(parameter: nn.Parameter) -> bool:
    return parameter.grad is None or not bool(parameter.grad.abs().sum() > 0)


def test_the_head_learns_once_a_task_asks(encoder: TextEncoder) -> None:
    encoder = copy.deepcopy(encoder)
    frozen = {name for name, parameter in encoder.named_parameters() if not parameter.requires_grad}
    assert any("bias" in name for name in frozen)
    assert not any("embeddings" in name for name in frozen)  # shared with the decoder
    assert encoder.headed == encoder.name.startswith("hf:")  # where it came trained
    encoder.train_head()
    assert encoder.headed
    batch = documents(LENGTH, 12)
    logits = encoder.logits(encoder(batch).tokens[batch["valid"]])
    assert logits.shape == (LENGTH + 12, encoder.spec.vocabulary)
    truth = encoder.model(batch["tokens"], attention_mask=batch["valid"].long()).logits[batch["valid"]]
    assert_same(logits, truth)
    nn.functional.cross_entropy(logits, batch["tokens"][batch["valid"]]).backward()
    assert [name for name, one in encoder.named_parameters() if no_gradient(one)] == []
    assert encoder.logits(torch.zeros(0, encoder.dim)).shape == (0, encoder.spec.vocabulary)


@torch.inference_mode()
@pytest.mark.parametrize("headed", [False, True])
def test_saved_and_loaded_is_the_same(encoder: TextEncoder, headed: bool, tmp_path: Path) -> None:
    encoder = copy.deepcopy(encoder)
    if headed:
        encoder.train_head()
    before = torch.get_rng_state()
    save_encoder(encoder, tmp_path / "run" / "encoder", card={"task": "masked"})
    loaded = load_encoder(tmp_path / "run")
    if not encoder.name.startswith("hf:"):
        assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(loaded, TextEncoder)
    assert not loaded.training
    state = encoder.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    batch = encoder.prepare(TEXTS)
    assert_same(loaded(batch).pooled, encoder(batch).pooled)
    assert (loaded.name, loaded.spec, loaded.source) == (encoder.name, encoder.spec, encoder.source)
    assert (loaded.dim, loaded.n_depths, loaded.headed, loaded.packs) == (
        (encoder.dim, encoder.n_depths, encoder.headed, encoder.packs)
    )
    assert len({id(one) for one in loaded.parameters()}) == len({id(one) for one in encoder.parameters()})  # tied
    folder = tmp_path / "run" / "encoder"
    said = json.loads((folder / "encoder.json").read_text())
    assert said["kind"] == "text"
    assert said["spec"]["tokenizer"].keys() == {"file", "sha256"}
    assert (folder / "tokenizer.json").read_text() == encoder.spec.tokenizer
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    numbers = sum(parameter.numel() for parameter in encoder.parameters())
    assert stored < 4 * numbers + 40_000  # nothing twice but a bias


@torch.inference_mode()
def test_a_copy_and_a_fresh_twin(encoder: TextEncoder) -> None:
    batch = encoder.prepare(TEXTS)
    before = torch.get_rng_state()
    twin, same, other = fresh_twin(encoder, 1), fresh_twin(encoder, 1), fresh_twin(encoder, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert not twin.headed
    pooled = [one.eval()(batch).pooled for one in (twin, same, other, encoder)]
    assert torch.equal(pooled[0], pooled[1])
    assert all((pooled[0] - another).abs().max() > 1e-3 for another in pooled[2:])
    assert (twin.spec, twin.dim, twin.n_depths) == (encoder.spec, encoder.dim, encoder.n_depths)
    copied = copy.deepcopy(encoder)
    assert torch.equal(copied(batch).pooled, pooled[3])
    with torch.no_grad():
        next(copied.parameters()).zero_()
    assert torch.equal(encoder(batch).pooled, pooled[3])


def test_prepare(everything: dict[str, TextEncoder]) -> None:
    encoder = everything["bert_nano"]
    batch = encoder.prepare(TEXTS)
    tokens, valid, word = batch["tokens"], batch["valid"], batch["word"]
    for row, text in enumerate(TEXTS):
        encoding = texts.tokenizer().encode(text)
        assert tokens[row][valid[row]].tolist() == encoding.ids
        words = [number for number in encoding.word_ids if number is not None]
        assert int(word[row].sum()) == len(set(words))
        assert not word[row, 0]
    assert batch["index"].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(encoder.prepare("A dog!")["tokens"], tokens[1:2][:, : int(valid[1].sum())])
    assert encoder.prepare(["a " * 5000])["tokens"].shape == (1, 2048)
    assert encoder.prepare(["a " * 5000])["tokens"][0, -1] == 3
    assert 4 not in encoder.prepare("a [MASK] dog")["tokens"]
    assert 4 in encoder.prepare("a [MASK] dog", masks=True)["tokens"]
    with pytest.raises(UserError, match="nothing to prepare"):
        encoder.prepare([])
    with pytest.raises(UserError, match=r"cannot prepare 7, a int"):
        encoder.prepare([7])  # type: ignore[list-item]


@pytest.mark.parametrize("name", OURS)
def test_dropout(name: str) -> None:
    built = texts.encoder(name, dropout=0.5).train()
    assert built.options == {"dropout": 0.5}
    batch = built.prepare(TEXTS)
    assert not torch.equal(built(batch).pooled, built(batch).pooled)
    built.set_dropout(0.0)
    assert torch.equal(built(batch).pooled, built(batch).pooled)
    later = texts.encoder(name).train()
    later.set_dropout(0.5)
    assert not torch.equal(later(batch).pooled, later(batch).pooled)
    assert fresh_twin(later, 0).options == {"dropout": 0.5}
    torch.manual_seed(3)
    one = later(batch).pooled
    torch.manual_seed(3)
    assert torch.equal(texts_like(later)(batch).pooled, one)  # a twin of these options drops the same


def texts_like(encoder: TextEncoder) -> TextEncoder:
    with torch.random.fork_rng():
        twin = fresh_twin(encoder, 0).train()
    twin.load_state_dict(encoder.state_dict())
    return twin


@torch.no_grad()
def test_grow(encoder: TextEncoder, tmp_path: Path) -> None:
    encoder = copy.deepcopy(encoder)
    batch, V = encoder.prepare(TEXTS), encoder.spec.vocabulary
    frozen = sum(not parameter.requires_grad for parameter in encoder.parameters())
    before = encoder(batch)
    logits = encoder.logits(before.tokens[:, 1])
    encoder.grow(V + 3)
    assert encoder.spec.vocabulary == V + 3
    assert sum(not parameter.requires_grad for parameter in encoder.parameters()) == frozen
    assert_same(encoder(batch).pooled, before.pooled)
    after = encoder.logits(before.tokens[:, 1])
    assert_same(after[:, :V], logits)
    assert_same(after[:, V:], logits.mean(1, keepdim=True).expand(-1, 3))
    rows = encoder.base.get_input_embeddings().weight
    assert_same(rows[V:], rows[:V].mean(0).expand(3, -1))
    assert bool(encoder({"tokens": torch.tensor([[2, V + 2, 3]])}).pooled.isfinite().all())
    save_encoder(encoder, tmp_path / "grown")
    assert_same(load_encoder(tmp_path / "grown")(batch).pooled, before.pooled)


@torch.no_grad()
def test_new_words_start_as_the_mean_of_their_tokens(encoder: TextEncoder, tmp_path: Path) -> None:
    encoder = copy.deepcopy(encoder)
    before, rows = encoder.spec.vocabulary, encoder.base.get_input_embeddings().weight
    parts = encoder.prepare("hypertension thrombosis")["tokens"][0, 1:-1]
    whole = [encoder.prepare(word)["tokens"][0, 1:-1] for word in ("hypertension", "thrombosis")]
    assert len(parts) == len(whole[0]) + len(whole[1]) > 3
    assert len(set(whole[0].tolist())) > 1
    expected = torch.stack([rows[ids].mean(0) for ids in whole])
    assert encoder.add_words(["hypertension", "Thrombosis", "a"]) == 2  # "a" was a token already
    found = encoder.prepare("a Hypertension thrombosis.")["tokens"][0, 1:-1]
    assert len(found) == 4
    assert_same(encoder.base.get_input_embeddings().weight[found[1:3]], expected)
    assert encoder.spec.vocabulary >= before
    assert encoder.prepare("thrombosis")["word"].sum() == 1
    assert encoder.prepare("thrombosislike")["tokens"].shape[1] > 4  # a part of a word is no word
    save_encoder(encoder, tmp_path / "grown")
    assert load_encoder(tmp_path / "grown").spec == encoder.spec


def test_wrong_kinds(everything: dict[str, TextEncoder]) -> None:
    image = ImageSpec(8, 1, (0.3,), (0.25,))
    with pytest.raises(UserError, match=r"vit_tiny reads images, and the data are text; choose bert_bag, bert_nano"):
        build_encoder("vit_tiny", texts.spec())
    with pytest.raises(UserError, match=r"bert_nano reads text, and the data are images; choose convnet"):
        build_encoder("bert_nano", image)
    with pytest.raises(UserError, match="has no option 'patch'; it has dropout"):
        build_encoder("bert_nano", texts.spec(), patch=4)
    wrong: Batch = {"image": torch.zeros(1, 1, 8, 8)}
    with pytest.raises(UserError, match=r"takes tokens \[B N\], not image"):
        everything["bert_nano"](wrong)


@pytest.mark.usefixtures("usual_sizes")
def test_sizes() -> None:
    with torch.device("meta"):
        built = {
            name: build_encoder(name, texts.spec()) for name, of in architectures().items() if of.modality == "text"
        }
    sizes = {name.partition("_")[2]: (one.n_depths, one.dim) for name, one in built.items() if name.startswith("bert")}
    assert sizes == {"bag": (1, 128), "nano": (3, 128), "tiny": (5, 256), "small": (13, 384), "base": (13, 768)}


def test_hugging_face_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"encoder-decoder \(bart\) whose encoder is not opened alone"):
        load_encoder(texts.folder_of("bart", tmp_path, head=False))
    with pytest.raises(UserError, match=r"lacks a tokenizer\.json"):
        load_encoder(texts.folder_of("bert", tmp_path, tokens=False))
    with pytest.raises(UserError, match="reads text, and the data are images"):
        build_encoder(texts.folder_of("bert", tmp_path), ImageSpec(8, 1, (0.3,), (0.25,)))


def test_hugging_face_without_a_head(tmp_path: Path) -> None:
    found = load_encoder(texts.folder_of("bert", tmp_path, head=False))
    assert isinstance(found, TextEncoder)
    assert not found.headed
    found.train_head()
    assert found.headed
    config = json.loads((tmp_path / "bert" / "tokenizer_config.json").read_text())
    (tmp_path / "bert" / "tokenizer_config.json").write_text(json.dumps(config | {"mask_token": None}))
    blind = load_encoder(f"hf:{tmp_path / 'bert'}")
    assert isinstance(blind, TextEncoder)
    assert blind.spec.mask == -1
    with pytest.raises(UserError, match="without a mask token"):
        blind.train_head()


def test_hugging_face_spec(everything: dict[str, TextEncoder]) -> None:
    for kind in THEIRS:
        found, own = everything[f"hf {kind}"].spec, texts.spec()
        assert (found.length, found.vocabulary) == (own.length, own.vocabulary), kind
        assert (found.pad, found.cls, found.sep, found.mask, found.unknown) == (0, 2, 3, 4, 1)
        assert found.specials == own.specials


def test_damage_is_named(tmp_path: Path) -> None:
    save_encoder(texts.encoder("bert_nano"), tmp_path / "out")
    path = tmp_path / "out" / "tokenizer.json"
    whole = path.read_text()
    path.write_text(whole.replace("dog", "cat"))
    with pytest.raises(UserError, match=r"tokenizer\.json is damaged"):
        load_encoder(tmp_path / "out")
    path.unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json is missing"):
        load_encoder(tmp_path / "out")
