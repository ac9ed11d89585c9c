"""A tiny tokenizer and texts for the tests of text encoders."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from tacit.core.types import Batch
from tacit.encoders import build_encoder
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.spec import TextSpec

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "A dog!",
    "",
    "Foxes and dogs were seen again; they jumped, slept and ran while nobody looked at the very quick brown things.",
    "unquestionably lazy",
]
LENGTH = 24


def tokenizer(framed: bool = True) -> Tokenizer:
    """One and the same, whose numbers depend on hashes; `framed` where it puts [CLS] and [SEP] around a text itself."""
    found = Tokenizer.from_str(_json())
    if framed:
        found.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return found


@cache
def _json() -> str:
    found = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    found.normalizer = normalizers.BertNormalizer(lowercase=True)
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=list(SPECIALS), show_progress=False)
    found.train_from_iterator(TEXTS * 3, trainer)
    said: str = found.to_str()
    return said


def spec(length: int = LENGTH, framed: bool = True) -> TextSpec:
    known = tokenizer(framed)
    return TextSpec(known.to_str(), length, known.get_vocab_size() + 3, 0, 2, 3, 4, 1, (0, 1, 2, 3, 4))


def encoder(name: str, length: int = LENGTH, seed: int = 0, **options: float) -> TextEncoder:
    """With weights far from the start, where every token says something else."""
    torch.manual_seed(seed)
    built = build_encoder(name, spec(length), **options).eval()
    shake(built)
    return built


@torch.no_grad()
def shake(built: TextEncoder) -> None:
    for parameter in built.model.parameters():
        parameter += 0.05 * torch.randn_like(parameter)


def documents(*lengths: int, seed: int = 0) -> Batch:
    """[CLS] random tokens [SEP], of so many numbers."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.randint(5, spec().vocabulary, (length,), generator=generator)
        tokens[row, 0], tokens[row, length - 1] = 2, 3
    return {"tokens": tokens, "valid": tokens != 0, "index": torch.arange(len(lengths))}


def alone(batch: Batch, row: int) -> Batch:
    """A document without its padding."""
    length = int(batch["valid"][row].sum())
    return {"tokens": batch["tokens"][row : row + 1, :length], "valid": batch["valid"][row : row + 1, :length]}


def folder_of(kind: str, folder: Path, *, head: bool = True, tokens: bool = True) -> str:
    """A tiny text model with random weights and a tokenizer, as Hugging Face saves them."""
    import transformers as hf

    from tacit.encoders.hf import quiet

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    size = {"vocab_size": spec().vocabulary}
    wide = {"max_position_embeddings": LENGTH, **size, **sizes}
    config = {
        "bert": lambda: hf.BertConfig(**wide),
        "modernbert": lambda: hf.ModernBertConfig(
            **wide, pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=None, eos_token_id=None
        ),
        "roberta": lambda: hf.RobertaConfig(**{**wide, "max_position_embeddings": LENGTH + 1}, pad_token_id=0),
        "distilbert": lambda: hf.DistilBertConfig(
            dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=LENGTH, **size
        ),
        "electra": lambda: hf.ElectraConfig(**wide, embedding_size=8),
        "gpt2": lambda: hf.GPT2Config(n_embd=16, n_layer=1, n_head=2, **size, bos_token_id=2, eos_token_id=3),
        "mpnet": lambda: hf.MPNetConfig(**{**wide, "max_position_embeddings": LENGTH + 2}, pad_token_id=0),
        "debertav2": lambda: hf.DebertaV2Config(
            **wide,
            relative_attention=True,
            position_buckets=8,
            pos_att_type=["p2c", "c2p"],
            position_biased_input=False,
        ),
        "bart": lambda: hf.BartConfig(
            d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16, **size
        ),
        "t5": lambda: hf.T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, **size),
    }[kind]()
    torch.manual_seed(0)
    target = folder / kind
    with quiet():
        model = (hf.AutoModelForMaskedLM if head else hf.AutoModel).from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
        model.save_pretrained(target)
    if tokens:
        hf.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer(),
            pad_token="[PAD]",
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
            mask_token="[MASK]",
        ).save_pretrained(target)
    return f"hf:{target}"
