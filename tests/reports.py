"""The report of a small real experiment: scikit-learn's digits, two tiny pretext tasks, three baselines."""

from __future__ import annotations

import functools
from html.parser import HTMLParser
from typing import Any

import numpy as np

from tacit.core.wording import Ours
from tacit.evaluation.diagnostics import over_time, proxy_rows
from tacit.report import Figures, Neighbours, Picture, Points

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
    row |= {"own": True, "own_encoder": True}
    return row | {"seconds": 2.4 if task else 0.0, "examples_per_second": 11_840.0 if task else 0.0, "alarms": alarms}


def judged(gain: dict[str, Any]) -> dict[str, Any]:
    outcome = "transfers" if gain["low"] > 0 else "harms" if gain["high"] < 0 else "underpowered"
    size = f"{100 * gain['gain']:.1f} points [{100 * gain['low']:.1f}, {100 * gain['high']:.1f}]"
    said = f"at {gain['budget']} this checkpoint ({gain['arm']}) against {gain['baseline']}; gain {size}"
    circumstances = [Ours("balanced accuracy of a linear probe, 5 draws, 500 test items")]
    circumstances += [Ours("not compared with any public pretrained encoder")]
    text = "; ".join([f"{outcome.upper()}: {said}", *circumstances])
    row = {**gain, "outcome": outcome, "claim": "checkpoint", "transductive": False, "text": text}
    return {**row, "circumstances": circumstances}


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
