"""Baselines for recommendation by counting, which a trained encoder of histories must beat.

popularity          the most used items
recent popularity   the most used items among the last share of all events, or of each history where times are unknown
item-knn            items of the same users, by cosine: c_ij / sqrt((c_i + s) (c_j + s)), where c_ij users used both;
                    the k nearest of each item (Sarwar et al. 2001, "Item-based collaborative filtering
                    recommendation algorithms")
markov              items that followed: t_ij sums d^(k-1) over all occurrences of j k events after i, up to ten,
                    divided by (sum_j t_ij)^p, so that p = 1 gives probabilities

The last two sum over a history, in which the k-th event from the end weighs f^(k-1). Shares, s, k, d, p and f are
selected one after the other by nDCG@10 on the validation events. Items without a score are ranked by popularity.

Shapes: B histories of a batch, N events of each, n items.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from torch import Tensor

from tacit.core.spec import FIRST
from tacit.core.types import Batch, Ranker
from tacit.modalities.events.histories import Histories

SHARES = (0.1, 0.5, 0.25, 0.05, 0.02)
FADES = (0.7, 0.5, 0.85, 1.0)
SHRINKING = (10.0, 0.0, 50.0)
NEIGHBOURS = (math.inf, 50, 200)
DECAYS = (0.7, 0.5, 0.85)
POWERS = (1.0, 0.5, 0.25)
WINDOW = 10  # events after an item that count as following it
REMEMBERED = 50  # last events of a history in which items co-occur
ENOUGH = 1_500_000  # events from which links are counted
CHOSEN_BY, FEWEST = 2_000, 100  # validation histories by which settings are selected, and for huge catalogues
_SCORED = 2**28  # scores of all of these above which a catalogue is huge
_CELLS = 2**22  # scores held at once
_FAINT = 1e-3  # weight below which an event is left out
_LEAST = 1e-9  # weight of popularity, so small that it only orders items without a score

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Popularity:
    """The same scores [n] for everybody."""

    def __init__(self, score: NDArray[Any], description: str) -> None:
        self.score, self.description = torch.from_numpy(score.astype(np.float32)), description

    def scores(self, batch: Batch) -> Tensor:
        return self.score.expand(len(batch["tokens"]), -1)


class Links:
    """Scores by links [n n] from the items of a history to all items; later events weigh more."""

    def __init__(self, links: csr_array, fade: float, rest: Floats, description: str) -> None:
        self.links, self.fade, self.rest, self.description = links, fade, rest, description

    def scores(self, batch: Batch) -> Tensor:
        tokens, valid = batch["tokens"].numpy(), batch["valid"].numpy()
        since = valid.sum(axis=1, keepdims=True) - 1 - np.arange(tokens.shape[1])  # [B N] number of later events
        weight = np.where(valid & (tokens >= FIRST), self.fade ** np.maximum(since, 0.0), 0.0).astype(np.float32)
        row, at = np.nonzero(weight > _FAINT)
        history = csr_array((weight[row, at], (row, tokens[row, at] - FIRST)), shape=(len(tokens), len(self.rest)))
        return torch.from_numpy((history @ self.links).toarray() + self.rest)


def counted(
    learn: Histories, contexts: Histories, came: Ints, times: NDArray[np.generic] | None = None
) -> dict[str, Popularity | Links]:
    """The four baselines by name, counted in `learn` and tuned on the validation `contexts`, each followed by `came`.

    `times` [E] belong to `learn.items`. Links are counted in a sample of histories with 1.5 million events in all.
    """
    uses = learn.counts()
    rest = (_LEAST * uses / (1 + uses.max())).astype(np.float32)
    most = min(CHOSEN_BY, max(FEWEST, _SCORED // learn.n_items))
    some = np.sort(np.random.default_rng(0).permutation(len(contexts))[:most])
    contexts, came = contexts.take(some), came[some]
    few = enough(learn)
    together, users = meetings(few)
    followed = cache(lambda decay: followers(few, decay))

    def recent(share: float) -> Popularity:
        return Popularity(lately(learn, times, share) + rest, f"most used in the last {100 * share:g} % of events")

    def neighbours(shrinking: float, fade: float, k: float) -> Links:
        size = diags_array((np.maximum(users + shrinking, 1) ** -0.5).astype(np.float32))
        description = f"cosine of users shrunk by {shrinking:g}, {fade:g} per event since, {k:g} neighbours"
        return Links(nearest(size @ together @ size, k), fade, rest, description)

    def markov(decay: float, power: float, fade: float) -> Links:
        links = followed(decay)
        total = np.maximum(links.sum(axis=1), _FAINT)
        description = f"counts of what followed, {decay:g} per event between, {fade:g} per event since, power {power:g}"
        return Links((diags_array((total**-power).astype(np.float32)) @ links).tocsr(), fade, rest, description)

    return {
        "popularity": Popularity(uses, "most used"),
        "recent popularity": chosen(recent, {"share": SHARES}, contexts, came),
        "item-knn": chosen(neighbours, {"shrinking": SHRINKING, "fade": FADES, "k": NEIGHBOURS}, contexts, came),
        "markov": chosen(markov, {"decay": DECAYS, "power": POWERS, "fade": FADES}, contexts, came),
    }


def enough(histories: Histories) -> Histories:
    """A random sample of whole histories with at most 1.5 million events in all."""
    order = np.random.default_rng(0).permutation(len(histories))
    within = np.cumsum(histories.lengths[order]) <= ENOUGH
    return histories if within.all() else histories.take(np.sort(order[within]))


def lately(histories: Histories, times: NDArray[np.generic] | None, share: float) -> Ints:
    """Counts of each item [n] in the last share of all events, or of each history where there are no times."""
    if times is None:
        count = np.ceil(share * histories.lengths).astype(np.int64)
        return Histories(histories.items, histories.stop - count, histories.stop, histories.n_items).counts()
    found = np.zeros(histories.n_items, np.int64)
    [moment] = histories.moments(times, [1 - share])
    for _, places in histories.events():
        found += np.bincount(histories.items[places[times[places] >= moment]], minlength=len(found))
    return found


def meetings(histories: Histories) -> tuple[csr_array, Floats]:
    """Number of users of both of two items, [n n] without its diagonal, and of each item, [n]."""
    n = histories.n_items
    first = np.maximum(histories.start, histories.stop - REMEMBERED)
    found, users = csr_array((n, n), dtype=np.float32), np.zeros(n, np.float32)
    for history, places in Histories(histories.items, first, histories.stop, n).events():
        people, person = np.unique(history, return_inverse=True)
        used = csr_array((np.ones(len(person), np.float32), (person, histories.items[places])), shape=(len(people), n))
        used.data[:] = 1  # repeated use counts once
        found, users = found + used.T @ used, users + used.sum(axis=0)
    found.setdiag(0)
    found.eliminate_zeros()
    return found.tocsr(), users


def nearest(links: csr_array, k: float) -> csr_array:
    """Keep the k strongest links in each column (a scored item) of a symmetric matrix."""
    if math.isinf(k):
        return links.tocsr()
    links = links.tocoo()
    order = np.lexsort((-links.data, links.col))
    column = links.col[order]
    kept = order[np.arange(len(order)) - np.searchsorted(column, column) < k]
    return csr_array((links.data[kept], (links.row[kept], links.col[kept])), shape=links.shape)


def followers(histories: Histories, decay: float) -> csr_array:
    """Counts of an item soon after another [n n], weighted by distance."""
    n = histories.n_items
    found = csr_array((n, n), dtype=np.float32)
    for history, places in histories.events():
        items = histories.items[places]
        for distance in range(1, WINDOW + 1):
            same = history[:-distance] == history[distance:]
            before, after = items[:-distance][same], items[distance:][same]
            weight = np.full(len(before), decay ** (distance - 1), np.float32)
            found = found + csr_array((weight, (before, after)), shape=(n, n))
    return found


def chosen(make: Callable[..., Any], settings: Mapping[str, Sequence[float]], contexts: Histories, came: Ints) -> Any:
    """Build the ranker with the best settings, selected one after the other; by default the first ones."""
    best = {name: values[0] for name, values in settings.items()}
    if not len(came):
        return make(**best)
    known: dict[tuple[float, ...], float] = {}

    def gain(name: str, value: float) -> float:
        tried = {**best, name: value}
        key = tuple(tried.values())
        if key not in known:
            known[key] = expected_gain(make(**tried), contexts, came)
        return known[key]

    for name, values in settings.items():
        best[name] = max(values, key=lambda value: gain(name, value))
    return make(**best)


def expected_gain(ranker: Ranker, contexts: Histories, came: Ints) -> float:
    """nDCG@10 of the items that came, among items outside of the history; ties count at their mean rank."""
    places, size = [], max(1, min(64, _CELLS // contexts.n_items))
    for start in range(0, len(came), size):
        batch = contexts.batch(np.arange(start, min(start + size, len(came))))
        scores = ranker.scores(batch).numpy().copy()
        row, at = np.nonzero(batch["tokens"].numpy() >= FIRST)
        own = scores[np.arange(len(scores)), came[start : start + size], None]
        scores[row, batch["tokens"].numpy()[row, at] - FIRST] = -np.inf
        places.append(1 + (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2)
    place = np.concatenate(places)
    return float(np.where(place <= 10, 1 / np.log2(1 + np.maximum(place, 1)), 0.0).mean())
