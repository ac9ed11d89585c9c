"""report.json's numbers and the figures beside them, as one HTML file that needs nothing else to open.

The page fetches nothing: its policy forbids every network request and every script but the one whose hash it states.
All text of people's data is escaped by the template. `private` pages are rendered from `without_data(report)`.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from tacit.core.files import write_whole
from tacit.core.records import write_record
from tacit.evaluation.results import FILE_NAME, PAGE
from tacit.report import charts, maps, tables, words
from tacit.report.curves import Curve
from tacit.report.figures import Figures, Neighbours
from tacit.report.images import PIXELATED_BELOW, data_uri, thumbnail
from tacit.report.private import without_data

WIDE, NARROW = 900, 340  # px: what a laptop and a phone have room for
BIAS = ("popularity_bias@10", "coverage@10")  # what recommendations show besides how good they are
_HERE = Path(__file__).parent
Report = Mapping[str, Any]


def render(report: Report, figures: Figures | None = None, *, private: bool = False) -> str:
    """The whole page. `report` is report.json's dict; unknown keys are left alone."""
    figures = figures or Figures()
    if private:
        clean = without_data(report)
        figures = Figures(history=_renamed(figures.history, report, clean))
        report = clean
    verdict = report.get("verdict") or {"outcome": "none"}
    metric = _metric(report, verdict)
    outcome = verdict["outcome"]
    head, sign, meaning = words.OUTCOMES[outcome]
    sentence, circumstances = words.parted(verdict.get("text") or words.sentence(verdict, metric))
    again = report.get("data", {}).get("without_copies")
    script = (_HERE / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _template().render(
        script=Markup(script),  # ours, not data
        script_hash=digest,
        style=Markup((_HERE / "style.css").read_text(encoding="utf-8")),
        private=private,
        report=report,
        data=report.get("data", {}),
        name=report.get("data", {}).get("name", ""),
        verdict=verdict,
        outcome=outcome,
        head=head,
        sign=sign,
        meaning=meaning,
        sentence=sentence,
        circumstances=circumstances,
        without_copies=words.without_copies(again, metric) if again else "",
        from_scratch=any(row["protocol"] == "scratch" for row in report.get("results", [])),
        measure=_measure(report, verdict, metric),
        watched=tables.target_of(report).watched,
        parts=tables.parts(report.get("data", {})),
        examples=tables.examples_of(report),
        asks_next=tables.target_of(report).asks_next,
        matches=tables.target_of(report).matches,
        facts=_facts(report, verdict, metric),
        gains=_gains(report, verdict, metric),
        curves=_curves(report, verdict),
        popularity=_popularity(report, verdict, metric),
        recommended=tables.recommended(figures.recommended),
        saved=tables.saved(report.get("labels_saved") or {}),
        saving=words.saved(report["labels_saved"]) if "labels" in (report.get("labels_saved") or {}) else "",
        verdicts=tables.verdicts(report, metric, of=verdict.get("arm"), others=False),
        other_verdicts=tables.verdicts(report, metric, of=verdict.get("arm"), others=True),
        history=_history(report, figures.history),
        proxies=tables.proxies(report.get("data", {}).get("proxies", [])),
        arms=tables.arms(report, verdict, metric),
        alarms=tables.alarms(report),
        diagnosis=tables.diagnosis(report.get("diagnosis")),
        selection=tables.selection(report.get("data", {})),
        pairwise=tables.pairwise(report.get("data", {}), metric),
        results=tables.results(report),
        notes=tables.notes(report.get("data", {})),
        samples=_samples(figures),
        language=tables.language(report.get("data", {}).get("language") or {}),
        gallery=[_neighbours(row) for row in figures.gallery],
        points=maps.drawn(figures.points) if figures.points is not None and len(figures.points.x) else None,
        config=figures.config,
        environment=tables.pairs(figures.environment),
        words=words,
    )


def write(report: Report, figures: Figures | None, folder: str | Path, *, private: bool = False) -> Path:
    """Write `report.html`, and `report.json` after it, each whole or not at all; returns the page's path.

    The JSON is strict: what is not a finite number is null. Under `private` both leave the data out.
    """
    folder = Path(folder)
    content = _strict(without_data(report) if private else report)
    write_whole(folder / PAGE, render(report, figures, private=private))
    write_record(folder / FILE_NAME, content)  # last: by it others see that all is there
    return folder / PAGE


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("template.html.j2")


def _renamed(history: Sequence[Mapping[str, Any]], report: Report, clean: Report) -> list[dict[str, Any]]:
    """The numbers of `history` under the names that the cleaned report gives the arms."""
    names = {old["name"]: new["name"] for old, new in zip(report.get("arms", []), clean["arms"], strict=True)}
    numbers = [{key: row.get(key) for key in ("step", "loss", "probe")} | {"arm": row["arm"]} for row in history]
    return [{**row, "arm": names[row["arm"]]} for row in numbers if row["arm"] in names]


def _metric(report: Report, verdict: Report) -> str:
    """The metric that a verdict is about; results list the main metric of a protocol first."""
    if main := report.get("data", {}).get("primary_metric"):
        return str(main)
    named = [row["metric"] for row in report.get("results", []) if row["protocol"] == verdict.get("protocol")]
    return str(named[0] if named else "balanced_accuracy")


def _measure(report: Report, verdict: Report, metric: str) -> str:
    """Describe the scores: `R2, ridge regression, at 100 labels in all`."""
    how = words.protocol(verdict.get("protocol") or "linear", tables.target_of(report))
    return f"{words.capital(words.plain(metric))}, {how}, {words.at_budget(verdict.get('budget'))}"


def _facts(report: Report, verdict: Report, metric: str) -> list[tuple[str, str, str]]:
    """The few figures under the verdict: (what, how much, in which interval)."""
    facts = []
    if words.is_number(verdict.get("gain")):
        size, around = (
            words.gain(verdict["gain"], metric),
            words.interval(verdict.get("low"), verdict.get("high"), metric),
        )
        facts.append((f"gain: {verdict.get('arm')} against {verdict.get('baseline')}", size, around))
    row = tables.result_of(report, verdict, verdict.get("arm"), metric)
    if row:
        around = words.interval(row.get("low"), row.get("high"), metric)
        how = f"{words.plain(metric)}, {words.protocol(row['protocol'], tables.target_of(report))}"
        facts.append((how, words.score(row.get("mean"), metric), around))
        if row.get("labels_per_class"):
            facts.append(("labels", str(verdict.get("budget")), f"{words.number(row['labels_total'])} in all"))
        elif row.get("labels_total"):
            facts.append(("labels", words.number(row["labels_total"]), "in all"))
        grouped = row.get("n_groups") not in (None, row.get("n_test"))
        groups = f"in {words.number(row['n_groups'])} groups" if grouped else ""
        facts.append((f"held-out {tables.examples_of(report)}", words.number(row.get("n_test")), groups))
    return facts


def _both(draw: Any) -> Markup:
    """One chart in two widths; the style sheet shows the one that fits."""
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(draw(WIDE), draw(NARROW))


def _gains(report: Report, verdict: Report, metric: str) -> Markup | None:
    """The chosen encoder against every baseline at the primary budget, smallest gain first."""
    here = ("arm", "protocol", "budget")
    same = [row for row in report.get("gains", []) if all(row.get(key) == verdict.get(key) for key in here)]
    found = {row.get("baseline"): row for row in (*same, verdict)}
    rows = [
        charts.Gain(str(name), row["gain"], _finite(row.get("low")), _finite(row.get("high")))
        for name, row in found.items()
        if name and words.is_number(row.get("gain"))
    ]
    rows.sort(key=lambda row: row.gain)
    zone = words.margin(metric, verdict.get("margin"))
    return _both(lambda width: charts.gains(rows, width, metric, verdict["outcome"], zone)) if rows else None


def _popularity(report: Report, verdict: Report, metric: str) -> Markup | None:
    """Every arm's score against its popularity bias."""
    colours, spots = tables.colours(report), []
    for name, colour in colours.items():
        rows = [tables.result_of(report, verdict, name, of) or {} for of in (metric, *BIAS)]
        score, bias, covered = (_finite(row.get("mean")) for row in rows)
        if math.isfinite(score) and math.isfinite(bias):
            tip = f"{words.plain(metric)} {words.score(score, metric)}\n{words.plain(BIAS[0])} {words.gain(bias)}"
            tip += f"\n{words.plain(BIAS[1])} {words.score(covered)}"
            spots.append(charts.Spot(name, bias, score, tip, name == verdict.get("arm"), colour))
    along, up = "percentiles of popularity beyond what came", f"{words.plain(metric)}, in per cent"
    return _both(lambda width: charts.plane(spots, width, along, up)) if spots else None


def _curves(report: Report, verdict: Report) -> list[tuple[str, str, Markup]]:
    """One chart per protocol, the verdict's first: (protocol, metric and unit, chart).

    Training from scratch and baselines without features are in each.
    """
    rows = report.get("results", [])
    protocols = [p for p in dict.fromkeys(row["protocol"] for row in rows) if p not in tables.ANY]
    drawn = []
    for protocol in sorted(protocols, key=lambda p: p != verdict.get("protocol")):
        metric = _metric(report, {"protocol": protocol})
        shown = (protocol, *tables.ANY, tables.TUNED)
        mine = [r for r in rows if r["protocol"] in shown and r["metric"] == metric and r.get("labels_total")]
        by_class = any(r.get("labels_per_class") for r in mine)
        mine = [r for r in mine if r.get("labels_per_class") or not by_class or r.get("budget") == "100 %"]
        if len({r["budget"] for r in mine if r["protocol"] == protocol}) < 2:
            continue  # one budget is no curve; the tables hold it
        lines, budgets = _lines(report, mine, verdict.get("arm"))
        primary = next((x for x, name in budgets.items() if name == verdict.get("budget")), None)

        unit = "labels per class" if by_class else "labels in all"
        draw = partial(charts.curves, lines, metric=metric, unit=unit, primary=primary, names=budgets)
        percent = ", in per cent" if words.is_fraction(metric) else ""
        how = words.protocol(protocol, tables.target_of(report))
        drawn.append((how, words.plain(metric) + percent, _both(draw)))
    return drawn


def _lines(report: Report, rows: Sequence[Report], chosen: Any) -> tuple[list[charts.Line], dict[float, str]]:
    """Curves over labels per class, or in all, and the budgets on that axis; all labels are put at their average."""
    classes = next((r["labels_total"] / r["labels_per_class"] for r in rows if r.get("labels_per_class")), 1.0)
    colours = tables.colours(report)
    budgets: dict[float, str] = {}
    lines = []
    for arm, tuned in ((arm, tuned) for arm in report.get("arms", []) for tuned in (False, True)):
        name, points = arm["name"], []
        for r in rows:
            if r["arm"] == name and (r["protocol"] == tables.TUNED) == tuned and words.is_number(r.get("mean")):
                x = float(r.get("labels_per_class") or r["labels_total"] / classes)
                budgets[x] = r["budget"]
                points.append((x, r["mean"], _finite(r.get("low")), _finite(r.get("high"))))
        if points:
            label = f"{name}, tuned" if tuned else name
            lines.append(charts.Line(label, sorted(points), arm["kind"] == "baseline", name == chosen, colours[name]))
    return lines, budgets


def _finite(value: Any) -> float:
    return float(value) if words.is_number(value) else math.nan


def _history(report: Report, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per pretrained arm: its chart, where the loss and the probe were best, and their rank correlation."""
    correlations = {
        row["arm"]: row
        for row in report.get("data", {}).get("proxies", [])
        if (row["scope"], row["proxy"]) == ("over time", "loss")
    }
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    probes = [row["probe"] for row in rows if words.is_number(row.get("probe"))]
    pad = max(0.06 * (max(probes) - min(probes)), 0.01) if probes else 0.0
    bounds = (charts.foot(probes) - pad, min(max(probes) + pad, 1.0)) if probes else (0.0, 1.0)
    panels = []
    for arm in arms:
        mine = [row for row in rows if row["arm"] == arm]
        loss = _thinned([(float(r["step"]), float(r["loss"])) for r in mine if words.is_number(r.get("loss"))])
        probe = [(float(r["step"]), float(r["probe"])) for r in mine if words.is_number(r.get("probe"))]
        panels.append(
            {
                "arm": arm,
                "chart": charts.loss_and_probe(loss, probe, bounds),
                "lowest": words.number(min(loss, key=lambda p: p[1])[0]) if loss else None,
                "best": words.number(max(probe, key=lambda p: p[1])[0]) if probe else None,
                "score": words.score(max(p for _, p in probe)) if probe else None,
                "correlation": words.correlation(correlations[arm]["tau"]) if arm in correlations else None,
                "readings": len(probe),
            }
        )
    return panels


def _thinned(points: list[tuple[float, float]], most: int = 160) -> list[tuple[float, float]]:
    """Means over equal segments, so that a long run's curve stays small and legible."""
    if len(points) <= most:
        return points
    parts = np.array_split(np.asarray(points), most)
    return [(float(step), float(value)) for step, value in (part.mean(axis=0) for part in parts)]


def _shown(array: Any, side: int, sound: bytes | None = None) -> dict[str, Any] | None:
    if array is None:
        return None
    if isinstance(array, str):
        return {"text": array}
    if isinstance(array, Curve):
        return {"uri": array.uri, "tiny": False}
    image = thumbnail(array, side)
    heard = {} if sound is None else {"sound": f"data:audio/mpeg;base64,{base64.b64encode(sound).decode()}"}
    return {"uri": data_uri(image), "tiny": max(image.size) <= PIXELATED_BELOW, **heard}


def _samples(figures: Figures) -> list[dict[str, Any]]:
    return [
        {
            "task": task,
            "rows": [(name, [_shown(image, 96) for image in list(images)[:8]]) for name, images in rows.items()],
        }
        for task, rows in figures.samples.items()
    ]


def _neighbours(row: Neighbours) -> dict[str, Any]:
    """A row of the gallery; `same` is None where either label is missing."""
    query = row.query
    near = [
        {
            "image": _shown(picture.image, 80, picture.sound),
            "picture": picture,
            "similarity": f"{similarity:.2f}".replace("-", "−"),
            "same": picture.label == query.label if picture.label and query.label and row.classes else None,
        }
        for picture, similarity in list(row.nearest)[:8]
    ]
    shown = _shown(query.image, 80, query.sound)
    marked = row.classes and query.label
    return {"image": shown, "picture": query, "nearest": near, "marked": marked, "sought": row.sought}
