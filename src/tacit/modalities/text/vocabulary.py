"""Tokenizers, trained on a corpus or loaded from a folder. Files and models are Hugging Face's.

Trained ones normalise to NFC (and lower case), and have the special tokens of BERT. Byte-level BPE (Radford et al.
2019) covers every byte, so that decoding restores the text; WordPiece (Schuster & Nakajima 2012) splits words at
punctuation as BERT does; Unigram (Kudo 2018) falls back to bytes. BPE and WordPiece are the same whenever the texts
are. Unigram estimates its scores in parallel, and the last digits of a sum depend on the order: scores are rounded.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tacit.core.errors import UserError, nearest
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.text.tokens import masking_blanks

UNKNOWN, MASK = "[UNK]", "[MASK]"
SPECIALS = ("[PAD]", UNKNOWN, "[CLS]", "[SEP]", MASK)
SAMPLE = {"bpe": 64 << 20, "wordpiece": 64 << 20, "unigram": 8 << 20}  # characters that are trained on at most

_SEEN_TWICE = 2  # how often a pair has to occur to become a token
_BYTE_SCORE = -20.0  # a byte of a character that Unigram has no piece for; below every piece
_DIGITS = 2  # of a score

# A tokenizer's role to its usual names, in the order of preference.
_NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "cls": ("[CLS]", "<s>", "<cls>"),
    "sep": ("[SEP]", "</s>", "<sep>", "<eos>"),
    "mask": ("[MASK]", "<mask>"),
    "unknown": ("[UNK]", "<unk>"),
}
_KEYS = {"pad": "pad_token", "cls": "cls_token", "sep": "sep_token", "mask": "mask_token", "unknown": "unk_token"}
_FILES = ("tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Specials:
    """The numbers of a tokenizer's special tokens, -1 where it has none; `all` are those that are not text."""

    pad: int
    cls: int
    sep: int
    mask: int
    unknown: int
    all: tuple[int, ...]


def check_algorithm(name: str) -> None:
    """Raise UserError where no algorithm has this name."""
    if name not in SAMPLE:
        raise UserError(f"no tokenizer named {name!r}{nearest(name, SAMPLE)}; choose {', '.join(SAMPLE)} or a folder")


