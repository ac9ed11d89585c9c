"""What a report shows beyond its numbers: curves over time, images, neighbours, a map. Everything is optional."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAPPED = 1000  # examples on the map
MAPPING = 500  # iterations of t-SNE, after which the map hardly changes


@dataclass(frozen=True)
class Picture:
    """One example as a person sees it: `image` as in `tacit.report.images`, a `Curve`, a text, or None for nothing.

    `sound` is its audio, an MP3.
    """

    image: Any
    label: str = ""
    id: str = ""
    sound: bytes | None = None


@dataclass(frozen=True)
class Neighbours:
    """An example and its nearest others by cosine similarity, nearest first.

    With `classes`, labels are equal or not; numbers are only near each other. With `sought`, the example is a query of
    the other side of pairs, and the label names what belongs to it.
    """

    query: Picture
    nearest: Sequence[tuple[Picture, float]]
    classes: bool = True
    sought: bool = False


@dataclass(frozen=True)
class Points:
    """A 2-D map of N embeddings; beyond `tacit.report.maps.MOST_POINTS` they are thinned evenly."""

    x: Sequence[float]  # [N]
    y: Sequence[float]  # [N]
    label: Sequence[str] = ()  # [N], "" where there is none; empty where nothing is labelled
    id: Sequence[str] = ()  # [N]
    image: Sequence[Any] = ()  # [N] images or texts, all of them or none
    arm: str = ""
    method: str = ""  # how the map was made: "PCA", "t-SNE"
    value: Sequence[float] = ()  # [N] where labels are numbers: they are coloured in steps
    noun: str = "examples"  # the plural noun for the points


@dataclass(frozen=True)
class Recommended:
    """The recommendations after a sequence, the likeliest first, and the actual next item; all by name."""

    history: Sequence[str]  # the latest events, in order of time
    items: Sequence[str]
    came: str


@dataclass(frozen=True)
class Figures:
    """`history` rows are {"arm", "step", "loss", "probe"}; a value that was not measured at a step is None or absent.

    `samples` maps a task to named rows of images: {"simclr": {"original": [...], "view 1": [...]}}.
    `--private` keeps the numbers of `history` and leaves out all else.
    """

    history: Sequence[Mapping[str, Any]] = ()
    gallery: Sequence[Neighbours] = ()
    points: Points | None = None
    samples: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    recommended: Sequence[Recommended] = ()
    config: str = ""  # YAML
    environment: Mapping[str, Any] = field(default_factory=dict)


def flatten(pooled: NDArray[np.float32], *, hurried: bool = False) -> tuple[NDArray[np.float32], str]:
    """Two dimensions [N 2] that keep neighbours together (van der Maaten & Hinton 2008), and the method's name.

    The first two principal components for a handful of examples, for features with no more, or where time is short.
    """
    if hurried or len(pooled) < 30 or pooled.shape[1] < 3:
        centred = pooled - pooled.mean(0)
        flat = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
        return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1]))), "PCA"
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(pooled) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", max_iter=MAPPING, random_state=0).fit_transform(pooled), "t-SNE"
