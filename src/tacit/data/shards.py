"""Tar shards in the layout of WebDataset: the files of one example are adjacent, and are read in place.

`000001.jpg`, `000001.cls` and `000001.json` are one example; `1.2.840.1.png` and `1.2.840.2.png` are two. Nothing is
ever unpacked: each shard is scanned once for an index of its members, which is cached and gives random access to
contents.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.core.files import whole_file
from tacit.data.decode import Item
from tacit.data.members import BEGIN, KIND, NAME, PLACED, SIZE, SKIPPED, UNREAD, WHOLE, index_of
from tacit.data.opened import strings
from tacit.data.places import Place, reaching, stamp_of
from tacit.data.rows import concatenated
from tacit.data.signs import AllSigns, choose, suffix_of
from tacit.data.source import Source, Unreadable, digest, spread
from tacit.data.worker import MAX_BYTES

SUFFIX = ".tar"
PACKED = frozenset([".tgz", ".tar.gz", ".tbz2", ".bz2", ".txz", ".xz", ".tar.zst", ".zst"])

_FORMAT = 4  # version of a cached index


def tar_source(places: Sequence[Place], name: str, signs: AllSigns, wanted: str | None, kept: Path) -> Source:
    """All examples of these shards, in order; columns come from the JSON and text files beside the contents.

    Ids are the names of the contents, prefixed by the shard's name where there are several. `kept` caches the indices.
    """
    stamps = [stamp_of(place) for place in places]
    indices = [_index(place, stamp, signs, wanted, kept) for place, stamp in zip(places, stamps, strict=True)]
    kind = _kind(indices, signs, wanted, name)
    skipped = [pair for index in indices for pair in json.loads((index.schema.metadata or {}).get(SKIPPED, b"[]"))]
    unread: Counter[str] = Counter()
    for index in indices:
        unread.update(json.loads((index.schema.metadata or {}).get(UNREAD, b"{}")))
        others = index.filter(pc.not_equal(index[KIND], list(signs).index(kind)))
        unread.update(suffix_of(name) for name in others[NAME].to_pylist())
    indices = [index.filter(pc.equal(index[KIND], list(signs).index(kind))) for index in indices]
    sizes = [index.num_rows for index in indices]
    above = [f"{place.name}/" if len(places) > 1 else "" for place in places]
    named = [
        [pc.binary_join_element_wise(prefix, index[column], "") for prefix, index in zip(above, indices, strict=True)]
        for column in (NAME, WHOLE)
    ]
    ids, wholes = (pa.concat_arrays(map(strings, of)) for of in named)
    several = int(pc.sum(pc.not_equal(ids, wholes)).as_py() or 0)
    remark = f"{several:,} examples are one of several of their sample, and each stands for itself"
    columns = concatenated([index.drop_columns([*PLACED]) for index in indices], sizes)
    contents = _Contents(places, np.cumsum([0, *sizes]), _numbers(indices, BEGIN), _numbers(indices, SIZE))
    return Source(
        name=name,
        kind=kind,
        ids=ids,
        fingerprint=digest([b"tar", kind.encode(), *stamps]),
        items=lambda: contents.of(np.arange(len(contents.begins))),
        sample=lambda k: list(contents.of(np.array(spread(len(contents.begins), k), np.int64))),
        root=str(places[0]) if len(places) == 1 else "",
        columns=columns if columns.num_columns else None,
        skipped=tuple((str(who), str(why)) for who, why in skipped),
        unread=dict(unread.most_common()),
        whole=wholes if several else None,
        remarks=(remark,) if several else (),
    )


class _Contents:
    """Positions of the contents, 16 bytes each."""

    def __init__(
        self,
        places: Sequence[Place],
        firsts: NDArray[np.int64],  # [shards + 1] rows
        begins: NDArray[np.int64],  # [N] bytes
        sizes: NDArray[np.int64],  # [N] bytes
    ) -> None:
        self.places, self.firsts, self.begins, self.sizes = places, firsts, begins, sizes

    def of(self, rows: NDArray[np.int64]) -> Iterator[Item]:
        """The contents of these rows, which are ascending."""
        bounds = np.searchsorted(rows, self.firsts)
        for place, begin, end in zip(self.places, bounds[:-1], bounds[1:], strict=True):
            if begin < end:
                with place.open("rb") as file:
                    yield from (self._read(place, file, int(row)) for row in rows[begin:end])

    def _read(self, place: Place, file: IO[bytes], row: int) -> bytes | Unreadable:
        begin, size = int(self.begins[row]), int(self.sizes[row])
        if size > MAX_BYTES:
            return Unreadable(f"the member is larger than {MAX_BYTES >> 20} MB")
        with reaching(str(place)):
            file.seek(begin)
            data = file.read(size)
        return data if len(data) == size else Unreadable("the shard has become shorter")


def _index(place: Place, stamp: bytes, signs: AllSigns, wanted: str | None, kept: Path) -> pa.Table:
    """The index of a shard, from the cache or built now."""
    path = kept / f"{digest([stamp, (wanted or '').encode(), bytes([_FORMAT])])}.members.parquet"
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        index = index_of(place, signs, wanted)
    with whole_file(path) as partial:
        pq.write_table(index, partial, write_page_checksum=True)
    return index


def _kind(indices: Sequence[pa.Table], signs: AllSigns, wanted: str | None, name: str) -> str:
    found = np.bincount(_numbers(indices, KIND), minlength=len(signs))
    counts = Counter(dict(zip(signs, found.tolist(), strict=True)))
    about = [one for one, of in signs.items() if of.notes]
    if counts.total() > sum(counts[one] for one in about):
        counts |= dict.fromkeys(about, 0)  # pages of notes
    kind = choose(signs, counts, wanted, name)
    if not counts[kind]:
        raise UserError(f"{name} holds no {kind} members (looked for {', '.join(sorted(signs[kind].suffixes))})")
    return kind


def _numbers(indices: Sequence[pa.Table], column: str) -> NDArray[np.int64]:
    return np.concatenate([index[column].to_numpy().astype(np.int64) for index in indices])
