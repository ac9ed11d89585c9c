"""The parts of a run: the folder, the opened data, the shares of a budget, the training of a task, what is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tacit.core import keys, ranks
from tacit.core.budget import Budget, clock
from tacit.core.errors import UserError
from tacit.core.secret import FILE_NAME as SECRET
from tacit.core.secret import own_secret
from tacit.core.wording import Ours
from tacit.encoders import save_encoder
from tacit.evaluation import Seal
from tacit.experiment.experiment import BEFORE, Study, chosen_encoder, open_study
from tacit.experiment.folder import CONFIG, LOG, Workspace, default_folder
from tacit.experiment.log import Log
from tacit.experiment.pacing import (
    TRAINING_SHARE,
    Paced,
    Shares,
    TooFew,
    in_short,
    planned_recipe,
    planned_steps,
    rounded_up,
    training_seconds,
)
from tacit.experiment.plan import (
    as_read_by,
    checked_skips,
    fitted,
    initial_encoder,
    named_tasks,
)
from tacit.experiment.resuming import go_on_with_the_same
from tacit.experiment.settings import PretrainSettings, RunSettings, Settings
from tacit.experiment.validate import Judging, first_fall
from tacit.modalities.base import Unseen
from tacit.training.loop import Row, Run, check_learning, pretrain, read_history
from tacit.training.profiling import Profile, told
from tacit.training.stepping import NonFinite

if TYPE_CHECKING:
    from tacit.modalities.recipe import Recipe
    from tacit.training.batches import Batches

TRIED = 100  # examples at most that encoders are tried on beside the verdict
LOOKED_AT = 64  # examples that tell whether a task can learn from such
REPORT_SECONDS = 5.0  # gallery, map and pictures
SOON = 2.0  # seconds of a report whose map is a simpler one


def beside(study: Study, runs: Mapping[str, Sequence[Run]], chosen: str) -> dict[str, Any]:
    """What the modality tells beside the verdict, from sealed examples that were not pretrained on, or from others."""
    encoders: dict[str, Any] = {name: of[0].task.exported["encoder"] for name, of in runs.items()}
    if study.continued:
        encoders = {BEFORE: study.start().eval(), **encoders}
    for encoder in encoders.values():
        study.fabric.to_device(encoder)
    labelled, rows = study.split.labelled, study.split.pretrain
    held_out = labelled is not None and len(labelled.test) > 0 and not labelled.transductive
    if held_out:
        assert labelled is not None
        rows = study.split.rows[labelled.test]
    chance = np.random.default_rng(keys.fold(study.ask.seed, "language"))
    some = np.sort(chance.permutation(rows)[:TRIED])
    unseen = Unseen(some, held_out, study.ask.seed, bool(study.ask.private))
    return study.modality.aside(study.dataset.cache, encoders, chosen, unseen)


def training_name(task: str, number: int) -> str:
    """What the pretraining of a task with the seed of this number is called: simclr, simclr.2, simclr.3."""
    return task if number == 1 else f"{task}.{number}"


def nothing(encoders: int) -> Judging:
    """What judging takes where there are no labels."""
    return Judging(0.0, 0.0, 0.0)


def share_out(
    budget: Budget,
    began: float,
    judging: Callable[[int], Judging],
    tasks: Sequence[str],
    seeds: int,
    space: Workspace,
    log: Log,
) -> tuple[Shares, Judging, bool]:
    """How a time budget is shared among what is trained and judged, said in a line; whether that is from scratch too.

    Where it is too small for all tasks, the last are left out; where it is for one, there is no training from scratch.
    UserError where it is too small even so.
    """
    if budget.unit != "seconds":
        return Shares(tasks, seeds, math.inf, space, log), judging(len(tasks) * seeds), True
    spent = time.perf_counter() - began
    before = {row["task"]: float(row["seconds"]) for row in read_history(space.path / "metrics.jsonl")}
    fewer = range(len(tasks), 0, -1)
    for number, scratch in [*((n, True) for n in fewer), *((n, False) for n in fewer)]:
        plan = judging(number * seeds)
        plan = plan if scratch else plan._replace(least=plan.least - plan.scratch)
        after, least = REPORT_SECONDS + plan.whole, SOON + plan.least
        try:
            if before:  # a run that is continued: whatever it has trained is judged
                window = max(TRAINING_SHARE * budget.amount, budget.amount - spent - after) - sum(before.values())
            else:
                window = training_seconds(budget.amount, spent, after, least)
            break
        except UserError:
            if number == 1 and not scratch:
                raise
    shares = Shares(tasks, seeds, window, space, log)
    for task in reversed(tasks[number:]):
        if task in shares.waiting:
            shares.waiting.remove(task)
            shares.leave_out(task, "so many are not judged within the budget")
    shared = f" for {len(shares.waiting)} tasks" if len(shares.waiting) > 1 else ""
    shared += f" with {seeds} seeds each" if seeds > 1 else ""
    rest = clock(max(0.0, budget.amount - spent - window))
    log(
        Ours(
            f"budget {budget}: {clock(spent)} to start, {clock(max(0.0, window))} of pretraining{shared}, "
            f"about {rest} to judge and report"
        )
    )
    return shares, plan, scratch


def too_small(budget: Budget, study: Study, short: TooFew) -> UserError:
    smallest = rounded_up(budget.amount * short.needed / max(short.seconds, 0.1 * short.needed))
    return UserError(
        f"--budget {budget} is too small to train {study.encoder.name}: {short}; give --budget {in_short(smallest)} or "
        "more, or a smaller --encoder"
    )


def train_task(
    study: Study,
    space: Workspace,
    name: str,
    weights: Mapping[str, float],
    budget: Budget,
    shares: Shares,
    number: int = 1,
) -> Run:
    """Pretrain the task that has begun with the seed of this number under the budget, or continue it.

    A time becomes steps, on record in plan.json, and all seeds of a task take as many: they differ in nothing but
    their initial weights, order, views and masks. Raises `TooFew` where next to none fit.
    """
    ask, rows = study.ask, study.split.pretrain
    seed = keys.fold(study.seed(number), "pretrain")
    encoder = study.start(number)
    torch.manual_seed(keys.fold(seed, name))
    plan = planned_recipe(study, space, name, weights, encoder, seed)
    own_name = training_name(name, number)
    source = study.modality.batches(study.dataset.cache, rows, plan, seed)
    check_learning(plan.task, source, own_name, study.means)
    check_examples(plan.task, study, own_name)
    steps, readings = _within_share(study, space, name, plan, source, budget, shares, seed, number)
    history = [row for row in read_history(space.path / "metrics.jsonl") if row["task"] == own_name]

    profile = Profile(on=ask.profile)

    def watch(row: Row, total: int) -> None:
        study.log.training(row, total, batch_size=plan.batch_size)
        history[:] = [earlier for earlier in history if int(earlier["step"]) < int(row["step"])] + [row]
        if "rankme" in row and (text := first_fall(history)):
            study.log(Ours(f"{own_name}, step {row['step']}: {text}"))

    try:
        run = pretrain(
            plan.task,
            source,
            steps=steps,
            optim=plan.optim,
            fabric=study.fabric,
            seed=seed,
            name=own_name,
            folder=space.path,
            probe=study.probe(),
            probes=readings,
            watch=watch,
            say=lambda text: study.log(Ours(f"{own_name}: {text}")),
            means=study.means,
            skip_bad_steps=checked_skips(ask.skip_bad_steps),
            profile=profile,
        )
    except NonFinite as error:
        if not ask.private:
            study.log("the examples of that step: " + ", ".join(study.dataset.ids.take(error.rows).to_pylist()))
        raise
    for note in run.notes:
        study.log(Ours(note))
    if ask.profile:
        study.log(Ours(f"{own_name}: " + "\n".join(told(profile.seconds, profile.steps))))
    return replace(run, epochs=run.steps * plan.batch_size / len(source.among))


def _within_share(
    study: Study,
    space: Workspace,
    name: str,
    plan: Recipe,
    source: Batches,
    budget: Budget,
    shares: Shares,
    seed: int,
    number: int,
) -> tuple[Paced, int]:
    """The length of a training; where its share is too short for one, tasks that come later give theirs up."""
    seconds = shares.seconds(number)
    while True:
        try:
            return planned_steps(
                *(study, space, name, plan, source, budget, seconds, seed), repeated=number > 1, borrow=shares.borrow
            )
        except TooFew:
            more = shares.borrow()
            if not more:
                raise
            seconds += more


def check_examples(task: Any, study: Study, name: str) -> None:
    """UserError where the examples to learn from are copies of one another, or tell the task nothing."""
    rows = study.split.pretrain
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), LOOKED_AT)).astype(np.int64)]
    if len(rows) > 1 and len(np.unique(study.dataset.content[rows])) == 1:
        raise UserError(f"{name}: all {len(rows):,} examples to learn from are copies of one; give others")
    if reason := task.vain(study.dataset.batch(some)):
        raise UserError(f"{name}: {reason}, so that nothing can be learned; choose another task or other data")


def keep_encoder(study: Study, name: str, run: Run, folder: Path) -> None:
    """Write what the user keeps: the encoder, and where it came from. Of several processes the leader does."""
    encoder: Any = run.task.exported["encoder"]
    encoder.reading = {} if study.ask.private else dict(study.dataset.reading)  # config.yaml stays, an encoder leaves
    if not ranks.leader():
        return
    card = {"task": name, "steps": run.steps, "data": study.data_hash}
    save_encoder(encoder, folder, card=card, within=True)


def tell_what_to_hand_on(study: Study, folder: Path) -> None:
    """Of a private run: which of its files may leave the house, and what its encoder carries all the same."""
    if not study.ask.private:
        return
    held = study.modality.holds(study.encoder.spec)
    print(
        f"to hand on: report.html, report.json, encoder/; to keep: {CONFIG}, which holds paths and names of columns, "
        f"checkpoints/ and encoders/, and {SECRET}, by which seal.json, begun_on.npz and predictions.npz can be read"
    )
    if held:
        print(f"what encoder/ holds of the data: {held}")


def workspace(data: Any, ask: RunSettings | PretrainSettings) -> Workspace:
    """The folder of a run, which keeps what it was asked."""
    if ask.out is not None:
        out = Path(ask.out)
    elif ask.private:  # the name of a folder is a name too
        own = own_secret()
        key = "data" if own is None else own.mark(str(data).encode(), purpose="tacit.folder")[:8]
        out = Path("runs") / f"private-{key}"
    else:
        out = default_folder(data)
    usual = {field.name: field.default for field in fields(ask)}
    return Workspace(out, {"data": data, **vars(ask)}, usual, resume=ask.resume, overwrite=ask.overwrite)


def log_of(space: Workspace, ask: Settings) -> Log:
    """The log of a run, in its folder."""
    return Log(
        space.path / LOG, tensorboard=space.path / "tensorboard" if ask.tensorboard else None, private=ask.private
    )


def open_run(data: Any, ask: Settings, options: dict[str, Any], log: Log, space: Workspace) -> Study:
    """The study of a run folder, with the test set that an earlier part of the run has sealed."""
    architecture = chosen_encoder(ask.encoder, offline=ask.offline, tasks=named_tasks(ask))
    initial = initial_encoder(ask)
    if initial is not None:
        architecture, options = fitted(initial), as_read_by(initial, options)
    sealed_before = (space.path / "seal.json").exists()
    source = space.path if sealed_before else ask.seal
    seal = Seal.load(source) if source is not None else None
    study = open_study(
        data,
        ask,
        options,
        log,
        encoder=architecture,
        seal=seal,
        continued=initial is not None,
    )
    if ask.transductive and study.split.held is not None:
        raise UserError(
            "--transductive: what histories hold before the tested event is always known, and what came must not be; "
            "leave it out"
        )
    if ranks.leader():
        go_on_with_the_same(space.path, study)
    return study


def keep_seal(study: Study, space: Workspace) -> None:
    """Write what the run keeps out of training for good: from here on the folder holds a run."""
    if study.split.seal is not None and not (space.path / "seal.json").exists():
        study.split.seal.save(space.path)