def train_tokenizer(texts: Iterable[str], *, algorithm: str, size: int, lowercase: bool) -> Tokenizer:
    """Train a tokenizer of at most `size` tokens on these texts; of fewer if the texts yield no more."""
    check_algorithm(algorithm)
    build: Callable[[Iterable[str], int, bool], Tokenizer]
    build = {"bpe": _bpe, "wordpiece": _wordpiece, "unigram": _unigram}[algorithm]
    tokenizer = build(texts, size, lowercase)
    tokenizer.add_special_tokens(list(SPECIALS))
    masking_blanks(tokenizer, MASK)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def open_tokenizer(source: str | Path) -> tuple[Tokenizer, Specials]:
    """Load the tokenizer of a `tokenizer.json`, or of a folder: Hugging Face's, an exported encoder, or a run.

    Raises UserError where there is none, or it cannot be read or has no mask token.
    """
    path = Path(str(source).removeprefix("hf:"))
    folder = path.parent if path.is_file() else next((f for f in (path, path / "encoder") if _holds(f)), None)
    if folder is None:
        raise UserError(f"--tokenizer {source}: no tokenizer there; give bpe, wordpiece, unigram or a folder")
    file = path if path.is_file() else folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(file)) if file.is_file() else _without_json(folder)
    except Exception as error:  # whatever the library raises, it is this class
        raise UserError(f"--tokenizer {source}: {file.name} cannot be read as a tokenizer: {error}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, specials_of(tokenizer, _named_specials(folder), str(source))


def specials_of(tokenizer: Tokenizer, named: dict[str, str], where: str) -> Specials:
    """Find the special tokens; `named` has some of them by role. Raises UserError where none is a mask."""
    numbers = {}
    for role, names in _NAMES.items():
        found = (tokenizer.token_to_id(name) for name in (named.get(role), *names) if name is not None)
        numbers[role] = next((number for number in found if number is not None), -1)
    if numbers["mask"] < 0:
        raise UserError(
            f"--tokenizer {where} has no mask token, without which no word can be hidden; choose another, such as bpe"
        )
    if numbers["pad"] < 0:  # padding is never attended to
        numbers["pad"] = max(numbers["sep"], 0)
    added = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    every = sorted(added | {number for number in numbers.values() if number >= 0})
    return Specials(**numbers, all=tuple(every))


def text_spec(tokenizer: Tokenizer, specials: Specials, length: int, vocabulary: int | None = None) -> TextSpec:
    """The spec of text read by this tokenizer; `vocabulary` may exceed the tokenizer's own."""
    own = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
    return TextSpec(
        tokenizer=tokenizer.to_str(),
        length=length,
        vocabulary=max(own, vocabulary or 0),
        pad=specials.pad,
        cls=specials.cls,
        sep=specials.sep,
        mask=specials.mask,
        unknown=specials.unknown,
        specials=specials.all,
    )


# ---------------------------------------------------------------- training


def _normaliser(lowercase: bool, *more: Any) -> Any:
    return normalizers.Sequence([normalizers.NFC(), *more, *([normalizers.Lowercase()] if lowercase else [])])


def _bpe(texts: Iterable[str], size: int, lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = _normaliser(lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=_SEEN_TWICE,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _wordpiece(texts: Iterable[str], size: int, lowercase: bool) -> Tokenizer:
    """Number characters first: the library would in the order of its hash table, and it breaks ties by number."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    bert = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=lowercase
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), bert])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    first: Counter[str] = Counter()
    inner: set[str] = set()

    def watched() -> Iterator[str]:
        for text in texts:
            text = tokenizer.normalizer.normalize_str(text)
            first.update(text)
            inner.update(*(word[1:] for word in set(text.split())))
            yield text

    kept = list(watched())
    usual = sorted((c for c in first if not c.isspace()), key=lambda c: (-first[c], c))[: max(1000, size // 2)]
    letters = sorted(usual)
    within = [f"##{c}" for c in letters if c in inner and not _apart(c)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=_SEEN_TWICE,
        special_tokens=[*SPECIALS, *within],
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    tokenizer.train_from_iterator(kept, trainer)
    numbers = tokenizer.get_vocab()
    whole = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))  # without those tokens being special
    whole.normalizer, whole.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    whole.decoder = tokenizer.decoder
    return whole


def _unigram(texts: Iterable[str], size: int, lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = _normaliser(lowercase)
    # A blank before the text alone, not behind each special token, such as the mask.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=max(size - 256, len(SPECIALS) + 1),
        special_tokens=list(SPECIALS),
        unk_token=UNKNOWN,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]["vocab"]
    pieces = {piece: round(score, _DIGITS) for piece, score in learned if piece not in SPECIALS}
    entries = [(UNKNOWN, 0.0)]  # the other special tokens are no pieces, or the model would find them in texts
    entries += [(f"<0x{byte:02X}>", _BYTE_SCORE) for byte in range(256)]
    room = max(0, size - len(entries) - len(SPECIALS) + 1)  # characters the trainer keeps beyond are spelt in bytes
    entries += sorted(pieces.items(), key=lambda entry: (-entry[1], entry[0]))[:room]
    whole = Tokenizer(models.Unigram(entries, unk_id=0, byte_fallback=True))  # without the trainer's numbers
    whole.normalizer, whole.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    whole.decoder = decoders.Sequence(
        [decoders.Replace(Regex("▁"), " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return whole


def _apart(character: str) -> bool:
    """True if BERT makes a word of this character alone."""
    ascii_sign = character.isascii() and not character.isalnum() and character.isprintable()
    return ascii_sign or unicodedata.category(character).startswith("P")


# ---------------------------------------------------------------- folders


def _holds(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt"))


def _named_specials(folder: Path) -> dict[str, str]:
    """The special tokens that a folder's own files name, by role."""
    found: dict[str, str] = {}
    for name in _FILES:
        try:
            config = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for role, key in _KEYS.items():
            token = config.get(key) if isinstance(config, dict) else None
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str):
                found[role] = token
    return found


def _without_json(folder: Path) -> Tokenizer:
    """Load the tokenizer of a folder of older files, such as BERT's vocab.txt."""
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokenizer: Tokenizer = found.backend_tokenizer
    return tokenizer
