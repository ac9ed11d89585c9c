"""The one place where test labels are read: from predictions to figures, verdicts and labels saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.evaluation.arms import Arm, Labelled
from tacit.evaluation.differences import RULE, SCRATCH, TUNED, Predicted, Sheet, compare, draw_variance_of, gaps_to
from tacit.evaluation.labels_saved import labels_saved
from tacit.evaluation.metrics import Metric
from tacit.evaluation.pairwise import compare_all
from tacit.evaluation.predictions import Predictions, draw_names, item_names, truth_names
from tacit.evaluation.results import ArmRecord, Claim, Report, Result, Verdict
from tacit.evaluation.splits import Budget, class_units
from tacit.evaluation.statistics import Component, Estimate
from tacit.evaluation.subgroups import by_subgroup
from tacit.evaluation.targets.base import Target, Tested
from tacit.evaluation.verdict import Comparison, Setting, is_failure, judge, nothing_to_judge

CHOSEN = "/chosen without each fold"  # no arm has this name: see _chosen_by_fold
FEW_GROUPS = 3  # fewer training groups tell nothing of others


def judge_predictions(predicted: Predicted) -> Report:
    """Make the report; if test items have copies in the pretraining data, also the verdict without them."""
    report = _judged(predicted)
    again = without_copies(predicted)
    return report.with_data(without_copies=again) if again else report


def without_copies(predicted: Predicted) -> dict[str, Any]:
    """The verdict on the other test items, and how many were left out; empty if none has a copy.

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
            arm: {key: predicted.target.among(of, keep) for key, of in predictions.items()}
            for arm, predictions in predicted.predictions.items()
        },
    )
    try:
        verdict = _judged(rest).verdict
    except UserError:  # fewer than two classes are left to test
        verdict = replace(
            nothing_to_judge(
                predicted.primary, next(iter(predicted.target.protocols)), predicted.labelled.transductive
            ),
            text="NO VERDICT: too few test items are left",
        )
    return {"left_out": left_out, **verdict.to_json()}


def _judged(predicted: Predicted) -> Report:
    labelled, plan, selection = predicted.labelled, predicted.plan, predicted.selection
    target, metric, positions = predicted.target, predicted.metric, predicted.tested
    tested = target.tested(labelled, positions)
    n_test, left_out = len(tested.truth), tested.left_out
    unit = np.unique(target.units(labelled, positions[tested.counts]), return_inverse=True)[1]
    revealed = {
        arm: {key: target.revealed(p, labelled, positions, tested) for key, p in of.items()}
        for arm, of in {**predicted.predictions, **_chosen_by_fold(predicted)}.items()
    }
    second = target.second_units(labelled, positions[tested.counts])
    sheet = Sheet(target, tested.truth, unit, revealed, second)
    setting = Setting(
        n_test=n_test,
        n_units=int(unit.max()) + 1,
        one_group=labelled.one_group,
        **_taught_by(labelled, target),
        public=labelled.own or _any_public(predicted.arms),
        missing=predicted.missing,
        transductive=labelled.transductive,
        n_folds=len(predicted.sizes) if len(predicted.sizes) > 1 else 0,
        left_out=tuple(line.split(":")[0] for line in left_out),
        examples=target.examples,
        groups=target.groups,
        measure=metric.words,
        margin=metric.margin,
        protocols=target.protocols,
    )
    usual = next(iter(target.protocols))  # the protocol that the verdict is about
    results = _results(predicted, sheet, setting)
    main = nothing_to_judge(predicted.primary, usual, labelled.transductive)
    verdicts: list[Verdict] = []
    gains: list[dict[str, Any]] = []
    saved: dict[str, Any] = {}
    candidates = [arm for arm in predicted.arms if arm.kind == "pretrained"]
    family = {
        protocol: {arm.name: compare(arm.name, protocol, predicted, sheet, metric) for arm in candidates}
        for protocol in (*target.protocols, TUNED)
    }
    for arm in candidates:
        collapsed = any(map(is_failure, arm.alarms))
        claim: Claim = "recipe" if len(arm.encoders) >= 3 else "checkpoint"
        for protocol in (*target.protocols, TUNED):
            compared = family[protocol][arm.name]
            budgets = plan.budgets if protocol in target.protocols else list(dict.fromkeys(c.budget for c in compared))
            verdicts += judge(
                *(arm.name, protocol, budgets, compared, setting),
                collapsed=collapsed,
                claim=claim,
                family=family[protocol] if len(budgets) > 1 or protocol in target.protocols else None,
            )
            gains += [_gain(arm.name, protocol, comparison) for comparison in compared if not comparison.cut]
        if arm.name == selection.arm:
            source = CHOSEN if CHOSEN in revealed else arm.name
            compared = compare(source, usual, predicted, sheet, metric)
            [main] = judge(arm.name, usual, [predicted.primary], compared, setting, collapsed=collapsed, claim=claim)
            if source == arm.name:  # the declared comparison needs no correction among all of them either
                declared = arm.name, usual, predicted.primary.name
                verdicts = [main if (v.arm, v.protocol, v.budget) == declared else v for v in verdicts]
            if source == arm.name:  # an arm that folds chose differently has no curve of its own
                cut = {c.baseline for c in compared if c.cut}
                baselines = [of.name for of in predicted.arms if of.kind == "baseline" and of.name not in cut]
                gaps = {name: gaps_to(arm.name, name, usual, predicted, sheet, metric) for name in baselines}
                saved = labels_saved(arm.name, predicted.primary.total, gaps, usual)
    return Report(
        verdict=main,
        verdicts=tuple(verdicts),
        results=tuple(results),
        arms=tuple(_record(arm) for arm in predicted.arms),
        labels_saved=saved,
        data=_data(predicted, setting, left_out)
        | by_subgroup(predicted, sheet, tested, usual, CHOSEN if CHOSEN in revealed else selection.arm)
        | {"pairwise": compare_all(predicted, sheet, usual, setting.unit)},
        gains=tuple(gains),
        predictions=_kept(predicted, sheet, tested),
    )


