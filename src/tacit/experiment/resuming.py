"""The data of a run, so that it is resumed on the same.

The run folder stores a hash of each example's name and of its content, keyed with the folder's secret: they show what
has changed, and nothing to anyone who has the hashes alone.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.core.archives import arrays_in
from tacit.core.errors import UserError
from tacit.core.files import whole_file
from tacit.core.secret import Secret, secret_in, secret_of
from tacit.core.spec import Spec
from tacit.data.source import each
from tacit.experiment.folder import BEGUN_ON

if TYPE_CHECKING:
    from tacit.experiment.opening import Opened

_NAMED = 3
_MEASURED = ("mean", "std", "alignment", "uses", "catalogue", "tokenizer", "specials")  # follow from the content


class Begun(NamedTuple):
    """The hashes of N examples, which of them are pretrained on, and the form in which they are read."""

    names: NDArray[np.uint64]  # [N]
    contents: NDArray[np.uint64]  # [N]
    pretrained: NDArray[np.uint32]  # checksum of the rows
    form: str  # JSON

    @classmethod
    def of(cls, opened: Opened, secret: Secret) -> Begun:
        dataset = opened.dataset

        def hashed(value: bytes) -> bytes:
            return hashlib.blake2b(value, digest_size=8, key=secret.key, person=b"tacit.begun").digest()

        names = b"".join(hashed(name.encode()) for name in each(dataset.ids))
        contents = b"".join(hashed(content) for content in dataset.content.tolist())
        form = _form(dataset.spec)
        if dataset.spec.parts:  # `content` is that of the first part alone
            form["data_hash"] = hashed(dataset.data_hash.encode()).hex()
        return cls(
            np.frombuffer(names, np.uint64),
            np.frombuffer(contents, np.uint64),
            np.array([zlib.crc32(opened.split.pretrain.astype(np.int64).tobytes())], np.uint32),
            json.dumps({"kind": dataset.kind, **form}),
        )


def _form(spec: Spec) -> dict[str, Any]:
    """The settings in a spec, and in those of its parts."""
    if spec.parts:
        return {f"{part}.{name}": value for part, of in spec.parts.items() for name, value in _form(of).items()}
    return {name: value for name, value in vars(spec).items() if name not in _MEASURED}


def go_on_with_the_same(folder: Path, opened: Opened) -> None:
    """Store the data of a new run; for a resumed one, raise a UserError that names what has changed since."""
    path = folder / BEGUN_ON
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        begun = Begun.of(opened, secret_of(folder))
        with whole_file(path) as partial, partial.open("wb") as file:
            np.savez(file, **begun._asdict())
        return
    try:
        with arrays_in(path) as arrays:
            before = Begun(*(arrays[name] for name in Begun._fields))
            form: dict[str, Any] = json.loads(str(before.form))
            secret = secret_in(folder)
            if secret is None:
                raise UserError(f"{folder} has lost its secret, by which {BEGUN_ON} is read; restore it from a copy")
            now = Begun.of(opened, secret)
    except UserError:
        raise
    except Exception:  # of invalid zip files, arrays and JSON
        remedy = "without it nobody knows what the run was begun on: remove it to go on all the same"
        raise UserError(f"{path} is damaged; {remedy}") from None
    changed = _changed(before, now, form, opened)
    if changed:
        raise UserError(
            f"the data have changed since {folder} was begun: {'; '.join(changed)}. Bring them back as they were, or "
            "begin anew with another --out"
        )


def _changed(before: Begun, now: Begun, form: dict[str, Any], opened: Opened) -> list[str]:
    """The differences in words."""
    changes = []

    def note(rows: NDArray[np.int64], one: str, many: str) -> None:
        if len(rows):
            first = opened.dataset.ids.take(rows[:_NAMED]).to_pylist()
            names = "" if opened.private else f" ({', '.join(first)}{', ...' if len(rows) > _NAMED else ''})"
            changes.append(f"{len(rows):,} {one if len(rows) == 1 else many}{names}")

    known = np.isin(now.names, before.names)
    note(np.flatnonzero(~known), "example is new", "examples are new")
    gone = int((~np.isin(before.names, now.names)).sum())
    changes += [f"{gone:,} example{' is' if gone == 1 else 's are'} gone"] if gone else []
    other = known & ~np.isin(_pairs(now), _pairs(before))
    note(np.flatnonzero(other), "example has other content", "examples have other content")
    if not changes and len(now.names) != len(before.names):
        changes.append(f"there are {len(now.names):,} examples, and were {len(before.names):,}")
    if not changes and (now.names != before.names).any():
        changes.append("the examples come in another order")
    new_form = json.loads(now.form)
    for name in form.keys() | new_form.keys():
        if not changes and name in form and form[name] != new_form.get(name):
            changes.append(f"they are read with {name} {new_form.get(name)}, and were with {form[name]}")
    if not changes and now.pretrained[0] != before.pretrained[0]:
        changes.append("others are held out of pretraining, as labels, groups or the split have changed")
    return changes


def _pairs(of: Begun) -> NDArray[np.uint64]:
    """Name and content of each example as one number."""
    return of.names * np.uint64(0x9E3779B97F4A7C15) ^ of.contents
