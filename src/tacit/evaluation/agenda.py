"""The order of predictions: first those that a verdict needs, then further ones, as far as time allows.

1. Every arm at the primary budget, on a few draws of the labels; training from scratch there, on two draws.
2. Every arm at the largest budget: the labels that the person has.
3. The other draws at the primary budget, and three more of training from scratch.
4. Fine-tuning of the chosen arm.
5. The other budgets, the cheapest first.
6. More draws of training from scratch and of fine-tuning, where that is quick.

The first step is always done, except training from scratch where it would pass the deadline by far. Its time predicts
that of the others, and those that do not fit are given up by name. Without a deadline all are done.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.budget import Deadline, clock
from tacit.core.stages import stage
from tacit.evaluation.arms import Arm, Part
from tacit.evaluation.differences import CLEAR_SHARE, RULE, SCRATCH, TUNED
from tacit.evaluation.selection import FINAL, Selection
from tacit.evaluation.splits import Budget, Plan, Positions
from tacit.evaluation.targets.base import Rule, Target

if TYPE_CHECKING:
    from torch import nn


Draws = Mapping[str, list[Positions]]
Cell = tuple[str, str]  # protocol, budget
Tell = Callable[[float, str], None]

FIRST_DRAWS = 3  # of the labels, before any budget but the primary one
FEWEST_DRAWS = 2  # for an estimate of the variance between draws
SOME_TRAININGS = 5  # draws for a usable estimate of their variance
SCRATCH_DRAWS = 3  # draws of the labels that are trained on from scratch
MOST_TRAININGS = 10  # draws for training where that is quick
OVERTIME = 0.5  # share of a training from scratch by which it may pass the deadline, so that there is one
PATIENCE = 1.5  # times the planned time of a training, after which it is cut short


class Agenda:
    """Predicts the test items with every arm, by the labels of the draws alone; `do` fills `predictions`."""

    def __init__(
        self,
        *,
        arms: Sequence[Arm],
        target: Target,
        parts: Sequence[Part],
        drawn: Sequence[Draws],
        plan: Plan,
        primary: Budget,
        selection: Selection,
        seed: int,
        deadline: Deadline,
        scratch_draws: int,
        scratch_seconds: float,
        train_everywhere: bool,
        tell: Tell,
    ) -> None:
        self.arms, self.target, self.parts, self.drawn, self.seed = arms, target, parts, drawn, seed
        self.plan, self.primary, self.deadline, self.tell = plan, primary, deadline, tell
        self.scratch_draws, self.scratch_seconds = scratch_draws, scratch_seconds
        self.train_everywhere = train_everywhere
        choices = selection.folds or [selection] * len(parts)
        self.depths = {arm.name: [choice.representation.get(arm.name, FINAL) for choice in choices] for arm in arms}
        chosen = {choice.arm for choice in choices}
        self.chosen = chosen.pop() if len(chosen) == 1 else None  # folds may differ: then nothing is fine-tuned
        self.views = next((arm.views for arm in arms if arm.build is not None), None)
        self.predictions: dict[str, dict[Cell, NDArray[Any]]] = {}  # arm -> cell -> [P S n ...]
        self.given_up: list[str] = []
        self.missing: list[str] = []  # baselines without any time
        self.shortened: dict[tuple[str, str], int] = {}  # (arm, protocol) -> the fewest steps there was time for
        self._features: dict[str, tuple[Positions, list[dict[str, NDArray[Any]]]]] = {}  # rows, of each encoder
        self._reading: dict[str, float] = {}  # arm -> seconds of a row, in all its encoders
        self._rates: dict[str, list[tuple[int, float]]] = {}  # arm -> (labels, seconds of one wave of draws)
        self._trained: dict[Cell, list[float]] = {}  # (arm, protocol) -> seconds of each training
        self._tested = np.unique(np.concatenate([part.test for part in parts]))

    @property
    def unhurried(self) -> bool:
        return math.isinf(self.deadline.at)

    def do(self, trainable: bool) -> None:
        """Do all of it, or as much as fits; `trainable`: whether arms can be trained on these labels."""
        probed = [arm for arm in self.arms if arm.build is None]
        scratch = [arm for arm in self.arms if arm.build is not None]
        tuned = [arm for arm in self.arms if arm.name == self.chosen and self.views is not None and _tunable(arm)]
        budgets = self.plan.budgets if self.unhurried else [self.primary]
        first = FIRST_DRAWS if self.deadline.left > 0 else FEWEST_DRAWS
        for number, arm in enumerate(probed):
            if self.unhurried and arm.encoders:  # all at once
                everything = [self._rows(budget, budget.draws) for budget in budgets]
                self._read(arm, np.unique(np.concatenate(everything)))
            for budget in budgets:
                self.tell(0.6 * number / len(probed), f"probing {arm.name} at {budget.name}")
                self._probe(arm, budget, budget.draws if self.unhurried else min(first, budget.draws))
            if self.unhurried:
                self._features.pop(arm.name, None)
        trained = self.plan.budgets if self.train_everywhere and self.unhurried else [self.primary]
        for arm in scratch:
            for budget in trained:
                self._train(arm, SCRATCH, budget, self.scratch_draws if self.unhurried else FEWEST_DRAWS, needed=True)
        if not self.unhurried:
            largest = self.plan.budgets[-1]
            if largest.name != self.primary.name:
                self._judge(probed, largest)
            self._judge(probed, self.primary)
            for arm in scratch:
                self._train(arm, SCRATCH, self.primary, max(SOME_TRAININGS, self.scratch_draws))
        for arm in tuned if trainable else []:
            for budget in trained:
                self._train(arm, TUNED, budget, self.scratch_draws)
        if not self.unhurried:
            done = {largest.name, self.primary.name}
            for budget in sorted(self.plan.budgets, key=lambda budget: self._expected(probed, budget, budget.draws)):
                if budget.name not in done:
                    self._judge(probed, budget)
            if self.train_everywhere:
                for budget in self.plan.budgets:
                    for arm in scratch:
                        self._train(arm, SCRATCH, budget, self.scratch_draws)
                    for arm in tuned if trainable else []:
                        self._train(arm, TUNED, budget, self.scratch_draws)
            for arm, protocol in [*((a, SCRATCH) for a in scratch), *((a, TUNED) for a in tuned if trainable)]:
                self._train(arm, protocol, self.primary, MOST_TRAININGS, extra=True)
        self._features.clear()

    # ------------------------------------------------------------ results

    def judged(self) -> Plan:
        """The evaluated budgets, with their evaluated draws."""
        kept = [self.as_judged(budget) for budget in self.plan.budgets if self._have(budget)]
        return Plan(kept, self.plan.dropped)

    def as_judged(self, budget: Budget) -> Budget:
        return replace(budget, draws=self._have(budget))

    def drawn_in_fact(self) -> list[dict[str, list[Positions]]]:
        """For each fold, the evaluated draws of every budget."""
        return [{budget.name: of[budget.name][: budget.draws] for budget in self.judged().budgets} for of in self.drawn]

    def shortened_in_words(self) -> list[str]:
        """`scratch: 174 of 200 steps`, of each training that was cut short."""
        if not self.shortened:
            return []
        from tacit.evaluation.probes.finetune import (
            STEPS,  # imports torch, which stored embeddings do not need
        )

        who = {key: key[0] if key[1] == SCRATCH else f"{key[0]}, fine-tuned" for key in self.shortened}
        return [f"{who[key]}: {steps} of {STEPS} steps" for key, steps in self.shortened.items()]

    def _have(self, budget: Budget) -> int:
        """The draws of a budget on which every arm was evaluated; on which any was, if all arms are trained."""
        probed = [self._done(arm, budget) for arm in self.arms if arm.build is None]
        return min(probed) if probed else max(self._done(arm, budget) for arm in self.arms)

    def _done(self, arm: Arm, budget: Budget) -> int:
        protocols = [SCRATCH] if arm.build is not None else [RULE, *self.target.protocols]
        found = self.predictions.get(arm.name, {})
        return max((found[p, budget.name].shape[1] for p in protocols if (p, budget.name) in found), default=0)

    # ------------------------------------------------------------ probing

    def _judge(self, arms: Sequence[Arm], budget: Budget) -> None:
        """Evaluate every arm at this budget, on as many draws as time allows; given up if that is none."""
        fewest = min(budget.draws, 1 if budget.pool_share > CLEAR_SHARE else FEWEST_DRAWS)
        done = self._have(budget) if budget.name == self.primary.name else 0
        draws = next((k for k in range(budget.draws, 0, -1) if self._fits(self._expected(arms, budget, k))), 0)
        if draws < max(fewest, done + 1):
            if done < budget.draws:
                self._give_up(budget, done, self._expected(arms, budget, max(fewest, done + 1)))
            return
        before = {arm.name: dict(self.predictions[arm.name]) for arm in arms}
        began, hoped = time.perf_counter(), 0.0
        for number, arm in enumerate(arms):
            self.tell(self._fraction, f"probing {arm.name} at {budget.name}")
            hoped += self._expected([arm], budget, draws)
            self._probe(arm, budget, draws)
            slower = (time.perf_counter() - began) / max(hoped, 1e-9)
            rest = max(1.0, slower) * self._expected(arms[number + 1 :], budget, draws)
            if number + 1 < len(arms) and not self._fits(rest):
                self.predictions |= before
                self._give_up(budget, done, rest)
                return
        if draws < budget.draws:
            self._give_up(budget, draws, self._expected(arms, budget, budget.draws))

    def _give_up(self, budget: Budget, done: int, seconds: float) -> None:
        what = f"{budget.draws - done} of {budget.draws} draws at {budget.name}" if done else budget.name
        self.given_up.append(f"{what} (about {clock(max(seconds, 0.1))})")

    def _fits(self, seconds: float) -> bool:
        return seconds <= self.deadline.left

    @property
    def _fraction(self) -> float:
        """The fraction of all work done, by the clock."""
        spent = sum(seconds for of in self._rates.values() for _, seconds in of)
        return min(0.99, 0.6 + 0.4 * spent / max(spent + self.deadline.left, 1e-9))

    def _expected(self, arms: Sequence[Arm], budget: Budget, draws: int) -> float:
        """Estimated seconds of these arms at this budget: their time at the nearest one, scaled by the labels."""
        seconds = 0.0
        for arm in arms:
            more = _waves(arm, draws) - _waves(arm, self._done(arm, budget))
            labels, each = min(
                self._rates[arm.name], key=lambda rate: abs(math.log((rate[0] + 1) / (budget.total + 1)))
            )
            ratio = (budget.total + 1) / (labels + 1)
            seconds += max(0, more) * each * (ratio if ratio > 1 else 0.5 + 0.5 * ratio)
            if arm.encoders:
                seconds += self._reading[arm.name] * len(self._unread(arm, self._rows(budget, draws)))
        return seconds

    def _probe(self, arm: Arm, budget: Budget, draws: int) -> None:
        """Extend this arm's predictions at this budget to `draws` draws."""
        done = self._done(arm, budget)
        if draws <= done:
            return
        if arm.encoders:
            self._read(arm, self._rows(budget, draws))
        began = time.perf_counter()
        found = self._apply(arm.rule, budget, done, draws) if arm.rule else self._predict(arm, budget, done, draws)
        waves = _waves(arm, draws) - _waves(arm, done)
        self._rates.setdefault(arm.name, []).append((budget.total, (time.perf_counter() - began) / max(1, waves)))
        known = self.predictions.setdefault(arm.name, {})
        for cell, predicted in found.items():
            known[cell] = np.concatenate([known[cell], predicted], axis=1) if cell in known else predicted

    def _rows(self, budget: Budget, draws: int) -> Positions:
        """The rows to embed by every encoder: the test items, and the labelled examples of these draws."""
        learned = [draw for of in self.drawn for draw in of[budget.name][:draws]]
        return np.unique(np.concatenate([self._tested, *learned]))

    def _unread(self, arm: Arm, rows: Positions) -> Positions:
        known, _ = self._features.get(arm.name, (rows[:0], []))
        return np.setdiff1d(rows, known, assume_unique=True)

    def _read(self, arm: Arm, rows: Positions) -> None:
        """Embed these rows by each encoder of an arm, at the chosen depths."""
        new = self._unread(arm, rows)
        if not len(new):
            return
        began, depths = time.perf_counter(), set(self.depths[arm.name])
        known, before = self._features.get(arm.name, (rows[:0], []))
        together, features = np.concatenate([known, new]), []
        order = np.argsort(together)
        for number, encoder in enumerate(arm.encoders):
            of = self.target.read(encoder, self.parts[0].labelled, new)
            found = {depth: of.get(depth, of[FINAL]) for depth in depths}  # left out where it equals the final one
            if len(known):
                found = {depth: np.concatenate([before[number][depth], found[depth]])[order] for depth in depths}
            features.append(found)
        self._features[arm.name] = together[order], features
        self._reading[arm.name] = (time.perf_counter() - began) / len(new)

    def _predict(self, arm: Arm, budget: Budget, first: int, last: int) -> dict[Cell, NDArray[Any]]:
        """Predictions of every protocol on the features of frozen encoders."""
        rows, by_encoder = self._features[arm.name][0], []
        for features in self._features[arm.name][1]:
            by_part = []
            for part, draws, depth in zip(self.parts, self.drawn, self.depths[arm.name], strict=True):
                taken = draws[budget.name][first:last]
                learned = np.unique(np.concatenate([part.train[:0], *taken]))
                train, test = (features[depth][np.searchsorted(rows, at)] for at in (learned, part.test))
                within = part._replace(train=learned)
                by_part.append(self.target.probe(within, train, test, taken, self.seed, first=first))
            by_encoder.append({p: np.concatenate([of[p] for of in by_part], axis=1) for p in by_part[0]})
        return {(p, budget.name): np.stack([predicted[p] for predicted in by_encoder]) for p in by_encoder[0]}

    def _apply(self, rule: Rule, budget: Budget, first: int, last: int) -> dict[Cell, NDArray[Any]]:
        """Predictions of a rule."""
        by_part = []
        with stage("answering", len(self.parts) * (last - first)) as now:
            for p, draws in zip(self.parts, self.drawn, strict=True):
                found = []
                for draw in draws[budget.name][first:last]:
                    found.append(rule(draw, p.labelled.answers[draw], p.test))
                    now.step()
                by_part.append(np.stack(found))
        return {(RULE, budget.name): np.concatenate(by_part, axis=1)[None]}

    # ------------------------------------------------------------ training on the labels

    def _train(
        self, arm: Arm, protocol: str, budget: Budget, draws: int, *, needed: bool = False, extra: bool = False
    ) -> None:
        """Bring the trainings of an arm on the labels to so many draws, each in full; `needed` ones are cut short only
        where they take far longer than planned, others are given up.
        """
        who = arm.name if protocol == SCRATCH else f"fine-tuning of {arm.name}"
        cell, known = (protocol, budget.name), self.predictions.setdefault(arm.name, {})
        spent = self._trained.setdefault((arm.name, protocol), [])
        draws = min(draws, len(self.drawn[0][budget.name]))
        for s in range(known[cell].shape[1] if cell in known else 0, draws):
            each = max(spent, default=self.scratch_seconds) * len(self.parts) * max(1, len(arm.encoders))
            must = needed and s < FEWEST_DRAWS
            if must and s == 0 and (FEWEST_DRAWS - OVERTIME) * each > self.deadline.left and each:
                self.missing.append("training from scratch")
                must = False
            fewest = FEWEST_DRAWS if s == 0 and draws > 1 and not must else 1  # one alone gives no variance
            if not must and not self._fits(fewest * each):
                if not extra:
                    what = who if s == 0 else f"{draws - s} of {draws} draws of {who}"
                    self.given_up.append(f"{what} (about {clock(max(0.1, each * (draws - s)))})")
                return
            self.tell(self._fraction if not self.unhurried else 0.7, f"training {who} at {budget.name}")
            limit = None
            if must and not self.unhurried:
                limit = max(PATIENCE * self.scratch_seconds, self.deadline.left / FEWEST_DRAWS / len(self.parts))
            found = self._fit(arm, protocol, budget, s, limit)
            known[cell] = np.concatenate([known[cell], found], axis=1) if cell in known else found

    def _fit(self, arm: Arm, protocol: str, budget: Budget, s: int, limit: float | None) -> NDArray[Any]:
        """Predictions [P 1 n ...] after training each start on the labels of one draw."""
        from tacit.evaluation.probes.finetune import SCRATCH_RATE, STEPS, TUNING_RATE, train_on_labels

        encoders: Any = arm.encoders
        starts = [arm.build] if arm.build is not None else [partial(_copied, encoder) for encoder in encoders]
        by_start = []
        for start in starts:
            by_part = []
            for part, draws in zip(self.parts, self.drawn, strict=True):
                draw, began = draws[budget.name][s], time.perf_counter()
                training = self.target.trainable(part.labelled.answers[draw])
                assert training is not None
                model = train_on_labels(
                    start,
                    part.labelled.fetch,
                    draw,
                    training,
                    seed=self.seed + s,
                    views=self.views,
                    seconds=limit,
                    lr=SCRATCH_RATE if protocol == SCRATCH else TUNING_RATE,
                )
                if model.steps < STEPS and limit is not None:
                    key = arm.name, protocol
                    self.shortened[key] = min(model.steps, self.shortened.get(key, STEPS))
                by_part.append(model.predict(part.labelled.fetch, part.test))
                self._trained[arm.name, protocol].append(time.perf_counter() - began)
            by_start.append(np.concatenate(by_part))
        return np.stack(by_start)[:, None]


def _waves(arm: Arm, draws: int) -> int:
    """How often all cores are busy with so many draws; a rule takes one draw after the other."""
    return draws if arm.rule is not None else math.ceil(draws / (os.cpu_count() or 1))


def _copied(encoder: nn.Module, seed: int) -> nn.Module:
    return copy.deepcopy(encoder)


def _tunable(arm: Arm) -> bool:
    """Whether an arm's encoders can learn further."""
    from torch import nn

    return all(
        isinstance(encoder, nn.Module) and any(p.requires_grad for p in encoder.parameters())
        for encoder in arm.encoders
    )
