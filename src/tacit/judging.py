"""After pretraining: diagnose, choose inside the training labels, judge on the sealed ones, write the report."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tacit import keys
from tacit.budget import clock

if TYPE_CHECKING:
    from tacit.evaluation import Arm, Report
    from tacit.evaluation.spectrum import Diagnosis
    from tacit.leaks import Leaks
    from tacit.study import Study
    from tacit.train import Run
    from tacit.workspace import Workspace

DIAGNOSED = 2000  # examples at most that the label-free diagnosis looks at
MARGIN = 1.2  # on the estimate of what judging takes
JUDGING_SHARE = 0.4  # of a time budget that judging may take
CLASSIFYING = {"transformation"}  # families whose features may be few without having collapsed


class Judging(NamedTuple):
    """What `judge` is going to do: the label budgets it probes, those given up to save time, how long it takes."""

    budgets: list[str]
    given_up: list[str]
    seconds: float


def judge(study: Study, space: Workspace, runs: Mapping[str, Run], plan: Judging, leaks: Leaks | None) -> Report:
    """Choose among the pretrained encoders inside the training labels, then read the sealed ones, once.

    Where `leaks` names test items, the verdict is given without them too.
    """
    from tacit.evaluation import count_read, evaluate, select
    from tacit.study import SCRATCH_DRAWS

    labelled, ask = study.split.labelled, study.ask
    assert labelled is not None
    found = {name: diagnosed(study, name, run) for name, run in runs.items()}
    candidates = [pretrained_arm(study, name, run, found[name]) for name, run in runs.items()]
    arms = [*candidates, *study.baselines(), *study.public_arms()]
    assert study.split.seal is not None
    seed = study.split.seal.seed  # the seal's own, so that all that is judged on it is judged on the same draws
    selection = select(arms, labelled, primary=ask.primary_budget, seed=seed)
    study.log(f"chosen inside the training labels: {selection.arm}")
    seal = count_read(space.path, *([ask.seal] if ask.seal is not None else []))
    report = evaluate(
        arms,
        labelled,
        primary=ask.primary_budget,
        budgets=plan.budgets,
        seed=seed,
        selection=selection,
        copied=leaks.positions if leaks else None,
        scratch_draws=SCRATCH_DRAWS,
        scratch_seconds=study.scratch_limit,
    )
    dropped = [*report.data["budgets_dropped"], *plan.given_up]
    if leaks is not None:
        report = report.with_data(test_copies=leaks.as_data(private=ask.private))
    return report.with_data(seal_reads=seal.reads, diagnosis=_numbers(found), budgets_dropped=dropped)


def diagnosed(study: Study, name: str, run: Run) -> Diagnosis:
    """The label-free alarms of what a task has learned, on examples that it was trained on."""
    from tacit.evaluation.features import extract
    from tacit.evaluation.spectrum import diagnose, spread
    from tacit.tasks import TASKS, parse_mixture

    chance = np.random.default_rng(keys.fold(study.ask.seed, "diagnosis"))
    rows = np.sort(chance.permutation(study.split.pretrain)[:DIAGNOSED])
    pooled = extract(run.task.exported["encoder"], study.dataset.batch, rows)["pooled"]
    classifying = all(TASKS[part].family in CLASSIFYING for part in parse_mixture(name))
    untrained = extract(study.fresh(keys.fold(study.ask.seed, "diagnosis")), study.dataset.batch, rows[::4])["pooled"]
    return diagnose(pooled, untrained_spread=spread(untrained), classification_pretext=classifying)


def pretrained_arm(study: Study, name: str, run: Run, found: Diagnosis) -> Arm:
    from tacit.evaluation import Arm

    return Arm(
        name,
        "pretrained",
        encoders=(run.task.exported["encoder"],),
        task=name,
        encoder=study.encoder.name,
        steps=run.steps,
        seconds=run.seconds,
        examples_per_second=run.examples_per_second,
        alarms=tuple(asdict(alarm) for alarm in found.alarms),
    )


def plan_judging(study: Study, tasks: int, limit: float = math.inf) -> Judging:
    """What judging will take, measured: the untrained encoder is embedded, and probed once at each label budget.

    Where that is more than `limit` seconds, budgets larger than the primary one are given up, the costliest first.
    """
    from tacit.evaluation import plan_budgets, primary_budget
    from tacit.evaluation.features import extract
    from tacit.evaluation.linear import probe_draws
    from tacit.evaluation.splits import N_FOLDS, draw_labels
    from tacit.study import RANDOM_SEEDS, SCRATCH_DRAWS

    labelled = study.split.labelled
    assert labelled is not None
    train = labelled.train
    began = time.perf_counter()
    tables = extract(study.fresh(0), labelled.fetch, train)
    embedding = (time.perf_counter() - began) * len(labelled.y) / len(train)
    budgets = plan_budgets(labelled.y[train], labelled.classes).budgets
    primary = primary_budget(budgets, study.ask.primary_budget)
    draws = draw_labels(labelled.y, labelled.group, train, budgets, seed=0)
    arms = tasks + 1 + RANDOM_SEEDS + len(study.ask.against or ())
    seconds = arms * 2 * embedding + labelled.n_folds * 2 * SCRATCH_DRAWS * study.scratch_seconds()
    probing: dict[str, float] = {}
    for budget in budgets:
        taken = [np.searchsorted(train, draws[budget.name][0])]
        began = time.perf_counter()
        features, y = tables["pooled"], labelled.y[train]
        probe_draws(features, y, taken, features, n_classes=len(labelled.classes), seed=0)
        once = time.perf_counter() - began
        at_once = min(budget.draws, os.cpu_count() or 1)
        probing[budget.name] = MARGIN * arms * labelled.n_folds * once * budget.draws / at_once
        if budget.name == primary.name:
            seconds += arms * once * N_FOLDS * len(tables)  # choosing a representation
    seconds *= MARGIN
    given_up = []
    larger = [budget.name for budget in budgets if budget.total > primary.total]
    for name in sorted(larger, key=probing.__getitem__, reverse=True):
        if seconds + sum(probing.values()) > limit:
            given_up.append(f"{name}: would take about {clock(probing.pop(name))} to judge; a longer --budget has it")
    return Judging(list(probing), given_up, seconds + sum(probing.values()))


def tell_without_labels(study: Study, runs: Mapping[str, Run]) -> Report:
    """A report without a verdict: what was pretrained, the label-free diagnosis, and what labels would add."""
    from tacit.evaluation import ArmRecord, Report, Verdict

    found = {name: diagnosed(study, name, run) for name, run in runs.items()}
    arms = [pretrained_arm(study, name, run, found[name]) for name, run in runs.items()]
    fields = [field for field in ArmRecord.__dataclass_fields__]
    sound = [arm.name for arm in arms if not failed(arm)] or [arms[0].name]
    text = (
        "No labels, no proof: the label-free alarms below can show that an encoder has collapsed, never that it "
        "transfers. With 10 labelled examples per class, --labels FILE compares these encoders with plain pixels, with "
        "the untrained architecture and with training from scratch, and says how many labels they save."
    )
    verdict = Verdict("none", "checkpoint", "", sound[0], None, "", None, None, None, study.ask.transductive, text)
    return Report(
        verdict=verdict,
        verdicts=(),
        results=(),
        arms=tuple(ArmRecord(**{field: getattr(arm, field) for field in fields}) for arm in arms),
        data={"selected_arm": sound[0], "diagnosis": _numbers(found)},
    )


def _numbers(found: Mapping[str, Diagnosis]) -> dict[str, dict[str, float]]:
    """Every label-free metric of every arm."""
    return {name: {k: v for k, v in asdict(of).items() if isinstance(v, int | float)} for name, of in found.items()}


def failed(arm: Any) -> bool:
    """Whether an arm's alarms say that it collapsed."""
    from tacit.evaluation.verdict import is_failure

    return any(is_failure(alarm) for alarm in arm.alarms)
