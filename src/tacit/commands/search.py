"""`tacit search`: what is most like some words, or like an example, among any data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tacit.commands.command import guarded
from tacit.core.errors import UserError
from tacit.core.files import check_place, check_target, whole_file, write_whole
from tacit.core.parts import fingerprint
from tacit.core.records import reading
from tacit.core.stages import stage
from tacit.dataset import open_dataset
from tacit.evaluation.features import evaluation_mode
from tacit.experiment.log import Log
from tacit.experiment.reading import as_trained, open_encoder
from tacit.modalities import modality_of, reads, signs
from tacit.report import PAGE_MADE_BY, Picture, found_page

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.core.encoder import OwnEncoder
    from tacit.core.types import Batch
    from tacit.dataset import Dataset

Unit = NDArray[np.float32]  # [N D] rows of length 1

MADE_BY = b"tacit search"  # in the metadata of an index
AT_ONCE = 256  # examples that are embedded together


class Found(NamedTuple):
    """The ids of what was found, the most alike first, and how alike each is (cosine)."""

    ids: list[str]
    scores: list[float]


class Searched(NamedTuple):
    """N embedded examples."""

    ids: pa.Array  # string [N]
    embedding: Unit
    described: str


class Kept(NamedTuple):
    """What an index holds, and of which encoder and data."""

    searched: Searched
    encoder: str
    data: str


@guarded
def search(
    run: Any,
    query: str | None = None,
    *,
    data: Any = None,
    image: Any = None,
    k: int = 10,
    index: str | None = None,
    out: str | None = None,
    overwrite: bool = False,
    offline: bool = False,
) -> Found:
    """Find what is most like some words, or like an example, by an encoder of pairs or of single examples.

    Prints ids and cosines, and returns them. All examples are compared, so nothing is missed: a million take a tenth of
    a second once they are embedded, which an index does once.

    Args:
        run: A run folder, an exported folder, or hf:FOLDER_OR_NAME.
        query: The words; an encoder of pairs understands them, and so does one of texts.
        data: What is searched: a folder, a table, arrays. Without it the index alone.
        image: In place of words an example that others are sought like, such as a photo.
        k: How many are found.
        index: A Parquet file of ids and embeddings, which is written where there is none, or where encoder or data are
            others than its own.
        out: An HTML file to write, which shows what was found and needs nothing else to open.
        overwrite: Replace files of that name.
        offline: Use no network.
    """
    if (query is None) == (image is None) or (query is not None and not query.strip()):
        raise UserError('say what is sought: words, as in tacit search RUN "red shoe", or an example with --image FILE')
    if k < 1:
        raise UserError(f"--k {k}: give how many are to be found, 1 or more")
    encoder = open_encoder(run, offline=offline) if isinstance(run, str | Path) else run
    side = next(iter(encoder.parts), "")  # of pairs, that is searched
    tower = encoder.parts[side] if side else encoder
    if out is not None:
        check_target(Path(out), overwrite=overwrite, is_own=_is_page, by="tacit search")
        check_place(Path(out))
    vector = _of_words(encoder, query) if query is not None else _embed(encoder, side, tower.prepare([image]))
    dataset = None if data is None else open_dataset(data, **as_trained(tower, {}))
    found_in = _searched(encoder, side, dataset, None if index is None else Path(index))
    if found_in.embedding.shape[1] != vector.shape[1]:
        raise UserError(f"{index} holds embeddings of another encoder; name the data with --data to make it anew")
    likeness = found_in.embedding @ vector[0]  # [N]
    first = np.argpartition(-likeness, min(k, len(likeness)) - 1)[:k]
    first = first[np.argsort(-likeness[first], kind="stable")]
    found = Found(found_in.ids.take(pa.array(first)).to_pylist(), likeness[first].tolist())
    for place, (name, score) in enumerate(zip(found.ids, found.scores, strict=True), 1):
        print(f"  {place}. {name}  {score:.3f}")
    if out is not None:
        pictures: list[Any] = [None] * len(first)
        if dataset is not None:
            pictures = list(modality_of(dataset.spec).pictures(dataset.cache, first))
        shown = [
            (Picture(picture, id=name), score)
            for picture, name, score in zip(pictures, found.ids, found.scores, strict=True)
        ]
        asked_for = query if query is not None else Picture(_seen(tower, image), id=str(image))
        write_whole(Path(out), found_page(asked_for, shown, searched=found_in.described))
        print(f"page: {out}")
    return found


def _of_words(encoder: OwnEncoder, words: str) -> Unit:
    """The embedding [1 D] of words, by the tower that reads them."""
    of = [side for side, part in encoder.parts.items() if signs()[part.spec.kind].texts]
    if of:
        return _embed(encoder, of[-1], encoder.parts[of[-1]].prepare([words]))
    if encoder.parts or not signs()[encoder.spec.kind].texts:
        raise UserError(
            f"{encoder.name} reads {reads(encoder.spec.kind)}, and finds nothing by words; give an example with "
            "--image, or a run on pairs with texts"
        )
    return _embed(encoder, "", encoder.prepare([words]))


def _embed(encoder: Any, side: str, batch: Batch) -> Unit:
    """Unit embeddings [B D]: of pairs in the space that both sides share."""
    import torch

    with evaluation_mode(encoder), torch.no_grad():
        found: Tensor = encoder.embed(side, batch) if side else encoder(batch).pooled.float()
    return np.asarray(torch.nn.functional.normalize(found, dim=1).cpu().numpy())


def _searched(encoder: OwnEncoder, side: str, dataset: Dataset | None, index: Path | None) -> Searched:
    """The embedded examples: from the index, or embedded now and written to it."""
    weights = fingerprint(encoder)
    if index is not None and index.exists():
        kept = _kept(index)
        if dataset is None and kept.encoder != weights:
            raise UserError(f"--index {index} was made by another encoder; name the data with --data to make it anew")
        if kept.encoder == weights and (dataset is None or kept.data == dataset.data_hash):
            return kept.searched
    if dataset is None:
        raise UserError("say what is searched: --data FOLDER, or an --index that is there already")
    if index is not None:
        check_place(index, flag="--index")
        if index.exists() and not index.stat().st_mode & 0o222:
            raise UserError(f"--index {index} is read-only and of other data; choose another --index")
    rows, parts = np.arange(len(dataset), dtype=np.int64), []
    with Log() as log, log.working("embedding"), stage("examples", len(rows)) as now:
        for start in range(0, len(rows), AT_ONCE):
            parts.append(_embed(encoder, side, dataset.batch(rows[start : start + AT_ONCE])))
            now.step(len(parts[-1]))
    found = Searched(
        dataset.ids, np.concatenate(parts), f"{len(rows):,} {signs()[dataset.kind].nouns} of {dataset.name}"
    )
    if index is not None:
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(found.embedding.ravel()), found.embedding.shape[1])
        about = {b"made by": MADE_BY, b"encoder": weights.encode(), b"data": dataset.data_hash.encode()}
        schema = {**about, b"described": found.described.encode()}
        table = pa.table({"id": found.ids, "embedding": embedding}).replace_schema_metadata(schema)
        with whole_file(index) as partial:
            pq.write_table(table, partial, write_page_checksum=True)
    return found


def _kept(index: Path) -> Kept:
    """What an index holds; UserError where it is none, or is not whole."""
    if not index.is_file() or index.read_bytes()[:4] != b"PAR1":
        raise UserError(f"--index {index} is no index of tacit search; name another file")
    with reading(index, "delete it, and name the data with --data to make it anew"):
        table = pq.read_table(index, page_checksum_verification=True)
        about = table.schema.metadata or {}
        if about.get(b"made by") != MADE_BY:
            raise UserError(f"--index {index} is no index of tacit search; name another file")
        embedding = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        ids = table["id"].combine_chunks()
        ids = ids if isinstance(ids, pa.Array) else pa.concat_arrays(ids.chunks)
        found = Searched(ids, embedding.reshape(len(table), -1).astype(np.float32), about[b"described"].decode())
        return Kept(found, about[b"encoder"].decode(), about[b"data"].decode())


def _seen(tower: OwnEncoder, example: Any) -> Any:
    """The example as it is shown in the page."""
    from tacit.tasks.base import preview_of

    seen = preview_of(tower.prepare([example]))
    return seen[0].cpu().numpy() if seen.ndim == 4 else None


def _is_page(path: Path) -> bool:
    """Whether a file is the page of an earlier search."""
    with path.open("rb") as file:
        return PAGE_MADE_BY.encode() in file.read(400)
