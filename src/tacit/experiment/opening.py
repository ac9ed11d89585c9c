"""Open and split a dataset: the first two of a run's five functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.core import keys
from tacit.core.secret import own_secret
from tacit.core.types import Batch, Encoder
from tacit.core.wording import Ours
from tacit.data.split import Split
from tacit.dataset import Dataset, open_dataset
from tacit.evaluation.targets import make_target
from tacit.experiment.log import Log
from tacit.experiment.split import about_seal, split_dataset
from tacit.modalities import modality_of
from tacit.modalities.base import Modality

if TYPE_CHECKING:
    from tacit.evaluation import Seal


@dataclass(frozen=True)
class Opened:
    """A dataset with its split."""

    dataset: Dataset
    split: Split
    again: Callable[[Mapping[str, Any]], Dataset]  # the same data, read with some settings replaced
    private: bool = False

    @property
    def modality(self) -> Modality[Any, Any]:
        """The modality of these data."""
        return modality_of(self.dataset.spec)

    @property
    def data_hash(self) -> str:
        """The identifier of these data in reports and encoders; a keyed hash where they are private.

        A plain hash would identify them to anyone who has the same data.
        """
        if not self.private:
            return self.dataset.data_hash
        secret = own_secret()
        return "" if secret is None else secret.mark(self.dataset.data_hash.encode(), purpose="tacit.data")

    def two_views(
        self, encoder: Encoder, rows: NDArray[np.int64], seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features [N D] of two views of each of these rows, drawn as for contrast, the same at every call."""
        from tacit.evaluation.features import extract

        views, seed = self.modality.views(self.dataset.spec), keys.fold(seed, "views to diagnose on")

        def fetch(view: int, some: NDArray[np.int64]) -> Batch:
            batch = self.dataset.batch(some)
            return views({**batch, "key": keys.batch_keys(seed, 0, torch.from_numpy(some))}, view)

        first, second = (extract(encoder, partial(fetch, view), rows)["pooled"] for view in (0, 1))
        return first, second


def open_data(data: Any, options: Mapping[str, Any], log: Log, *, private: bool = False) -> Dataset:
    """Open the data; log their contents and what was left out."""
    dataset = open_dataset(data, **options)
    log(Ours(describe(dataset, private=private)))
    for line in dataset.notes.lines(private=private):
        log(line)
    return dataset


def split_data(
    dataset: Dataset,
    again: Callable[[Mapping[str, Any]], Dataset],
    log: Log,
    *,
    seed: int,
    seal: Seal | None = None,
    transductive: bool = False,
    stride: int = 1,
    private: bool = False,
) -> Opened:
    """Seal the test rows, or take an earlier seal, and log the result; see `split_dataset`."""
    split = split_dataset(dataset, seed=seed, transductive=transductive, sealed=seal, stride=stride)
    modality = modality_of(dataset.spec)
    if split.held is not None:
        dataset = replace(dataset, cache=modality.without_held(dataset.cache, split.held))
    if seal is not None and split.seal is not None and split.held is None:
        log(about_seal(dataset, split, private=private))
    elif split.seal is not None and split.untested:
        what = "events are not in the data" if split.held else "test examples are not in the data or have no label"
        log(f"{split.untested:,} of {len(split.seal.items):,} sealed {what}, and are not tested")
    for line in modality.about_held(split) if split.held is not None else ():
        log(Ours(line))
    if split.labelled is not None and split.labelled.tokens is not None:
        log(f"{len(split.labelled.y):,} frames are judged, evenly spread over those in labelled stretches")
    return Opened(dataset, split, again, private)


def describe(dataset: Dataset, *, private: bool = False) -> str:
    """Describe the dataset in a line."""
    labels = make_target(dataset.target).describe(dataset, private=private)
    return f"{modality_of(dataset.spec).describe(dataset.cache)}; {labels}"
