"""The page: what stands in it, in which order, and that no name breaks out of it."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.report import Figures, Neighbours, Picture, Points, render, without_data, words, write
from tests.reports import Reader, arm_of, digits, figures_of


@pytest.fixture(scope="module")
def page() -> str:
    return render(*digits())


def test_page_is_whole_and_says_the_verdict_first(page: str) -> None:
    seen = Reader(page)
    assert next(name for name, _ in seen.tags if re.fullmatch("h[123]", name)) == "h1"
    text = " ".join(" ".join(seen.texts).split())
    report, _ = digits()
    said, circumstances = words.parted(report["verdict"]["text"])
    assert text.index(said) < text.index("Gain over each baseline") < text.index("How many labels")
    assert circumstances in text
    for heading in (
        "Labels saved",
        "A falling loss is no proof",
        "Do label-free metrics tell?",
        "--seeds 3 or more judges the recipe",
        "alarms, never a proof",
        "Nearest neighbours",
        "Map of the embeddings",
        "Alarms",
    ):
        assert heading in text
    assert "works" not in text
    assert "ward-7/scan_0042.png: truncated" in text  # skipped files are listed
    assert "annas-pc" in text
    assert "9f1c3a7be4d2509611aa" in text


def test_page_needs_nothing_from_outside(page: str) -> None:
    seen = Reader(page)
    [policy] = [m["content"] for m in seen.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?://|//[a-z]", re.sub(r"base64,[\w+/=]+", "", page.replace("\n//", "")))
    for _, attributes in seen.tags:
        for name in ("src", "href", "data", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert not any(name.startswith("on") for name in attributes)  # inline handlers would be refused by the policy
    assert len([s for s in seen.of("script") if s.get("type") != "application/json"]) == 1
    assert "url(" not in re.sub(r"url\(data:", "", page)


def test_the_script_is_the_one_that_the_policy_allows(page: str) -> None:
    import base64
    import hashlib

    source = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page


def test_charts_can_be_read_aloud(page: str) -> None:
    seen = Reader(page)
    assert seen.of("svg")
    for svg in seen.of("svg"):
        assert svg["role"] == "img"
        assert len(svg["aria-label"] or "") > 20
    assert all("alt" in image for image in seen.of("img"))
    assert len(seen.of("caption")) == len(seen.of("table"))


def test_charts_show_the_numbers_of_the_report(page: str) -> None:
    report, _ = digits()
    for row in report["results"]:
        if row["protocol"] == "linear":
            assert f"{row['arm']}: {words.score(row['mean'])} {words.interval(row['low'], row['high'])}" in page
    here = [g for g in report["gains"] if g["arm"] == "masked" and g["budget"] == "10 per class"]
    assert len(here) == 3
    for row in here:
        size = f"{words.gain(row['gain'], 'accuracy', unit=False)} {words.interval(row['low'], row['high'])}"
        assert page.count(f">{size}</text>") == 2  # the wide and the narrow drawing


def test_size_and_time_of_a_large_report() -> None:
    report, figures = digits()
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (2000, 3, 8, 8), np.uint8)
    images = coarse.repeat(8, 2).repeat(8, 3) + rng.integers(0, 56, (2000, 3, 64, 64), np.uint8)
    names = [f"class {i % 100}" for i in range(2000)]
    ids = [f"folder/photograph_{i:06d}.jpeg" for i in range(2000)]
    points = Points(rng.normal(size=2000), rng.normal(size=2000), names, ids, images, "simclr", "t-SNE")
    pictures = [Picture(image, name, name) for image, name in zip(images[:64], names[:64], strict=True)]
    gallery = [Neighbours(pictures[8 * i], [(p, 0.5) for p in pictures[8 * i + 1 : 8 * i + 8]]) for i in range(8)]
    rows = {row: images[:8] for row in ("original", "view 1", "view 2")}
    samples = dict.fromkeys(("simclr", "rotation", "masked"), rows)
    history = [{"arm": a, "step": s, "loss": 1 / s, "probe": None} for a in samples for s in range(1, 10_000)]
    figures = replace(figures, points=points, gallery=gallery, samples=samples, history=history)
    began = time.process_time()
    page = render(report, figures)
    assert len(page.encode()) < 2_000_000
    assert time.process_time() - began < 3  # a second on an idle core; slack for a busy one
    assert "1500 examples of 2000" in page


def test_the_verdict_without_copies_stands_beside_the_verdict(page: str) -> None:
    report, _ = digits()
    again = report["data"]["without_copies"]
    said = words.without_copies(again, "balanced_accuracy")
    assert said.startswith("Without the 2 test items that have a copy or near-copy in the pretraining data: ")
    assert said.endswith(f"{words.interval(again['low'], again['high'])} over {again['baseline']}.")
    assert said in page.split("<h2>")[0]
    assert "ward-7/scan_1.png = ward-9/scan_2.png (exact)" in page
    lost = {"outcome": "none", "left_out": 1, "gain": None, "low": None, "high": None, "baseline": None}
    assert words.without_copies(lost, "accuracy") == (
        "Without the one test item that has a copy or near-copy in the pretraining data: no verdict."
    )
    clean = without_data(report)
    assert clean["data"]["number_of_test_copies"] == 2
    assert clean["data"]["without_copies"]["left_out"] == 2
    assert clean["data"]["without_copies"]["low"] == again["low"]
    assert said in render(report, private=True)


def test_proxies_stand_with_what_so_few_can_show(page: str) -> None:
    report, _ = digits()
    rows = report["data"]["proxies"]
    assert {(row["scope"], row["arm"]) for row in rows} == {
        ("arms", None),
        ("over time", "masked"),
        ("over time", "rotation"),
    }
    assert "n = 4: p is never below 0.083" in page
    assert "Over the time of one training" in page
    assert "Over the pretraining seeds" not in page
    for row in rows:
        assert f"{words.correlation(row['tau'])} ({words.chance(row['p'])})" in page
    [loss] = [row for row in rows if (row["arm"], row["proxy"]) == ("masked", "loss")]
    assert f"Rank correlation (Kendall) of loss and probe over 6 readings: {words.correlation(loss['tau'])}." in page
    assert without_data(report)["data"]["proxies"] == rows
    assert "n = 4: p is never below 0.083" in render(report, private=True)
    assert words.chance(1.1e-6) == "p < 0.001"


HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"'><b>",
    "]]>",
    "{{ 7*7 }}",
    "<!--",
    "&lt;",
]


def report_named(name: str) -> tuple[dict[str, Any], Figures]:
    """A small report with the same text in every place that a person's text can reach."""
    picture = Picture(np.zeros((4, 4)), f"{name}label", f"{name}id")
    figures = Figures(
        history=[{"arm": name, "step": s, "loss": 1.0 / s, "probe": 0.5} for s in (1, 2)],
        gallery=[Neighbours(picture, [(picture, 0.5)])],
        points=Points([0.0, 1.0], [0.0, 1.0], [f"{name}label", ""], [f"{name}id"] * 2, np.zeros((2, 4, 4)), name, name),
        samples={name: {name: [np.zeros((4, 4))]}},
        config=name,
        environment={name: name},
    )
    report = {
        "schema": 1,
        "created": name,
        "data": {
            "name": name,
            "classes": [name, "b"],
            "notes": {"skipped": [name, [name, name]], f"{name} found": name},
        },
        "arms": [arm_of(name, "pretrained", name, [name, {"level": "FAIL", "name": name, "text": name}])],
        "results": [{**figures_of(name, name, n, np.ones((2, 4))), "metric": f"metric {name}"} for n in (1, 10)],
        "verdict": {"outcome": "none", "arm": name, "protocol": name, "budget": name, "text": name},
        "verdicts": [{"outcome": "harms", "protocol": name, "arm": name, "baseline": name, "budget": name}] * 2,
        "labels_saved": {"text": name, "baselines": [{"baseline": name}]},
        "diagnosis": {name: {name: 1.0}},
    }
    return report, figures


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(HOSTILE) | st.text(min_size=1, max_size=30).map(lambda text: text.replace(";", ",")))
def test_names_cannot_break_out_of_the_page(name: str) -> None:
    seen, plain = Reader(render(*report_named(name))), Reader(render(*report_named("plain")))
    assert [tag for tag, _ in seen.tags] == [tag for tag, _ in plain.tags]  # no tag more, none less
    assert [sorted(a) for _, a in seen.tags] == [sorted(a) for _, a in plain.tags]  # nor any attribute
    [data] = [script for script in seen.scripts if script.startswith("{")]
    assert json.loads(data)["ids"] == [f"{name}id"] * 2


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stand_in_the_page_as_text(name: str) -> None:
    seen = Reader(render(*report_named(name)))
    assert any(name in text for text in seen.texts)
    assert any(f"{name}id" in (attributes.get("data-tip") or "") for _, attributes in seen.tags)


