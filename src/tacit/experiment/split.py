"""Split a dataset into pretraining rows and sealed test rows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.core import keys
from tacit.core.errors import UserError
from tacit.core.wording import Ours
from tacit.data.source import VALIDATION
from tacit.data.split import Split
from tacit.evaluation.sealing import EVENTS_KEPT
from tacit.evaluation.targets import make_target
from tacit.modalities import modality_of

if TYPE_CHECKING:
    from tacit.data.resolved import Labels
    from tacit.dataset import Dataset
    from tacit.evaluation import Seal

Rows = NDArray[np.int64]
_SHOWN = 3  # examples that a line names
MOST_CHOSEN_BY, FEW_CHOSEN_BY = 1_000, 50  # groups held out to choose by


def has_seen(judged: Seal, kept_out: Seal) -> bool:
    """Whether pretraining that held out the items of one seal has seen inputs that the other one tests.

    Where nothing is sealed, all labelled examples are tested by cross-fitting, and none was held out.
    """
    return not judged.items or bool(judged.items.keys() - kept_out.items.keys())


def split_dataset(
    dataset: Dataset, *, seed: int, transductive: bool = False, sealed: Seal | None = None, stride: int = 1
) -> Split:
    """Seal the test rows first (or take the seal of an earlier run), then select the pretraining rows.

    Where frames of recordings are labelled, one of every `stride` is a labelled position, and recordings are sealed.
    Labels that were added after the seal join training only. Neither sealed inputs nor other inputs of their groups,
    nor copies of them, are pretrained on unless `transductive`.
    UserError for labels that cannot be judged, or where no sealed example has one.
    """
    from tacit.evaluation import Labelled, seal

    modality = modality_of(dataset.spec)
    target = make_target(dataset.target)
    if target.asks_next:
        return modality.hold_out(
            dataset.cache,
            dataset.ids.to_pylist(),
            target=dataset.target,
            seed=seed,
            transductive=transductive,
            sealed=sealed,
        )
    everything = np.arange(len(dataset.ids), dtype=np.int64)
    known = dataset.label >= 0
    if not known.any():
        free = np.ones(len(everything), bool) if dataset.split is None else dataset.split != 1
        if sealed is not None:
            free &= sealed.place(dataset.group, dataset.content, split=dataset.split).free
        return Split(everything if transductive else np.flatnonzero(free), np.flatnonzero(known), seal=sealed)
    if sealed is not None and sealed.source in EVENTS_KEPT:
        raise UserError(f"the seal keeps {EVENTS_KEPT[sealed.source]}, and no examples with labels: leave it out")
    whole = kept_whole(dataset.group, dataset)
    if sealed is None:
        sealed = seal(target.balanced(dataset.label), whole, dataset.content, seed=seed, split=dataset.split)
    places = sealed.place(whole, dataset.content, split=dataset.split)
    if sealed.items and not (known & places.sealed).any():
        raise UserError(
            "none of the sealed test examples has a label here: name the label file that the seal was made with as "
            "well (--labels FIRST --labels MORE)"
        )
    free = places.free
    if target.unseen and sealed.items and not transductive:
        chosen_by = held_for_choice(dataset, free, sealed.seed)
        rows = np.flatnonzero(known & (chosen_by | places.sealed))
        free = free & ~chosen_by
    else:
        rows = np.flatnonzero(known & (free | places.sealed))
    group = np.arange(len(everything)) if dataset.group is None else dataset.group
    frames = None if dataset.spans is None else modality.units(dataset.cache, dataset.spans, rows, stride)
    rows = frames.row if frames else rows
    labelled = Labelled(
        fetch=frames.fetch if frames else lambda positions: dataset.batch(rows[positions]),
        y=frames.label if frames else dataset.label[rows],
        classes=dataset.classes,
        group=group[rows],
        train=np.flatnonzero(places.free[rows]),
        test=np.flatnonzero(places.sealed[rows]),
        transductive=transductive,
        content=frames.content if frames else dataset.content[rows],
        target=dataset.target,
        truth=None if dataset.truth is None else dataset.truth[rows],
        subgroup=None if dataset.subgroup is None else dataset.subgroup[rows],
        subgroups=dataset.subgroups,
        pair=None if dataset.pair is None else dataset.pair[rows],
        tokens=frames.tokens if frames else None,
        captions=partial(modality.captions, dataset.cache, np.flatnonzero(free)) if target.matches else None,
        own=modality.owned,
    )
    untested = places.missing + int((places.sealed & ~known).sum())
    return Split(everything if transductive else np.flatnonzero(free), rows, labelled, sealed, untested)


def held_for_choice(dataset: Dataset, free: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """A small part of the free examples, [N], that is chosen by and not pretrained on; groups and copies stay whole.

    Those of the validation split where the data have one, else a twentieth, at most 1,000 groups.
    """
    if dataset.split is not None and (chosen := free & (dataset.split == VALIDATION)).any():
        return np.asarray(chosen)
    content = np.ascontiguousarray(dataset.content).view(">u8").reshape(-1, 2)
    unit = np.unique(content, axis=0, return_inverse=True)[1].reshape(-1) if dataset.group is None else dataset.group
    units = np.random.default_rng(keys.fold(seed, "chosen by")).permutation(np.unique(unit[free]))
    many = max(min(len(units) // 20, MOST_CHOSEN_BY), min(len(units) // 4, FEW_CHOSEN_BY))
    return free & np.isin(unit, units[:many])


def about_seal(dataset: Dataset, split: Split, *, private: bool = False) -> str:
    """Describe in a line how an earlier seal matches the data."""
    assert split.seal is not None
    kept, tested, ids = len(split.seal.items), [], dataset.ids
    if not kept:
        return Ours("the seal keeps no examples, since there were too few labels for a test set: all are cross-fitted")
    if split.labelled is not None:
        tested = np.unique(split.rows[split.labelled.test]).tolist()
    some = ", ".join(ids[int(row)].as_py() for row in tested[:_SHOWN]) + (", ..." if len(tested) > _SHOWN else "")
    named = f" ({some})" if tested and not private else ""
    line = (
        f"the seal keeps {kept:,} examples: {max(0, kept - split.untested):,} are here and tested{named}, "
        f"{split.untested:,} are not in the data or have no label"
    )
    return Ours(line) if private else line


def kept_whole(group: NDArray[Any] | None, known: Dataset | Labels) -> NDArray[Any] | None:
    """The groups that the seal must not split: `group`, or without groups those of the target."""
    whole = None if known.group is not None else make_target(known.target).held_whole(known)
    return group if whole is None else whole
