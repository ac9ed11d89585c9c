"""Ordered classes: the metric against a naive jackknife and scikit-learn, their order, and a judgement end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import cohen_kappa_score, mean_absolute_error

import tacit
from tacit.core.errors import UserError
from tacit.encoders import build_encoder
from tacit.evaluation.arms import target_of
from tacit.evaluation.targets import make_target
from tacit.formats import format_named
from tacit.formats.head import Head, write
from tacit.modalities.image.spec import ImageSpec
from tests.test_data_targets import known
from tests.test_targets import TEST, problem

ORDINAL = make_target("ordinal", 4)
KAPPA, MAE = ORDINAL.metrics[0], ORDINAL.beside[0]


@pytest.mark.parametrize("seed", range(4))
def test_kappa_and_its_jackknife_by_units_as_scikit_learn_has_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, unit = rng.integers(0, 4, 60), rng.permutation(np.arange(60) % 13)
    said = np.clip(y + rng.integers(-1, 2, (2, 3, 60)), 0, 3).astype(np.int32)
    for metric, naive in (
        (KAPPA, lambda p, y: cohen_kappa_score(p, y, weights="quadratic")),
        (MAE, lambda p, y: mean_absolute_error(y, p)),
    ):
        found = metric.influence(said, y, unit)
        assert found.shape == (2, 3, 13)
        for p, values in zip(said.reshape(-1, 60), found.reshape(-1, 13), strict=True):
            whole = naive(p, y)
            drops = np.array([whole - naive(p[unit != u], y[unit != u]) for u in range(13)])
            np.testing.assert_allclose(values, whole + 12 * (drops - drops.mean()), atol=1e-12)
            assert values.mean() == pytest.approx(whole)


def test_one_answer_for_all_is_chance_and_far_mistakes_count_more() -> None:
    y = np.arange(40) % 4
    assert KAPPA.value(np.full(40, 2), y) == KAPPA.value(np.full(40, 2), np.full(40, 2)) == 0
    assert KAPPA.value(y, y) == 1
    assert KAPPA.value(3 - y, y) == -1
    near, far = np.where(y == 0, 1, y), np.where(y == 0, 3, y)
    assert KAPPA.value(near, y) > KAPPA.value(far, y)


def test_the_probe_is_a_ridge_on_ranks() -> None:
    labelled, x = problem("ordinal")
    target, rows = target_of(labelled), labelled.train
    [said] = target.linear(x[rows], labelled.y[rows], [np.arange(len(rows))], x[:TEST], seed=0)  # type: ignore[attr-defined]
    theirs = np.clip(np.rint(Ridge(alpha=1.0).fit(x[rows], labelled.y[rows]).predict(x[:TEST])), 0, 3)
    assert (said == theirs).mean() > 0.95
    assert said.dtype == np.int32


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["10", "9", "2.5", "-1"], ("-1", "2.5", "9", "10")),
        (["grade 3", "grade 12", "grade 1"], ("grade 1", "grade 3", "grade 12")),
        (["1 mild", "0 none", "2 severe"], ("0 none", "1 mild", "2 severe")),
        ([1.0, 3.0, 2.0], ("1", "2", "3")),
    ],
)
def test_the_order_is_that_of_the_numbers(labels: list[Any], order: tuple[str, ...]) -> None:
    found = known([*labels, *labels, None], target="ordinal")
    assert found.classes == order
    assert found.truth is None
    assert found.label.tolist()[-1] == -1
    n = 2 * len(labels)
    said = ORDINAL.describe(found)
    assert said == f"{n} labelled in {len(order)} ordered classes, from {order[0]} to {order[-1]}"
    assert ORDINAL.describe(found, private=True) == f"{n} labelled in {len(order)} ordered classes"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["low", "mid", "high"], "'low' does not tell its place; write numbers, or one number in each label"),
        (["1-2", "3", "4"], "'1-2' does not tell its place"),
        (["a1", "b1", "c2"], "'a1' and 'b1' have the same place, 1"),
        (["0", "1"], "at least three classes of two examples each to train on; there are 2"),
        (list(range(60)), "60 different labels are too many for classes"),
    ],
)
def test_labels_without_an_order_are_refused(labels: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        known(labels + labels, target="ordinal")


def test_what_an_exported_head_says_is_a_place_among_the_classes(tmp_path: Path) -> None:
    encoder = build_encoder("convnet", ImageSpec(8, 1, (0.5,), (0.25,)))
    W = np.zeros((encoder.dim, 1))
    head = Head(W, np.ones(1), "identity", "ordinal", ("mild", "bad", "worst"), "pooled", deep=False, labels=30)
    write(encoder, head, format_named("safetensors"), tmp_path)
    assert "place among ordered classes: 0 is mild, 1 is bad, 2 is worst." in (tmp_path / "README.md").read_text()


def test_embeddings_are_judged_and_reported(tmp_path: Path) -> None:
    labelled, x = problem("ordinal")
    label = np.char.add("zebra ", labelled.y.astype(str))
    np.savez(tmp_path / "good.npz", id=label + np.arange(len(x)).astype(str), embedding=x[:, :8], label=label)
    np.savez(tmp_path / "noise.npz", id=label + np.arange(len(x)).astype(str), embedding=x[:, 8:])
    against = [str(tmp_path / "noise.npz")]
    for private in (False, True):
        out = tmp_path / f"out-{private}"
        report = tacit.evaluate(
            str(tmp_path / "good.npz"),
            against=against,
            target="ordinal",
            label_budgets=["10"],
            out=str(out),
            private=private,
        )
        assert report.verdict.outcome == "transfers"
        page = (out / "report.html").read_text("utf-8")
        assert "Quadratic weighted kappa, ridge regression on ranks" in page
        assert ("zebra" in page) != private
