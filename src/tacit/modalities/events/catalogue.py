"""The catalogue: items that can be recommended, and their numbers. It is to events what a tokenizer is to text.

A catalogue only grows at its end, so that the numbers that an encoder has learned keep their meaning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.core.naming import name_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

FILE_NAME = "items.parquet"
_WHOLE = b"tacit.whole"  # in the file's metadata: whether ids are whole numbers
_ATTRIBUTES = b"tacit.attributes"  # likewise: the number of attributes


class Catalogue:
    """n items by id, with names and attributes where known. Immutable.

    `ids` [n] are distinct texts; where they were `whole` numbers, they are returned as such. `attributes` [n] lists for
    each item the numbers of its attributes, out of `n_attributes`.
    """

    def __init__(
        self,
        ids: pa.Array,
        *,
        whole: bool = False,
        names: pa.Array | None = None,
        attributes: pa.ListArray | None = None,
        n_attributes: int = 0,
    ) -> None:
        self.ids, self.whole, self.names = ids, whole, names
        self.attributes, self.n_attributes = attributes, n_attributes

    @classmethod
    def of_numbers(cls, n: int) -> Catalogue:
        """A catalogue of the items 0 to n - 1, named by their numbers."""
        import numpy as np
        import pyarrow as pa

        return cls(pa.array(np.arange(n)).cast(pa.string()), whole=True)

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Catalogue) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __deepcopy__(self, memo: Any) -> Catalogue:
        return self

    @cached_property
    def digest(self) -> str:
        """A hash of the ids in order."""
        state = hashlib.blake2b(digest_size=16)
        for start in range(0, len(self.ids), 1 << 16):
            state.update("\0".join(self.ids.slice(start, 1 << 16).to_pylist()).encode())
            state.update(b"\0")
        return state.hexdigest()

    @cached_property
    def number(self) -> dict[str, int]:
        """The number of each id."""
        return {as_id(item): number for number, item in enumerate(self.ids.to_pylist())}

    def numbers(self, items: Iterable[Any]) -> NDArray[np.int64]:
        """The numbers of these ids (texts or whole numbers); -1 for unknown ones."""
        import numpy as np

        return np.array([self.number.get(as_id(item), -1) for item in items], np.int64)

    def items(self, numbers: Sequence[int] | NDArray[np.int64]) -> list[Any]:
        """The ids of these numbers, as in the data."""
        import pyarrow as pa

        found = self.ids.take(pa.array(numbers, pa.int64())).to_pylist()
        return [int(item) for item in found] if self.whole else found

    def title(self, number: int) -> str:
        """The name of an item, or else its id."""
        name = None if self.names is None else self.names[number].as_py()
        return name or str(self.ids[number].as_py())

    def begins(self, other: Catalogue) -> bool:
        """Whether `other` is this catalogue, or has grown from it."""
        return len(self) <= len(other) and (self == other or self.ids.equals(other.ids.slice(0, len(self))))

    def save(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {"item": self.ids, "name": self.names, "attributes": self.attributes}
        table = pa.table({name: column for name, column in columns.items() if column is not None})
        metadata = {_WHOLE: str(int(self.whole)), _ATTRIBUTES: str(self.n_attributes)}
        pq.write_table(table.replace_schema_metadata(metadata), path)

    @classmethod
    def load(cls, path: Path) -> Catalogue:
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        metadata = table.schema.metadata
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        return cls(
            columns["item"],
            whole=metadata[_WHOLE] == b"1",
            names=columns.get("name"),
            attributes=columns.get("attributes"),
            n_attributes=int(metadata[_ATTRIBUTES]),
        )


def as_id(item: Any) -> str:
    """Normalise an id to text: 17, 17.0, "17.0" and " 17 " are one item, see `tacit.core.naming`."""
    return name_of(item) or ""
