"""Open the corpus of a source: stored by an earlier run, or tokenised now."""

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
from tacit.modalities.text.tokenising import DocumentReader, Writer, numbered
from tacit.modalities.text.tokens import PIECE, marked_numbers, plain_numbers, reader

VOCABULARY, LENGTH = 8192, 128  # by default
LENGTHS = (8, LONGEST)

_SAMPLED = 1 << 16  # documents that a tokenizer is trained on, at most
_GLIMPSED = 1_024  # documents at most that stand for all in a glimpse
_LOOKED_AT = 4 << 20  # characters of them, about


@dataclass(frozen=True)
class TokeniserSettings:
    """How texts are tokenised; `tokenizer` is an algorithm or the path of a tokenizer."""

    tokenizer: str
    vocabulary: int | None
    length: int
    lowercase: bool

    @property
    def trained(self) -> bool:
        return self.tokenizer in vocabularies.SAMPLE


class LoadedTokenizer(NamedTuple):
    """A tokenizer, the spec of texts read by it, and remarks for the person."""

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
    """Open the corpus of this source, tokenising it unless an earlier run has.

    `tokenizer` is an algorithm, the path of a tokenizer, or the spec of an encoder, which includes its own.
    """
    if length is not None and not LENGTHS[0] <= length <= LENGTHS[1]:
        raise UserError(f"--length {length} is out of range; choose {LENGTHS[0]} to {LENGTHS[1]:,} tokens")
    if isinstance(tokenizer, TextSpec):
        settings = TokeniserSettings("that of the encoder", None, length or tokenizer.length, lowercase)
        spec = replace(tokenizer, length=settings.length)
        loaded: LoadedTokenizer | None = LoadedTokenizer(reader(spec.tokenizer), spec)
    else:
        settings = TokeniserSettings(tokenizer or "bpe", vocabulary, length or LENGTH, lowercase)
        loaded = None if settings.trained else _taken(settings)
    form: list[Any] = [source.fingerprint, FORMAT, tokenizers.__version__]
    form += (
        [settings.tokenizer, settings.vocabulary, settings.lowercase]
        if loaded is None
        else [_form(loaded.spec), settings.vocabulary]
    )
    return keep(
        source,
        "texts",
        form,
        keeping,
        lambda folder: Corpus.load(folder, settings.length),
        lambda folder: _tokenise(source, settings, loaded, folder, keeping),
        lambda: _glimpse(source, settings, loaded, keeping.patience),
    )


def _form(spec: TextSpec) -> dict[str, Any]:
    """The fields of a spec that determine the numbers of a text: all but the length of a window."""
    return {name: value for name, value in asdict(spec).items() if name != "length"}


def _taken(settings: TokeniserSettings) -> LoadedTokenizer:
    """Load a tokenizer that was trained elsewhere."""
    path = Path(settings.tokenizer.removeprefix("hf:"))
    if not path.exists() and "/" not in settings.tokenizer:
        vocabularies.check_algorithm(settings.tokenizer)
    tokenizer, specials = vocabularies.open_tokenizer(settings.tokenizer)
    spec = vocabularies.text_spec(tokenizer, specials, settings.length)
    if settings.vocabulary is not None and settings.vocabulary < spec.vocabulary:
        raise UserError(
            f"--vocabulary {settings.vocabulary} is less than {settings.tokenizer} has ({spec.vocabulary:,}); "
            "leave it out"
        )
    return LoadedTokenizer(tokenizer, vocabularies.text_spec(tokenizer, specials, settings.length, settings.vocabulary))


def _trained(texts: Iterable[str], settings: TokeniserSettings) -> LoadedTokenizer:
    size = settings.vocabulary or VOCABULARY
    tokenizer = vocabularies.train_tokenizer(
        texts, algorithm=settings.tokenizer, size=size, lowercase=settings.lowercase
    )
    spec = vocabularies.text_spec(
        tokenizer, vocabularies.specials_of(tokenizer, {}, settings.tokenizer), settings.length
    )
    less = f"the vocabulary has {spec.vocabulary:,} tokens instead of {size:,}: the texts have no more to give"
    return LoadedTokenizer(tokenizer, spec, (less,) if spec.vocabulary < size else ())


