"""How many steps a pretraining takes, of how many examples: decided once and kept, so that a run continues exactly."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tacit import dist, ranks
from tacit.errors import UserError
from tacit.fitting import most_that_fit
from tacit.train import seconds_per_step

if TYPE_CHECKING:
    from tacit.budget import Budget
    from tacit.data.order import Batches
    from tacit.encoders import OwnEncoder
    from tacit.recipes.base import Recipe
    from tacit.study import Study
    from tacit.workspace import Workspace

PLAN = "plan.json"  # what a time budget came to, decided once: it makes a run resume exactly
READINGS = 10  # of the probe, in one pretraining
FEWEST_READINGS = 4
PROBE_SHARE = 0.05  # of a pretraining's time that more than the fewest readings may take
TIMING_SHARE = 0.2  # of a pretraining's time that may go into timing its steps, and be set aside for readings


def planned_recipe(
    study: Study, space: Workspace, name: str, weights: Mapping[str, float], encoder: OwnEncoder, seed: int
) -> Recipe:
    """How to pretrain the encoder; where the batch shall be as large as fits, that is found once, for plan.json."""
    asked = study.ask.batch_size
    if asked != "auto":
        return study.recipe(weights, encoder, batch_size=asked)
    if dist.world() > 1:
        raise UserError("--batch-size auto tries on one process; find the number there and multiply it")
    planned: dict[str, Any] = space.read_json(PLAN) or {}
    planned.setdefault("batch_size", {})
    if name not in planned["batch_size"]:

        def seconds(batch_size: int) -> float:
            trial = study.recipe(weights, copy.deepcopy(encoder), batch_size=batch_size)
            source = study.kind.batches(study.dataset, study.split.pretrain, trial, seed)
            return seconds_per_step(
                *(trial.task, source), optim=trial.optim, fabric=study.fabric, steps=1, seconds=0, means=study.means
            )

        usual = study.recipe(weights, copy.deepcopy(encoder)).batch_size
        found = most_that_fit(seconds, usual, len(study.split.pretrain) // 4)
        study.log(f"{name}: {found:,} examples per step fit into memory (usual: {usual:,})")
        planned["batch_size"][name] = found
        space.write_json(PLAN, planned)
    return study.recipe(weights, encoder, batch_size=planned["batch_size"][name])


def planned_steps(
    study: Study,
    space: Workspace,
    name: str,
    plan: Recipe,
    source: Batches,
    budget: Budget,
    seconds: float,
    seed: int,
) -> tuple[int, int]:
    """The steps of a task under the budget, of which `seconds` are left where it is a time, and the probe's readings.

    A time becomes steps by timing some, and by setting aside what the readings take, which are fewer where a reading
    takes long; the leader decides. On record in plan.json.
    """
    planned: dict[str, Any] = ranks.from_leader(lambda: space.read_json(PLAN)) or {}
    planned.setdefault("steps", {})
    if name not in planned["steps"]:
        step, readings = 0.0, READINGS
        if budget.unit == "seconds":
            began = time.perf_counter()
            step = seconds_per_step(
                *(plan.task, source),
                optim=plan.optim,
                fabric=study.fabric,
                seed=seed,
                longest=TIMING_SHARE * seconds,
                means=study.means,
            )
            seconds -= time.perf_counter() - began
            began = time.perf_counter()
            study.probe()(plan.task)
            reading = time.perf_counter() - began
            readings = max(FEWEST_READINGS, min(READINGS, int(PROBE_SHARE * seconds / reading)))
            seconds -= min(readings * reading, TIMING_SHARE * seconds)
        per_epoch = len(source.among) / plan.batch_size
        decided = ranks.from_leader(lambda: [budget.steps(step, seconds, per_epoch), readings])
        planned["steps"][name], planned.setdefault("readings", {})[name] = decided
        space.write_json(PLAN, planned)
    return int(planned["steps"][name]), int(planned.get("readings", {}).get(name, READINGS))
