"""After pretraining: diagnose, choose inside the training labels, evaluate on the sealed ones, write the report."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.core import keys
from tacit.core.budget import NEVER, Deadline, clock, quickest
from tacit.core.wording import Ours
from tacit.encoders import is_own
from tacit.experiment.baselines import UNTRAINED
from tacit.experiment.pacing import Cost
from tacit.experiment.split import has_seen
from tacit.modalities import next_up
from tacit.modalities.base import Unseen

if TYPE_CHECKING:
    from tacit.evaluation import Arm, Report, Verdict
    from tacit.evaluation.spectrum import Alarm, Diagnosis
    from tacit.experiment.architecture import Architecture
    from tacit.experiment.leakage import Leaks
    from tacit.experiment.log import Log
    from tacit.experiment.opening import Opened
    from tacit.experiment.settings import Judging
    from tacit.training.loop import Run

DIAGNOSED = 2000  # most examples of the label-free diagnosis
VIEWED = 1000  # of these, with two views each
RISING = 0.02  # rise of the online probe (a fraction of 1) in the second half of a training that ends too early
HURRIED = 1_000  # training labels by which arms and depths are chosen where time is short
HASTE = 2  # factor by which these and the diagnosed examples are reduced where not even the least fits
QUICK = 60.0  # seconds of training on further draws of the labels where there is no time budget
PILOTED = 400  # most labels of the probe that is timed
NO_PROOF = (
    "No labels, no proof: the label-free alarms below can show that an encoder has collapsed, never that it transfers."
)
HELD_PROOF = "Without --holdout none, these encoders are compared with what counting alone recommends."
LABELS_PROOF = (
    "With 10 labelled examples per class, --labels FILE compares these encoders with plain pixels, with the "
    "untrained architecture and with training from scratch, and says how many labels they save."
)
TIMED = 1000  # examples that are timed to estimate the time of all
FEW = 64  # the same for encoders that may be slow
TRIED = 100  # most examples of results beside the verdict
CLASSIFYING = {"transformation"}  # families whose features may have low rank without a collapse


def validate(
    runs: Mapping[str, Sequence[Run]],
    opened: Opened,
    baselines: Sequence[Arm],
    settings: Judging,
    cost: Cost,
    leaks: Leaks | None,
    deadline: Deadline = NEVER,
    *,
    architecture: Architecture,
    log: Log,
    read_by: Sequence[str | Path] = (),
    scratch: bool = True,
) -> Report:
    """Choose among the pretrained encoders inside the training labels, then read the sealed ones, once.

    `runs` holds those of each task, by pretraining seed. Where `leaks` names test items, the verdict is given without
    them too. What does not fit before the `deadline` is given up, see `evaluation.agenda`; nothing is trained from
    scratch where that cannot fit (`scratch`), which the verdict says. The reading of the seal is counted in the folders
    `read_by`.
    """
    from tacit.evaluation import count_read, evaluate, select
    from tacit.evaluation.agenda import MOST_TRAININGS, SCRATCH_DRAWS
    from tacit.evaluation.arms import parts_of
    from tacit.evaluation.protocol import plan_for
    from tacit.evaluation.selection import ENOUGH

    labelled, sealed = opened.split.labelled, opened.split.seal
    assert labelled is not None
    assert sealed is not None
    labelled = replace(labelled, transductive=labelled.transductive or has_seen(sealed, sealed))
    with log.working("judging") as tell:
        tell(0.0, "looking for collapse")
        haste = HASTE if deadline.left < cost.least else 1
        found = diagnoses(runs, opened, architecture, haste)
        candidates = [pretrained_arm(name, of, found[name], architecture) for name, of in runs.items()]
        arms = [*candidates, *(arm for arm in baselines if scratch or arm.build is None)]
        seed = sealed.seed  # the seal's own, so that all evaluations on it use the same draws
        primary = plan_for(labelled, parts_of(labelled, seed), settings.label_budgets, settings.primary_budget)[1]
        tell(0.0, "choosing inside the training labels")
        enough = ENOUGH if deadline.left > cost.whole else HURRIED // haste
        selection = select(arms, labelled, primary=primary.name, metric=settings.metric, seed=seed, enough=enough)
        where = "by the validation events" if opened.split.held else "inside the training labels"
        log(Ours(f"chosen {where}: {selection.arm}"))
        seal = count_read(*read_by)
        quick = cost.training * labelled.n_folds * MOST_TRAININGS <= QUICK
        report = evaluate(
            arms,
            labelled,
            primary=settings.primary_budget,
            metric=settings.metric,
            margin=settings.margin,
            budgets=settings.label_budgets,
            seed=seed,
            selection=selection,
            copied=leaks.positions if leaks else None,
            scratch_draws=MOST_TRAININGS if math.isinf(deadline.at) and quick else SCRATCH_DRAWS,
            train_everywhere=settings.train_every_budget,
            missing=() if scratch else ("training from scratch",),
            deadline=deadline,
            scratch_seconds=cost.training,
            progress=tell,
        )
    if leaks is not None:
        report = report.with_data(test_copies=leaks.as_data(private=opened.private))
    if not scratch:
        given_up = [f"training from scratch (about {clock(cost.scratch)})", *report.data["given_up"]]
        report = report.with_data(given_up=given_up)
    report = _with_doubts(report, {name: undertrained(of) for name, of in runs.items()})
    return report.with_data(
        seal_reads=seal.reads,
        pretraining_seeds=len(next(iter(runs.values()))),
        diagnosis=_numbers(found),
        proxies=_proxies(report, found, runs),
    )


def diagnoses(
    runs: Mapping[str, Sequence[Run]], opened: Opened, architecture: Architecture, haste: int = 1
) -> dict[str, list[Diagnosis]]:
    """The label-free diagnosis of every task by pretraining seed, and of the untrained encoder.

    Measured on examples that were pretrained on, the same for all. An encoder whose RankMe fell during its training, by
    the online probe, is warned of, and so is a quantiser that has come to use few of its codes. A loss that is
    still that of guessing has failed.
    """
    from tacit.evaluation.features import extract
    from tacit.evaluation.spectrum import diagnose, idle_codes, rank_falls, unmoved
    from tacit.tasks import TASKS, of_whole, parse_mixture

    chance = np.random.default_rng(keys.fold(architecture.seed, "diagnosis"))
    rows = np.sort(chance.permutation(opened.split.pretrain)[: DIAGNOSED // haste])
    viewed = np.sort(chance.permutation(rows)[: VIEWED // haste])

    def measured(encoder: Any, **known: Any) -> Diagnosis:
        pooled = extract(encoder, opened.dataset.batch, rows)["pooled"]
        return diagnose(pooled, views=opened.two_views(encoder, viewed, architecture.seed), **known)

    untrained = measured(architecture.untrained()[0])
    found: dict[str, list[Diagnosis]] = {}
    for name, of in runs.items():
        classifying = all(TASKS[of_whole(part)].family in CLASSIFYING for part in parse_mixture(name))
        known = {"untrained_spread": untrained.std_normalised, "classification_pretext": classifying}
        found[name] = []
        for run in of:
            diagnosis = measured(run.task.exported["encoder"], **known)
            ranks = rank_readings(run.history)
            falls = rank_falls(ranks[-1], max(ranks)) if ranks else ()
            idle = [alarm for used in codes_used(run.history) for alarm in idle_codes(used)]
            stuck = [alarm for share in of_guessing(run.history) for alarm in unmoved(share)]
            found[name].append(replace(diagnosis, alarms=(*diagnosis.alarms, *falls, *idle, *stuck)))
    return {**found, UNTRAINED: [untrained]}


def undertrained(runs: Sequence[Run]) -> str:
    """Why the encoders of a task are trained too little for a final verdict; empty if they are not."""
    epochs = min(run.epochs for run in runs)
    if epochs < 1:
        return f"it saw {100 * epochs:.0f} % of its examples, each once"
    rises = []
    for run in runs:
        probed = [(int(row["step"]), float(row["probe"])) for row in run.history if "probe" in row]
        earlier = [probe for step, probe in probed if step <= run.steps / 2]
        if earlier:
            rises.append(probed[-1][1] - earlier[-1])
    if rises and np.mean(rises) > RISING:
        return f"its probe still rose by {100 * np.mean(rises):.1f} points in the second half of training"
    return ""


def _with_doubts(report: Report, doubts: Mapping[str, str]) -> Report:
    """The report with a remark in the verdicts about undertrained encoders."""
    doubts = {name: f"undertrained: {why}; a longer --budget may change this" for name, why in doubts.items() if why}
    if not doubts:
        return report

    def doubted(verdict: Verdict) -> Verdict:
        if verdict.arm not in doubts:
            return verdict
        doubt = doubts[verdict.arm]
        return replace(verdict, text=f"{verdict.text}; {doubt}", circumstances=(*verdict.circumstances, Ours(doubt)))

    verdicts = tuple(map(doubted, report.verdicts))
    return replace(report, verdict=doubted(report.verdict), verdicts=verdicts).with_data(undertrained=doubts)


def rank_readings(history: Sequence[Mapping[str, Any]]) -> list[float]:
    """RankMe as measured by the online probe, in the order of the steps."""
    return [float(row["rankme"]) for row in history if "rankme" in row]


def codes_used(history: Sequence[Mapping[str, Any]]) -> list[float]:
    """The share of its codes that a task's quantiser used last, for each part of a sum that has one."""
    last = history[-1] if history else {}
    return [float(value) for key, value in last.items() if key.rpartition("/")[2] == "codes_used"]


