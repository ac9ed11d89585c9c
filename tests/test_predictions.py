"""Judgements kept item by item, and paired: what must be recovered, and what must not be paired."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tacit.core.errors import UserError
from tacit.evaluation import Labelled, Predictions, Report, evaluate, pair
from tacit.evaluation.compare import decide, in_words
from tests.test_evaluate import BUDGETS, GOOD, RAW, USELESS, Slice, arm, problem

DRAWS = 4


def judged(subject: object, labelled: Labelled, *, seed: int = 0) -> Report:
    return evaluate([subject, RAW], labelled, budgets=BUDGETS, draws=DRAWS, seed=seed)


def kept(report: Report) -> Predictions:
    assert report.predictions is not None
    return report.predictions


@pytest.fixture(scope="module")
def labelled() -> Labelled:
    plain = problem()
    content = np.frombuffer(np.random.default_rng(1).bytes(16 * len(plain.y)), "V16")
    return replace(plain, content=content)


@pytest.fixture(scope="module")
def good(labelled: Labelled) -> Report:
    return judged(GOOD, labelled)


@pytest.fixture(scope="module")
def useless(labelled: Labelled) -> Report:
    return judged(USELESS, labelled)


def test_they_survive_the_disk(good: Report, tmp_path: Path) -> None:
    written = kept(good)
    assert written.save(tmp_path).name == "predictions.npz"
    read = Predictions.load(tmp_path)
    for name in ("item", "unit", "truth", "name"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    assert (read.judged, read.primary, read.budgets) == (0, "10 per class", written.budgets)
    assert read.predicted.keys() == written.predicted.keys() == {0, 1}
    for of_read, of_written in zip(read.predicted.values(), written.predicted.values(), strict=True):
        assert of_read.keys() == of_written.keys()
        for key in of_read:
            np.testing.assert_array_equal(of_read[key], of_written[key])
    for budget, draws in written.draws.items():
        np.testing.assert_array_equal(read.draws[budget], draws)


def test_they_say_what_the_report_says(good: Report) -> None:
    of = kept(good)
    for result in good.results:
        if result.metric == "accuracy":
            number = [a.name for a in good.arms].index(result.arm)
            hits = of.predicted[number][result.protocol, result.budget] == of.truth
            assert hits.mean() == pytest.approx(result.mean)


def test_a_damaged_or_missing_file_is_named(good: Report, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no predictions\.npz .* judge again"):
        Predictions.load(tmp_path)
    path = kept(good).save(tmp_path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="damaged"):
        Predictions.load(tmp_path)


def test_paired_gains_are_those_of_one_judgement(good: Report, useless: Report, labelled: Labelled) -> None:
    """Two runs judged apart come to what both arms come to, one a baseline of the other, when judged together."""
    pairs, reasons = pair(kept(good), kept(useless))
    assert reasons == []
    as_baseline = arm("useless", Slice(slice(8, 12)), "baseline")
    together = evaluate([GOOD, as_baseline, RAW], labelled, budgets=BUDGETS, draws=DRAWS)
    rows = {row["budget"]: row for row in together.gains if (row["protocol"], row["baseline"]) == ("linear", "useless")}
    for paired in pairs:
        row = rows[paired.budget.name]
        assert paired.estimate.mean == pytest.approx(row["gain"])
        assert paired.estimate.interval() == pytest.approx((row["low"], row["high"]))
    assert len(pairs) == len(rows) == len(BUDGETS)


def test_both_directions_agree(good: Report, useless: Report) -> None:
    [*there], [*back] = pair(kept(good), kept(useless))[0], pair(kept(useless), kept(good))[0]
    for one, other in zip(there, back, strict=True):
        assert one.estimate.mean == pytest.approx(-other.estimate.mean)
        assert one.estimate.se == pytest.approx(other.estimate.se)
    assert decide(there) == ["better"] * len(there)
    assert decide(back) == ["worse"] * len(back)
    assert in_words("a", "b", there[-1], "better", "accuracy").startswith(
        "BETTER: at 10 labels per class a beat b; gain "
    )


def test_the_same_run_twice_is_equivalent(good: Report) -> None:
    pairs, _ = pair(kept(good), kept(good))
    assert all(p.estimate.mean == 0 for p in pairs)
    assert set(decide(pairs)) <= {"equivalent", "underpowered"}


def test_items_are_paired_by_content_whatever_their_order(good: Report, labelled: Labelled) -> None:
    """The same examples listed the other way round; the draws differ then, so predictions are turned by hand."""
    of = kept(good)
    back = np.arange(len(of.truth))[::-1]
    turned = replace(
        of,
        **{name: getattr(of, name)[back] for name in ("item", "unit", "truth", "name")},
        predicted={a: {key: p[..., back] for key, p in by.items()} for a, by in of.predicted.items()},
    )
    assert all(p.estimate.mean == 0 and p.n_test == 300 for p in pair(of, turned)[0])


def test_copies_are_told_apart(labelled: Labelled) -> None:
    assert labelled.content is not None
    content = labelled.content.copy()
    content[labelled.test[:3]] = content[labelled.test[0]]
    of = kept(judged(GOOD, replace(labelled, content=content)))
    assert len(np.unique(of.item)) == len(of.item)


def test_other_draws_are_not_paired(good: Report, labelled: Labelled) -> None:
    pairs, reasons = pair(kept(good), kept(judged(USELESS, labelled, seed=1)))
    assert pairs == []
    assert reasons == [f"{n} per class: probed on other draws of the labels" for n in BUDGETS]


def test_a_label_that_changed_is_refused(good: Report, labelled: Labelled) -> None:
    y = labelled.y.copy()
    y[labelled.test[:2]] = (y[labelled.test[:2]] + 1) % 3
    with pytest.raises(UserError, match="2 of 300 test items have another label"):
        pair(kept(good), kept(judged(USELESS, replace(labelled, y=y))))


def test_renamed_numbers_are_no_change(good: Report, labelled: Labelled) -> None:
    """A class that came later moves the numbers of the others, not what they mean."""
    later = replace(labelled, y=labelled.y + 1, classes=("aardvark", *labelled.classes))
    pairs, _ = pair(kept(good), kept(judged(GOOD, later)))
    assert len(pairs) == len(BUDGETS)
    assert all(abs(p.estimate.mean) < 1e-3 for p in pairs)


def test_folds_are_paired_too() -> None:
    small = problem(60, n_test=0)
    one, other, elsewhere = (
        kept(evaluate([subject, RAW], small, budgets=(2,), draws=2, seed=seed))
        for subject, seed in ((GOOD, 0), (USELESS, 0), (USELESS, 1))
    )
    [paired], _ = pair(one, other)
    assert paired.n_test == 60
    assert paired.estimate.mean > 0.1
    assert pair(one, elsewhere)[0] == []


def test_groups_stay_the_unit(labelled: Labelled) -> None:
    grouped = problem(groups=60)
    pairs, _ = pair(kept(judged(GOOD, grouped)), kept(judged(USELESS, grouped)))
    assert all(p.unit == "groups" and p.estimate.units == 30 for p in pairs)


def test_only_baselines_are_nothing_to_pair(good: Report, labelled: Labelled) -> None:
    with pytest.raises(UserError, match="only baselines"):
        pair(kept(good), kept(evaluate([RAW], labelled, budgets=BUDGETS, draws=2)))


def test_a_report_is_there_once_all_is_that_it_describes(good: Report, tmp_path: Path) -> None:
    """Whoever finds report.json finds the predictions, the encoder and the page of the same judgement."""
    for name in ("report.json", "report.html", "seal.json"):
        (tmp_path / name).write_text("of an earlier judgement")
    good.keep(tmp_path)
    assert {path.name for path in tmp_path.glob("*.*")} == {"seal.json", "secret.key", "predictions.npz"}
