"""Pretraining: the recipe of each task, its length under the budget, its training, and the probe that watches it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tacit.core import gathering, keys
from tacit.core.encoder import OwnEncoder
from tacit.core.errors import UserError
from tacit.core.masks import MaskSchedule
from tacit.core.wording import Ours
from tacit.experiment.architecture import Architecture
from tacit.experiment.folder import Workspace
from tacit.experiment.log import Log
from tacit.experiment.opening import Opened
from tacit.experiment.pacing import PLAN, Paced, Shares, TooFew, planned_steps, read_plan
from tacit.experiment.plan import checked_parts, checked_skips
from tacit.experiment.settings import Steps
from tacit.experiment.validate import first_fall
from tacit.training.fitting import most_that_fit
from tacit.training.loop import Probe, Row, Run, check_learning, pretrain, read_history, seconds_per_step
from tacit.training.profiling import Profile, profile_lines
from tacit.training.stepping import NonFinite, StepSettings

if TYPE_CHECKING:
    from tacit.core.budget import Budget
    from tacit.modalities.recipe import Recipe
    from tacit.training.batches import Batches

PROBE_ROWS = 1000  # examples at most that the online probe embeds
PROBE_VIEWED = 200  # of these, with two views each: less than 3 % of a training of 300 steps
LOOKED_AT = 64  # examples that show whether a task can learn from these data


@dataclass(frozen=True)
class Pretraining:
    """The common setting of a run's trainings: the data, the initial encoder, how steps are computed."""

    opened: Opened
    architecture: Architecture
    steps: Steps
    hiding: MaskSchedule | None = None  # the mask schedule, if not the default
    profile: bool = False

    @property
    def settings(self) -> StepSettings:
        steps = self.steps
        return StepSettings(checked_parts(steps.accumulate), steps.compile == "on", steps.gradient_checkpointing)

    def recipe(self, weights: Mapping[str, float], encoder: OwnEncoder, batch_size: int | None = None) -> Recipe:
        """How to pretrain the encoder by a task or a weighted sum of tasks."""
        return self.opened.modality.recipe(
            weights,
            encoder,
            examples=len(self.opened.split.pretrain),
            batch_size=batch_size,
            accelerated=self.architecture.fabric.device.type != "cpu",
            hiding=self.hiding,
        )

    def batches(self, recipe: Recipe, seed: int) -> Batches:
        """The batches of the pretraining rows, as the recipe reads them."""
        opened = self.opened
        found = opened.modality.batches(opened.dataset.cache, opened.split.pretrain, recipe, seed)
        if not opened.modality.kin or opened.dataset.group is None:
            return found
        read, group = found.read, torch.from_numpy(opened.dataset.group)
        return replace(found, read=lambda rows: {**read(rows), "group": group[torch.from_numpy(rows)]})

    def largest(self, weights: Mapping[str, float], encoder: OwnEncoder, seed: int) -> tuple[int, int]:
        """The examples per step that fit into memory, by trying; and the default number."""
        if gathering.world() > 1:
            raise UserError("--batch-size auto tries on one process; find the number there and multiply it")

        def seconds(batch_size: int) -> float:
            trial = self.recipe(weights, copy.deepcopy(encoder), batch_size)
            return seconds_per_step(
                *(trial.task, self.batches(trial, seed)),
                optim=trial.optim,
                fabric=self.architecture.fabric,
                steps=1,
                seconds=0,
                settings=self.settings,
            )

        usual = self.recipe(weights, copy.deepcopy(encoder)).batch_size
        return most_that_fit(seconds, usual, len(self.opened.split.pretrain) // 4), usual


def training_name(task: str, number: int) -> str:
    """The name of a task's pretraining with seed number `number`: simclr, simclr.2, simclr.3."""
    return task if number == 1 else f"{task}.{number}"


def train_task(
    pretraining: Pretraining,
    name: str,
    weights: Mapping[str, float],
    budget: Budget,
    shares: Shares,
    space: Workspace,
    log: Log,
    number: int = 1,
) -> Run:
    """Pretrain the current task with seed number `number` under the budget, or resume it.

    A time becomes steps, stored in plan.json, the same for all seeds of a task: they differ only in their initial
    weights, order, views and masks. Raises `TooFew` where too few fit.
    """
    opened, architecture = pretraining.opened, pretraining.architecture
    seed = keys.fold(architecture.seed_of(number), "pretrain")
    encoder = architecture.start(opened, number)
    keys.seed_torch(keys.fold(seed, name))
    recipe = _recipe(pretraining, name, weights, encoder, seed, space, log)
    own_name = training_name(name, number)
    source = pretraining.batches(recipe, seed)
    check_learning(recipe.task, source, own_name, pretraining.settings)
    check_examples(recipe.task, opened, own_name)

    def length(seconds: float) -> tuple[Paced, int, int]:
        return planned_steps(
            *(space, name, recipe, source, budget, seconds),
            fabric=architecture.fabric,
            probe=partial(online_probe, opened, architecture.seed),
            seed=seed,
            settings=pretraining.settings,
            repeated=number > 1,
            borrow=shares.borrow,
        )

    steps, readings, thinned = _within_share(length, shares, number)
    history = [row for row in read_history(space.path / "metrics.jsonl") if row["task"] == own_name]
    profile = Profile(on=pretraining.profile)

    def watch(row: Row, total: int) -> None:
        log.training(row, total, batch_size=recipe.batch_size)
        history[:] = [earlier for earlier in history if int(earlier["step"]) < int(row["step"])] + [row]
        if "rankme" in row and (text := first_fall(history)):
            log(Ours(f"{own_name}, step {row['step']}: {text}"))

    try:
        run = pretrain(
            recipe.task,
            source,
            steps=steps,
            optim=recipe.optim,
            fabric=architecture.fabric,
            seed=seed,
            name=own_name,
            folder=space.path,
            probe=online_probe(opened, architecture.seed, thinned),
            probes=readings,
            watch=watch,
            say=lambda text: log(Ours(f"{own_name}: {text}")),
            settings=pretraining.settings,
            skip_bad_steps=checked_skips(pretraining.steps.skip_bad_steps),
            profile=profile,
        )
    except NonFinite as error:
        if not opened.private:
            log("the examples of that step: " + ", ".join(opened.dataset.ids.take(error.rows).to_pylist()))
        raise
    for note in run.notes:
        log(Ours(note))
    if pretraining.profile:
        log(Ours(f"{own_name}: " + "\n".join(profile_lines(profile.seconds, profile.steps))))
    return replace(run, epochs=run.steps * recipe.batch_size / len(source.among))


def _recipe(
    pretraining: Pretraining,
    name: str,
    weights: Mapping[str, float],
    encoder: OwnEncoder,
    seed: int,
    space: Workspace,
    log: Log,
) -> Recipe:
    """The recipe; the largest batch that fits, if requested, is found once and stored in plan.json."""
    size = pretraining.steps.batch_size
    if size != "auto":
        return pretraining.recipe(weights, encoder, size)
    planned = read_plan(space)
    sizes = planned.setdefault("batch_size", {})
    if name not in sizes:
        sizes[name], usual = pretraining.largest(weights, encoder, seed)
        log(f"{name}: {sizes[name]:,} examples per step fit into memory (usual: {usual:,})")
        space.write_json(PLAN, planned)
    return pretraining.recipe(weights, encoder, sizes[name])


def _within_share(
    length: Callable[[float], tuple[Paced, int, int]], shares: Shares, number: int
) -> tuple[Paced, int, int]:
    """The length of a training; if its share is too short, later tasks give up theirs."""
    seconds = shares.seconds(number)
    while True:
        try:
            return length(seconds)
        except TooFew:
            more = shares.borrow()
            if not more:
                raise
            seconds += more


def check_examples(task: Any, opened: Opened, name: str) -> None:
    """UserError where the training examples are copies of one another, or hold nothing for the task to learn."""
    rows, dataset = opened.split.pretrain, opened.dataset
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), LOOKED_AT)).astype(np.int64)]
    if len(rows) > 1 and len(np.unique(dataset.content[rows])) == 1:
        raise UserError(f"{name}: all {len(rows):,} examples to learn from are copies of one; give others")
    batch = {**dataset.batch(some), "key": keys.batch_keys(0, 0, torch.from_numpy(some))}  # as in a step
    if reason := task.vain(batch):
        raise UserError(f"{name}: {reason}, so that nothing can be learned; choose another task or other data")


