"""`tacit inspect`: what is in the data, and what a run on them could show, before a night is spent on it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tacit.commands.command import command
from tacit.core.budget import clock, parse_budget
from tacit.core.errors import UserError
from tacit.evaluation import Labelled, detectable_difference, plan_budgets, primary_budget
from tacit.evaluation.arms import target_of
from tacit.evaluation.splits import class_units
from tacit.evaluation.targets.base import sizes_of
from tacit.experiment.architecture import beginning, open_split
from tacit.experiment.baselines import baselines
from tacit.experiment.leakage import find_leaks
from tacit.experiment.log import Log
from tacit.experiment.opening import Opened
from tacit.experiment.pacing import FEWEST_STEPS, REPORT_SECONDS, SOON, no_cost, training_seconds
from tacit.experiment.plan import checked_seeds, mask_schedule_of, mixtures_of
from tacit.experiment.pretraining import Pretraining
from tacit.experiment.settings import InspectSettings, settings_of
from tacit.experiment.validate import validation_cost
from tacit.training.loop import seconds_per_step

PATIENCE = 10.0  # seconds of decoding that a look may take; where it would take longer, a sample is decoded
TIMED = 4  # steps of each task, on a copy that is thrown away


@command(InspectSettings)
def inspect(data: Any, settings: InspectSettings) -> int:
    """Summarise the data, and what a run on them could show, without training.

    Args:
        data: A folder, a table, arrays, hf:NAME, or the built-in `digits`.
    """
    resolved, options = settings_of(settings), settings.options()
    budget = parse_budget(resolved.budget)
    checked_seeds(resolved.seeds)
    timed = budget.unit == "seconds"
    began = time.perf_counter()
    with Log(quiet=True, private=resolved.private) as log:
        build, options, continued = beginning(resolved, options)
        options = {**options, "patience": PATIENCE}
        opened, architecture = open_split(data, options, build, resolved, log, continued=continued)
    dataset, fabric = opened.dataset, architecture.fabric
    mixtures = mixtures_of(resolved.tasks, dataset.kind)
    pretraining = Pretraining(opened, architecture, resolved, mask_schedule_of(resolved.mask))
    trainings = len(mixtures) * resolved.seeds
    started = time.perf_counter() - began + dataset.notes.decoding_seconds
    print(_about_data(opened))
    print(_about_labels(opened))
    cost = (
        validation_cost(opened, baselines(opened, architecture), resolved, architecture=architecture)
        if opened.split.labelled is not None
        else no_cost
    )
    judging = cost(trainings)
    after, least = REPORT_SECONDS + judging.whole, SOON + judging.least
    rows = opened.split.pretrain
    print(f"\nencoder: {architecture.name}; pretraining on {len(rows):,} examples; budget {budget}")
    seconds = 0.0
    if timed:
        try:
            seconds = training_seconds(budget.amount, started, after, least) / trainings
        except UserError as error:
            print(f"  {error}")
        after = max(least, budget.amount - started - seconds * trainings)
    total = started + after
    for name, weights in mixtures.items():
        recipe = pretraining.recipe(weights, architecture.start(opened))
        source = pretraining.batches(recipe, resolved.seed)
        step = seconds_per_step(recipe.task, source, optim=recipe.optim, fabric=fabric, steps=TIMED, seconds=0.5)
        each = clock(step) if step >= 1 else f"{1000 * step:.0f} ms"
        steps = int(seconds / step) if timed else budget.steps(len(rows) / recipe.batch_size)
        if timed and steps < FEWEST_STEPS:
            needed = clock(FEWEST_STEPS * step)
            print(f"  {name}: {each} a step of {recipe.batch_size}; {FEWEST_STEPS} steps at least take {needed}")
            continue
        total += resolved.seeds * steps * step
        epochs = steps * recipe.batch_size / len(rows)
        print(
            f"  {name}: {each} a step of {recipe.batch_size}, {steps:,} steps = {epochs:.1f} epochs "
            f"in about {clock(steps * step)}{f', for each of {resolved.seeds} seeds' if resolved.seeds > 1 else ''}"
        )
    print(f"a run takes about {clock(total)} here, of which {clock(after)} to judge and report")
    return 0


def _about_data(opened: Opened) -> str:
    dataset = opened.dataset
    lines = [
        f"data: {_named(opened, dataset.name)}{len(dataset):,} examples of kind {dataset.kind}; "
        f"data hash {opened.data_hash[:16]}",
        *opened.modality.about(dataset.cache),
    ]
    return "\n".join(lines + [f"note: {line}" for line in dataset.notes.lines(private=opened.private)])


def _named(opened: Opened, name: str) -> str:
    """A name followed by a comma, or empty if private."""
    return "" if opened.private else f"{name}, "


def _about_labels(opened: Opened) -> str:
    """Labels, groups, the split, and what each label budget could show."""
    labelled, dataset = opened.split.labelled, opened.dataset
    if opened.split.held is not None:
        about = opened.modality.about_held(opened.split)
        return "\n".join(["labels: none, and none are needed to ask what comes next", *about])
    if labelled is None:
        return (
            "labels: none. A run pretrains and gives label-free alarms; with --labels it proves whether the "
            "representation transfers, and how many labels it saves"
        )
    private = opened.private
    source = "" if private else f", from {dataset.notes.labels_from}"
    target = target_of(labelled)
    nouns, use = (target.examples, "choose by") if target.matches else ("labels", "train on")
    lines = [
        f"{nouns}: {target.describe(dataset, private=private)}{'' if target.matches else source}",
        target.spread(labelled, private=private),
    ]
    if dataset.group is not None:
        lines.append(f"groups: {len(np.unique(dataset.group)):,}; no group is ever on both sides of a split")
    if labelled.subgroup is not None:
        sizes = np.bincount(labelled.subgroup[labelled.subgroup >= 0], minlength=len(labelled.subgroups))
        lines.append(f"judged apart: {sizes_of(labelled.subgroups, sizes, private=private)}")
    if len(labelled.test):
        how = (
            ("" if private else dataset.notes.test_split) or "as given"
            if dataset.split is not None
            else f"30 % of the {'pairs' if target.matches else 'labelled groups'}, by a hash"
        )
        lines.append(
            f"split: {len(labelled.train):,} {nouns} to {use}, {len(labelled.test):,} sealed for the test ({how})"
        )
        if leaks := find_leaks(opened):
            lines.append(f"copies: {leaks.line(len(labelled.test), private=private)}")
    else:
        lines.append(f"split: {len(labelled.train):,} {nouns} are too few to seal a test set: five-fold cross-fitting")
    budgets = _about_budgets(labelled, private=private) if target.powered else []
    return "\n".join(lines + budgets)


def _about_budgets(labelled: Labelled, *, private: bool) -> list[str]:
    """What each label budget could show, as a table."""
    tested = labelled.test if len(labelled.test) else labelled.train
    train = labelled.train
    plan = plan_budgets(labelled.y[train], labelled.classes, group=labelled.group[train])
    primary = primary_budget(plan.budgets)
    units = class_units(labelled.y[tested], labelled.unit[tested], len(labelled.classes))
    lines = ["", f"{'labels':<16}{'in all':>8}{'draws':>7}   gain that 80 % of such tests would show"]
    for budget in plan.budgets:
        gain = detectable_difference(
            units[units > 0].tolist(), labels_total=budget.total, draws=budget.draws, pool_share=budget.pool_share
        )
        mark = "   <- the verdict's budget" if budget.name == primary.name else ""
        lines.append(f"{budget.name:<16}{budget.total:>8,}{budget.draws:>7}   {100 * gain:.1f} points{mark}")
    if private:  # why names classes
        return lines + ([f"dropped: {len(plan.dropped):,} budgets that cannot be filled"] if plan.dropped else [])
    return lines + [f"dropped: {line}" for line in plan.dropped]
