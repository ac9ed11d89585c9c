"""The one place where test labels are read: from predictions to figures, verdicts and labels saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import UserError
from tacit.evaluation.labels_saved import Point, labels_saved
from tacit.evaluation.predictions import Predictions, class_names, draw_names, item_names
from tacit.evaluation.results import PRIMARY_METRIC, PRIMARY_PROTOCOL, ArmRecord, Claim, Report, Result, Verdict
from tacit.evaluation.selection import Selection
from tacit.evaluation.splits import Budget, Plan, Positions, class_units
from tacit.evaluation.statistics import DrawVariance, Estimate, crossed, draw_variance, influence, smoothing
from tacit.evaluation.subject import Arm, Labelled
from tacit.evaluation.verdict import Comparison, Setting, is_failure, judge, nothing_to_judge

PROTOCOLS = ("linear", "knn")
SCRATCH = "scratch"
TUNED = "finetune"
CHOSEN = "/chosen without each fold"  # no arm has this name: see _chosen_by_fold
WORST_GROUP_ITEMS = 10  # a group's accuracy over fewer says nothing
CLEAR_SHARE = 0.5  # of the pool; draws that take more overlap too much to show their own variance


@dataclass(frozen=True)
class Predicted:
    """Everything that was settled before the test labels are read."""

    arms: Sequence[Arm]
    labelled: Labelled
    tested: Positions  # [n] the test positions, fold after fold
    sizes: Sequence[int]  # of the folds
    plan: Plan
    primary: Budget
    predictions: Mapping[str, Mapping[tuple[str, str], NDArray[np.int32]]]  # arm -> (protocol, budget) -> [P S n]
    drawn: Sequence[Mapping[str, Sequence[Positions]]]  # of each fold, the draws of every budget
    selection: Selection
    missing: tuple[str, ...] = ()  # mandatory baselines that cannot be had here
    copied: Positions = field(default_factory=lambda: np.empty(0, np.int64))  # test positions, see `without_copies`


@dataclass(frozen=True)
class _Sheet:
    """The hits of every arm on the test items that count."""

    y: NDArray[np.int64]  # [n]
    unit: NDArray[np.int64]  # [n]
    extra: float  # see statistics.smoothing
    hits: Mapping[str, Mapping[tuple[str, str], NDArray[np.bool_]]]  # arm -> (protocol, budget) -> [P S n]

    def under(self, arm: str, protocol: str, budget: Budget) -> NDArray[np.bool_] | None:
        """The hits [P S n] of an arm under a protocol; training from scratch stands under each."""
        of_arm = self.hits[arm]
        return of_arm.get((protocol, budget.name), of_arm.get((SCRATCH, budget.name)))


def judge_predictions(predicted: Predicted) -> Report:
    """The report; where test items have copies among what was pretrained on, also the verdict without them."""
    report = _judged(predicted)
    again = without_copies(predicted)
    return report.with_data(without_copies=again) if again else report


def without_copies(predicted: Predicted) -> dict[str, Any]:
    """The verdict that the other test items give, and how many were left out; empty where none has a copy.

    The predictions stay as they are: it is the same test, read on fewer items.
    """
    keep = ~np.isin(predicted.tested, predicted.copied)
    left_out = int((~keep).sum())
    if not left_out:
        return {}
    by_fold = np.split(keep, np.cumsum(predicted.sizes)[:-1])
    rest = replace(
        predicted,
        tested=predicted.tested[keep],
        sizes=[int(fold.sum()) for fold in by_fold],
        predictions={
            arm: {key: of[..., keep] for key, of in predictions.items()}
            for arm, predictions in predicted.predictions.items()
        },
    )
    try:
        verdict = _judged(rest).verdict
    except UserError:  # fewer than two classes are left to test
        verdict = replace(
            nothing_to_judge(predicted.primary, predicted.labelled.transductive),
            text="NO VERDICT: too few test items are left",
        )
    return {"left_out": left_out, **asdict(verdict)}


def _judged(predicted: Predicted) -> Report:
    labelled, plan, selection = predicted.labelled, predicted.plan, predicted.selection
    y, unit = labelled.y[predicted.tested], labelled.group[predicted.tested]
    counted, left_out = _counted(predicted, y, unit)
    unit = np.unique(unit[counted], return_inverse=True)[1] if labelled.grouped else np.arange(counted.sum())
    y = y[counted]
    predictions = {**predicted.predictions, **_chosen_by_fold(predicted)}
    hits = {arm: {key: p[..., counted] == y for key, p in of.items()} for arm, of in predictions.items()}
    sheet = _Sheet(y, unit, smoothing(y, unit), hits)
    setting = Setting(
        n_test=len(y),
        n_units=int(unit.max()) + 1,
        public=_any_public(predicted.arms),
        missing=predicted.missing,
        transductive=labelled.transductive,
        n_folds=len(predicted.sizes) if len(predicted.sizes) > 1 else 0,
        left_out=tuple(line.split(":")[0] for line in left_out),
    )
    results = _results(predicted, sheet, setting)
    main = nothing_to_judge(predicted.primary, labelled.transductive)
    verdicts: list[Verdict] = []
    gains: list[dict[str, Any]] = []
    saved: dict[str, Any] = {}
    for arm in (arm for arm in predicted.arms if arm.kind == "pretrained"):
        collapsed = any(map(is_failure, arm.alarms))
        claim: Claim = "recipe" if len(arm.encoders) >= 3 else "checkpoint"
        for protocol in (*PROTOCOLS, TUNED):
            compared = _compare(arm.name, protocol, predicted, sheet)
            budgets = plan.budgets if protocol in PROTOCOLS else [c.budget for c in compared]
            verdicts += judge(arm.name, protocol, budgets, compared, setting, collapsed=collapsed, claim=claim)
            gains += [_gain(arm.name, protocol, comparison) for comparison in compared]
        if arm.name == selection.arm:
            source = CHOSEN if CHOSEN in hits else arm.name
            compared = _compare(source, PRIMARY_PROTOCOL, predicted, sheet)
            [main] = judge(
                arm.name, PRIMARY_PROTOCOL, [predicted.primary], compared, setting, collapsed=collapsed, claim=claim
            )
            at_primary = {c.baseline: c.estimate for c in compared if c.budget == predicted.primary}
            saved = labels_saved(
                arm.name, predicted.primary.total, _curves(results, predicted.primary), at_primary, PRIMARY_PROTOCOL
            )
    return Report(
        verdict=main,
        verdicts=tuple(verdicts),
        results=tuple(results),
        arms=tuple(_record(arm) for arm in predicted.arms),
        labels_saved=saved,
        data=_data(predicted, setting, left_out),
        gains=tuple(gains),
        predictions=_kept(predicted, predictions, counted),
    )


def _any_public(arms: Sequence[Arm]) -> bool | None:
    """Whether a public encoder is among them; None where that is not known."""
    if any(arm.public for arm in arms):
        return True
    return None if any(arm.public is None for arm in arms) else False


def _gain(arm: str, protocol: str, comparison: Comparison) -> dict[str, Any]:
    """A paired difference as report.json lists it."""
    low, high = comparison.estimate.interval()
    return {
        "arm": arm,
        "protocol": protocol,
        "budget": comparison.budget.name,
        "baseline": comparison.baseline,
        "gain": comparison.estimate.mean,
        "low": low,
        "high": high,
    }


def _kept(
    predicted: Predicted,
    predictions: Mapping[str, Mapping[tuple[str, str], NDArray[np.int32]]],
    counted: NDArray[np.bool_],
) -> Predictions:
    """What a later comparison with another judgement needs."""
    labelled, tested, names = predicted.labelled, predicted.tested, list(predictions)
    group = labelled.group if labelled.grouped else np.arange(len(labelled.y))
    judged = CHOSEN if CHOSEN in predictions else predicted.selection.arm
    return Predictions(
        item=item_names(labelled, tested),
        unit=np.unique(group[tested], return_inverse=True)[1],
        y=labelled.y[tested],
        counted=counted,
        judged=names.index(judged) if judged in names else -1,
        primary=predicted.primary.name,
        budgets=tuple(predicted.plan.budgets),
        draws=draw_names(labelled, predicted.drawn, np.split(tested, np.cumsum(predicted.sizes)[:-1])),
        predicted={names.index(arm): of for arm, of in predictions.items()},
        truth=class_names(labelled, tested),
    )


def _counted(
    predicted: Predicted, y: NDArray[np.int64], group: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], list[str]]:
    """Which test items count [n], and the classes left out with the reason."""
    labelled = predicted.labelled
    if len(y) and y.min() < 0:
        raise UserError(f"{(y < 0).sum()} test examples have no label: leave them out of the test positions")
    units = class_units(y, group, len(labelled.classes))
    trained = np.bincount(labelled.y[labelled.train], minlength=len(labelled.classes))
    noun = "groups" if labelled.grouped else "items"
    left_out = []
    for c, name in enumerate(labelled.classes):
        if trained[c] == 0 and units[c] == 0:
            continue
        if trained[c] == 0:
            left_out.append(f"{name}: no training labels")
        elif units[c] < 2:
            left_out.append(f"{name}: {units[c]} test {noun}")
    counts = (trained > 0) & (units >= 2)
    if counts.sum() < 2:
        raise UserError(f"fewer than two classes can be tested ({'; '.join(left_out)}): label more examples")
    return counts[y], left_out


def _chosen_by_fold(predicted: Predicted) -> dict[str, dict[tuple[str, str], NDArray[np.int32]]]:
    """In cross-fitting, what the arm chosen without each fold predicts on it, where they differ.

    Judging instead the arm that did best over all folds would reward its luck on the items it is judged on.
    """
    names = [choice.arm for choice in predicted.selection.folds]
    if len(set(names)) < 2:
        return {}
    ends = np.cumsum(predicted.sizes)[:-1]
    chosen = {}
    for key in predicted.predictions[names[0]]:
        by_fold = [np.split(predicted.predictions[name][key], ends, axis=-1)[k] for k, name in enumerate(names)]
        chosen[key] = np.concatenate(by_fold, axis=-1)
    return {CHOSEN: chosen}


def _results(predicted: Predicted, sheet: _Sheet, setting: Setting) -> list[Result]:
    """Every figure of every arm: balanced accuracy, plain accuracy, and the worst group's where groups are large."""
    everyone = np.zeros_like(sheet.y)
    sizes = np.bincount(sheet.unit)
    large = np.flatnonzero(sizes >= WORST_GROUP_ITEMS)
    results = []
    for arm in predicted.arms:
        for protocol in (*PROTOCOLS, TUNED, SCRATCH):
            draw: DrawVariance | None = None
            for budget in predicted.plan.budgets:
                hits = sheet.hits[arm.name].get((protocol, budget.name))
                if hits is None:
                    continue
                values = influence(hits, sheet.y, sheet.unit)
                draw = draw_variance_at(values, budget, draw)
                share = budget.pool_share
                figures = {
                    PRIMARY_METRIC: crossed(values, pool_share=share, draw=draw, extra=sheet.extra),
                    "accuracy": crossed(influence(hits, everyone, sheet.unit), pool_share=share, draw=draw),
                }
                if setting.unit == "groups" and len(large) > 1:
                    worst = min(large, key=lambda g: hits[..., sheet.unit == g].mean())
                    items = hits[..., sheet.unit == worst].astype(np.float64)
                    figures["worst_group_accuracy"] = crossed(items, pool_share=share, draw=draw)
                results += [_result(arm, protocol, metric, budget, e, setting) for metric, e in figures.items()]
    return results


