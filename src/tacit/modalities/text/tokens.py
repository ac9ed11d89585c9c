"""Text to numbers: the only routine, shared by the data and every encoder, so that both read a text alike.

NUL characters are removed, halves of surrogate pairs replaced; a long text is split where white space begins; the
tokenizer neither cuts nor pads; and a word that looks like a special token, such as [MASK] or </s>, is text. Uses numpy
and tokenizers only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import no_panic
from tacit.core.text import whole_signs
from tacit.modalities.text.spec import TextSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PIECE = 1 << 16  # characters of a piece at most; while a tokenizer works it takes hundreds of bytes for each
NARROW = 1 << 15  # numbers that fit into 16 bits beside the mark of a word
BLANKS = ("Ġ", "▁")  # tokens that stand for a blank


# ---------------------------------------------------------------- characters


class Clean(NamedTuple):
    """A text that can be written, its UTF-8, and the repairs that were needed."""

    text: str
    data: bytes
    cleaned: bool  # NUL characters were removed
    converted: bool  # halves of surrogate pairs, which JSON can contain, were replaced


def clean(text: str) -> Clean:
    """Remove or replace what no tokenizer and no file accepts."""
    cleaned = "\0" in text
    text = text.replace("\0", "") if cleaned else text
    whole = whole_signs(text)
    return Clean(whole, whole.encode(), cleaned, whole != text)


def cut(blocks: Iterator[str]) -> Iterator[str]:
    """Cut the same text anew, where white space begins: no word is split, unless it is huge."""
    rest = ""
    for block in blocks:
        text = rest + block
        start = 0
        while len(text) - start > PIECE:
            window = text[start : start + PIECE]
            parts = window.rsplit(None, 1)
            end = start + (len(parts[0]) if len(parts) == 2 else PIECE)
            yield text[start:end]
            start = end
        rest = text[start:]
    if rest:
        yield rest


def parts_of(text: str) -> Iterator[str]:
    """Split a text into the pieces that are tokenised one by one."""
    return iter([text]) if len(text) <= PIECE else cut(iter([text]))


# ---------------------------------------------------------------- tokenizers


@lru_cache(maxsize=8)
def reader(tokenizer: str) -> Tokenizer:
    """The tokenizer of this JSON for texts of data: it neither cuts nor pads, and takes [MASK] for text."""
    found = parsed(tokenizer)
    found.encode_special_tokens = True
    return found


@lru_cache(maxsize=8)
def masking_reader(tokenizer: str, mask: int) -> Tokenizer:
    """The same, but special tokens in a text are special, and the mask takes the blank before it."""
    found = parsed(tokenizer)
    return masking_blanks(found, found.id_to_token(mask) if mask >= 0 else None)


def masking_blanks(tokenizer: Tokenizer, token: str | None) -> Tokenizer:
    """Make the mask `token` take the blank before it, where the tokenizer would leave that alone.

    Training hides a word together with its blank, and never a word behind a separate blank.
    """
    from tokenizers import AddedToken

    if token is not None and tokenizer.encode(f"a {token}", add_special_tokens=False).tokens[-2] in BLANKS:
        tokenizer.add_special_tokens([AddedToken(token, lstrip=True, normalized=False, special=True)])
    return tokenizer


def parsed(content: str) -> Tokenizer:
    """A new tokenizer of this JSON, free to be changed, that neither cuts nor pads."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_str(content)
    found.no_truncation()
    found.no_padding()
    return found


# ---------------------------------------------------------------- numbers


def number_type(vocabulary: int) -> np.dtype[Any]:
    """The type of marked numbers."""
    return np.dtype(np.uint16 if vocabulary <= NARROW else np.uint32)


def word_mark(numbers: np.dtype[Any]) -> int:
    """The bit that is set where a word begins."""
    return 1 << (8 * numbers.itemsize - 1)


def plain_numbers(spec: TextSpec) -> NDArray[Any]:
    """Map each number of a vocabulary to itself, and special ones to the unknown token.

    A Unigram model with [MASK] among its pieces takes it for the token of that name whatever its settings.
    """
    plain = np.arange(spec.vocabulary, dtype=number_type(spec.vocabulary))
    if spec.unknown >= 0:
        plain[list(spec.specials)] = spec.unknown
    return plain


def marked_numbers(tokenizer: Tokenizer, texts: list[str], plain: NDArray[Any]) -> tuple[NDArray[Any], list[int]]:
    """Tokenise texts: all numbers end to end, marked where words begin, and the count of each text."""
    with no_panic("the tokenizer"):
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    lengths = [len(encoding) for encoding in encodings]
    total = sum(lengths)
    ids = plain[np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int64, total)]
    words = np.fromiter(_words(encodings), np.int64, total)
    begins = np.ones(total, np.bool_)
    begins[1:] = words[1:] != words[:-1]
    ends = np.cumsum(lengths)
    begins[ends[ends < total]] = True
    return np.where(begins, ids | plain.dtype.type(word_mark(plain.dtype)), ids), lengths


def _words(encodings: Iterable[Any]) -> Iterator[int]:
    """The word of each token; a token outside words is a word of its own."""
    for encoding in encodings:
        yield from (-1 - at if word is None else word for at, word in enumerate(encoding.word_ids))


def numbers_of(texts: Iterable[str], tokenizer: Tokenizer, plain: NDArray[Any]) -> list[tuple[list[int], list[bool]]]:
    """Tokenise texts as the data: the numbers of each, and which of them begin a word."""
    pieces = [[clean(part).text for part in parts_of(text)] for text in texts]
    marked, lengths = marked_numbers(tokenizer, list(chain.from_iterable(pieces)), plain)
    bit = marked.dtype.type(word_mark(marked.dtype))
    ends = np.cumsum([0, *lengths])[np.cumsum([0, *map(len, pieces)])]  # of each text, in `marked`
    spans = [marked[begin:end] for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
    return [((span & ~bit).tolist(), (span & bit).astype(np.bool_).tolist()) for span in spans]