def of_guessing(history: Sequence[Mapping[str, Any]]) -> list[float]:
    """The loss of each part of a task that knows what guessing costs, as a share of that; over the last tenth."""
    last = history[-max(1, len(history) // 10) :]
    names = [key for key in (last[-1] if last else {}) if key.rpartition("/")[2] == "of_guessing"]
    return [float(np.mean([row[name] for row in last if name in row])) for name in names]


def first_fall(history: Sequence[Mapping[str, Any]]) -> str:
    """The warning of the last reading of RankMe; empty without one, or where an earlier reading gave it."""
    from tacit.evaluation.spectrum import rank_falls

    ranks = rank_readings(history)
    texts = ["".join(alarm.text for alarm in rank_falls(rank, max(ranks[: n + 1]))) for n, rank in enumerate(ranks)]
    return "" if any(texts[:-1]) else texts[-1]


def pretrained_arm(name: str, runs: Sequence[Run], found: Sequence[Diagnosis], architecture: Architecture) -> Arm:
    """The encoders of a task as one arm; steps and times are those of one pretraining, averaged over the seeds."""
    from tacit.evaluation import Arm

    return Arm(
        name,
        "pretrained",
        encoders=tuple(run.task.exported["encoder"] for run in runs),
        task=name,
        encoder=architecture.name,
        own=True,
        own_encoder=architecture.own,
        steps=runs[0].steps,
        seconds=float(np.mean([run.seconds for run in runs])),
        examples_per_second=float(np.mean([run.examples_per_second for run in runs])),
        alarms=tuple(asdict(alarm) for alarm in worst_alarms(found)),
    )


def worst_alarms(found: Sequence[Diagnosis]) -> list[Alarm]:
    """Each type of alarm once, from the seed where it is worst: an arm has failed where any of its seeds has."""
    by_name: dict[str, list[Alarm]] = {}
    for diagnosis in found:
        for alarm in diagnosis.alarms:
            by_name.setdefault(alarm.name, []).append(alarm)
    worst = []
    for alarms in by_name.values():
        gravest = min(alarms, key=lambda alarm: (alarm.level != "FAIL", -abs(alarm.value - alarm.threshold)))
        where = f" (in {len(alarms)} of {len(found)} pretraining seeds)" if len(found) > 1 else ""
        worst.append(replace(gravest, text=gravest.text + where))
    return worst


def validation_cost(
    opened: Opened,
    baselines: Sequence[Arm],
    settings: Judging,
    *,
    architecture: Architecture,
    others: Sequence[Any] = (),
    diagnosing: bool = True,
) -> Callable[[int], Cost]:
    """What judging so many pretrained encoders will take, measured on little: some examples are embedded, probed and
    trained on. With `diagnosing` the label-free alarms are part of it.

    Public encoders among the baselines, and `others` that are judged besides, may be slower than the architecture:
    each is timed.
    """
    from tacit.evaluation.agenda import FEWEST_DRAWS, SCRATCH_DRAWS
    from tacit.evaluation.arms import parts_of, target_of
    from tacit.evaluation.protocol import plan_for
    from tacit.evaluation.selection import ENOUGH, LEARNED_FROM
    from tacit.evaluation.splits import N_FOLDS, draw_labels
    from tacit.experiment.architecture import RANDOM_SEEDS
    from tacit.experiment.baselines import scratch_seconds

    split, modality, cache = opened.split, opened.modality, opened.dataset.cache
    labelled = split.labelled
    assert labelled is not None
    train, target = labelled.train, target_of(labelled)
    target.metric(settings.metric)  # an unknown name must be refused before anything is trained
    planned, primary = plan_for(labelled, parts_of(labelled, 0), settings.label_budgets, settings.primary_budget)
    if target.needs_labels:
        [drawn] = draw_labels(labelled.y, labelled.group, train, [replace(primary, draws=1)], seed=0)[primary.name]
        timed = _some(drawn, PILOTED)
    else:
        timed = _some(train if len(train) else labelled.test, TIMED)
    fresh = architecture.fresh(0)
    tables = target.read(fresh, labelled, timed)
    spent = quickest(lambda: target.read(fresh, labelled, timed))
    embedding, embedding_whole = spent / len(timed), spent / len(np.unique(split.rows[timed]))
    few = timed[:FEW]
    public = (arm for arm in baselines if arm.public is not False)
    foreign = [*others, *(encoder for arm in public for encoder in arm.encoders)]
    reading = sum(quickest(partial(target.read, encoder, labelled, few), times=1) / len(few) for encoder in foreign)
    counting, fitting = modality.baselines_seconds(cache, split)
    tested = len(labelled.test) if len(labelled.test) else len(train)
    once_trained = scratch_seconds(opened, architecture) + tested * embedding / labelled.n_folds
    diagnosed = sum(min(len(split.pretrain), most) for most in (DIAGNOSED, VIEWED, VIEWED))
    trainings, ranking, once = labelled.n_folds * once_trained, 0.0, 0.0
    known, X = labelled.answers[timed], tables["pooled"]
    if not target.needs_labels:  # a search takes next to no time
        rankers = [
            arm.encoders[0] for arm in baselines if arm.encoders and arm.public is False and not is_own(arm.encoders[0])
        ]
        spent = quickest(lambda: [target.read(ranker, labelled, timed) for ranker in rankers])
        ranking = 2 * len(labelled.y) * spent / len(timed)
    elif target.rehearse(X, known):  # a label
        once = quickest(lambda: target.rehearse(X, known)) / len(known)

    def cost(pretrained: int) -> Cost:
        encoders = pretrained + RANDOM_SEEDS + len(foreign)
        each = (pretrained + RANDOM_SEEDS) * embedding + reading  # of an example, by all of them

        def probing(labels: int, draws: int) -> float:
            waves = math.ceil(draws / (os.cpu_count() or 1))
            return labelled.n_folds * ((encoders + 1) * once * labels * waves + fitting(labels) * draws)

        choosing = (encoders + 1) * once * min(primary.total, LEARNED_FROM) * N_FOLDS * len(tables)
        seconds = counting + choosing + ranking
        if diagnosing:
            seconds += (pretrained + 1) * diagnosed * embedding_whole
        first = min(len(train), primary.total * min(FEWEST_DRAWS, primary.draws)) if primary.total else len(train)
        least = seconds + each * (tested + first + min(len(train), HURRIED))
        least += FEWEST_DRAWS * trainings + probing(primary.total, min(FEWEST_DRAWS, primary.draws))
        whole = seconds + each * (len(labelled.y) + min(len(train), ENOUGH))
        trained = len(planned.budgets) if settings.train_every_budget else 1
        whole += SCRATCH_DRAWS * 2 * trainings * trained
        whole += sum(probing(budget.total, budget.draws) for budget in planned.budgets)
        return Cost(least, whole, once_trained, FEWEST_DRAWS * trainings)

    return cost


def training_cost(opened: Opened, *, architecture: Architecture) -> Callable[[int], Cost]:
    """The cost of judging without a time limit: how long one training on the labels takes, which decides how many are
    done, and nothing else.
    """
    from tacit.experiment.baselines import scratch_seconds

    seconds = scratch_seconds(opened, architecture)
    return lambda pretrained: Cost(0.0, 0.0, seconds)


def _some(positions: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` of these, to estimate the time of all."""
    return np.sort(np.random.default_rng(0).permutation(positions)[:most])


def report_without_labels(
    runs: Mapping[str, Sequence[Run]], opened: Opened, architecture: Architecture, *, transductive: bool = False
) -> Report:
    """A report without a verdict: the pretrained arms, the label-free diagnosis, and what labels would add."""
    from tacit.evaluation import ArmRecord, Report, Verdict

    found = diagnoses(runs, opened, architecture)
    arms = [pretrained_arm(name, of, found[name], architecture) for name, of in runs.items()]
    fields = [field for field in ArmRecord.__dataclass_fields__]
    sound = [arm.name for arm in arms if not failed(arm)] or [arms[0].name]
    text = f"{NO_PROOF} {HELD_PROOF if next_up(opened.dataset.kind) else LABELS_PROOF}"
    verdict = Verdict("none", "checkpoint", "", sound[0], None, "", None, None, None, transductive, text)
    return Report(
        verdict=verdict,
        verdicts=(),
        results=(),
        arms=tuple(ArmRecord(**{field: getattr(arm, field) for field in fields}) for arm in arms),
        data={
            "selected_arm": sound[0],
            "pretraining_seeds": len(next(iter(runs.values()))),
            "diagnosis": _numbers(found),
        },
    )


def beside(
    runs: Mapping[str, Sequence[Run]], chosen: str, opened: Opened, architecture: Architecture
) -> dict[str, Any]:
    """The modality's results beside the verdict, from sealed examples that were not pretrained on, or from others."""
    from tacit.experiment.baselines import BEFORE

    encoders: dict[str, Any] = {name: of[0].task.exported["encoder"] for name, of in runs.items()}
    if architecture.continued:
        encoders = {BEFORE: architecture.start(opened).eval(), **encoders}
    for encoder in encoders.values():
        architecture.fabric.to_device(encoder)
    labelled, rows = opened.split.labelled, opened.split.pretrain
    held_out = labelled is not None and len(labelled.test) > 0 and not labelled.transductive
    if held_out:
        assert labelled is not None
        rows = opened.split.rows[labelled.test]
    chance = np.random.default_rng(keys.fold(architecture.seed, "language"))
    some = np.sort(chance.permutation(rows)[:TRIED])
    unseen = Unseen(some, held_out, architecture.seed, opened.private)
    return opened.modality.aside(opened.dataset.cache, encoders, chosen, unseen)


def _numbers(found: Mapping[str, Sequence[Diagnosis]]) -> dict[str, dict[str, float]]:
    """Every label-free metric of every arm, averaged over its seeds."""
    return {name: _mean([asdict(diagnosis) for diagnosis in of]) for name, of in found.items()}


def _mean(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The means of the entries that are numbers everywhere."""
    numbers = {key for key in found[0] if all(isinstance(of.get(key), int | float) for of in found)}
    return {key: float(np.mean([of[key] for of in found])) for key in found[0] if key in numbers}


def _proxies(
    report: Report, found: Mapping[str, Sequence[Diagnosis]], runs: Mapping[str, Sequence[Run]]
) -> list[dict[str, Any]]:
    """Rank correlations of the loss and of each label-free metric with the measured transfer."""
    from tacit.evaluation.diagnostics import over_time, proxy_rows, transfer_by_seed

    assert report.predictions is not None
    place = {arm.name: number for number, arm in enumerate(report.arms)}
    figures = {name: [diagnosis.figures for diagnosis in of] for name, of in found.items()}
    transfer = {name: transfer_by_seed(report.predictions, place[name])[: len(of)] for name, of in found.items()}
    rows = proxy_rows("arms", [_mean(of) for of in figures.values()], [float(np.mean(of)) for of in transfer.values()])
    for name, of in runs.items():
        if not all(run.history for run in of):  # its lines were damaged, and skipped
            continue
        losses = [{"loss": last_loss(run.history)} for run in of]
        by_seed = [{**loss, **known} for loss, known in zip(losses, figures[name], strict=True)]
        rows += proxy_rows("seeds", by_seed, transfer[name], name)
    for name, of in runs.items():
        rows += over_time(name, of[0].history)
    return rows


def last_loss(history: Sequence[Mapping[str, Any]]) -> float:
    """The pretext loss at the end: the mean over the last tenth of the lines, since one batch says little."""
    return float(np.mean([row["loss"] for row in history[-max(1, len(history) // 10) :]]))


def failed(arm: Any) -> bool:
    """Whether an alarm marks the arm as collapsed."""
    from tacit.evaluation.verdict import is_failure

    return any(is_failure(alarm) for alarm in arm.alarms)
