"""The report of a small real experiment: scikit-learn's digits, two tiny pretext tasks, three baselines."""

from __future__ import annotations

import copy
import functools
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.evaluation.proxies import over_time, proxy_rows
from tacit.report import Figures, Neighbours, Picture, Points, html, render, without_data, words, write
from tacit.report.charts import spread, ticks
from tacit.report.images import Sheet, data_uri, thumbnail, to_image

BUDGETS = (1, 2, 5, 10, 20, 50)
DRAWS = 5
CLASSES = tuple(f"grade {n}" for n in range(10))


def probe(X: np.ndarray, y: np.ndarray, taken: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Which test items a ridge probe on one-hot targets gets right."""
    centre, scale = X[taken].mean(0), X[taken].std(0) + 1e-3
    A, B = (X[taken] - centre) / scale, (X[test] - centre) / scale
    W = np.linalg.solve(A.T @ A + 10 * np.eye(A.shape[1]), A.T @ (np.eye(10)[y[taken]] - 0.1))
    return (B @ W).argmax(1) == y[test]


def neighbours(X: np.ndarray, y: np.ndarray, taken: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Which test items share the class of their nearest labelled example by cosine."""
    unit = X / (np.linalg.norm(X, axis=1, keepdims=True) + 1e-9)
    return y[taken][(unit[test] @ unit[taken].T).argmax(1)] == y[test]


def from_scratch(X: np.ndarray, y: np.ndarray, taken: np.ndarray, test: np.ndarray) -> np.ndarray:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(hidden_layer_sizes=(96,), learning_rate_init=3e-3, random_state=0)
    for _ in range(25):
        model.partial_fit(X[taken], y[taken], classes=np.arange(10))
    return model.predict(X[test]) == y[test]


def spread_over(hits: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % interval over draws and items [S n]."""
    error = 1.96 * np.sqrt(hits.mean(1).var(ddof=1) / len(hits) + hits.mean(0).var() / hits.shape[1])
    return float(hits.mean()), float(hits.mean() - error), float(hits.mean() + error)


def pretrain_tiny(X: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> tuple[dict, list, np.ndarray]:
    """Hidden features, history and reconstructions of two pretext tasks solved by one hidden layer."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    rng = np.random.default_rng(0)
    turned = np.concatenate([np.rot90(X.reshape(-1, 8, 8), k, (1, 2)).reshape(-1, 64) for k in range(4)])
    quarter = np.repeat(np.arange(4), len(X))
    models = {
        "masked": MLPRegressor(hidden_layer_sizes=(96,), learning_rate_init=3e-3, random_state=0),
        "rotation": MLPClassifier(hidden_layer_sizes=(96,), learning_rate_init=3e-3, random_state=0),
    }
    features, history = {}, []
    for name, model in models.items():
        for step in range(12):
            if name == "masked":
                model.partial_fit(X * (rng.random(X.shape) > 0.5), X)
            else:
                model.partial_fit(turned, quarter, classes=np.arange(4))
            features[name] = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0)
            score = probe(features[name], y, train[:100], train[100:400]).mean() if step % 2 == 0 else None
            history.append({"arm": name, "step": 9 * (step + 1), "loss": float(model.loss_), "probe": score})
    hidden = X * (rng.random(X.shape) > 0.5)
    return features, history, np.stack([X, hidden, models["masked"].predict(hidden)])


@functools.cache
def digits() -> tuple[dict[str, Any], Figures]:
    """A report in the schema of report.json, and its figures."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = X / 16
    rng = np.random.default_rng(0)
    order = rng.permutation(len(X))
    train, test = order[500:], order[:500]
    features, history, masked = pretrain_tiny(X, y, train, test)
    axes = np.linalg.svd(X - X.mean(0), full_matrices=False)[2]
    features["random init"] = np.maximum(X @ rng.normal(size=(64, 96)), 0)
    features["pixels + PCA"] = X @ axes[:32].T
    pools = [np.concatenate([rng.permutation(train[y[train] == c])[:50] for c in range(10)]) for _ in range(DRAWS)]
    draws = {n: [np.concatenate([pool[50 * c : 50 * c + n] for c in range(10)]) for pool in pools] for n in BUDGETS}
    hits, results = {}, []
    for arm, Z in features.items():
        for protocol, method in (("linear", probe), ("knn", neighbours)):
            for n in BUDGETS:
                hits[arm, protocol, n] = np.stack([method(Z, y, taken, test) for taken in draws[n]])
                results.append(figures_of(arm, protocol, n, hits[arm, protocol, n]))
    scratch = np.stack([from_scratch(X, y, taken, test) for taken in draws[10]])
    results.append(figures_of("from scratch", "scratch", 10, scratch))
    pretrained = ("masked", "rotation")
    gains = []
    for arm in pretrained:
        for budget in BUDGETS:
            others = {name: hits[name, "linear", budget] for name in ("random init", "pixels + PCA")}
            others |= {"from scratch": scratch} if budget == 10 else {}
            for baseline, theirs in others.items():
                difference = hits[arm, "linear", budget].astype(float) - theirs
                mean, low, high = spread_over(difference)
                row = {"arm": arm, "protocol": "linear", "budget": f"{budget} per class", "baseline": baseline}
                gains.append({**row, "gain": mean, "low": low, "high": high})
    hardest = {(g["arm"], g["budget"]): g for g in sorted(gains, key=lambda g: -g["gain"])}
    verdicts = [judged(hardest[arm, f"{budget} per class"]) for arm in pretrained for budget in BUDGETS]
    verdict = next(v for v in verdicts if v["arm"] == "masked" and v["budget"] == "10 per class")
    alarm = {"level": "warn", "name": "rankme", "value": 9.3, "text": "the features use few directions"}
    report = {
        "schema": 1,
        "created": "2026-01-17 14:02",
        "data": {
            "name": "digits",
            "kind": "image",
            "examples": 1797,
            "labelled": 1797,
            "classes": list(CLASSES),
            "data_hash": "9f1c3a7be4d2509611aa",
            "seal_reads": 1,
            "representation": {"masked": "pooled", "rotation": "depth 0"},
            "validation": {"masked": {"pooled": 0.871}, "rotation": {"pooled": 0.702, "depth 0": 0.744}},
            "selected_arm": "masked",
            "classes_left_out": [],
            "test_copies": {"count": 2, "exact": 1, "first": ["ward-7/scan_1.png = ward-9/scan_2.png (exact)"]},
            "without_copies": {"left_out": 2, **verdict},
            "pretraining_seeds": 1,
            "proxies": proxies_of(features, results, history),
            "notes": {
                "skipped": [["ward-7/scan_0042.png", "truncated"], ["ward-7/scan_0077.png", "not an image"]],
                "unmatched_label_rows": ["ward-9/anna.png"],
            },
        },
        "arms": [
            arm_of("masked", "pretrained", "masked", [alarm]),
            arm_of("rotation", "pretrained", "rotation", []),
            arm_of("random init", "baseline", None, []),
            arm_of("pixels + PCA", "baseline", None, []),
            arm_of("from scratch", "baseline", None, []),
        ],
        "results": results,
        "verdict": verdict,
        "verdicts": verdicts,
        "gains": gains,
        "labels_saved": {
            "text": "labels saved: pixels + PCA needs about 140 labels [118, 171] to do what masked does with 100",
            "baselines": [
                {"baseline": "pixels + PCA", "baseline_labels": 140, "at_least": False, "low": 118, "high": 171},
                {"baseline": "random init", "baseline_labels": 500, "at_least": True, "low": 402, "high": 500},
            ],
        },
        "diagnosis": {arm: diagnosed(features[arm]) for arm in pretrained},
    }
    return report, figures_for(X, y, test, features["masked"], history, masked)


def proxies_of(features: dict, results: list, history: list) -> list[dict[str, Any]]:
    """RankMe and uniformity against the linear probe over four encoders, the loss over the readings of each task."""
    measured = [diagnosed(Z) for Z in features.values()]
    score = {r["arm"]: r["mean"] for r in results if (r["protocol"], r["labels_per_class"]) == ("linear", 10)}
    rows = proxy_rows("arms", measured, [score[arm] for arm in features])
    for arm in ("masked", "rotation"):
        mine = [{key: row[key] for key in row if row[key] is not None} for row in history if row["arm"] == arm]
        rows += over_time(arm, mine)
    return rows


def diagnosed(Z: np.ndarray) -> dict[str, float]:
    """RankMe of the centred features, and uniformity."""
    share = np.linalg.svd(Z - Z.mean(0), compute_uv=False)
    share = share[share > 1e-9] / share.sum()
    unit = Z[:300] / np.linalg.norm(Z[:300], axis=1, keepdims=True)
    pairs = np.exp(-2 * (2 - 2 * unit @ unit.T))[np.triu_indices(300, 1)]
    return {"rankme": float(np.exp(-(share * np.log(share)).sum())), "uniformity": float(np.log(pairs.mean()))}


def figures_of(arm: str, protocol: str, budget: int, hits: np.ndarray) -> dict[str, Any]:
    mean, low, high = spread_over(hits)
    row = {"arm": arm, "protocol": protocol, "metric": "balanced_accuracy", "budget": f"{budget} per class"}
    row |= {"labels_per_class": budget, "labels_total": 10 * budget, "mean": mean, "low": low, "high": high}
    return row | {"draws": DRAWS, "seeds": 1, "n_test": 500, "n_groups": 500}


def arm_of(name: str, kind: str, task: str | None, alarms: list[Any]) -> dict[str, Any]:
    row = {"name": name, "kind": kind, "task": task, "encoder": "convnet", "steps": 126 if task else 0}
    return row | {"seconds": 2.4 if task else 0.0, "examples_per_second": 11_840.0 if task else 0.0, "alarms": alarms}


def judged(gain: dict[str, Any]) -> dict[str, Any]:
    outcome = "transfers" if gain["low"] > 0 else "harms" if gain["high"] < 0 else "underpowered"
    size = f"{100 * gain['gain']:.1f} points [{100 * gain['low']:.1f}, {100 * gain['high']:.1f}]"
    said = f"at {gain['budget']} this checkpoint ({gain['arm']}) against {gain['baseline']}; gain {size}"
    text = f"{outcome.upper()}: {said}; balanced accuracy of a linear probe, 5 draws, 500 test items; "
    text += "not compared with any public pretrained encoder"
    return {**gain, "outcome": outcome, "claim": "checkpoint", "transductive": False, "text": text}


def figures_for(X: Any, y: Any, test: Any, Z: Any, history: list, masked: Any) -> Figures:
    images = (X.reshape(-1, 1, 8, 8) * 255).astype(np.uint8)
    unit = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    near = unit[test] @ unit[test].T
    xy = (Z - Z.mean(0))[test] @ np.linalg.svd((Z - Z.mean(0))[test], full_matrices=False)[2][:2].T

    def picture(i: int) -> Picture:
        return Picture(images[test[i]], CLASSES[y[test[i]]], f"ward-7/scan_{test[i]:04d}.png")

    nearest = [near[i].argsort()[::-1][1:8] for i in range(6)]
    gallery = [Neighbours(picture(i), [(picture(j), float(near[i, j])) for j in nearest[i]]) for i in range(6)]
    names = [CLASSES[k] for k in y[test]]
    ids = [f"ward-7/scan_{i:04d}.png" for i in test]
    rows = dict(zip(("original", "masked", "reconstruction"), masked[:, :8].reshape(3, 8, 8, 8), strict=True))
    return Figures(
        history=history,
        gallery=gallery,
        points=Points(xy[:, 0], xy[:, 1], names, ids, images[test], "masked", "PCA"),
        samples={"masked": rows},
        config="data: /home/anna/ward-7\ntasks: masked,rotation\nbudget: 10m\n",
        environment={"torch": "2.13.0", "machine": {"cores": 2, "host": "annas-pc"}},
    )


@pytest.fixture(scope="module")
def page() -> str:
    return render(*digits())


class Reader(HTMLParser):
    """What a browser would see: tags with their attributes, scripts, text; complains about tags left open."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without an opening tag"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        (self.scripts if inside == "script" else self.texts).append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


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


def test_private_keeps_the_numbers_and_nothing_of_the_data(tmp_path: Path) -> None:
    report, figures = digits()
    folder = write(report, figures, tmp_path, private=True).parent
    page, numbers = ((folder / name).read_text("utf-8") for name in ("report.html", "report.json"))
    open_page = render(report, figures)
    assert figures.points is not None
    of_people = {"digits", "anna", "ward", "scan_", "annas-pc", ".png", "truncated", *CLASSES, *figures.points.id}
    for text in of_people:
        assert text in open_page
        assert text not in numbers
        assert text not in page
    assert "data:image" not in page
    assert "<img" not in page
    assert "mapdata" not in page.replace('getElementById("mapdata")', "")
    clean = json.loads(numbers)
    assert clean["private"] is True
    assert clean["data"]["notes"] == {"number_of_skipped": 2, "number_of_unmatched_label_rows": 1}
    assert clean["data"]["number_of_classes"] == 10
    assert [r["mean"] for r in clean["results"]] == [r["mean"] for r in report["results"]]
    assert clean["verdict"]["low"] == report["verdict"]["low"]
    assert clean["verdict"]["text"].endswith("not compared with any public pretrained encoder")
    assert "5 draws, 500 test items" in clean["verdict"]["text"]
    for shown in ("A falling loss is no proof", "Gain over each baseline", "No evidence of a gain"):
        assert shown in page


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


def test_private_leaves_out_what_nobody_thought_of() -> None:
    """A secret put in every place where a string can stand comes out of none, names of arms apart."""
    report, figures = digits()
    secret = "C:\\Users\\anna\\ward7"

    tables = ("arms", "results", "verdicts", "gains")

    def spoiled(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            more = {"new": secret, "news": [secret], "table": {secret: secret}}
            return {name: spoiled(inner, name) for name, inner in value.items()} | more
        if isinstance(value, list):
            return [spoiled(inner, key) for inner in value] + ([] if key in tables else [secret])
        return secret if isinstance(value, str) and key not in ("outcome", "kind", "protocol", "metric") else value

    bad = spoiled(copy.deepcopy(report))
    for old, new in zip(report["arms"], bad["arms"], strict=True):
        new["name"] = f"hf:{secret}/{old['name']}"
    history = [{**row, "arm": bad["arms"][0]["name"]} for row in figures.history]
    page = render(bad, replace(figures, history=history), private=True)
    for part in (secret, "ward7", "Users", "anna"):
        assert part not in page
        assert part not in json.dumps(without_data(bad))
    assert "encoder 1" in page


def test_private_report_is_still_in_the_schema() -> None:
    from tacit.evaluation import Report

    report, _ = digits()
    known = {**without_data(report), "labels_saved": {}}
    figure = {"gain", "low", "high", "transductive", "text"}
    fields = {"outcome", "claim", "protocol", "arm", "baseline", "budget"} | figure
    known["verdict"] = {key: known["verdict"][key] for key in fields}
    known["verdicts"] = [{key: row[key] for key in fields} for row in known["verdicts"]]
    loaded = Report.from_json(known)
    assert "masked" in str(loaded)
    assert loaded.arms[2].task is None


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


def test_numbers_in_words() -> None:
    assert words.score(0.9123) == "91.2\u202f%"
    assert words.score(0.9123, "mae") == "0.912"
    assert words.interval(-0.012, 0.034) == "[−1.2, 3.4]"
    assert words.gain(0.059) == "+5.9 points"
    assert words.gain(-0.0004) == "0.0 points"
    assert [words.number(v) for v in (1234, 12345, 0.00012345, 2.0, True, None)] == [
        "1234",
        "12\u202f345",
        "0.000123",
        "2",
        "yes",
        "–",
    ]
    assert [words.duration(s) for s in (4.23, 48, 185, 7800)] == ["4.2 s", "48 s", "3 min 5 s", "2 h 10 min"]
    assert [words.budget(b) for b in (1, "10", "10 per class", "10 %")] == [
        "1 label per class",
        "10 labels per class",
        "10 labels per class",
        "10 % of the labels",
    ]
    said, rest = words.parted("NO EVIDENCE, underpowered: at 5 labels per class a; gain b; c; d")
    assert (said, rest) == ("At 5 labels per class a; gain b.", "C; d.")


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_labels_of_lines_never_overlap(positions: list[float]) -> None:
    moved = spread(positions, 12, 0, 100)
    gaps = np.diff(sorted(moved))
    assert (gaps > 12 - 1e-6).all()
    assert min(moved) > -1e-6
    assert max(moved) < 100 + 1e-6
    assert list(np.argsort(moved, kind="stable")) == list(np.argsort(positions, kind="stable"))


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4), st.integers(2, 8))
def test_ticks_are_few_round_and_inside(low: float, span: float, about: int) -> None:
    found = ticks(low, low + span, about)
    assert 1 <= len(found) <= 2 * about
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)
    steps = np.diff(found)
    assert np.allclose(steps, steps[:1], rtol=1e-3)