def _result(arm: Arm, protocol: str, metric: str, budget: Budget, estimate: Estimate, setting: Setting) -> Result:
    low, high = estimate.interval()
    return Result(
        arm=arm.name,
        protocol=protocol,
        metric=metric,
        budget=budget.name,
        labels_per_class=budget.per_class,
        labels_total=budget.total,
        mean=estimate.mean,
        low=max(low, 0.0),
        high=min(high, 1.0),
        draws=estimate.draws,
        seeds=estimate.seeds,
        n_test=setting.n_test,
        n_groups=setting.n_units,
    )


def _compare(arm: str, protocol: str, predicted: Predicted, sheet: _Sheet) -> list[Comparison]:
    """Paired differences with every baseline at every budget where both were measured, on the draws both have."""
    comparisons = []
    for baseline in (other.name for other in predicted.arms if other.kind == "baseline"):
        draw: DrawVariance | None = None
        for budget in predicted.plan.budgets:
            ours, theirs = sheet.under(arm, protocol, budget), sheet.under(baseline, protocol, budget)
            if ours is None or theirs is None:
                continue
            n_draws = min(ours.shape[1], theirs.shape[1])
            difference = ours[:, :n_draws] - theirs[:, :n_draws].mean(0, keepdims=True)  # [P S n]
            values = influence(difference, sheet.y, sheet.unit)
            draw = draw_variance_at(values, budget, draw)
            estimate = crossed(values, pool_share=budget.pool_share, draw=draw, extra=sheet.extra)
            comparisons.append(Comparison(baseline, budget, estimate))
    return comparisons