def test_without_labels_the_page_tells_what_labels_would_add() -> None:
    report, figures = digits()
    bare = {key: report[key] for key in ("schema", "diagnosis")} | {"data": {"kind": "image", "examples": 1797}}
    bare["arms"] = report["arms"][:2]
    bare |= {
        "results": [],
        "verdicts": [],
        "labels_saved": {},
        "verdict": {"outcome": "none", "text": "No labels, no proof."},
    }
    history = [{**row, "probe": None} for row in figures.history]
    page = render(bare, replace(figures, history=history))
    assert "What labels would add" in page
    assert "there were none" in page
    assert "probe, %" not in page
    assert "RankMe" in page
    assert "Gain over each baseline" not in page
    assert render({"verdict": {"outcome": "none"}}, None)


@pytest.mark.parametrize("outcome", list(words.OUTCOMES))
def test_every_outcome_has_its_words_and_its_colour(outcome: str) -> None:
    report, _ = digits()
    verdict = {key: value for key, value in report["verdict"].items() if key != "text"} | {"outcome": outcome}
    page = render({**report, "verdict": verdict})
    head, sign, meaning = words.OUTCOMES[outcome]
    assert f'<section class="verdict o-{outcome}"' in page
    assert f".o-{outcome}{{--o:var(--{outcome})}}" in page
    assert f"</span>{head}</h1>" in page
    assert meaning in page
    assert sign in page
    assert not re.search(r"\bworks\b", words.sentence(verdict, "balanced_accuracy") + meaning + head)


def test_what_was_not_measured_is_a_dash_and_null(tmp_path: Path) -> None:
    report, _ = digits()
    nan = float("nan")
    arms = [{**arm, "examples_per_second": nan} for arm in report["arms"]]
    results = [{**row, "low": nan, "high": nan} for row in report["results"]]
    path = write({**report, "arms": arms, "results": results}, None, tmp_path)
    assert (
        "nan"
        not in re.sub(r"<style>.*</style>|<script.*</script>", "", path.read_text("utf-8"), flags=re.DOTALL).lower()
    )
    content = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert content["arms"][0]["examples_per_second"] is None
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "report.json"]
