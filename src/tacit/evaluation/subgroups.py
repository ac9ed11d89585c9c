"""The evaluation in each part of the population: hospitals, machines, groups of age or sex.

An encoder can gain on average and harm a part. Every part of ten test items or more gets its figure and the gain over
every baseline there; parts where the arm does worse, after Holm over parts and baselines, are named. They may overlap.
Figures are listed worst first, and the worst of many looks worse than it is: their intervals hold for all of the parts
at once (Šidák 1967).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.evaluation.differences import Predicted, Sheet, compare, draw_variance_of
from tacit.evaluation.splits import Plan
from tacit.evaluation.statistics import LEVEL, Estimate, holm
from tacit.evaluation.targets.base import Tested

FEWEST = 10  # test items: a figure of fewer says nothing
MOST = 100  # parts that are evaluated, the largest
LISTED = 20  # of these, the worst are listed; of the others, those that are harmed


def by_subgroup(predicted: Predicted, sheet: Sheet, tested: Tested, protocol: str, arm: str) -> dict[str, Any]:
    """The rows of every part at the primary budget, the worst first, for the report's `data`; empty without parts.

    The parts are the target's own and the requested ones, else the groups where these are large. A row compares `arm`,
    the chosen one, with the baseline that did best there.
    """
    metric = predicted.target.within
    if arm not in sheet.predicted:
        return {}
    parts = sorted(_parts(predicted, sheet, tested).items(), key=lambda part: -part[1].sum())
    predicted = replace(predicted, plan=Plan([predicted.primary], []))
    primary = {
        name: {key: found for key, found in of.items() if key[1] == predicted.primary.name}
        for name, of in sheet.predicted.items()
    }
    sheet = replace(sheet, predicted=primary)
    found = []
    for name, inside in parts[:MOST]:
        if inside.sum() < FEWEST:
            break
        here = sheet.only(inside)
        measured = here.measured(metric, arm, protocol, predicted.primary)
        assert measured is not None
        draw = draw_variance_of(predicted.target, measured.values, predicted.primary, None)
        own = here.estimate(metric, measured, predicted.primary, draw)
        compared = compare(arm, protocol, predicted, here, metric)
        found.append((name, int(inside.sum()), own, {c.baseline: c.estimate for c in compared}))
    if len(found) < 2:
        return {}
    sign = metric.sign
    p = iter(holm([min(1.0, 2 * (e.below(0) if sign > 0 else e.above(0))) for *_, of in found for e in of.values()]))
    rows: list[dict[str, Any]] = []
    measure = f"{metric.words}, {predicted.target.protocols[protocol]}"
    for name, items, own, gains in found:
        adjusted = {baseline: float(next(p)) for baseline in gains}
        row: dict[str, Any] = {
            "subgroup": name,
            "items": items,
            "metric": metric.name,
            "measure": measure,
            "in_units": metric.in_units,
        }
        row |= {"among": len(found)} | _figures("mean", own, level=LEVEL ** (1 / len(found)))
        row |= {"low": max(row["low"], metric.low), "high": min(row["high"], metric.high)}
        if gains:
            better = [b for b, gain in gains.items() if gain.covers_draws and adjusted[b] < 1 - LEVEL]
            hardest = min(better or gains, key=lambda baseline: sign * gains[baseline].mean)
            row |= {"baseline": hardest, "harmed": bool(better)} | _figures("gain", gains[hardest], sign)
        rows.append(row)
    rows.sort(key=lambda row: sign * row["mean"])
    return {"subgroups": rows[:LISTED] + [row for row in rows[LISTED:] if row.get("harmed")]}


def _parts(predicted: Predicted, sheet: Sheet, tested: Tested) -> dict[str, NDArray[np.bool_]]:
    """The test examples of each part, masks [n]."""
    labelled, positions = predicted.labelled, predicted.tested[tested.counts]
    always = dict(predicted.target.parts(labelled, positions))
    if labelled.subgroup is not None:
        part, names = labelled.subgroup[positions], list(labelled.subgroups)
    elif labelled.grouped and not labelled.one_group:
        part, names = sheet.unit, [f"group {number + 1}" for number in range(int(sheet.unit.max()) + 1)]
    else:
        return always
    sizes = np.bincount(part[part >= 0], minlength=len(names))
    largest = np.argsort(-sizes, kind="stable")[:MOST].tolist()
    return always | {names[number]: part == number for number in largest}


def _figures(name: str, estimate: Estimate, sign: int = 1, level: float = LEVEL) -> dict[str, float]:
    """With its interval; a gain is positive where less of an error is left."""
    low, high = sorted(sign * bound for bound in estimate.interval(level))
    around = ("low", "high") if name == "mean" else ("gain_low", "gain_high")
    return {name: sign * estimate.mean, around[0]: low, around[1]: high}
