"""Options of text and the names of its encoders, importable without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tacit.core.errors import UserError
from tacit.core.spec import SpecOf
from tacit.data.signs import Signs
from tacit.modalities.options import ModalityOptions

VOCABULARIES = (300, 1 << 20)  # tokens: the 256 bytes have to fit

READS = "text"  # the noun in messages for what these encoders read

ENCODERS = {
    "bert_bag": "tacit.modalities.text.bert:Bert",
    "bert_nano": "tacit.modalities.text.bert:Bert",
    "bert_tiny": "tacit.modalities.text.bert:Bert",
    "bert_small": "tacit.modalities.text.bert:Bert",
    "bert_base": "tacit.modalities.text.bert:Bert",
    "modernbert_nano": "tacit.modalities.text.modernbert:ModernBert",
    "modernbert_tiny": "tacit.modalities.text.modernbert:ModernBert",
    "modernbert_small": "tacit.modalities.text.modernbert:ModernBert",
    "modernbert_base": "tacit.modalities.text.modernbert:ModernBert",
}

SIGNS = Signs(
    nouns="texts",
    suffixes=frozenset([".txt", ".md", ".txt.gz", ".md.gz"]),
    texts=(
        *("text", "document", "sentence", "content", "body", "review", "question", "comment", "message", "abstract"),
        *("description", "article", "passage", "utterance", "tweet", "post", "smiles", "sequence"),
    ),
    notes=frozenset([".md", ".md.gz"]),
)


@dataclass(frozen=True, kw_only=True)
class Options(ModalityOptions):
    """How texts are read and tokenised.

    Args:
        text_column: the table's column of texts, or of lists of words; several are joined by a blank line, such as
            subject and body. With the target similarity two of them are the pair that a row's label scores; with one,
            or with images, --group-column names the pair of each row.
        tokenizer: bpe (the default), wordpiece or unigram, trained on the texts; or the folder of a Hugging Face model,
            an encoder or a run, whose tokenizer is taken; in Python also the spec of an encoder
        vocabulary: tokens of a tokenizer that is trained; default 8,192
        length: tokens that are looked at together; default 128
        lowercase: whether a tokenizer that is trained takes capitals for small letters
    """

    group = "text"
    columns: ClassVar[tuple[str, ...]] = ("text_column",)
    paths: ClassVar[tuple[str, ...]] = ("tokenizer",)
    together: ClassVar[tuple[str, ...]] = ("length",)

    text_column: str | Sequence[str] | None = None
    tokenizer: str | SpecOf[Any] | None = None
    vocabulary: int | None = None
    length: int | None = None
    lowercase: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that make up a text."""
        return (self.text_column,) if isinstance(self.text_column, str) else tuple(self.text_column or ())

    def as_captions(self) -> Options:
        """Words in small letters: a class is then called the same alone as within a caption, and in the plural."""
        return self if self.tokenizer is not None else replace(self, tokenizer="wordpiece", lowercase=True)

    def check(self) -> None:
        least, most = VOCABULARIES
        if self.vocabulary is not None and not least <= self.vocabulary <= most:
            raise UserError(f"--vocabulary {self.vocabulary} is out of range; choose {least:,} to {most:,} tokens")
