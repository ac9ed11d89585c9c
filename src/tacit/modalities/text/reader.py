"""Read texts: from files, tables, lines or lists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from tacit.core.text import whole_signs
from tacit.data.listing import File, Listing, Objects
from tacit.data.opened import LINES, OpenTable
from tacit.data.options import Reading
from tacit.data.signs import suffix_of
from tacit.data.source import Source
from tacit.data.store import Keeping, Kept
from tacit.data.tables import Table, is_bytes, path_columns
from tacit.modalities.reader import Examples, Found, Reader
from tacit.modalities.text.halves import halved
from tacit.modalities.text.lines import line_source
from tacit.modalities.text.options import SIGNS, Options
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.text.texts import file_texts, files_source, table_texts, text_columns
from tacit.modalities.text.tokenise import open_corpus


class TextReader(Reader[Options]):
    name = "text"
    options = Options

    def claim(self, listing: Listing, options: Options, reading: Reading, reserved: frozenset[str]) -> Source | None:
        must = reading.kind == self.name
        if isinstance(listing, File):
            return file_texts(listing.path) if suffix_of(listing.path.name) in SIGNS.suffixes else None
        if isinstance(listing, Objects):
            return _strings(listing) if must and _are_strings(listing.value) else None
        if isinstance(listing, Table) and (options.texts or not reading.path_column):
            return _table(listing, options.texts, reserved, must=must)
        return None

    def examples(self, found: Found[Options]) -> Examples:
        source, columns = found.source, found.columns()
        texts = source.read.get("text_column", found.options.texts)
        if found.labels.spec.scores_pairs and len(texts) == 2:
            halves = [found.again(replace(found.options, text_column=(column,))) for column in texts]
            source, of = halved(source, halves, texts)
            columns, found.notes.listed = replace(columns.take(of), pair=source.whole), len(source)
        return Examples(source, columns)

    def store(self, source: Source, options: Options, keeping: Keeping) -> Kept:
        tokenizer = options.tokenizer
        assert tokenizer is None or isinstance(tokenizer, str | TextSpec)
        return open_corpus(
            source,
            keeping,
            tokenizer=tokenizer,
            vocabulary=options.vocabulary,
            length=options.length,
            lowercase=options.lowercase,
        )


def _table(listing: Table, wanted: Sequence[str], reserved: frozenset[str], *, must: bool) -> Source | None:
    """The texts of a table's columns; None for a table of encoded examples or of paths to files."""

    def chosen(table: OpenTable) -> Sequence[str]:
        if wanted:
            return text_columns(table, listing.name, wanted, must=True).columns
        files = listing.leads_to_files(table.schema, lambda column: next(table.stream(column)))
        if not must and (files or any(is_bytes(field.type) for field in table.schema)):
            return ()
        found = text_columns(table, listing.name, (), reserved, must=must and not files)
        certain = must or not path_columns(table.schema)
        return found.columns if found.usual or (certain and not files) else ()

    if listing.places and suffix_of(listing.places[0].name) in LINES:
        columns: list[str] = []

        def remembered(head: OpenTable) -> Sequence[str]:
            columns[:] = chosen(head)
            return columns

        texts = line_source(listing.places, listing.name, remembered)
        if texts is not None:
            return replace(texts, read={"text_column": columns})
    found = [*chosen(listing.opened)]
    return replace(table_texts(listing.opened, found, listing.name), read={"text_column": found}) if found else None


def _are_strings(data: object) -> bool:
    return isinstance(data, list | tuple) and all(isinstance(item, str | os.PathLike) for item in data)


def _strings(listing: Objects) -> Source:
    """Texts, or paths to files of one text each."""
    data = [os.fspath(item) for item in listing.value]
    if all(len(item) < 4096 and "\n" not in item and os.path.isfile(item) for item in data):
        return files_source([Path(item) for item in data], listing.name)
    whole = [whole_signs(item) for item in data]  # arrow accepts no halves of surrogate pairs
    source = _table(Table(listing.name, pa.table({"text": whole}), {}), ["text"], frozenset(), must=True)
    assert source is not None
    return replace(source, read={})


READER = TextReader()
