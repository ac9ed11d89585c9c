"""The files beside a text encoder's weights, by which other libraries read text as it does and pool as it does.

Hugging Face's tokenizer files, and the modules of sentence-transformers. Its mean counts special tokens, ours does not:
its `WordWeights` stand between. They are not 0 but next to nothing, so that a text of nothing else still has a mean,
the one that Tacit gives it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.encoders.text import tokenizer_of
from tacit.errors import UserError
from tacit.files import sha256
from tacit.spec import TextSpec

if TYPE_CHECKING:
    from tacit.encoders.text import TextEncoder

TOKENIZER = "tokenizer.json"
WEIGHTS, POOLING = "1_WordWeights", "2_Pooling"
NEXT_TO_NOTHING = 1e-9  # against 1 of every other token


def write(encoder: TextEncoder, folder: Path) -> None:
    """Write all of them."""
    spec = encoder.spec
    (folder / TOKENIZER).write_bytes(framed(spec).encode())
    tokenizer = tokenizer_of(spec.tokenizer)
    numbers = {"pad": spec.pad, "cls": spec.cls, "sep": spec.sep, "mask": spec.mask, "unk": spec.unknown}
    tokens = {f"{role}_token": tokenizer.id_to_token(number) for role, number in numbers.items() if number >= 0}
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": spec.length,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **tokens,
    }
    _json(folder / "tokenizer_config.json", told)
    _json(folder / "special_tokens_map.json", tokens)
    _sentence_transformers(encoder, folder)


def describe(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The JSON form of a spec whose tokenizer is in `folder`."""
    return {**values, "tokenizer": {"file": TOKENIZER, "sha256": sha256(folder / TOKENIZER)}}


def read_spec(values: dict[str, Any], folder: Path) -> TextSpec:
    """What `describe` said; UserError where the tokenizer is missing or another one."""
    path = folder / Path(values["tokenizer"]["file"]).name
    if not path.is_file():
        raise UserError(f"{path} is missing; export the encoder again")
    if sha256(path) != values["tokenizer"]["sha256"]:
        raise UserError(f"{path} is damaged: its SHA-256 is not the one in encoder.json; export the encoder again")
    return TextSpec.of({**values, "tokenizer": path.read_bytes().decode()})


def framed(spec: TextSpec) -> str:
    """The tokenizer's JSON, with [CLS] and [SEP] put around a text by itself."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer.from_str(spec.tokenizer)
    first, last = ([number] if number >= 0 else [] for number in (spec.cls, spec.sep))
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    if tokenizer.encode("a").ids == [*first, *bare, *last]:
        return spec.tokenizer
    names = {number: str(tokenizer.id_to_token(number)) for number in (*first, *last)}
    around = " ".join([names[number] for number in first] + ["$A"] + [names[number] for number in last])
    special = [(name, number) for number, name in names.items()]
    tokenizer.post_processor = TemplateProcessing(single=around, pair=f"{around} $B", special_tokens=special)
    said: str = tokenizer.to_str()
    return said


def _sentence_transformers(encoder: TextEncoder, folder: Path) -> None:
    """Its modules: the network, the weights of tokens, the mean."""
    import torch
    from safetensors.torch import save_file

    spec = encoder.spec
    if encoder.sentence is not None:
        from tacit.encoders import sentence

        sentence.write(encoder.sentence, folder, spec.length)
        return
    names = {"Transformer": "", "WordWeights": WEIGHTS, "Pooling": POOLING}
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (name, path) in enumerate(names.items())
    ]
    _json(folder / "modules.json", modules)
    _json(folder / "sentence_bert_config.json", {"max_seq_length": spec.length, "do_lower_case": False})
    _json(folder / "config_sentence_transformers.json", {"prompts": {}, "similarity_fn_name": "cosine"})
    for path in (WEIGHTS, POOLING):
        (folder / path).mkdir()
    weight = torch.ones(spec.vocabulary, 1)  # [V 1]
    weight[encoder.special.cpu()] = NEXT_TO_NOTHING
    save_file({"emb_layer.weight": weight}, folder / WEIGHTS / "model.safetensors")
    # It looks tokens up by number, and takes weights from this list at the start, by words: so numbers are the words.
    words = [str(number) for number in range(spec.vocabulary)]
    light = {words[number]: NEXT_TO_NOTHING for number in encoder.special.nonzero()[:, 0].tolist()}
    _json(folder / WEIGHTS / "config.json", {"vocab": words, "word_weights": light, "unknown_word_weight": 1.0})
    _json(
        folder / POOLING / "config.json",
        {"word_embedding_dimension": encoder.dim, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
    )


def _json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=None if path.parent.name == WEIGHTS else 2), encoding="utf-8")