def draw_variance_at(values: NDArray[np.float64], budget: Budget, smaller: DrawVariance | None) -> DrawVariance | None:
    """How much another draw of labels would change; from the next smaller budget where this one cannot tell.

    Draws that take most of the pool are nearly the same. The variance falls as labels grow, so that of a smaller
    budget is an upper bound.
    """
    own = draw_variance(values, budget.pool_share)
    return own if budget.pool_share <= CLEAR_SHARE or smaller is None else smaller


def _curves(results: Sequence[Result], primary: Budget) -> dict[str, list[Point]]:
    """Learning curves over the budgets of the primary one's kind, and all labels."""
    curves: dict[str, list[Point]] = {}
    for r in results:
        alike = (r.labels_per_class is None) == (primary.per_class is None) or r.budget == "100 %"
        if r.protocol == PRIMARY_PROTOCOL and r.metric == PRIMARY_METRIC and alike:
            curves.setdefault(r.arm, []).append(Point(r.labels_total, r.mean, r.draws))
    return curves


def _record(arm: Arm) -> ArmRecord:
    return ArmRecord(
        arm.name, arm.kind, arm.task, arm.encoder, arm.steps, arm.seconds, arm.examples_per_second, arm.alarms
    )


def _data(predicted: Predicted, setting: Setting, left_out: Sequence[str]) -> dict[str, Any]:
    """What was judged on, for the report's `data`."""
    labelled, selection = predicted.labelled, predicted.selection
    return {
        "n_train": len(labelled.train),
        "n_test": setting.n_test,
        "n_test_groups": setting.n_units,
        "grouped": labelled.grouped,
        "classes": list(labelled.classes),
        "classes_left_out": list(left_out),
        "budgets_dropped": list(predicted.plan.dropped),
        "primary_budget": predicted.primary.name,
        "primary_metric": PRIMARY_METRIC,
        "cross_fitting_folds": setting.n_folds,
        "transductive": labelled.transductive,
        "selected_arm": selection.arm,
        "representation": dict(selection.representation),
        "validation": {arm: dict(scores) for arm, scores in selection.scores.items()},
    }
