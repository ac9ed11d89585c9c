"""The files beside a text encoder's weights, by which other libraries read text as it does and pool as it does.

Hugging Face's tokenizer files, and the modules of sentence-transformers. Its mean counts special tokens, ours does not:
its `WordWeights` make up for that. They are not 0 but tiny, so that a text of special tokens alone still has a mean,
the one that Tacit computes. All of them take a special word in a text for text, except for the tokenizer of an encoder
that fills in masks, which has to recognise it. None of these libraries reads a text beyond the first window; README.md
warns of that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.core.errors import UserError
from tacit.core.files import sha256
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.text.tokens import masking_blanks, parsed

if TYPE_CHECKING:
    from tacit.modalities.text.encoder import TextEncoder

TOKENIZER, README = "tokenizer.json", "README.md"
WEIGHTS, POOLING = "1_WordWeights", "2_Pooling"
NEXT_TO_NOTHING = 1e-9  # against 1 of every other token


def write(encoder: TextEncoder, folder: Path) -> None:
    """Write all these files."""
    spec = encoder.spec
    (folder / TOKENIZER).write_bytes(framed(spec).encode())
    tokenizer = parsed(spec.tokenizer)
    numbers = {"pad": spec.pad, "cls": spec.cls, "sep": spec.sep, "mask": spec.mask, "unk": spec.unknown}
    tokens = {f"{role}_token": tokenizer.id_to_token(number) for role, number in numbers.items() if number >= 0}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": spec.length,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": not encoder.headed,
        **tokens,
    }
    _json(folder / "tokenizer_config.json", config)
    _json(folder / "special_tokens_map.json", tokens)
    _sentence_transformers(encoder, folder)
    (folder / README).write_text(_readme(encoder), encoding="utf-8")


def describe(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The JSON form of a spec whose tokenizer is in `folder`."""
    return {**values, "tokenizer": {"file": TOKENIZER, "sha256": sha256(folder / TOKENIZER)}}


def read_spec(values: Mapping[str, Any], folder: Path) -> TextSpec:
    """Read the spec that `describe` wrote. Raises UserError where the tokenizer is missing or another one."""
    path = folder / Path(values["tokenizer"]["file"]).name
    if not path.is_file():
        raise UserError(f"{path} is missing; export the encoder again")
    if sha256(path) != values["tokenizer"]["sha256"]:
        raise UserError(f"{path} is damaged: its SHA-256 is not the one in encoder.json; export the encoder again")
    return TextSpec.of({**values, "tokenizer": path.read_bytes().decode()})


def framed(spec: TextSpec) -> str:
    """The JSON of the tokenizer, made to put [CLS] and [SEP] around a text, without truncation or padding.

    The mask token takes the blank before it, as a hidden word has one.
    """
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    given, tokenizer = Tokenizer.from_str(spec.tokenizer), parsed(spec.tokenizer)
    masking_blanks(tokenizer, tokenizer.id_to_token(spec.mask) if spec.mask >= 0 else None)
    first, last = ([number] if number >= 0 else [] for number in (spec.cls, spec.sep))
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    if tokenizer.encode("a").ids != [*first, *bare, *last]:
        names = {number: str(tokenizer.id_to_token(number)) for number in (*first, *last)}
        around = " ".join([names[number] for number in first] + ["$A"] + [names[number] for number in last])
        special = [(name, number) for number, name in names.items()]
        tokenizer.post_processor = TemplateProcessing(single=around, pair=f"{around} $B", special_tokens=special)
    changed: str = tokenizer.to_str()
    return spec.tokenizer if changed == given.to_str() else changed


def beyond_a_window(spec: TextSpec) -> str:
    """Explain how longer texts are embedded, here and elsewhere."""
    return (
        f"of a text longer than {spec.length:,} tokens, Tacit embeds all windows of {spec.length:,} and takes the "
        "mean; sentence-transformers reads the first one alone, and so does whoever cuts at model_max_length; the ONNX "
        "graph takes no more"
    )


def _readme(encoder: TextEncoder) -> str:
    spec = encoder.spec
    masks = ""
    if encoder.headed:
        masks = f"""
`pipeline("fill-mask", FOLDER)` fills in {parsed(spec.tokenizer).id_to_token(spec.mask)}. So the tokenizer takes special
words in a text for special tokens; where they are text, call it with `split_special_tokens=True`, as the modules of
sentence-transformers here do.
"""
    return f"""# {encoder.name}

An encoder of text: `AutoModel.from_pretrained(FOLDER)`, `SentenceTransformer(FOLDER)` or `tacit.load_encoder(FOLDER)`.
Its vector of a text is {encoder.pooling}, which are {", ".join(map(str, spec.specials))}.

**Long texts.** O{beyond_a_window(spec)[1:]}. So vectors of longer texts differ:
`tacit embed FOLDER DATA --out FILE`, or in Python

```python
encoder = tacit.load_encoder(FOLDER)
encoder(encoder.prepare(texts)).pooled
```

read them whole, up to 2,048 tokens. Shorter texts have one and the same vector everywhere.
{masks}"""


def _sentence_transformers(encoder: TextEncoder, folder: Path) -> None:
    """Write its modules: the network, the weights of tokens, the mean."""
    import torch
    from safetensors.torch import save_file

    spec = encoder.spec
    if encoder.sentence is not None:
        from tacit.modalities.text import sentence

        sentence.write(encoder.sentence, folder, spec.length)
        return
    names = {"Transformer": "", "WordWeights": WEIGHTS, "Pooling": POOLING}
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (name, path) in enumerate(names.items())
    ]
    _json(folder / "modules.json", modules)
    _json(
        folder / "sentence_bert_config.json",
        {
            "max_seq_length": spec.length,
            "do_lower_case": False,
            "tokenizer_args": {"split_special_tokens": True},
        },
    )
    _json(folder / "config_sentence_transformers.json", {"prompts": {}, "similarity_fn_name": "cosine"})
    for path in (WEIGHTS, POOLING):
        (folder / path).mkdir()
    weight = torch.ones(spec.vocabulary, 1)  # [V 1]
    weight[encoder.special.cpu()] = NEXT_TO_NOTHING
    save_file({"emb_layer.weight": weight}, folder / WEIGHTS / "model.safetensors")
    # It looks tokens up by number, but reads initial weights by word: so the words written here are numbers.
    words = [str(number) for number in range(spec.vocabulary)]
    light = {words[number]: NEXT_TO_NOTHING for number in encoder.special.nonzero()[:, 0].tolist()}
    _json(folder / WEIGHTS / "config.json", {"vocab": words, "word_weights": light, "unknown_word_weight": 1.0})
    _json(
        folder / POOLING / "config.json",
        {"word_embedding_dimension": encoder.dim, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
    )


def _json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=None if path.parent.name == WEIGHTS else 2), encoding="utf-8")
