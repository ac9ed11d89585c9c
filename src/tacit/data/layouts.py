"""Labels and splits from folder names: ROOT/CLASS/FILE and ROOT/SPLIT/CLASS/FILE, with unlabelled files beside them.

The first is ImageFolder's of torchvision, the second adds splits as ImageNet and IMDB have them (train, test; val or
valid). Folders named unlabeled, unsup and the like are no classes, as in STL-10, at either depth; files outside class
folders have no label.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.data.named import Missing
from tacit.data.source import TEST, TRAIN, VALIDATION, Source, each
from tacit.data.splitting import SPLITS

_UNLABELLED = re.compile(
    r"(train|extra)?(unlabell?ed|unsup|unsupervised|unannotated|nolabels?|withoutlabels?|unlabell?eddata)"
    r"(data|images?|imgs?|texts?|sounds?|audio|set|train)?[0-9]*"
)
_SHOWN = 3


def with_folder_labels(source: Source, missing: Missing) -> Source:
    """Label each path by its first folder, or by its second where the first ones are splits.

    UserError where no file lies in a class folder, or where only some of the first folders are splits.
    """
    paths = [path.split("/") for path in each(source.ids)]
    first = Counter(path[0] for path in paths if len(path) > 1)
    splits = _splits(paths, first, source, missing)
    label: list[str | None] = []
    for path in paths:
        folders = path[1:-1] if path[0] in splits else path[:-1]
        label.append(folders[0] if folders and not _unlabelled(folders[0], missing) else None)
    loose = [name for name, of in zip(each(source.ids), label, strict=True) if of is None]
    if not source.root or len(loose) == len(source):
        raise UserError(f"--labels folders: no {source.kind} of {source.name} lies in a class folder")
    remarks = source.remarks
    if loose:
        some = ", ".join(loose[:_SHOWN]) + (", ..." if len(loose) > _SHOWN else "")
        remarks = (*remarks, f"{len(loose):,} examples lie in no class folder and have no label: {some}")
    split = source.split
    if len(set(splits.values())) > 1:
        split = np.array([splits.get(path[0], TRAIN) if len(path) > 1 else TRAIN for path in paths], np.int8)
        split, added = _with_test(split, splits)
        remarks += added
    return replace(source, label=pa.array(label, pa.string()), split=split, remarks=remarks)


def _splits(paths: Iterable[list[str]], first: Counter[str], source: Source, missing: Missing) -> dict[str, int]:
    """The folders that are splits, with their codes; empty unless class folders lie in two, or there are no others."""
    splits = {name: SPLITS[name.lower()] for name in first if name.lower() in SPLITS}
    parted = {path[0] for path in paths if len(path) > 2 and not _unlabelled(path[1], missing)}
    others = sorted(name for name in first if name not in splits and not _unlabelled(name, missing))
    if not splits.keys() & parted or (others and len(splits.keys() & parted) < 2):
        return {}
    if others:
        raise UserError(
            f"--labels folders: {', '.join(sorted(splits))} of {source.name} are splits, and {others[0]!r} is none: "
            "name it train, test, val or unlabeled, or move it out"
        )
    return splits


def _with_test(split: NDArray[np.int8], splits: dict[str, int]) -> tuple[NDArray[np.int8] | None, tuple[str, ...]]:
    """Take the validation folder as the test split where there is none, as in ImageNet."""
    if (split == TEST).any():
        return split, ()
    name = next(name for name, which in splits.items() if which == VALIDATION)
    return np.where(split == VALIDATION, TEST, split).astype(np.int8), (
        f"{name}/ is held out as the test split, since there is no folder test",
    )


def _unlabelled(name: str, missing: Missing) -> bool:
    return name not in missing.kept and _UNLABELLED.fullmatch(re.sub(r"[^a-z0-9]", "", name.lower())) is not None
