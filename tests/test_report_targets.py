"""The report of every target: its own metric, probe and units in all words; under `--private` nothing of the data."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.evaluation import Arm, Report, evaluate
from tacit.evaluation.arms import target_of
from tacit.evaluation.targets import make_target
from tacit.modalities.events.figures import recommended
from tacit.report import (
    Figures,
    Neighbours,
    Picture,
    Points,
    Recommended,
    charts,
    maps,
    render,
    tables,
    without_data,
    words,
    write,
)
from tacit.report import page as html
from tests.reports import Reader
from tests.test_ranking import ITEMS, neighbours
from tests.test_ranking import judged as recommendations
from tests.test_targets import TARGETS, N, arm, judged, problem

SEARCHED = ("retrieval", "pairs", "similarity")
CANARY = "quokka"  # a word like any of ours: only a list of what is allowed keeps it in


@cache
def page(name: str) -> str:
    return render(judged(name).to_json())


def said(text: str) -> str:
    return " ".join(" ".join(Reader(text).texts).split())


def in_parts() -> Report:
    """Features that tell the classes everywhere but in one hospital."""
    labelled, x = problem("classification")
    site = np.arange(N) % 4
    blind = x[:, :8].copy()
    blind[site == 2] = np.random.default_rng(5).normal(size=(int((site == 2).sum()), 8))
    labelled = replace(labelled, subgroup=site, subgroups=("north", "east", "south", "west"))
    report = evaluate([arm("good", blind), arm("raw", x[:, 1:7], "baseline")], labelled, budgets=[20], draws=3)
    return report.with_data(worst_group="hospital")


@pytest.mark.parametrize("name", TARGETS)
def test_metrics_and_probes_are_called_as_the_judge_calls_them(name: str) -> None:
    target = make_target(name, 3)
    for metric in (*target.metrics, *target.asides(problem(name)[0]), *([target.within] if target.within else [])):
        assert words.plain(metric.name) == metric.words
    for protocol, spoken in target.protocols.items():
        assert words.protocol(protocol, make_target(name)) == spoken
    seen = target.metrics[0].words.removesuffix(" among the test items")
    watched = "balanced accuracy" if name == "tokens" else seen
    assert make_target(name, 3).watched.startswith(watched)


@pytest.mark.parametrize("name", TARGETS)
def test_the_page_speaks_of_this_target(name: str) -> None:
    text, target = said(page(name)), make_target(name, 3)
    measure = f"{target.metrics[0].words}, {next(iter(target.protocols.values()))}"
    assert words.capital(measure) in text
    assert measure in judged(name)._caption()
    if name not in ("classification", "tokens"):
        assert "alanced accuracy" not in text
    if name == "regression":
        assert "linear probe" not in text.lower()
    assert ("How many labels it takes" in text) == (name not in SEARCHED)
    assert ("labels per class" in text) == (name in ("classification", "tokens", "ordinal"))
    assert ("labels in all" in text) == (name in ("multilabel", "regression"))
    assert ("With no labels this checkpoint" in text) == (name in SEARCHED)
    assert "_" not in re.sub(r"\S+@\S+|label_\w+", "", text.split("Every verdict")[0])
    assert not re.search(r"\bworks\b", text)


@pytest.mark.parametrize("name", TARGETS)
def test_every_baseline_has_its_score_and_its_line(name: str) -> None:
    content = judged(name).to_json()
    rows = tables.arms(content, content["verdict"], judged(name).metric)
    assert all(row["score"] != words.MISSING and row["interval"] for row in rows)
    assert "The same for no features" not in page(name)
    for rule in target_of(problem(name)[0]).rules(problem(name)[0]):
        assert f"{rule}: " in page(name) or name in SEARCHED


@pytest.mark.parametrize("name", TARGETS)
def test_every_figure_in_the_terminal_has_an_interval(name: str) -> None:
    report = judged(name)
    _, rows = report._table()
    cells = [cell for row in rows for cell in row[1:] if cell != "-"]
    assert cells
    assert all(re.fullmatch(r"-?[\d.]+ (±[\d.]+|\[-?[\d.]+, -?[\d.]+\])", cell) for cell in cells)
    if "text" in report.labels_saved:
        assert re.search(r"labels? \[.+\]", report.labels_saved["text"])
    for row in tables.results(report.to_json()).rows:  # type: ignore[union-attr]
        assert re.fullmatch(r"\[.+, .+\]", row[5])


def test_errors_are_in_units_of_the_target() -> None:
    mae = next(r for r in judged("regression").results if r.metric == "mae")
    assert words.score(mae.mean, "mae") in page("regression")
    assert [words.score(v, "mae") for v in (0.01234, 4.7126, 47.126, 4712.6)] == ["0.012", "4.713", "47.13", "4713"]
    assert words.interval(8.1234, 12.345, "mae") == "[8.12, 12.35]"
    assert words.score(0.873, "r2") == "87.3\u202f%"


def test_an_awful_baseline_does_not_flatten_the_chart() -> None:
    good = [(x, y, y - 0.05, y + 0.05) for x, y in ((10.0, 0.2), (100.0, 0.8), (1000.0, 0.9))]
    awful = [(10.0, -9.0, -40.0, 1.0), (100.0, -0.1, -0.3, 0.1), (1000.0, 0.1, 0.0, 0.2)]
    lines = [charts.Line("good", good), charts.Line("awful", awful, baseline=True, colour="g0")]
    drawn = str(charts.curves(lines, 900, "r2", unit="labels in all"))
    assert "lower than drawn" in drawn
    assert "awful: −900.0\u202f% [−4000.0, 100.0]" in drawn  # the truth is a touch away
    places = re.findall(r"[ML]?(-?[\d.]+) (-?[\d.]+)", " ".join(re.findall(r' d="([^"]+)"', drawn)))
    assert all(0 <= float(y) <= 400 - 44 + 3 for _, y in places)
    dots = [float(y) for y in re.findall(r'cy="([\d.]+)" r="3.2"', drawn)]
    assert max(dots) - min(dots) > 150
    assert "lower than drawn" not in str(charts.curves(lines[:1], 900, "r2", unit="labels in all"))
    gains = [charts.Gain("awful", 9.2, -20.0, 40.0), charts.Gain("raw", 0.3, 0.2, 0.4)]
    drawn = str(charts.gains(gains, 900, "r2", "transfers", 0.01))
    assert "+920.0 [−2000.0, 4000.0]" in drawn
    assert all(190 <= float(x) <= 750 for x in re.findall(r' x[12]="(-?[\d.]+)"', drawn))


def test_what_was_measured_once_shows_its_interval_too() -> None:
    curve = charts.Line("a", [(1.0, 0.5, 0.4, 0.6), (10.0, 0.8, 0.7, 0.9)])
    once = [charts.Line(f"at {x}", [(float(x), 0.6, 0.5, 0.7)], colour="g0") for x in (1, 10)]
    drawn = str(charts.curves([curve, *once], 900, "auroc", unit="labels in all"))
    assert drawn.count('class="error g0"') == 2


def test_a_curve_is_of_draws_of_one_kind() -> None:
    """Ten per cent of the labels at their prevalence would put a dent into a curve of balanced draws."""
    said = {}
    for name, fewest in (("classification", 5), ("multilabel", 30)):
        labelled, x = problem(name)
        arms = [arm("good", x[:, :8]), arm("raw", x[:, 1:9], "baseline")]
        content = evaluate(arms, labelled, budgets=[fewest, "10 %", "100 %"], draws=2).to_json()
        assert {"10 %", "100 %"} <= {r["budget"] for r in content["results"]}
        said[name] = render(content)
    assert "100 % of the labels\n" in said["classification"]
    assert "10 % of the labels\n" not in said["classification"].replace("100 % of", "")
    assert "10 % of the labels\n" in said["multilabel"].replace("100 % of", "")


def test_parts_of_the_population() -> None:
    report = in_parts()
    content = report.to_json()
    text = said(render(content))
    assert "Parts of the population: hospital" in text
    found = tables.parts(content["data"])
    assert found is not None
    assert found["rows"][0]["part"] == "south"
    assert found["harmed"] == ["south"]
    assert all(row["interval"] and row["around"] and row["baseline"] == "raw" for row in found["rows"])
    assert "Accuracy, linear probe" in text
    assert "Harmed in 1 of the parts of the population below: south." in text
    assert text.count("▼ Harmed") == 2
    assert "worst part: south (50 test items), accuracy, linear probe: " in str(report)
    assert re.search(r"HARMS south: did worse than raw there; gain -[\d.]+ points \[-[\d.]+, -[\d.]+\]", str(report))
    private = said(render(content, private=True))
    assert "Parts of the population" in private
    assert "part 1" in private
    assert not re.search("south|hospital", private)


def test_parts_that_cannot_be_judged_apart_are_spoken_of() -> None:
    report = judged("regression").with_data(worst_group="hospital")
    assert "They were not judged apart" in said(render(report.to_json()))
    assert "the parts by hospital were not judged apart" in str(report)


@pytest.mark.parametrize("name", TARGETS)
def test_private_keeps_the_verdict_and_no_word_of_the_data(name: str, tmp_path: Path) -> None:
    labelled, x = problem(name)
    count = iter(range(10**6))

    def secret() -> str:
        return f"{CANARY} {next(count)}"

    named = replace(
        labelled,
        classes=tuple(secret() for _ in labelled.classes),
        subgroup=np.arange(N) % 3,
        subgroups=(secret(), secret(), CANARY),
    )
    rules = [Arm(n, "baseline", rule=r, own=True) for n, r in target_of(named).rules(named).items()]
    arms = [replace(arm(CANARY, x[:, :8]), encoder=secret()), arm(secret(), x[:, 2:9], "baseline"), *rules]
    report = evaluate(arms, named, draws=2, budgets=None if name in SEARCHED else [20]).with_data(
        **{key: secret() for key in ("name", "worst_group", "encoder", "data_hash", "kind", secret())},
        notes={"test_split": secret(), "skipped": {"count": 1, "first": [secret()]}, "labels_from": secret()},
        joined=[secret()],
        encoder_source={secret(): secret()},
        test_copies={"count": 2, "first": [secret()]},
        shortened=[secret()],
        classes_left_out=[f"{secret()}: few"],
    )
    row = {"scope": "arms", "arm": CANARY, "proxy": "rankme", "tau": 0.3, "p": 0.2, "smallest_p": 0.1, "n": 4}
    report = report.with_data(proxies=[row, {**row, "proxy": secret()}], diagnosis={CANARY: {"rankme": 3.0}})
    write(report.to_json(), Figures(history=[{"arm": CANARY, "step": 1, "loss": 1.0}]), tmp_path, private=True)
    text = "".join((tmp_path / file).read_text("utf-8") for file in ("report.html", "report.json"))
    assert CANARY not in text
    clean = json.loads((tmp_path / "report.json").read_text("utf-8"))
    verdict, target = clean["verdict"], make_target(name, 3)
    assert (verdict["outcome"], verdict["low"]) == (report.verdict.outcome, report.verdict.low)
    assert f"; {target.metrics[0].words}, {next(iter(target.protocols.values()))}, " in verdict["text"]
    assert clean["data"]["target"] == name
    assert clean["data"]["primary_metric"] == report.metric
    assert clean["data"]["measure"] == report.data["measure"]
    assert clean["data"]["primary_budget"] == report.verdict.budget
    assert [r["budget"] for r in clean["results"]] == [r.budget for r in report.results]
    assert {r["metric"] for r in clean["results"]} == {r.metric for r in report.results}
    parts = report.data.get("subgroups", [])
    assert [p["mean"] for p in clean["data"].get("subgroups", [])] == [p["mean"] for p in parts]


def test_names_are_kept_of_arms_that_are_ours(tmp_path: Path) -> None:
    labelled, x = problem(TARGETS[0])
    own = replace(arm("simclr", x[:, :8]), own=True, encoder="convnet")
    theirs = replace(arm("Leeds", x[:, 2:9], "baseline"), encoder="hf:simclr")
    clean = without_data(evaluate([own, theirs], labelled, draws=2, budgets=[20]).to_json())
    assert [(row["name"], row["encoder"]) for row in clean["arms"]] == [("simclr", "convnet"), ("encoder 1", "")]
    assert {row["arm"] for row in clean["results"]} == {"simclr", "encoder 1"}
    assert clean["data"]["representation"].keys() == {"simclr", "encoder 1"}


def test_embeddings_judged_in_private(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y, name = rng.integers(0, 2, 120), np.char.add(f"{CANARY} ", np.arange(120).astype(str))
    arrays: dict[str, Any] = {"id": name, "embedding": rng.normal(size=(120, 6)) + y[:, None], "label": name[y]}
    np.savez(tmp_path / f"{CANARY}.npz", **arrays, **{f"{CANARY}_site": name[np.arange(120) % 2]})
    np.savez(tmp_path / f"{CANARY}_other.npz", id=name, embedding=rng.normal(size=(120, 6)))
    tacit.evaluate(
        str(tmp_path / f"{CANARY}.npz"),
        against=[str(tmp_path / f"{CANARY}_other.npz")],
        worst_group=f"{CANARY}_site",
        label_budgets=["5"],
        out=str(tmp_path / "out"),
        private=True,
    )
    for file in ("report.html", "report.json"):
        assert CANARY not in (tmp_path / "out" / file).read_text("utf-8")
    assert len(json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))["data"]["subgroups"]) == 2


def test_numbers_are_mapped_in_steps() -> None:
    rng = np.random.default_rng(0)
    value = [*rng.normal(50, 10, 99).tolist(), float("nan")]
    label = [f"{v:.6g}" for v in value[:-1]] + [""]
    points = Points(rng.normal(size=100), rng.normal(size=100), label, value=value)
    found = maps.drawn(points)
    assert [style for *_, style in found["names"]] == ["v0", "v1", "v2", "v3", "v4"]
    sizes = np.bincount(np.array(found["json"]["group"]) + 1)
    assert sizes[0] == 1
    assert sizes[1:].min() >= 19
    assert found["json"]["label"] == label
    ordered = np.argsort(value[:-1])
    assert (np.diff(np.array(found["json"]["group"])[:-1][ordered]) >= 0).all()
    assert maps.in_steps(np.array([1.0, 1.0, 2.0]))[1] == ["1 to 1", "2 to 2"]
    picture = Picture(np.zeros((4, 4)), "51.2", "a")
    drawn = render({"verdict": {"outcome": "none"}}, Figures(gallery=[Neighbours(picture, [(picture, 0.5)], False)]))
    assert "<span>51.2</span>" in drawn
    assert not re.search("✓|✕ marks", said(drawn))


def test_many_small_classes_share_one_grey() -> None:
    """Pairs: a colour for two points tells nothing. Frequent classes get theirs first."""
    groups, names, styles = maps.by_name([f"pair {i // 2}" for i in range(100)])
    assert (len(names), styles, max(groups)) == (50, [], 49)
    _, names, styles = maps.by_name([f"one {i}" for i in range(40)] + ["often"] * 6)
    assert names[0] == "often"
    assert len(styles) == 1
    css = Path(html.__file__).with_name("style.css").read_text("utf-8")
    assert not re.search(r"(?<!\.key)\.s\d\{", css)  # a shape of the legend must not bend the map


def test_sentences_of_claims() -> None:
    verdict = {"outcome": "transfers", "arm": "simclr", "baseline": "pixels", "gain": 0.05, "low": 0.02, "high": 0.08}
    recipe = words.sentence({**verdict, "claim": "recipe", "budget": "100 in all"}, "r2")
    assert recipe.startswith(
        "At 100 labels in all, the simclr recipe beat every baseline; the smallest gain, over pixels"
    )
    assert words.sentence({**verdict, "budget": "no labels"}, "ndcg@10/test-gallery").startswith("With no labels, the ")
    content = {"results": [], "verdict": {**verdict, "claim": "recipe", "budget": "10 per class"}}
    assert "a claim about the recipe, over 3 pretraining seeds" in said(
        render({**content, "data": {"pretraining_seeds": 3}})
    )
    one = render(
        {**content, "verdict": {**content["verdict"], "claim": "checkpoint"}, "data": {"pretraining_seeds": 1}}
    )
    assert "a claim about this checkpoint, not the recipe: --seeds 3 or more judges the recipe" in said(one)


def test_labels_saved_in_words() -> None:
    row = {"arm": "simclr", "labels": 100, "baseline": "pixels", "baseline_labels": 1500, "low": 900, "high": 2000}
    assert words.saved({**row, "high_at_least": True}) == (
        "To do what simclr does with 100 labels, pixels needs about 1500 [900, at least 2000]."
    )
    never = {**row, "at_least": True, "low_at_least": True, "high_at_least": True, "low": 2000}
    assert words.saved({**never, "baseline_labels": 2000}).endswith("pixels needs at least 2000 [at least 2000].")
    assert words.saved({**row, "baseline_labels": 40, "low": 30, "high": 50}).startswith("None: to do what simclr does")


# ---------------------------------------------------------------- recommendations


@pytest.mark.parametrize("name", ["recommendation", "repeats"])
def test_recommendations_are_called_as_the_judge_calls_them(name: str) -> None:
    target = make_target(name, 0)
    asides = target.asides(recommendations()[0].labelled())
    for metric in (*target.metrics, *asides):
        assert words.plain(metric.name) == metric.words
    for protocol, spoken in target.protocols.items():
        assert words.protocol(protocol, make_target(name)) == spoken
        assert make_target(name, 3).watched == f"nDCG@10, {spoken}"


def test_the_page_of_recommendations() -> None:
    _, report = recommendations()
    shown = Recommended(["tea", "<cup>"], ["pot", "kettle"], "kettle")
    missed = Recommended(["pen"], ["ink", "paper"], "quill")
    page = render(report.to_json(), Figures(recommended=[shown, missed]))
    text = said(page)
    assert "With no labels this checkpoint (neighbours) beat every baseline" in text
    assert "nDCG@10, full ranking of what was not seen" in text
    assert "Popularity against accuracy" in text
    assert "tea → <cup>" in text
    assert "<b>✓ kettle</b>" in page
    assert "place 2" in text
    assert "quill not among these" in text
    assert "histories of less than 5 events" in text
    tips = re.findall(r'data-tip="(neighbours[^"]*)"', page)
    assert any("popularity beyond what came" in tip and "share of the catalogue" in tip for tip in tips)
    assert "Popularity against accuracy" not in said(render(judged("retrieval").to_json()))


def test_dots_lie_where_their_metrics_are() -> None:
    spots = [
        charts.Spot("a", 0.3, 0.1, "", colour="c0"),
        charts.Spot("b", -0.1, 0.05, ""),
        charts.Spot("c", 0.1, 0.1, ""),
    ]
    for width in (340, 900):
        drawn = str(charts.plane(spots, width, "along", "up"))
        dots = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn)]
        assert dots[1][0] < dots[2][0] < dots[0][0] < width
        assert dots[0][1] == dots[2][1] < dots[1][1]
        assert dots[2][0] - dots[1][0] == pytest.approx(dots[0][0] - dots[2][0], abs=0.2)


def test_some_histories_are_shown_with_what_was_recommended_and_what_came() -> None:
    held, _ = recommendations()
    labelled = held.labelled()
    rows = recommended(neighbours, labelled, lambda item: f"item {item}", seed=0)
    assert len(rows) == 6
    questions = {
        (tuple(held.contexts.items[a:b][-8:].tolist()), came): (a, b)
        for a, b, came in zip(held.contexts.start, held.contexts.stop, held.came.tolist(), strict=True)
    }
    for row in rows:
        history, came = (tuple(int(name.split()[1]) for name in names) for names in (row.history, [row.came]))
        begin, end = questions[history, came[0]]
        free = [(history[-1] + step) % ITEMS for step in range(ITEMS)]
        own = set(held.contexts.items[begin:end].tolist())
        assert list(row.items) == [f"item {item}" for item in free if item not in own][:10]


def test_recommendations_in_private(tmp_path: Path) -> None:
    _, report = recommendations()
    arms = tuple(replace(a, name=CANARY if a.name == "other chance" else a.name) for a in report.arms)
    report = replace(report, arms=arms)
    figures = Figures(recommended=[Recommended([CANARY], [CANARY], CANARY)])
    write(report.to_json(), figures, tmp_path, private=True)
    text = "".join((tmp_path / file).read_text("utf-8") for file in ("report.html", "report.json"))
    assert CANARY not in text
    clean = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert "; nDCG@10, full ranking of what was not seen, 300 test histories" in clean["verdict"]["text"]
    assert clean["data"]["target"] == "recommendation"
    assert {r["metric"] for r in clean["results"]} == {r.metric for r in report.results}
    assert "Popularity against accuracy" in said((tmp_path / "report.html").read_text("utf-8"))