def test_images_of_every_kind_come_back_as_they_were() -> None:
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 256, (7, 9), np.uint8), rng.integers(0, 256, (3, 7, 9), np.uint8)
    assert (np.asarray(to_image(grey)) == grey).all()
    assert (np.asarray(to_image(grey[None])) == grey).all()
    assert (np.asarray(to_image(colour)) == np.moveaxis(colour, 0, -1)).all()
    assert (np.asarray(to_image(np.moveaxis(colour, 0, -1))) == np.moveaxis(colour, 0, -1)).all()
    assert (np.asarray(to_image(grey.astype(np.uint16) * 257)) == grey).all()
    assert (np.asarray(to_image(grey / 255)) == grey).all()
    assert np.asarray(to_image(np.array([[-1.0, 2.0, np.nan]]))).tolist() == [[0, 255, 0]]
    with pytest.raises(ValueError, match=r"shape \(2, 7, 9\)"):
        to_image(np.zeros((2, 7, 9)))


def test_images_stay_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 400, 300), np.uint8)
    assert thumbnail(noise, 96).size == (72, 96)
    assert data_uri(thumbnail(noise[:, :8, :8], 96)).startswith("data:image/png;")
    uri = data_uri(thumbnail(noise, 96))
    assert uri.startswith("data:image/jpeg;")
    assert len(uri) < 12_000


