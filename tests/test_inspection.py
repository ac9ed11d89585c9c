"""What is said of the labels before a run: by target, by part of the population, and how the test was chosen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tacit.commands.inspect import _about_labels
from tacit.dataset import open_dataset
from tacit.evaluation.targets import make_target
from tacit.experiment.opening import Opened, describe
from tacit.experiment.split import split_dataset

from .test_data_labels import table


def labels(n: int, **others: Any) -> Any:
    return table(label=[["ill", "well"][i % 3 == 0] for i in range(n)], site=[f"S{i % 4}" for i in range(n)], **others)


def test_the_parts_and_the_held_out_site_are_named(tmp_path: Path) -> None:
    dataset = open_dataset(
        labels(120), label_column="label", worst_group="site", holdout="site=S3", cache=str(tmp_path)
    )
    opened = Opened(dataset, split_dataset(dataset, seed=0), lambda others: dataset)
    lines = _about_labels(opened).splitlines()
    assert lines[:3] == [
        "labels: 120 labelled in 2 classes, from column label",
        "classes: ill 80, well 40",
        "judged apart: S0 30, S1 30, S2 30, S3 30",
    ]
    assert "split: 90 labels to train on, 30 sealed for the test (site = S3)" in lines
    assert any(line.startswith("10 per class") for line in lines)
    assert describe(dataset).endswith("; 120 labelled in 2 classes")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target": "regression", "label_column": "age"}, "8 labelled with numbers from 3 to 91"),
        ({"multilabel": "|", "label_column": "tags"}, "8 labelled with 2 labels, 1.0 each on average"),
        ({"target": "pairs", "label_column": "pair"}, "8 labelled in 4 pairs"),
        ({}, "no labels"),
    ],
)
def test_a_run_says_in_its_first_line_what_the_labels_are(tmp_path: Path, settings: Any, said: str) -> None:
    data = table(age=[3, 7, 20, 30, 40, 50, 60, 91], tags=["a|b", "a", "b", "|"] * 2, pair=list("ppqqrrss"))
    assert describe(open_dataset(data, cache=str(tmp_path), **settings)).endswith(f"decoded; {said}")


def test_what_labels_are_is_told_by_target() -> None:
    told: Any = SimpleNamespace(target="regression", truth=np.array([1.0, 2.0, 3.5, 4.0, 1000.0]))
    assert make_target(told.target).spread(told, private=False) == "numbers: median 3.5, half of them from 2 to 4"
    told = SimpleNamespace(target="multilabel", truth=np.array([[1, 0], [1, 1], [0, 0]]), classes=("a", "b"))
    assert make_target(told.target).spread(told, private=False) == "had by: a 2, b 1; none of them 1"
    told = SimpleNamespace(target="pairs", y=np.array([0, 0, 1, 1, 1]), classes=("p", "q"))
    assert make_target(told.target).spread(told, private=False) == "pairs: 2 of 2 to 3 examples"
    names = tuple(map(str, range(30)))
    told = SimpleNamespace(target="retrieval", y=np.arange(60) // 2, classes=names)
    assert make_target(told.target).spread(told, private=False).endswith("18 2, 19 2, ...")
