"""The seal: which examples are held out for the final test, decided before anything is trained.

A seal is a JSON file of digests: the content of every sealed example and the group it belongs to. In the file they are
hidden by the folder's secret (`core.secret`), since names of groups can be guessed and contents compared: a seal that
was handed on without the secret tells nothing but its size, and can be used by nobody. A later run that
takes it tests on the same examples, however many labels were added since, and keeps their groups out of training. It
counts how often its labels were read, because a test set that is read again and again wears out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.core.records import built, read_record, reading, write_record
from tacit.core.secret import FILE_NAME as SECRET
from tacit.core.secret import secret_in, secret_of
from tacit.evaluation.splits import CROSS_FITTING_BELOW, class_units, connected, strata

FILE_NAME = "seal.json"
VERSION = 2  # version 1 hid nothing
TEST_FRACTION = 0.3
CROSS_FITTING_ALWAYS = (
    1_000  # labels: up to so many small classes are tested in turn; of more the large ones are sealed
)
# The held-out events of seals of sequences: of each the last event, or the first after a moment.
EVENT_SEALS: dict[str, Literal["last event", "later event"]] = {"last": "last event", "time": "later event"}
EVENTS_KEPT: Mapping[str, str] = {
    EVENT_SEALS["last"]: "the last event of each history",
    EVENT_SEALS["time"]: "the first event of each history after a moment",
}


class Places(NamedTuple):
    """The role of each example of a dataset under a seal; masks [N]."""

    free: NDArray[np.bool_]  # may train
    sealed: NDArray[np.bool_]  # test, once, at the end
    beside: NDArray[np.bool_]  # of a sealed group or a copy of a sealed example: neither trains nor tests
    missing: int  # sealed examples that the data no longer hold


@dataclass(frozen=True)
class Seal:
    """The sealed test set. `items` maps the digest of each example's content to the digest of its group."""

    seed: int
    source: Literal["hash", "given", "cross-fitting", "last event", "later event"]
    items: Mapping[str, str]
    reads: int = 0

    def place(
        self, group: NDArray[Any] | None, content_hashes: NDArray[Any], *, split: NDArray[np.integer] | None = None
    ) -> Places:
        """Assign a role to every example of a dataset, labelled or not.

        `group` as given to `seal`: the group column's values, None without one. Where the split was given (1 is test),
        a copy of a sealed example on the training side stands beside. Raises `UserError` where no sealed example is
        left, or where groups were sealed and none are given.
        """
        content = content_digests(content_hashes)
        if group is None and any(of != item for item, of in self.items.items()):
            raise UserError("the seal keeps groups whole, and here are none: name the column with --group-column")
        groups = _group_digests(group, content)
        sealed = np.array([digest in self.items for digest in content], bool)
        if split is not None:
            sealed &= split == 1
        # A group may be written another way than it was: that of what is sealed here is one, whatever it is called.
        taken = {*self.items.values(), *(of for of, here in zip(groups, sealed, strict=True) if here)}
        beside = ~sealed & np.array([g in taken or c in self.items for g, c in zip(groups, content, strict=True)], bool)
        missing = len(self.items) - len(self.items.keys() & set(content))
        if self.items and missing == len(self.items):
            raise UserError(
                "none of the sealed test examples is in the data: give the seal that belongs to it, or none"
            )
        return Places(~sealed & ~beside, sealed, beside, missing)

    def save(self, target: str | Path) -> Path:
        """Write the seal to a `.json` file, or as `seal.json` into a folder, whole or not at all."""
        path = _file(target)
        secret = secret_of(path.parent, name=_secret_of(path))
        hidden = {secret.hide(item): secret.hide(of) for item, of in self.items.items()}
        write_record(path, {"version": VERSION, **asdict(self), "items": hidden})
        return path

    @classmethod
    def load(cls, source: str | Path) -> Seal:
        """Read a seal from its file or folder. Raises `UserError` where it cannot be read."""
        path = _file(source)
        if not path.exists():
            raise UserError(f"no seal at {str(path)!r}: give a run folder or its {FILE_NAME}")
        with reading(path, "restore the seal from a copy"):
            content = dict(read_record(path))
            version = content.pop("version")
            if version not in (1, VERSION):
                raise UserError(f"seal {str(path)!r} was written by another version: use the tacit that wrote it")
            if version == VERSION:
                content["items"] = _shown(content["items"], path)
            return built(cls, content)


def count_read(source: str | Path, *copies: str | Path) -> Seal:
    """Note in the file that the sealed labels are read once more; call it just before they are.

    Copies of the seal, such as the one that it was taken from, are kept in step where they still exist.
    """
    seals = [Seal.load(source), *(Seal.load(copy) for copy in copies if _file(copy).exists())]
    seal = replace(seals[0], reads=max(of.reads for of in seals) + 1)
    for place in (source, *(copy for copy in copies if _file(copy).exists())):
        seal.save(place)
    return seal