def _taught_by(labelled: Labelled, target: Target) -> dict[str, Any]:
    """How many groups teach, where these are too few to tell what others would: for a `Setting`."""
    if not (target.needs_labels and labelled.grouped):
        return {}
    group, y = labelled.group[labelled.train], labelled.y[labelled.train]
    in_all = len(np.unique(group))
    fewest = in_all
    if target.by_class:
        labels, groups = np.bincount(y), class_units(y, group, int(y.max()) + 1)
        fewest = int(groups[groups < labels].min(initial=in_all))
    return {"taught_by": fewest, "taught_all": fewest == in_all} if fewest < FEW_GROUPS else {}


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


def _kept(predicted: Predicted, sheet: Sheet, tested: Tested) -> Predictions:
    """The predictions for a later comparison with another evaluation."""
    labelled, names = predicted.labelled, list(sheet.predicted)
    positions = predicted.tested[tested.counts]
    judged = CHOSEN if CHOSEN in names else predicted.selection.arm
    return Predictions(
        target=labelled.target,
        metric=predicted.metric.name,
        item=item_names(labelled, positions),
        unit=sheet.unit,
        truth=sheet.truth,
        name=truth_names(labelled, positions),
        judged=names.index(judged) if judged in names else -1,
        primary=predicted.primary.name,
        budgets=tuple(predicted.plan.budgets),
        draws=draw_names(labelled, predicted.drawn, np.split(predicted.tested, np.cumsum(predicted.sizes)[:-1])),
        predicted={names.index(arm): of for arm, of in sheet.predicted.items()},
    )


def _chosen_by_fold(predicted: Predicted) -> dict[str, dict[tuple[str, str], NDArray[np.int32]]]:
    """In cross-fitting, the predictions on each fold of the arm chosen without it, where these arms differ.

    Evaluating the best arm over all folds instead would reward its luck on the test items.
    """
    names = [choice.arm for choice in predicted.selection.folds]
    if len(set(names)) < 2:
        return {}
    ends = np.cumsum(predicted.sizes)[:-1]
    chosen = {}
    for key in predicted.predictions[names[0]]:
        by_fold = [np.split(predicted.predictions[name][key], ends, axis=2)[k] for k, name in enumerate(names)]
        chosen[key] = np.concatenate(by_fold, axis=2)
    return {CHOSEN: chosen}


def _results(predicted: Predicted, sheet: Sheet, setting: Setting) -> list[Result]:
    """Every figure of every arm: the verdict's metric first, then the other metrics of its predictions."""
    target, metric = predicted.target, predicted.metric
    everything = [*target.metrics, *target.asides(predicted.labelled)]
    results = []
    for arm in predicted.arms:
        for protocol in (*target.protocols, TUNED, SCRATCH, RULE):
            draw: Component | None = None
            for budget in predicted.plan.budgets:
                if (protocol, budget.name) not in sheet.predicted[arm.name]:
                    continue
                scored = sheet.predicted[arm.name][protocol, budget.name].dtype.kind == "f"
                others = [m for m in everything if m.name != metric.name and (scored or not m.scores)]
                for of in (metric, *(others if budget == predicted.primary else ())):
                    found = sheet.measured(of, arm.name, protocol, budget)
                    assert found is not None
                    own = draw_variance_of(target, found.values, budget, draw if of is metric else None)
                    draw = own if of is metric else draw
                    estimate = sheet.estimate(of, found, budget, own)
                    results.append(_result(arm, protocol, of, budget, estimate, setting))
    return results


def _result(arm: Arm, protocol: str, metric: Metric, budget: Budget, estimate: Estimate, setting: Setting) -> Result:
    low, high = estimate.interval()
    return Result(
        arm=arm.name,
        protocol=protocol,
        metric=metric.name,
        budget=budget.name,
        labels_per_class=budget.per_class,
        labels_total=budget.total,
        mean=estimate.mean,
        low=max(low, metric.low),
        high=min(high, metric.high),
        draws=estimate.draws,
        seeds=estimate.seeds,
        n_test=setting.n_test,
        n_groups=setting.n_units,
    )


def _record(arm: Arm) -> ArmRecord:
    return ArmRecord(
        *(arm.name, arm.kind, arm.task, arm.encoder, arm.steps, arm.seconds, arm.examples_per_second, arm.alarms),
        own=arm.own,
        own_encoder=arm.own if arm.own_encoder is None else arm.own_encoder,
    )


def _data(predicted: Predicted, setting: Setting, left_out: Sequence[str]) -> dict[str, Any]:
    """The description of the evaluation for the report's `data`."""
    labelled, selection = predicted.labelled, predicted.selection
    return {
        "n_train": len(labelled.train),
        "n_test": setting.n_test,
        "n_test_groups": setting.n_units,
        "grouped": labelled.grouped,
        "one_test_group": labelled.one_group,
        "noun": setting.examples,
        "classes": list(labelled.classes),
        "classes_left_out": list(left_out),
        "budgets_dropped": list(predicted.plan.dropped),
        "primary_budget": predicted.primary.name,
        "target": labelled.target,
        "primary_metric": predicted.metric.name,
        "measure": f"{setting.measure}, {next(iter(setting.protocols.values()))}",
        "cross_fitting_folds": setting.n_folds,
        "transductive": labelled.transductive,
        "selected_arm": selection.arm,
        "representation": dict(selection.representation),
        "validation": {arm: dict(scores) for arm, scores in selection.scores.items()},
    }
