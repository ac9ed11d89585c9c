"""Little of everything that judging repeats, for tests of what is done with a judgement, not of the judgement."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest


def few_strengths(patch: pytest.MonkeyPatch) -> None:
    """Probes choose among 3 strengths of their penalty."""
    from tacit.evaluation.probes import linear

    patch.setitem(_defaults(linear.fit_probe), "grid", (1e-3, 1e-1, 10.0))
    patch.setitem(_defaults(linear.fit_probe), "beyond", 0)


def few_fits(patch: pytest.MonkeyPatch) -> None:
    """Few draws of the labels, trainings on them, folds by which depths are chosen, untrained twins and readings of the
    online probe; maps are drawn by principal components.
    """
    from tacit.evaluation import agenda, selection, splits
    from tacit.experiment import architecture, pacing, publish
    from tacit.report.figures import flatten
    from tests import narrow  # noqa: F401

    few: dict[Any, dict[str, Any]] = {
        splits: {"MANY_DRAWS": 3, "FEW_DRAWS": 3},
        agenda: {"MOST_TRAININGS": 2, "SCRATCH_DRAWS": 2},
        selection: {"make_folds": partial(selection.make_folds, k=2)},
        architecture: {"RANDOM_SEEDS": 1},
        pacing: {"READINGS": 2},
        publish: {"flatten": lambda pooled, **_: flatten(pooled, hurried=True)},
    }
    for module, values in few.items():
        for name, value in values.items():
            patch.setattr(module, name, value)


def brief(patch: pytest.MonkeyPatch) -> None:
    """Training on labels takes 2 steps."""
    from tacit.evaluation.probes import finetune

    patch.setattr(finetune, "train_on_labels", partial(finetune.train_on_labels, steps=2))


def _defaults(function: Any) -> dict[str, Any]:
    found: dict[str, Any] = function.__kwdefaults__
    return found
