"""Metrics of rankings, each with its influence values; see `tacit.evaluation.metrics`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.evaluation.metrics import Floats, Influence, Ints, from_jackknife, mean_by

# ---------------------------------------------------------------- searches


def recall_at(k: int) -> Influence:
    """Share of the queries with something relevant among the first k; relevance [... n k'] in the order of ranking."""

    def values(relevant: NDArray[Any], expected: NDArray[Any], unit: Ints) -> Floats:
        return mean_by(np.asarray(relevant[..., :k].any(axis=-1)), unit)

    return values


def ndcg_at(k: int) -> Influence:
    """Normalised discounted cumulative gain of the first k (Järvelin & Kekäläinen 2002), the mean over queries.

    `expected` [n] says how many relevant ones there are: the ideal ranking has these first.
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])

    def values(relevant: NDArray[Any], expected: NDArray[Any], unit: Ints) -> Floats:
        gain = (relevant[..., :k] * discount[: relevant.shape[-1]]).sum(axis=-1)
        return mean_by(gain / ideal[np.minimum(expected, k).astype(np.int64)], unit)

    return values


# ---------------------------------------------------------------- recommendations
# Predictions [... n 1+k] hold for each history the place of what came next in the ranking, from 1 on, 0 where it is
# not among the places that were kept; behind it the first k items, -1 where there are fewer. What came is the truth.


def by_place(gain: Callable[[NDArray[Any]], NDArray[Any]]) -> Influence:
    """The mean over histories of what the place of the next item is worth; nothing where it has none."""

    def values(found: NDArray[Any], came: NDArray[Any], unit: Ints) -> Floats:
        place = found[..., 0].astype(np.float64)
        return mean_by(np.where(place > 0, gain(np.maximum(place, 1)), 0.0), unit)

    return values


def next_ndcg_at(k: int) -> Influence:
    """Of a single relevant item: 1 at the first place, 1 / log2(1 + place) down to place k."""
    return by_place(lambda place: (place <= k) / np.log2(1 + place))


def hit_rate_at(k: int) -> Influence:
    """Share of the histories with the next item among the first k."""
    return by_place(lambda place: place <= k)


def reciprocal_rank_at(k: int) -> Influence:
    """1 / place down to place k."""
    return by_place(lambda place: (place <= k) / place)


def coverage(n_items: int) -> Influence:
    """Share of a catalogue that is among the first items of any history; each unit left out in turn, exactly."""

    def values(found: NDArray[Any], came: NDArray[Any], unit: Ints) -> Floats:
        lists = found[..., 1:]
        rows = [_covered(row, unit, n_items) for row in lists.reshape(-1, *lists.shape[-2:])]
        return np.stack(rows).reshape(*lists.shape[:-2], -1)

    return values


def _covered(lists: NDArray[Any], unit: Ints, n_items: int) -> Floats:
    listed = lists >= 0
    pairs = np.unique(np.repeat(unit, listed.sum(axis=1)) * n_items + lists[listed])  # (unit, item), each once
    units, items = np.divmod(pairs, n_items)
    uses = np.bincount(items, minlength=n_items)
    alone = np.bincount(units[uses[items] == 1], minlength=int(unit.max()) + 1)  # items that no other unit is shown
    whole = float((uses > 0).mean())
    return from_jackknife(whole, whole - alone / n_items)


def popularity_bias(percentile: Floats) -> Influence:
    """How much more popular what is recommended is than what came, in percentiles [I] of the catalogue's popularity."""

    def values(found: NDArray[Any], came: NDArray[Any], unit: Ints) -> Floats:
        lists = found[..., 1:]
        listed = lists >= 0
        shown = np.where(listed, percentile[lists], 0.0).sum(axis=-1) / np.maximum(listed.sum(axis=-1), 1)
        return mean_by(shown - percentile[came], unit)

    return values
