"""Budgets of labels, the draws that fill them, and folds: every split inside the labelled examples.

Positions are numbers 0..N-1 into the labelled examples. Draws are the same for every encoder, and nested: what draw s
takes at 5 labels per class it takes at 10 as well.

Where examples come in groups, a draw of labels is a draw of groups: it takes them from half of a class's groups at
most, as long as these have enough. How draws differ then shows what other groups would have changed, as the delete-d
jackknife does (Shao & Wu 1989, "A general theory for jackknife variance estimation"); draws that all take all groups
would hide it. Every second draw takes the other half, so that groups count alike.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError

Positions = NDArray[np.int64]

PER_CLASS = (1, 2, 5, 10, 20, 50, 100)
IN_ALL = (10, 20, 50, 100, 200, 500, 1000)  # where labels have no classes, or one of two is rare
SHARES = (0.01, 0.1, 1.0)
PRIMARY_PER_CLASS, PRIMARY_IN_ALL = 10, 100
RARE = 0.1  # of the labels: nobody who labels what comes finds as many of such a class as of the other
MANY_DRAWS, FEW_DRAWS = 10, 5  # up to 20 labels per class, and above: draws differ less the more they hold
MANY_IN_ALL = 200
ENDLESS = 1e9  # degrees of freedom beyond which a t distribution is a normal one
CROSS_FITTING_BELOW = 100
N_FOLDS = 5
# Labels times classes of one probe: beyond it takes minutes, a hundred times over, and matrices of 80 MB.
MOST_CELLS = 10_000_000


def _generator(seed: int, purpose: str, number: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), number])


@dataclass(frozen=True)
class Budget:
    """How many labels a probe may see: `per_class` of each class, or at their natural prevalence a `share` of all or
    a number `in_all`.
    """

    name: str
    per_class: int | None
    share: float | None
    total: int  # labels in one draw
    draws: int
    pool_share: float  # what share of a class's groups, or labels, one draw takes; averaged over the classes
    in_all: int | None = None
    natural: bool = False  # a draw takes what comes, whatever its class
    pool_df: float = ENDLESS  # degrees of freedom in which the pool tells how much others would differ

    def take(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels to take of each class (or stratum), given how many there are [K]."""
        if self.share is not None:
            return _allot(counts, self.share)
        if self.in_all is not None:
            return _allot(counts, min(1.0, self.in_all / max(1, counts.sum())))
        assert self.per_class is not None
        return np.where(counts < self.per_class, counts, self.per_class)


class Plan(NamedTuple):
    """The budgets that can be filled, smallest first, and why each of the others cannot."""

    budgets: list[Budget]
    dropped: list[str]


class _Pool(NamedTuple):
    """What draws are made from, by class [K]; of several pools the least of each."""

    labels: NDArray[np.int64]
    groups: NDArray[np.int64]  # that hold the class; as many as labels where there are none
    groups_in_all: int


UNLABELLED = Budget("no labels", None, None, 0, 1, 0.0, 0)  # of what learns nothing from labels


def unplanned(wanted: int | float | str, draws: int, *, by_class: bool = True) -> Budget:
    """A budget to fill as far as a pool goes, without asking whether it can be.

    A bare number counts labels per class or, where not `by_class`, in all.
    """
    per_class, share, in_all = _parse(wanted, by_class)
    if per_class is not None:
        name = f"{per_class} per class"
    else:
        name = f"{100 * share:g} %" if share is not None else f"{in_all} in all"
    return Budget(name, per_class, share, 0, draws, 0.0, in_all)


def _parse(wanted: int | float | str, by_class: bool) -> tuple[int | None, float | None, int | None]:
    """(labels per class, share, labels in all), two of them None."""
    text = str(wanted).strip()
    try:
        if isinstance(wanted, float) or text.endswith("%"):
            share = wanted if isinstance(wanted, float) else float(text[:-1]) / 100
            if 0 < share <= 1:
                return None, share, None
        elif int(text.removesuffix("per class").removesuffix("in all")) > 0:
            count = int(text.removesuffix("per class").removesuffix("in all"))
            if text.endswith("in all") or (not by_class and not text.endswith("per class")):
                return None, None, count
            if by_class:
                return count, None, None
    except ValueError:
        pass
    usual = "labels per class (10), " if by_class else ""
    raise UserError(f"{wanted!r} is no label budget: give {usual}labels in all ('100 in all') or a share ('10 %')")