def _shown(items: Mapping[str, str], path: Path) -> dict[str, str]:
    """The digests that a file hides. UserError without the secret that hid them."""
    name = _secret_of(path)
    secret = secret_in(path.parent, name=name)
    if secret is None:
        raise UserError(
            f"seal {str(path)!r} is hidden by a secret, and {name} is not beside it: name the run folder that made the "
            "seal, or take that file along"
        )
    try:
        return {secret.show(item): secret.show(of) for item, of in items.items()}
    except ValueError:
        raise UserError(f"{name} beside {str(path)!r} is not the secret that hid this seal: restore both") from None


def _secret_of(path: Path) -> str:
    return SECRET if path.name == FILE_NAME else f"{path.name}.secret"


def _file(source: str | Path) -> Path:
    return Path(source) if str(source).endswith(".json") else Path(source) / FILE_NAME


def seal(
    y: NDArray[np.int64],
    group: NDArray[Any] | None,
    content_hashes: NDArray[Any],
    *,
    seed: int,
    test_fraction: float = TEST_FRACTION,
    split: NDArray[np.integer] | None = None,
) -> Seal:
    """Choose the sealed examples among all N; `y` is negative where an example has no label.

    `group` holds the group column's values, None without one: then each content is a group of its own. With a given
    `split` (1 is test) that is the seal. Else, from 100 labels on, of the labelled groups of each class (and of those
    that mix classes) the 30 % with the smallest hash of (seed, group) are sealed; examples of equal content count as
    one group. Below 100 labels nothing is sealed, and evaluation cross-fits; so it does up to 1,000 where most classes
    are too small to part, such as 50 of three members. Raises `UserError` where a group spans the given split, or where
    there is one group only.
    """
    content = content_digests(content_hashes)
    groups = _group_digests(group, content)
    if split is not None:
        return Seal(seed, "given", _of_given_split(group, groups, content, split))
    labelled = np.flatnonzero(y >= 0)
    if len(labelled) < CROSS_FITTING_BELOW:
        return Seal(seed, "cross-fitting", {})

    of_group, of_content = (np.array([of[i] for i in labelled.tolist()]) for of in (groups, content))
    unit = connected(of_group, of_content)  # examples of one group, or of equal content, belong together
    n_units = int(unit.max()) + 1
    if n_units < 2:
        raise UserError("all labelled examples belong to one group: label some of another group, or drop the groups")
    key = [""] * n_units  # a unit is known by the smallest of its groups' digests
    for u, i in zip(unit.tolist(), labelled.tolist(), strict=True):
        key[u] = min(key[u], groups[i]) if key[u] else groups[i]
    rank = np.array([int(short_digest(f"{seed}/{k}"), 16) for k in key], np.float64)
    chosen = np.zeros(n_units, bool)
    stratum = strata(y[labelled], unit)
    for s in np.unique(stratum):
        members = np.flatnonzero(stratum == s)
        count = round(test_fraction * len(members))
        chosen[members[np.argsort(rank[members], kind="stable")[:count]]] = True
    if len(labelled) <= CROSS_FITTING_ALWAYS and chosen.sum() > 1 and _too_few(y[labelled], unit, chosen):
        return Seal(seed, "cross-fitting", {})
    return Seal(seed, "hash", {content[i]: groups[i] for i in labelled[chosen[unit]].tolist()})


def _too_few(y: NDArray[np.int64], unit: NDArray[np.int64], chosen: NDArray[np.bool_]) -> bool:
    """Whether fewer than half of the classes would have two sealed units, without which none can be tested."""
    n_classes = int(y.max()) + 1
    inside = chosen[unit]
    tested = class_units(y[inside], unit[inside], n_classes) if inside.any() else np.zeros(n_classes, np.int64)
    there = np.bincount(y, minlength=n_classes) > 0
    return bool((tested[there] >= 2).mean() < 0.5)


def _of_given_split(
    group: NDArray[Any] | None, groups: Sequence[str], content: Sequence[str], split: NDArray[np.integer]
) -> dict[str, str]:
    test = split == 1
    if not test.any():
        raise UserError("the split has no test examples: mark some as test, or leave the split out")
    if group is not None:
        spanning = np.intersect1d(group[test].astype(str), group[~test].astype(str))
        if len(spanning):
            more = f" and {len(spanning) - 1} more" if len(spanning) > 1 else ""
            raise UserError(f"group {str(spanning[0])!r}{more} spans training and test: put each group on one side")
    return {content[i]: groups[i] for i in np.flatnonzero(test).tolist()}


def short_digest(text: str) -> str:
    """16 hexadecimal digits that name a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_digests(content_hashes: NDArray[Any]) -> list[str]:
    """Each example's content hash as text."""
    # `V16` items do not keep trailing zero bytes as strings would: read the raw bytes
    if content_hashes.dtype.kind in "VS":
        raw, width = np.ascontiguousarray(content_hashes).tobytes(), content_hashes.dtype.itemsize
        return [raw[i : i + width].hex() for i in range(0, len(raw), width)]
    return [str(item) for item in content_hashes]


def group_digest(name: Any) -> str:
    """The digest of a group in a seal."""
    return short_digest(f"group/{name}")


def _group_digests(group: NDArray[Any] | None, content: Sequence[str]) -> Sequence[str]:
    return [group_digest(value) for value in group] if group is not None else list(content)
