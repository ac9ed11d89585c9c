"""`tacit embed`: the embedding of every example, or of every word, in a Parquet file or a folder of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tacit.commands.command import command
from tacit.core import gathering, ranks
from tacit.core.errors import UserError
from tacit.core.files import check_place, check_target, whole_file
from tacit.core.parts import check_parts, fingerprint, write_parts
from tacit.core.stages import stage
from tacit.core.text import LONGEST
from tacit.data.embeddings import NUMBERED
from tacit.data.opened import PARQUET
from tacit.dataset import open_dataset
from tacit.evaluation.features import extract, extract_tokens
from tacit.experiment.log import Log
from tacit.experiment.reading import as_trained, open_encoder, overridden, tell
from tacit.experiment.settings import EmbedSettings
from tacit.modalities import reads
from tacit.modalities.events.encoder import ItemEncoder
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.store import Corpus
from tacit.modalities.text.tokens import BLANKS, reader
from tacit.training.engine import all_processes, make_fabric

if TYPE_CHECKING:
    from tacit.dataset import Dataset

Rows = NDArray[np.int64]
MADE_BY = "tacit"  # in the file's metadata: Tacit's own files may be replaced
ROWS_PER_GROUP = 8192  # embedded and written at a time


@command(EmbedSettings)
def embed(encoder: Any, data: Any, settings: EmbedSettings) -> int:
    """Write the embedding of every example to a Parquet file, or to a folder of them.

    Columns: `id`, `embedding` (a list of fixed size) and the input's own columns. Writes whole or not at all.

    Where `out` does not end in .parquet, or where torchrun or srun has started several processes, it is a folder of
    parts, in the order of their names; every process writes some. The same command, with any number of processes, goes
    on where an interrupted one has stopped.

    With `words`, every word of a text gets a row of its own: the last state of its first token, `token` (the word) and
    `sentence` (the text's id); lists as long as the text has words, such as tags, are taken apart likewise, other
    columns repeated. `tacit evaluate FILE --target tokens --group-column sentence` judges them.

    With `of_items`, every item of an encoder of histories gets a row in place of every history: `item` (its id) and
    `embedding`.

    Args:
        encoder: A run folder, an exported folder, or hf:FOLDER_OR_NAME.
        data: A folder of images, a table, arrays, or the built-in `digits`.
    """
    given = settings.reading()
    target = Path(settings.out)
    with all_processes(device=settings.device, timeout=settings.timeout):
        in_parts = gathering.world() > 1 or target.suffix not in PARQUET
        if not in_parts:
            check_target(target, overwrite=settings.overwrite, is_own=_is_own, by="tacit embed")
        else:
            check_parts(target)
        check_place(target)
        with ranks.leader_first():
            found = open_encoder(encoder, offline=settings.offline) if isinstance(encoder, str | Path) else encoder
            if settings.of_items and not isinstance(found, ItemEncoder):
                raise UserError(f"--of-items: the encoder {found.name} reads {reads(found.spec.kind)}; leave it out")
            dataset = open_dataset(data, **as_trained(found, given))
            if not in_parts or gathering.rank() == 0:
                tell(dataset, overridden(found, given))
        make_fabric(device=settings.device, precision="32").to_device(found)
        tables = _items if settings.of_items else _words if settings.words else _examples
        rows = 1 if settings.of_items else len(dataset)

        def write(path: Path, start: int, stop: int) -> int:
            with Log() as log, log.working("embedding"):
                return _write(path, tables(found, dataset, settings.batch_size, start, stop))

        if in_parts:
            identity = {"words": settings.words, "of_items": settings.of_items, "data": dataset.data_hash}
            written = write_parts(
                target, rows, write, {**identity, "encoder": fingerprint(found)}, anew=settings.overwrite
            )
        else:
            with whole_file(target) as partial:
                written = write(partial, 0, rows)
        ranks.leave_to_leader()
        print(f"{written:,} embeddings of {found.dim} numbers: {target}")
    return 0


def _is_own(out: Path) -> bool:
    """Whether a file holds embeddings that Tacit has written; older versions wrote no mark into it."""
    schema = pq.read_schema(out)
    if MADE_BY.encode() in (schema.metadata or {}):
        return True
    return schema.names[0] in ("id", "item") and pa.types.is_fixed_size_list(schema.field("embedding").type)


def _write(path: Path, tables: Iterator[pa.Table]) -> int:
    """Write the tables as one file; returns the number of rows."""
    writer: pq.ParquetWriter | None = None
    rows = 0
    try:
        for table in tables:
            table = table.replace_schema_metadata({**(table.schema.metadata or {}), MADE_BY: "embed"})
            writer = writer or pq.ParquetWriter(path, table.schema, write_page_checksum=True)
            writer.write_table(table)
            rows += len(table)
    finally:
        if writer is not None:
            writer.close()
    return rows


def _groups(start: int, stop: int) -> Iterator[Rows]:
    with stage("examples", stop - start) as now:
        for first in range(start, stop, ROWS_PER_GROUP):
            rows = np.arange(first, min(first + ROWS_PER_GROUP, stop), dtype=np.int64)
            yield rows
            now.step(len(rows))


def _own(dataset: Dataset, rows: Rows, *taken: str) -> dict[str, pa.ChunkedArray]:
    """The input's own columns of these rows, except those whose names are taken."""
    own = dataset.columns
    if own is None:
        return {}
    return {name: own.column(name).take(pa.array(rows)) for name in own.column_names if name not in taken}


def _examples(encoder: Any, dataset: Dataset, batch_size: int, start: int, stop: int) -> Iterator[pa.Table]:
    for rows in _groups(start, stop):
        pooled = extract(encoder, dataset.batch, rows, batch_size=batch_size)["pooled"]
        columns = {"id": dataset.ids.take(pa.array(rows)), "embedding": _column(pooled)}
        table = pa.table(columns | _own(dataset, rows, *columns))
        yield table.replace_schema_metadata({NUMBERED: b"1"}) if dataset.numbered else table


def _items(encoder: Any, dataset: Dataset, batch_size: int, start: int, stop: int) -> Iterator[pa.Table]:
    yield encoder.item_table()


def _words(encoder: Any, dataset: Dataset, batch_size: int, start: int, stop: int) -> Iterator[pa.Table]:
    """A row per word; words beyond the encoder's longest input are left out."""
    if not isinstance(encoder, TextEncoder) or not isinstance(dataset.cache, Corpus):
        what = reads(encoder.spec.kind)
        raise UserError(f"--words: the encoder {encoder.name} reads {what}, without words; leave it out")
    for rows in _groups(start, stop):
        words = [text.split(" ") for text in dataset.cache.texts(rows)]
        places = [word_places(encoder, of) for of in words]
        which = np.repeat(np.arange(len(rows)), [len(of) for of in places])  # [M] the text of each word
        number = np.concatenate([np.arange(len(of)) for of in places])  # [M] in its text
        tokens = np.stack([rows[which], np.concatenate(places)], axis=1)
        states = extract_tokens(encoder, dataset.batch, tokens, batch_size=min(batch_size, encoder.at_once))["pooled"]
        ids = dataset.ids.take(pa.array(rows)).to_pylist()
        columns = {
            "id": pa.array([f"{ids[i]}/{k}" for i, k in zip(which, number, strict=True)]),
            "sentence": pa.array(ids).take(pa.array(which)),
            "token": pa.array([words[i][k] for i, k in zip(which, number, strict=True)]),
            "embedding": _column(states),
        }
        for name, column in _own(dataset, rows, *columns).items():
            columns[name] = _by_word(name, column, words, ids, which, number)
        yield pa.table(columns)


def word_places(encoder: TextEncoder, words: Sequence[str]) -> Rows:
    """Where the first token of each word stands in the encoder's batch of the words joined by blanks."""
    encoding = reader(encoder.spec.tokenizer).encode(" ".join(words), add_special_tokens=False)
    ends = np.array([end for _, end in encoding.offsets], np.int64)
    begins = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
    head, tail = int(encoder.spec.cls >= 0), int(encoder.spec.sep >= 0)
    places = np.searchsorted(np.maximum.accumulate(ends), begins, side="right")
    blank = np.array([*(token in BLANKS for token in encoding.tokens), False])  # alone, not at the head of a word
    places += blank[places]
    return places[places < min(len(ends), LONGEST - head - tail)] + head


def _by_word(
    name: str, column: pa.ChunkedArray, words: list[list[str]], ids: list[str], which: Rows, number: Rows
) -> pa.Array | pa.ChunkedArray:
    """A column's value for each word: for a list, the word's own entry."""
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return column.take(pa.array(which))
    lists = column.to_pylist()
    for of, own, label in zip(lists, words, ids, strict=True):
        if of is not None and len(of) != len(own):
            raise UserError(
                f"{label}: {name!r} lists {len(of)} values for {len(own)} words; give one for each, in a column of "
                "lists of words without blanks in them"
            )
    values = [None if lists[i] is None else lists[i][k] for i, k in zip(which, number, strict=True)]
    return pa.array(values, column.type.value_type)


def _column(values: NDArray[np.float32]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