def _allot(counts: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """A share of the labels at natural prevalence, by Webster's divisors: more labels never take one from a class."""
    turn = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    first = np.argsort(turn, kind="stable")[: round(share * int(counts.sum()))]
    return np.bincount(np.repeat(np.arange(len(counts)), counts)[first], minlength=len(counts))


def plan_budgets(
    y: NDArray[np.int64],
    classes: Sequence[str],
    wanted: Sequence[int | float | str] | None = None,
    draws: int | None = None,
    *,
    by_class: bool = True,
    group: NDArray[np.int64] | None = None,
) -> Plan:
    """The label budgets that the training labels `y` (class numbers; negative: unknown) can fill.

    Those that the rarest class cannot fill are dropped, by name and with the reason. A budget that takes all there is
    has one draw. Where one of two classes is rare, and where labels have no classes (`by_class`; y are strata then),
    labels are counted in all. Raises `UserError` where fewer than two classes have labels, or too many for a probe.
    """
    return plan_for_pools(y, [np.flatnonzero(y >= 0)], classes, wanted, draws, by_class=by_class, group=group)


def plan_for_pools(
    y: NDArray[np.int64],
    pools: Sequence[Positions],
    classes: Sequence[str],
    wanted: Sequence[int | float | str] | None = None,
    draws: int | None = None,
    *,
    by_class: bool = True,
    primary: int | float | str | None = None,
    group: NDArray[np.int64] | None = None,
    filling: NDArray[np.bool_] | None = None,
) -> Plan:
    """Like `plan_budgets`, for budgets that each of several pools (the folds' training parts) must fill.

    The `primary` one is planned besides, if it can be filled and is not among them. `filling` are the classes that a
    budget must have labels of; of others it takes what there is.
    """
    if primary is not None and wanted is not None:
        wanted = [*wanted, primary]
    width = len(classes) if by_class else 1 + max(int(y[pool].max(initial=0)) for pool in pools)
    least = _least(y, np.arange(len(y)) if group is None else group, pools, width)
    if by_class:
        return _plan_by_class(least, classes, wanted, draws, primary, filling)
    counts = least.labels
    budgets, dropped = [], []
    for item in wanted if wanted is not None else (*IN_ALL, *SHARES, *([] if primary is None else [primary])):
        trial = unplanned(item, 1, by_class=False)
        take = trial.take(counts)
        reason = _refused(trial, counts, take, max(1, len(classes)))
        if take.sum() < 2:
            reason = f"{trial.name}: leaves {take.sum()} labels"
        if reason:
            dropped.append(reason)
        else:
            budgets.append(_filled(trial, least, take, MANY_IN_ALL, draws))
    return _sorted(budgets, dropped)


def _least(y: NDArray[np.int64], group: NDArray[np.int64], pools: Sequence[Positions], n_classes: int) -> _Pool:
    """The fewest labels and groups of each class that any of these pools has."""
    return _Pool(
        np.min([np.bincount(y[pool], minlength=n_classes) for pool in pools], axis=0),
        np.min([class_units(y[pool], group[pool], n_classes) for pool in pools], axis=0),
        min(len(np.unique(group[pool])) for pool in pools),
    )


def _plan_by_class(
    pool: _Pool,
    classes: Sequence[str],
    wanted: Sequence[int | float | str] | None,
    draws: int | None,
    primary: int | float | str | None,
    filling: NDArray[np.bool_] | None = None,
) -> Plan:
    counts, present = pool.labels, pool.labels > 0
    if present.sum() < 2:
        names = ", ".join(name for name, here in zip(classes, present, strict=True) if here) or "none"
        raise UserError(f"labels to train on exist for fewer than two classes ({names}): label more examples")
    n_classes = int(present.sum())
    if n_classes**2 > MOST_CELLS:
        raise UserError(
            f"{n_classes:,} classes are too many for the linear probe, which takes at most {math.isqrt(MOST_CELLS):,}: "
            "merge them into coarser classes, or judge some of them"
        )
    needed = present if filling is None or (present & filling).sum() < 2 else present & filling
    rarest = int(np.flatnonzero(needed)[counts[needed].argmin()])
    budgets: list[Budget] = []
    dropped: list[str] = []
    rare = is_rare(counts)
    usual = [f"{n} in all" for n in IN_ALL] if rare else [*PER_CLASS]
    for item in wanted if wanted is not None else (*usual, *SHARES, *([] if primary is None else [primary])):
        trial = unplanned(item, 1, by_class=not rare or "per class" in str(item))
        take = trial.take(counts)
        reason = _refused(trial, counts, take, n_classes)
        if trial.per_class is not None and counts[rarest] < trial.per_class:
            reason = f"{trial.name}: class {classes[rarest]} has only {counts[rarest]} training labels"
        elif trial.per_class is None and take[needed].min() < 1:
            reason = f"{trial.name}: leaves no label of class {classes[rarest]}"
        if reason:
            dropped.append(reason)
        else:
            trial = replace(trial, natural=rare and trial.per_class is None)
            budgets.append(_filled(trial, pool, take, 20 * n_classes, draws))
    return _sorted(budgets, dropped)


def is_rare(counts: NDArray[np.int64]) -> bool:
    """Whether one of two classes is so rare, by their labels [K], that labels are counted in all."""
    present = counts[counts > 0]
    return len(present) == 2 and bool(present.min() < RARE * present.sum())


def _refused(trial: Budget, counts: NDArray[np.int64], take: NDArray[np.int64], n_classes: int) -> str:
    """Why a budget is not planned, or an empty text."""
    if take.sum() * n_classes > MOST_CELLS:
        return f"{trial.name}: {take.sum():,} labels of {n_classes:,} classes would take a probe too long"
    if (take == counts).all() and trial.share != 1.0:
        return f"{trial.name}: is all there is, see 100 %"
    return ""


def _filled(trial: Budget, pool: _Pool, take: NDArray[np.int64], many: int, draws: int | None) -> Budget:
    everything = bool((take == pool.labels).all())
    n_draws = 1 if everything else draws or (MANY_DRAWS if take.sum() <= many else FEW_DRAWS)
    if trial.natural:
        share, df = _share_of_groups(take.sum(keepdims=True), _whole(pool))
    else:
        share, df = _share_of_groups(take, pool)
    return replace(trial, total=int(take.sum()), draws=n_draws, pool_share=1.0 if everything else share, pool_df=df)


def _whole(pool: _Pool) -> _Pool:
    """The same as if all were of one class."""
    return _Pool(pool.labels.sum(keepdims=True), np.array([pool.groups_in_all]), pool.groups_in_all)


def _share_of_groups(take: NDArray[np.int64], pool: _Pool) -> tuple[float, float]:
    """What share of the pool's groups a draw takes, and the degrees of freedom in which their variance is known.

    A class counts by what it adds to that variance: the less, the more groups a draw takes of it (Satterthwaite 1946).
    One that lies in one group alone shows nothing of other groups: its labels count.
    """
    drawn = take > 0
    take, labels, groups = take[drawn], pool.labels[drawn], pool.groups[drawn]
    units = np.where(groups < 2, labels, groups)
    used = np.maximum(np.minimum(take, half_of(units)), np.ceil(units * take / labels))  # half of them, if they suffice
    weight = (1 / used) / (1 / used).sum()
    df = 1 / (weight**2 / np.maximum(units - 1, 1)).sum()
    if (groups > 1).all():  # the same groups may serve all classes
        df = min(df, max(pool.groups_in_all - 1, 1))
    return min(1.0, round(float((weight * used / units).sum()), 12)), float(df)


def half_of(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of so many groups a draw takes at most, as long as they hold enough labels."""
    return np.maximum(groups // 2, 1)


def _sorted(budgets: Sequence[Budget], dropped: list[str]) -> Plan:
    if not budgets:
        raise UserError(f"no label budget can be filled ({'; '.join(dropped)}): label more examples or ask for fewer")
    return Plan(sorted({b.name: b for b in budgets}.values(), key=lambda b: b.total), dropped)


def primary_budget(budgets: Sequence[Budget], wanted: int | float | str | None = None) -> Budget:
    """The one budget of the verdict: `wanted`, else 10 labels per class or the largest below that fits."""
    if wanted is not None:
        name = unplanned(wanted, 1, by_class=any(b.per_class is not None for b in budgets)).name
        for budget in budgets:
            if budget.name == name:
                return budget
        raise UserError(f"primary budget {wanted!r} cannot be filled: choose from {', '.join(b.name for b in budgets)}")
    small = [b for b in budgets if (b.per_class or b.in_all or np.inf) <= _usual(b)]
    return small[-1] if small else budgets[-1]


def _usual(budget: Budget) -> int:
    return PRIMARY_PER_CLASS if budget.per_class is not None else PRIMARY_IN_ALL


def draw_labels(
    y: NDArray[np.int64], group: NDArray[np.int64], pool: Positions, budgets: Sequence[Budget], *, seed: int
) -> dict[str, list[Positions]]:
    """The draws of each budget, by name: positions out of `pool`, in its order.

    The groups of each class are walked in random order: first one example of each of the first half, then a second,
    and so on, so that n labels are as many independent cases as half of the groups can give; then the others, one by
    one.
    """
    label, counts = y[pool], np.bincount(y[pool])
    unit = in_order_of_appearance(group[pool])
    n_units = int(unit.max(initial=-1)) + 1
    walks = {
        natural: _Walk(np.zeros_like(label) if natural else label, unit) for natural in {b.natural for b in budgets}
    }
    drawn: dict[str, list[Positions]] = {budget.name: [] for budget in budgets}
    for s in range(max(budget.draws for budget in budgets)):
        shuffled = np.argsort(_generator(seed, "draw", s).permutation(len(pool)))  # each one's place in random order
        walked = shuffled  # groups, in random order
        if n_units < len(pool):
            walked = _generator(seed, "groups", s // 2).permutation(n_units) * (-1) ** s
        places = {natural: walk.places(shuffled, walked) for natural, walk in walks.items()}
        for budget in budgets:
            if s < budget.draws:
                place = places[budget.natural]
                taken = _first(place, label, budget.total) if budget.natural else place < budget.take(counts)[label]
                drawn[budget.name].append(pool[taken])
    return drawn


class _Walk:
    """The order in which examples are drawn, class by class and group by group."""

    def __init__(self, label: NDArray[np.int64], unit: NDArray[np.int64]) -> None:
        self.label, self.unit = label, unit
        n_units = int(unit.max(initial=-1)) + 1
        cells, self.cell = np.unique(label * n_units + unit, return_inverse=True)  # pairs of class and group that occur
        self.of_class, self.of_unit = np.divmod(cells, n_units)
        self.half = half_of(np.bincount(self.of_class))[self.of_class]

    def places(self, shuffled: NDArray[np.int64], walked: NDArray[np.int64]) -> NDArray[np.int64]:
        """Each one's place within its class, from random orders of the examples and of the groups."""
        turn = _rank_within(self.cell, shuffled)
        late = (_rank_within(self.of_class, walked[self.of_unit]) >= self.half)[self.cell]
        first, then = np.where(late, (walked[self.unit], turn), (turn, walked[self.unit]))
        order = np.empty(len(turn), np.int64)
        order[np.lexsort((then, first, late))] = np.arange(len(turn))
        return _rank_within(self.label, order)


def _first(place: NDArray[np.int64], label: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """The first n by place; where these lack a class, its first one instead of the last of them."""
    taken = place < n
    for c in np.unique(label):
        own = np.flatnonzero(label == c)
        first = own[place[own].argmin()]
        if place[first] >= n:
            taken[place == n - 1] = False
            taken[first] = True
    return taken


def _rank_within(part: NDArray[np.int64], key: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank of each element by its key among those of the same part."""
    order = np.lexsort((key, part))
    rank = np.empty(len(part), np.int64)
    rank[order] = np.arange(len(part)) - np.searchsorted(part[order], part[order])
    return rank


def in_order_of_appearance(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same groups, numbered as they appear."""
    _, first, unit = np.unique(group, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[unit]


def connected(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.int64]:
    """Number the connected parts [N]: examples that share a number of either kind belong together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = (np.unique(of, return_inverse=True)[1] for of in (one, other))
    other = other + int(one.max(initial=-1)) + 1
    n = int(other.max(initial=-1)) + 1
    part = connected_components(coo_array((np.ones(len(one), bool), (one, other)), shape=(n, n)), directed=False)[1]
    return np.unique(part[one], return_inverse=True)[1].astype(np.int64)


def strata(y: NDArray[np.int64], unit: NDArray[np.int64]) -> NDArray[np.int64]:
    """The stratum of each unit 0..U-1: its class where all its members share one, else -1."""
    n_units = int(unit.max()) + 1
    low = np.full(n_units, np.iinfo(np.int64).max)
    high = np.full(n_units, -1)
    np.minimum.at(low, unit, y)
    np.maximum.at(high, unit, y)
    return np.where(low == high, low, -1)


def make_folds(
    y: NDArray[np.int64], group: NDArray[np.int64], positions: Positions, *, seed: int, k: int = N_FOLDS
) -> list[Positions]:
    """Split `positions` into at most k parts of whole groups with about the same mix of classes and the same size.

    Groups are dealt in turn, class by class and large ones first. Raises `UserError` where there is only one group.
    """
    unit = np.unique(group[positions], return_inverse=True)[1]
    n_units = int(unit.max()) + 1
    if n_units < 2:
        raise UserError("all labelled examples belong to one group: label some of another group, or drop the groups")
    k = min(k, n_units)
    size = np.bincount(unit)
    order = np.lexsort((_generator(seed, "folds").random(n_units), -size, strata(y[positions], unit)))
    fold_of_unit = np.empty(n_units, np.int64)
    fold_of_unit[order] = np.arange(n_units) % k
    return [np.sort(positions[fold_of_unit[unit] == f]) for f in range(k)]


def class_units(y: NDArray[np.int64], group: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """How many groups hold each class [K]."""
    unit = np.unique(group, return_inverse=True)[1]
    n_units = len(unit) and int(unit.max()) + 1
    return np.bincount(np.unique(y * n_units + unit) // max(1, n_units), minlength=n_classes)
