"""The corpus of a source: found where an earlier run has left it, or made now."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from tokenizers import Tokenizer

from tacit.core.errors import UserError
from tacit.core.text import LONGEST
from tacit.data.encodings import CannotRead
from tacit.data.source import TEST, Source, spread
from tacit.data.store import (
    Keeping,
    Kept,
    Ragged,
    Written,
    hash_of,
    keep,
    nothing_readable,
    read_content,
    unknown_content,
)
from tacit.modalities.text import vocabulary as vocabularies
from tacit.modalities.text.documents import Document, first_piece, pieces, text_of
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.text.store import FORMAT, Corpus, describe
from tacit.modalities.text.tokenising import Reader, Writer, numbered
from tacit.modalities.text.tokens import PIECE, marked_numbers, plain_numbers, reader

VOCABULARY, LENGTH = 8192, 128  # unless asked for
LENGTHS = (8, LONGEST)

_SAMPLED = 1 << 16  # documents that a tokenizer is trained on, at most
_GLIMPSED = 1_024  # documents at most that stand for all in a glimpse
_LOOKED_AT = 4 << 20  # characters of them, about


@dataclass(frozen=True)
class Ask:
    """How the text is to be tokenised; `tokenizer` is an algorithm or where one lies."""

    tokenizer: str
    vocabulary: int | None
    length: int
    lowercase: bool

    @property
    def trained(self) -> bool:
        return self.tokenizer in vocabularies.SAMPLE


class Opened(NamedTuple):
    """A tokenizer, what data looks like through it, and what a person should know of it."""

    tokenizer: Tokenizer
    spec: TextSpec
    remarks: tuple[str, ...] = ()


def open_corpus(
    source: Source,
    keeping: Keeping,
    *,
    tokenizer: str | TextSpec | None,
    vocabulary: int | None,
    length: int | None,
    lowercase: bool,
) -> Kept:
    """The corpus of this source, tokenised now unless an earlier run has done it.

    `tokenizer` names an algorithm, or where one lies; or it is the spec of an encoder, which brings its own.
    """
    if length is not None and not LENGTHS[0] <= length <= LENGTHS[1]:
        raise UserError(f"--length {length} is out of range; choose {LENGTHS[0]} to {LENGTHS[1]:,} tokens")
    if isinstance(tokenizer, TextSpec):
        ask = Ask("that of the encoder", None, length or tokenizer.length, lowercase)
        spec = replace(tokenizer, length=ask.length)
        opened: Opened | None = Opened(reader(spec.tokenizer), spec)
    else:
        ask = Ask(tokenizer or "bpe", vocabulary, length or LENGTH, lowercase)
        opened = None if ask.trained else _taken(ask)
    form: list[Any] = [source.fingerprint, FORMAT, tokenizers.__version__]
    form += [ask.tokenizer, ask.vocabulary, ask.lowercase] if opened is None else [_form(opened.spec), ask.vocabulary]
    return keep(
        source,
        "texts",
        form,
        keeping,
        lambda folder: Corpus.load(folder, ask.length),
        lambda folder: _tokenise(source, ask, opened, folder, keeping),
        lambda: _glimpse(source, ask, opened, keeping.patience),
    )


def _form(spec: TextSpec) -> dict[str, Any]:
    """All of a spec that says which numbers a text becomes; how many are looked at together is no part of it."""
    return {name: value for name, value in asdict(spec).items() if name != "length"}


def _taken(ask: Ask) -> Opened:
    """A tokenizer that someone else has trained."""
    path = Path(ask.tokenizer.removeprefix("hf:"))
    if not path.exists() and "/" not in ask.tokenizer:
        vocabularies.check_algorithm(ask.tokenizer)
    tokenizer, specials = vocabularies.open_tokenizer(ask.tokenizer)
    spec = vocabularies.text_spec(tokenizer, specials, ask.length)
    if ask.vocabulary is not None and ask.vocabulary < spec.vocabulary:
        raise UserError(
            f"--vocabulary {ask.vocabulary} is less than {ask.tokenizer} has ({spec.vocabulary:,}); leave it out"
        )
    return Opened(tokenizer, vocabularies.text_spec(tokenizer, specials, ask.length, ask.vocabulary))


def _trained(texts: Iterable[str], ask: Ask) -> Opened:
    size = ask.vocabulary or VOCABULARY
    tokenizer = vocabularies.train_tokenizer(texts, algorithm=ask.tokenizer, size=size, lowercase=ask.lowercase)
    spec = vocabularies.text_spec(tokenizer, vocabularies.specials_of(tokenizer, {}, ask.tokenizer), ask.length)
    less = f"the vocabulary has {spec.vocabulary:,} tokens instead of {size:,}: the texts have no more to give"
    return Opened(tokenizer, spec, (less,) if spec.vocabulary < size else ())


def sample_texts(source: Source, most: int) -> Iterator[str]:
    """At most about `most` characters, spread over the documents that are no given test split."""
    rows = np.arange(len(source)) if source.split is None else np.flatnonzero(source.split != TEST)
    chosen = rows[spread(len(rows), _SAMPLED)] if len(rows) else rows
    share = max(1, most // max(1, len(chosen)))
    wanted = iter(chosen.tolist())
    following = next(wanted, -1)
    for row, document in enumerate(source.items()):
        if row == following:
            yield from _excerpt(document, share)
            following = next(wanted, -1)
        if following < 0:
            return


def _excerpt(document: Document, share: int) -> Iterator[str]:
    """About `share` characters of a document, of a large file pieces from all over it."""
    if share < PIECE:
        yield first_piece(document)[:share]
        return
    try:
        size = document.stat().st_size if isinstance(document, Path) else len(text_of(document))
        every = max(1, -(-size // share))
        yield from (text for number, (text, _) in enumerate(pieces(document, Counter())) if number % every == 0)
    except (OSError, CannotRead):
        return  # told when it is tokenised


# ---------------------------------------------------------------- the whole corpus


def _tokenise(source: Source, ask: Ask, opened: Opened | None, folder: Path, keeping: Keeping) -> Written:
    """Tokenise into the folder."""
    if opened is None:
        opened = _trained(sample_texts(source, vocabularies.SAMPLE[ask.tokenizer]), ask)
    read, progress = Reader(source, keeping.max_bad), keeping.progress
    with Writer(folder) as writer:
        for chunk, marked, lengths in numbered(read.chunks(), opened.tokenizer, opened.spec):
            writer.write(chunk, marked, lengths)
            if progress is not None:
                progress(chunk.rows[-1] + 1, len(source))
    if progress is not None and len(source):
        progress(len(source), len(source))
    content = read_content(folder)
    if not len(content):
        row, reason = read.bad[0] if read.bad else (0, "it is empty")
        raise nothing_readable(source, "text", reason, row)
    describe(folder, opened.spec, len(content), writer.tokens, writer.bytes, hash_of(content))
    return Written(
        [_form(opened.spec), FORMAT, tokenizers.__version__],
        read.bad,
        sorted([*read.blank, *writer.blank]),
        {**read.found, "cut": writer.cut},
        opened.remarks,
    )


# ---------------------------------------------------------------- a glimpse


def _glimpse(source: Source, ask: Ask, opened: Opened | None, patience: float) -> Kept | None:
    """A sample of the documents in place of all, or None where all can be tokenised within `patience` seconds."""
    began = time.perf_counter()
    sample = [text for text in map(first_piece, source.sample(_GLIMPSED)) if text.strip()]
    sample = sample[:: 1 + sum(map(len, sample)) // _LOOKED_AT]
    size = sum(map(len, sample))
    read = time.perf_counter()
    if opened is None:
        opened = _trained(sample, ask)
    trained = time.perf_counter()
    opened.tokenizer.encode_special_tokens = True  # as the whole is read
    marked, lengths = marked_numbers(opened.tokenizer, sample, plain_numbers(opened.spec))
    each = (time.perf_counter() - trained + read - began) / max(1, len(sample))
    whole = size * len(source) / max(1, len(sample))
    most = vocabularies.SAMPLE.get(ask.tokenizer, 0)
    total = each * len(source) + (trained - read) * min(most, whole) / max(1, size)
    kept = [at for at, length in enumerate(lengths) if length]
    if total <= patience or not kept:
        return None
    data = [sample[at].encode("utf-8", "replace") for at in kept]
    corpus = Corpus(
        tokens=Ragged(marked, np.cumsum([0, *(lengths[at] for at in kept)])),
        text=Ragged.of([np.frombuffer(text, np.uint8) for text in data]),
        content=unknown_content(len(source)),
        spec=opened.spec,
        data_hash="not tokenised yet",
    )
    return Kept(corpus, np.arange(len(source)), seconds_left=total)