def sample_texts(source: Source, most: int) -> Iterator[str]:
    """Yield about `most` characters at most, spread over the documents outside a given test split."""
    rows = np.arange(len(source)) if source.split is None else np.flatnonzero(source.split != TEST)
    chosen = rows[spread(len(rows), _SAMPLED)] if len(rows) else rows
    share = max(1, most // max(1, len(chosen)))
    rest = iter(chosen.tolist())
    following = next(rest, -1)
    for row, document in enumerate(source.items()):
        if row == following:
            yield from _excerpt(document, share)
            following = next(rest, -1)
        if following < 0:
            return


def _excerpt(document: Document, share: int) -> Iterator[str]:
    """Yield about `share` characters of a document; of a large file, pieces spread over all of it."""
    if share < PIECE:
        yield first_piece(document)[:share]
        return
    try:
        size = document.stat().st_size if isinstance(document, Path) else len(text_of(document))
        every = max(1, -(-size // share))
        yield from (text for number, (text, _) in enumerate(pieces(document, Counter())) if number % every == 0)
    except (OSError, CannotRead):
        return  # reported when it is tokenised


# ---------------------------------------------------------------- the whole corpus


def _tokenise(
    source: Source, settings: TokeniserSettings, loaded: LoadedTokenizer | None, folder: Path, keeping: Keeping
) -> Written:
    """Tokenise into the folder."""
    if loaded is None:
        loaded = _trained(sample_texts(source, vocabularies.SAMPLE[settings.tokenizer]), settings)
    read, progress = DocumentReader(source, keeping.max_bad), keeping.progress
    with Writer(folder) as writer:
        for chunk, marked, lengths in numbered(read.chunks(), loaded.tokenizer, loaded.spec):
            writer.write(chunk, marked, lengths)
            if progress is not None:
                progress(chunk.rows[-1] + 1, len(source))
    if progress is not None and len(source):
        progress(len(source), len(source))
    content = read_content(folder)
    if not len(content):
        row, reason = read.bad[0] if read.bad else (0, "it is empty")
        raise nothing_readable(source, "text", reason, row)
    describe(folder, loaded.spec, len(content), writer.tokens, writer.bytes, hash_of(content))
    return Written(
        [_form(loaded.spec), FORMAT, tokenizers.__version__],
        read.bad,
        sorted([*read.blank, *writer.blank]),
        {**read.found, "cut": writer.cut},
        loaded.remarks,
    )


# ---------------------------------------------------------------- a glimpse


def _glimpse(
    source: Source, settings: TokeniserSettings, loaded: LoadedTokenizer | None, patience: float
) -> Kept | None:
    """A sample of the documents in place of all, or None if all can be tokenised within `patience` seconds."""
    began = time.perf_counter()
    sample = [text for text in map(first_piece, source.sample(_GLIMPSED)) if text.strip()]
    sample = sample[:: 1 + sum(map(len, sample)) // _LOOKED_AT]
    size = sum(map(len, sample))
    read = time.perf_counter()
    if loaded is None:
        loaded = _trained(sample, settings)
    trained = time.perf_counter()
    loaded.tokenizer.encode_special_tokens = True  # as for the whole corpus
    marked, lengths = marked_numbers(loaded.tokenizer, sample, plain_numbers(loaded.spec))
    each = (time.perf_counter() - trained + read - began) / max(1, len(sample))
    whole = size * len(source) / max(1, len(sample))
    most = vocabularies.SAMPLE.get(settings.tokenizer, 0)
    total = each * len(source) + (trained - read) * min(most, whole) / max(1, size)
    kept = [at for at, length in enumerate(lengths) if length]
    if total <= patience or not kept:
        return None
    data = [sample[at].encode("utf-8", "replace") for at in kept]
    corpus = Corpus(
        tokens=Ragged(marked, np.cumsum([0, *(lengths[at] for at in kept)])),
        text=Ragged.of([np.frombuffer(text, np.uint8) for text in data]),
        content=unknown_content(len(source)),
        spec=loaded.spec,
        data_hash="not tokenised yet",
    )
    return Kept(corpus, np.arange(len(source)), seconds_left=total)