def test_sheet_holds_every_thumbnail_in_its_cell() -> None:
    import base64
    import io

    from PIL import Image

    images = [np.full((4, 6 if i % 2 else 4), 10 * i, np.uint8) for i in range(10)]
    sheet = Sheet(images)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet.uri.split(",")[1]))))
    assert (sheet.columns, sheet.rows, sheet.cell) == (4, 3, 6)
    assert pixels.shape == (18, 24)
    for i in range(10):
        row, column = divmod(i, 4)
        assert pixels[6 * row + 3, 6 * column + 3] == 10 * i


SIGHT = {  # what the eye makes of linear RGB: Machado, Oliveira & Fernandes 2009, severity 1
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("sight", SIGHT)
def test_colours_can_be_told_apart(scheme: int, sight: str) -> None:
    css = (
        Path(html.__file__)
        .with_name("style.css")
        .read_text("utf-8")
        .split("@media (prefers-color-scheme:dark)")[scheme]
    )

    def linear(colour: str) -> np.ndarray:
        c = np.array([int(colour[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)

    colours = np.stack([linear(c) for c in re.findall(r"--c\d:#(\w{6})", css)[:8]])
    card = linear("ffffff" if scheme == 0 else re.findall(r"--card:#(\w{6})", css)[0])
    light = np.array([0.2126, 0.7152, 0.0722])
    contrast = (np.maximum(colours @ light, card @ light) + 0.05) / (np.minimum(colours @ light, card @ light) + 0.05)
    assert contrast.min() > 2.95
    seen = np.clip(colours @ np.array(SIGHT[sight]).T, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(seen @ np.array(to_xyz).T / [0.9505, 1, 1.089]).T  # no colour here is dark enough for the foot
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
    apart = np.linalg.norm(lab[:, None] - lab, axis=2)[np.triu_indices(8, 1)]
    assert apart.min() > 20