def online_probe(opened: Opened, seed: int, thinned: int = 1) -> Probe:
    """Make a callback that measures a task's encoder during training, on training labels only.

    `probe` is the target's metric by nearest neighbours (for classes, each example is classified by all others outside
    its group); the label-free figures come with it, or alone where no whole examples are labelled. Sealed rows are
    never embedded; `thinned` divides the number of the others for quick readings.
    """
    from tacit.evaluation.arms import target_of
    from tacit.evaluation.features import extract
    from tacit.evaluation.spectrum import diagnose

    split, dataset = opened.split, opened.dataset
    labelled = None if split.labelled is None or split.labelled.tokens is not None else split.labelled
    labelled = None if labelled is None or not len(labelled.train) else labelled
    pool = split.pretrain if labelled is None else split.rows[labelled.train]
    chance = np.random.default_rng(keys.fold(seed, "online probe"))
    chosen = np.sort(chance.permutation(len(pool))[: PROBE_ROWS // thinned])
    viewed = np.sort(chance.permutation(chosen)[: PROBE_VIEWED // thinned])

    def measure(task: Any) -> dict[str, float]:
        encoder = task.exported["encoder"]
        pooled = extract(encoder, dataset.batch, pool[chosen])["pooled"]
        found = diagnose(pooled, views=opened.two_views(encoder, pool[viewed], seed)).figures
        if labelled is not None:
            probe = target_of(labelled).glance(labelled, labelled.train[chosen], pooled, encoder)
            found |= {} if probe is None else {"probe": probe}
        return found

    return measure
