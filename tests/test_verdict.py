"""Every outcome, its words, and what multiplicity does to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tacit.evaluation.labels_saved import Curve, Gap, Point, labels_saved
from tacit.evaluation.splits import UNLABELLED, Budget
from tacit.evaluation.statistics import Estimate, crossed
from tacit.evaluation.verdict import Comparison, Setting, is_failure, judge, nothing_to_judge

FIVE = Budget("5 per class", 5, None, 50, 10, 0.05)
TEN = Budget("10 per class", 10, None, 100, 10, 0.1)
SETTING = Setting(n_test=500, n_units=500, public=False)
NO_PUBLIC = "not compared with any public pretrained encoder"


def estimate(mean: float, se: float = 0.01, *, covers_draws: bool = True, fixed: float = 0.0) -> Estimate:
    return Estimate(mean, se, 1e6, (se**2 - fixed) * 500, fixed, 1, 10, 500, covers_draws)


def at_ten(**gains: Estimate) -> list[Comparison]:
    return [Comparison(name, TEN, gain) for name, gain in gains.items()]


def test_transfers() -> None:
    [verdict] = judge("simclr", "linear", [TEN], at_ten(pixels=estimate(0.059), random=estimate(0.1)), SETTING)
    assert (verdict.outcome, verdict.baseline, verdict.claim) == ("transfers", "pixels", "checkpoint")
    assert verdict.gain == pytest.approx(0.059)
    assert verdict.low == pytest.approx(0.059 - 0.0196, abs=1e-4)
    assert verdict.text == (
        "TRANSFERS: at 10 labels per class this checkpoint (simclr) beat every baseline; smallest gain 5.9 points "
        "[3.9, 7.9] over pixels; balanced accuracy, linear probe, 10 draws, 500 test items; " + NO_PUBLIC
    )


def test_one_unbeaten_baseline_is_enough() -> None:
    [verdict] = judge("a", "linear", [TEN], at_ten(pixels=estimate(0.2), scratch=estimate(0.05, 0.03)), SETTING)
    assert (verdict.outcome, verdict.baseline) == ("underpowered", "scratch")


def test_harms_names_who_did_better() -> None:
    [verdict] = judge("a", "linear", [TEN], at_ten(pixels=estimate(-0.04), random=estimate(0.05)), SETTING)
    assert (verdict.outcome, verdict.baseline) == ("harms", "pixels")
    assert verdict.text.startswith("HARMS: at 10 labels per class this checkpoint (a) did worse than pixels; gain -4.0")


def test_harms_only_after_holm() -> None:
    """An upper bound barely below 0 is one chance out of many once many comparisons are made."""
    barely = estimate(-0.0205)
    [alone] = judge("a", "linear", [TEN], at_ten(pixels=barely), SETTING)
    assert alone.outcome == "harms"
    [among] = judge("a", "linear", [TEN], at_ten(pixels=barely, random=estimate(0.0), b=estimate(0.0)), SETTING)
    assert among.outcome == "underpowered"
    elsewhere = [Comparison("pixels", FIVE, estimate(0.0)), *at_ten(pixels=barely)]
    assert [v.outcome for v in judge("a", "linear", [FIVE, TEN], elsewhere, SETTING)] == ["underpowered"] * 2


def test_equivalent() -> None:
    [verdict] = judge("a", "linear", [TEN], at_ten(pixels=estimate(0.001, 0.002), random=estimate(0.1)), SETTING)
    assert (verdict.outcome, verdict.baseline) == ("equivalent", "pixels")
    assert verdict.text.startswith("NO EVIDENCE, equivalent: at 10 labels per class this checkpoint (a) and the best")
    assert "baseline, pixels, differ by less" in verdict.text
    assert "than 1 point;" in verdict.text


def test_equivalent_to_the_best_baseline_alone() -> None:
    """Equal to the untrained twin and behind a public encoder is no equivalence."""
    gains = {"random": estimate(0.0, 0.002), "public": estimate(-0.04, 0.03)}
    [verdict] = judge("a", "linear", [TEN], at_ten(**gains), SETTING)
    assert (verdict.outcome, verdict.baseline) == ("underpowered", "public")


def test_harm_at_the_declared_budget_is_not_diluted_by_the_others() -> None:
    """-5.0 [-8.2, -1.8] over one of three baselines, whatever was measured at five other budgets."""
    others = [Budget(f"{n} per class", n, None, 10 * n, 10, 0.1) for n in (1, 2, 20, 50, 100)]
    gains = at_ten(pixels=estimate(-0.05, 0.0163), random=estimate(0.0), scratch=estimate(0.0))
    gains += [Comparison(name, at, estimate(0.0)) for at in others for name in ("pixels", "random", "scratch")]
    [verdict] = judge("a", "linear", [TEN], gains, SETTING)
    assert (verdict.outcome, verdict.baseline) == ("harms", "pixels")


@pytest.mark.parametrize("margin", [0.002, 0.01])
def test_sentences_do_not_contradict_their_intervals(margin: float) -> None:
    rng = np.random.default_rng(1)
    setting = replace(SETTING, margin=margin)
    for _ in range(300):
        gains = {name: estimate(rng.normal(0, 0.03), rng.choice([0.001, 0.004, 0.012])) for name in "bcd"}
        others = {f"arm {n}": at_ten(b=estimate(rng.normal(0, 0.01))) for n in range(3)}
        family = None if rng.random() < 0.5 else {"a": at_ten(**gains), **others}
        [verdict] = judge("a", "linear", [TEN], at_ten(**gains), setting, family=family)
        assert verdict.low is not None
        assert verdict.high is not None
        low, high, said = verdict.low, verdict.high, verdict.text
        assert ("exploratory" in said) == (family is not None)
        if verdict.outcome == "transfers":
            assert low > 0
        elif verdict.outcome == "harms":
            assert high < 0
        elif verdict.outcome == "equivalent":
            assert -margin < low < high < margin
            assert min(gains.values(), key=lambda gain: gain.mean).mean == verdict.gain
        else:
            assert ("was not shown to beat" in said) == (low <= 0 <= high)
        if ", by less than" in said:
            assert max(-low, high) < margin


def test_a_gain_below_the_margin_says_so() -> None:
    for se, said in ((0.001, ", by less than 1 point;"), (0.0022, ", perhaps by less than 1 point;")):
        [verdict] = judge("a", "linear", [TEN], at_ten(pixels=estimate(0.006, se)), SETTING)
        assert verdict.outcome == "transfers"
        assert said in verdict.text


def test_underpowered_says_what_it_would_take() -> None:
    [verdict] = judge("a", "linear", [TEN], at_ten(pixels=estimate(0.014)), SETTING)
    assert verdict.outcome == "underpowered"
    assert "a test like this shows 2.8 points in four cases of five" in verdict.text
    assert "for 1.4 points it would take about 2,003 test items" in verdict.text
    [verdict] = judge("a", "linear", [TEN], at_ten(pixels=estimate(0.014, fixed=0.00009)), SETTING)
    assert "for 1.4 points more test items alone would not do, only more labels to draw from" in verdict.text
    grouped = Setting(n_test=500, n_units=40, public=False)
    [verdict] = judge("a", "linear", [TEN], at_ten(pixels=estimate(0.014)), grouped)
    assert "test groups" in verdict.text
    assert "500 test items in 40 groups" in verdict.text


def test_one_draw_cannot_prove_transfer() -> None:
    [verdict] = judge("a", "linear", [TEN], at_ten(pixels=estimate(0.2, covers_draws=False)), SETTING)
    assert verdict.outcome == "underpowered"
    assert "one draw of the labels cannot tell" in verdict.text


def test_collapsed_whatever_it_scores() -> None:
    [verdict] = judge("a", "linear", [TEN], at_ten(pixels=estimate(0.2)), SETTING, collapsed=True)
    assert verdict.outcome == "collapsed"
    assert verdict.gain == pytest.approx(0.2)
    [verdict] = judge("a", "linear", [TEN], [], SETTING, collapsed=True)
    assert (verdict.outcome, verdict.gain) == ("collapsed", None)


def test_no_baseline_no_verdict() -> None:
    [verdict] = judge("a", "linear", [TEN], [], SETTING)
    assert (verdict.outcome, verdict.baseline, verdict.gain) == ("none", None, None)
    assert nothing_to_judge(TEN, "linear", False).outcome == "none"


def test_circumstances_are_said() -> None:
    protocols = {"knn": "nearest neighbours"}
    setting = Setting(80, 80, True, transductive=True, n_folds=5, left_out=("rare",), protocols=protocols)
    comparisons = [Comparison("pixels", FIVE, estimate(0.1)), Comparison("scratch", TEN, estimate(0.1))]
    five, ten = judge("a", "knn", [FIVE, TEN], comparisons, setting, claim="recipe")
    assert "this recipe (a) beat its only baseline measured there" in five.text
    for words in ("nearest neighbours", "by 5-fold cross-fitting", "without the classes rare", "transductive"):
        assert words in five.text
    assert "not compared at this budget with scratch" in five.text
    assert "not compared at this budget with pixels" in ten.text
    assert NO_PUBLIC not in five.text
    assert five.transductive


def test_a_recipe_is_told_from_a_checkpoint() -> None:
    seeds = Estimate(0.1, 0.01, 1e6, 0.05, 0.0, 3, 10, 500, True)
    [verdict] = judge("simclr", "linear", [TEN], at_ten(pixels=seeds), SETTING, claim="recipe")
    assert verdict.text.startswith(
        "TRANSFERS: at 10 labels per class this recipe (simclr) beat its only baseline; gain 10.0 points [8.0, 12.0] "
        "over pixels; balanced accuracy, linear probe, 10 draws, 3 pretraining seeds, 500 test items"
    )
    [one] = judge("simclr", "linear", [TEN], at_ten(pixels=estimate(0.1)), SETTING)
    assert "this checkpoint (simclr)" in one.text
    assert "seeds" not in one.text


def test_searches_learn_from_no_labels() -> None:
    setting = Setting(
        500, 500, False, measure="recall@1 among the test items", protocols={"cosine": "search by cosine"}
    )
    comparisons = [Comparison("chance", UNLABELLED, estimate(0.1))]
    [verdict] = judge("a", "cosine", [UNLABELLED], comparisons, setting)
    assert verdict.text.startswith("TRANSFERS: with no labels this checkpoint (a) beat its only baseline; gain 10.0")
    assert "; recall@1 among the test items, search by cosine, 500 test items; " in verdict.text
    assert "with no labels only baselines" in nothing_to_judge(UNLABELLED, "cosine", False).text


def test_one_draw_alone_shows_neither_harm_nor_equivalence() -> None:
    for mean in (-0.1, 0.0):
        lone = [Comparison("pixels", TEN, estimate(mean, 0.001, covers_draws=False))]
        [verdict] = judge("a", "linear", [TEN], lone, SETTING)
        assert verdict.outcome == "underpowered"


def test_what_nobody_declared_is_corrected_over_arms_and_budgets() -> None:
    """A gain that clears 95 % alone does not among 40 arms, one that clears 99.99 % does; and so for harm."""
    for sign, outcome in ((1, "transfers"), (-1, "harms")):
        bare, clear = estimate(sign * 0.021), estimate(sign * 0.05)
        family = {f"arm {n}": at_ten(pixels=estimate(0.0)) for n in range(38)}
        family |= {"bare": at_ten(pixels=bare), "clear": at_ten(pixels=clear)}
        outcomes = {
            arm: judge(arm, "linear", [TEN], family[arm], SETTING, family=family)[0].outcome
            for arm in ("bare", "clear")
        }
        assert outcomes == {"bare": "underpowered", "clear": outcome}
        assert judge("bare", "linear", [TEN], family["bare"], SETTING)[0].outcome == outcome


def test_never_the_bare_word() -> None:
    texts = [
        judge("a", "linear", [TEN], at_ten(pixels=estimate(mean, se)), SETTING)[0].text
        for mean in (-0.1, 0.0, 0.1)
        for se in (0.001, 0.05)
    ]
    assert all("works" not in text and text.endswith(NO_PUBLIC) for text in texts)


@pytest.mark.parametrize(
    ("alarm", "failed"),
    [
        ({"level": "FAIL"}, True),
        ({"level": "fail"}, True),
        ({"level": "WARN"}, False),
        ("FAIL: flat", True),
        ("ok", False),
    ],
)
def test_alarms(alarm: object, failed: bool) -> None:
    assert is_failure(alarm) is failed


def verdict_of_simulation(rng: np.random.Generator, gain: float) -> str:
    """Three baselines, all `gain` behind, on noisy draws and items."""
    shape = (1, 10, 400)
    gains = {
        name: crossed(
            gain + rng.normal(0, 0.01, (1, 10, 1)) + rng.normal(0, 0.3, (1, 1, 400)) + rng.normal(0, 0.3, shape)
        )
        for name in ("pixels", "random", "scratch")
    }
    return judge("a", "linear", [TEN], at_ten(**gains), SETTING)[0].outcome


def test_verdicts_are_rarely_wrong() -> None:
    rng = np.random.default_rng(0)
    null = [verdict_of_simulation(rng, 0.0) for _ in range(400)]
    assert null.count("transfers") <= 4
    assert null.count("harms") <= 400 * 0.05 + 9
    assert [verdict_of_simulation(rng, 0.2) for _ in range(50)].count("transfers") == 50
    assert [verdict_of_simulation(rng, -0.2) for _ in range(50)].count("harms") == 50


def curve(*points: tuple[int, float]) -> list[Point]:
    return [Point(labels, mean, 10) for labels, mean in points]


def test_curves_rise_and_are_read_in_log_n() -> None:
    bumpy = Curve(curve((10, 0.5), (20, 0.7), (40, 0.6), (80, 0.9)))
    assert bumpy.means == pytest.approx([0.5, 0.65, 0.65, 0.9])
    assert bumpy.needed(0.65) == (pytest.approx(20), False)
    assert bumpy.needed(0.775) == (pytest.approx(40 * np.sqrt(2)), False)
    assert bumpy.needed(0.95) == (80.0, True)
    assert bumpy.needed(0.1) == (10.0, False)


def gaps(*points: tuple[int, float], se: float = 0.01) -> list[Gap]:
    return [Gap(labels, 10, estimate(gap, se)) for labels, gap in points]


def test_labels_saved() -> None:
    of = {
        "pixels": gaps((10, -0.2), (100, -0.05), (1000, 0.05)),
        "random": gaps((10, -0.3), (100, -0.2), (1000, -0.1)),
        "scratch": gaps((100, -0.4)),
    }
    saved = labels_saved("simclr", 100, of, "linear")
    assert saved["baseline"] == "pixels"
    assert saved["baseline_labels"] == round(100 * 10**0.5)
    assert saved["saved"] == 216
    assert saved["low"] == round(100 * 10 ** (0.5 - 0.196))  # where the gap's upper bound, 0.0196 above it, is closed
    assert saved["high"] == round(100 * 10 ** (0.5 + 0.196))
    assert not saved["at_least"]
    assert [row["baseline"] for row in saved["baselines"]] == ["pixels", "random"]
    assert saved["baselines"][1]["at_least"]
    assert saved["text"].startswith("labels saved: pixels needs about 316 labels [")
    assert "scratch" not in saved["text"]
    near = labels_saved("simclr", 100, {**of, "scratch": gaps((100, -0.01))}, "linear")
    assert near["text"].endswith("; scratch was nearer there, at one budget alone")
    never = labels_saved("simclr", 100, {"random": of["random"]}, "linear")
    assert "random needs at least 1,000 labels [at least 1,000" in never["text"]
    worse = labels_saved("random", 100, {"pixels": gaps((10, 0.0), (100, 0.15))}, "linear")
    assert worse["text"].startswith("labels saved: none; pixels does with about 10 [")
    assert labels_saved("simclr", 100, {"scratch": gaps((100, -0.4))}, "linear") == {}


def test_labels_saved_cover_the_truth() -> None:
    """Two arms on curves known at any n, on shared draws and items: the interval holds the error of both."""
    rng = np.random.default_rng(3)
    budgets, truth, held, found = (20, 50, 100, 200, 500), 170.0, 0, []

    def height(labels: float) -> float:
        return 0.5 + 0.1 * np.log(labels)

    for _ in range(300):
        item = rng.normal(0, 0.3, 400)
        arm = height(truth) + rng.normal(0, 0.01, (10, 1)) + item + rng.normal(0, 0.3, (10, 400))
        of = []
        for n in budgets:
            baseline = height(n) + rng.normal(0, 0.01, (10, 1)) + item + rng.normal(0, 0.3, (10, 400))
            of.append(Gap(n, 10, crossed((baseline - arm)[None])))
        saved = labels_saved("arm", 100, {"baseline": of}, "linear")
        held += saved["low"] <= truth <= saved["high"]
        found.append(saved["baseline_labels"])
    assert 0.92 <= held / 300 <= 0.985
    assert np.median(found) == pytest.approx(truth, rel=0.05)
