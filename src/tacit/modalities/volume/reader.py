"""How volumes are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tacit.core.errors import UserError
from tacit.data.listing import Listing
from tacit.data.options import Reading
from tacit.data.source import Source, spread
from tacit.data.store import Keeping, Kept
from tacit.modalities.medical import patients
from tacit.modalities.medical.headers import forget, headers, headers_if, medical
from tacit.modalities.reader import Examples, Found, Reader
from tacit.modalities.volume.options import Options
from tacit.modalities.volume.stacks import Stacks, are_volumes, stacks_of
from tacit.modalities.volume.store import open_volumes

_FEWEST = 2  # volumes to learn from; the slices of a single one are read one by one


class VolumeReader(Reader[Options]):
    name = "volume"
    options = Options
    wholes = "files"

    def claim(self, listing: Listing, options: Options, reading: Reading, reserved: frozenset[str]) -> Source | None:
        """Claim a folder of scans whose files or series are volumes."""
        if not isinstance(listing, Source) or not listing.root or not medical(listing):
            return None
        abouts = headers_if(listing, are_volumes)
        if abouts is None or not are_volumes(abouts):
            return None
        found = stacks_of(abouts, listing.ids.to_pylist())
        if len(found.files) < _FEWEST:
            return None
        many = sum(map(len, found.files))
        why = (
            f"read as {len(found.files):,} volumes, since {many:,} of {len(listing):,} files are slices or volumes of "
            "scans; --kind image reads each slice by itself"
        )
        return _stacked(listing, found, why)

    def claimed(self, source: Source, options: Options) -> Source:
        """Of files that were named volumes."""
        found = stacks_of(headers(source), source.ids.to_pylist())
        if not found.files:
            name, why = next(((source.ids[row].as_py(), why) for row, why in found.refused), ("", "no scans"))
            first = f"; the first, {name}: {why}" if name else ""
            raise UserError(f"{source.name} holds no volumes{first}; --kind image reads slices one by one")
        return _stacked(source, found)

    def join(self, train: Source, test: Source) -> Source:
        return replace(super().join(train, test), about=[*train.about, *test.about])

    def several(self, source: Source) -> bool:
        return True

    def examples(self, found: Found[Options]) -> Examples:
        """With the patients, and other columns of the headers that a person names."""
        return patients.examples(found, found.source.about, self.wholes)

    def store(self, source: Source, options: Options, keeping: Keeping) -> Kept:
        return open_volumes(source, options, keeping)


def _stacked(source: Source, found: Stacks, *remarks: str) -> Source:
    """The volumes as examples: named by their folder where that is theirs alone, else by the first file's name."""
    names = source.ids.to_pylist()
    root = Path(source.root)
    abouts = headers(source)
    forget()
    ids = list(_named(found.files, names))

    def item(rows: list[int]) -> Any:
        return root / names[rows[0]] if len(rows) == 1 else tuple(root / names[row] for row in rows)

    def items() -> Iterator[Any]:
        return map(item, found.files)

    if found.empty:
        remarks = (*remarks, f"{found.empty:,} files hold no image (reports, plans, doses, masks) and were left out")
    refused = [(names[row], why) for row, why in found.refused]
    return replace(
        source,
        kind=VolumeReader.name,
        ids=pa.array(ids, pa.string()),
        items=items,
        sample=lambda k: [item(found.files[row]) for row in spread(len(found.files), k)],
        skipped=(*source.skipped, *refused),
        remarks=(*source.remarks, *remarks),
        about=[abouts[rows[0]] for rows in found.files],
    )


def _named(files: list[list[int]], names: list[str]) -> Iterator[str]:
    """A name for each volume."""
    folders = [names[rows[0]].rpartition("/")[0] if len(rows) > 1 else "" for rows in files]
    counts = Counter(folders)
    for rows, folder in zip(files, folders, strict=True):
        own = folder and counts[folder] == 1 and all(names[row].rpartition("/")[0] == folder for row in rows)
        yield folder if own else min(names[row] for row in rows)


READER = VolumeReader()
