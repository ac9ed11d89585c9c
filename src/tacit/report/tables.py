"""The tables of the report: rows of short text made from report.json."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tacit.evaluation.targets import OFFERED, USUAL, Target, make_target
from tacit.report import charts, words
from tacit.report.figures import Recommended

Report = Mapping[str, Any]
TUNED = "finetune"  # the protocol of the chosen encoder trained further, which stands beside training from scratch
ANY = ("scratch", "rule")  # training from scratch and baselines without features are compared under every protocol
FEW_CLASSES = 30  # that fit in a line
LISTED = 200  # entries of a list of skipped files or rows that the page shows; report.json has all of them


@dataclass(frozen=True)
class Table:
    """Column names and rows of text; the columns in `figures` hold numbers and are set to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: frozenset[int] = frozenset()


def target_of(report: Report) -> Target:
    """The target of a report; the default one where it is unknown."""
    name = report.get("data", {}).get("target")
    return make_target(name if name in OFFERED else USUAL)


def examples_of(report: Report) -> str:
    """The noun for test examples: items, or histories."""
    return str(report.get("data", {}).get("noun") or "items")


def colours(report: Report) -> dict[str, str]:
    """One CSS class per arm, the same in every chart and table: colours for the pretrained, greys for the baselines."""
    counts = {"baseline": 0, "pretrained": 0}
    chosen = {}
    for arm in report.get("arms", []):
        kind = "baseline" if arm["kind"] == "baseline" else "pretrained"
        chosen[arm["name"]] = f"g{counts[kind] % 4}" if kind == "baseline" else f"c{counts[kind] % charts.COLOURS}"
        counts[kind] += 1
    return chosen


def result_of(report: Report, verdict: Report, arm: Any, metric: str) -> Report | None:
    """The arm's result at the verdict's protocol and budget."""
    for row in report.get("results", []):
        same = row.get("protocol") in (verdict.get("protocol"), *ANY) and row.get("budget") == verdict.get("budget")
        if same and row.get("arm") == arm and row.get("metric") == metric:
            return dict(row)
    return None


def arms(report: Report, verdict: Report, metric: str) -> list[dict[str, Any]]:
    """The pretrained encoders and the baselines, best first within each group."""
    colour = colours(report)
    rows = []
    for arm in report.get("arms", []):
        result = result_of(report, verdict, arm["name"], metric) or {}
        rows.append(
            {
                "name": arm["name"],
                "colour": colour[arm["name"]],
                "kind": arm["kind"],
                "chosen": bool(result) and arm["name"] == verdict.get("arm"),
                "encoder": arm.get("encoder") or words.MISSING,
                "steps": words.number(arm.get("steps") or None),
                "time": words.duration(arm.get("seconds") or None),
                "speed": words.number(arm.get("examples_per_second") or None),
                "score": words.score(result.get("mean"), metric),
                "interval": words.interval(result.get("low"), result.get("high"), metric),
                "alarms": len(arm.get("alarms") or ()),
                "order": (arm["kind"] == "baseline", -(result.get("mean") or 0.0)),
            }
        )
    return sorted(rows, key=lambda row: row["order"])


def alarms(report: Report) -> list[dict[str, str]]:
    """Every alarm of every arm, failures first; an alarm is a mapping or one line of text."""
    rows = []
    for arm in report.get("arms", []):
        for alarm in arm.get("alarms") or ():
            if not isinstance(alarm, Mapping):
                alarm = {"text": str(alarm)}
            name = str(alarm.get("name") or alarm.get("metric") or "")
            level = str(alarm.get("level", "warn")).lower()
            rows.append(
                {
                    "arm": arm["name"],
                    "level": "fail" if level.startswith("fail") else "warn",
                    "name": words.title(name) if name else "Alarm",
                    "value": words.number(alarm["value"]) if "value" in alarm else "",
                    "text": str(alarm.get("text") or words.MEANINGS.get(name.lower(), "")),
                }
            )
    return sorted(rows, key=lambda row: row["level"])


def diagnosis(value: Any) -> Table | None:
    """The label-free metrics, one row per metric and one column per arm: {arm: {metric: number}}."""
    if not isinstance(value, Mapping) or not value:
        return None
    found = {str(arm): inner for arm, inner in value.items() if isinstance(inner, Mapping)}
    names = list(dict.fromkeys(name for inner in found.values() for name in inner if words.is_number(inner[name])))
    rows = [
        [words.title(name), *(words.number(inner.get(name)) for inner in found.values()), words.MEANINGS.get(name, "")]
        for name in names
    ]
    return Table(["Metric", *found, "What it measures"], rows, frozenset(range(1, len(found) + 1))) if rows else None


def language(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Pseudo-perplexity of each encoder, and one encoder's predictions at hidden positions. None if not measured."""
    if not isinstance(result.get("perplexity"), Mapping):
        return None
    rows = [[str(name), words.number(value)] for name, value in result["perplexity"].items()]
    source = "texts that were held out" if result.get("held_out") else "texts that were pretrained on"
    fills = [
        [
            f"… {fill['before']} ▁▁▁ {fill['after']} …",
            str(fill["truth"]),
            ", ".join(f"{token} {100 * chance:.0f} %" for token, chance in fill["top"]),
        ]
        for fill in result.get("fills") or ()
    ]
    return {
        "arm": result.get("arm", ""),
        "caption": f"Pseudo-perplexity of {words.number(result.get('tokens'))} tokens of {source}; lower fits better",
        "perplexity": Table(["Encoder", "Pseudo-perplexity"], rows, frozenset([1])),
        "fills": Table(["Text", "There stood", "Most likely"], fills) if fills else None,
    }


def recommended(rows: Sequence[Recommended]) -> list[dict[str, Any]]:
    """Sequences, their recommendations and the actual next item, with its rank or a remark that it has none."""
    return [
        {
            "history": list(row.history),
            "items": [(item, item == row.came) for item in row.items],
            "came": row.came,
            "place": f"place {row.items.index(row.came) + 1}" if row.came in row.items else "not among these",
        }
        for row in rows
    ]


def proxies(rows: Sequence[Report]) -> list[dict[str, Any]]:
    """Kendall's tau of each label-free metric with the measured transfer: a table for each kind of pairs.

    Its caption gives n and the smallest p that so few can give.
    """
    tables = []
    for scope, (over, note) in words.SCOPES.items():
        mine = [row for row in rows if row["scope"] == scope]
        if not mine:
            continue
        n, floor = max(row["n"] for row in mine), min(row["smallest_p"] for row in mine)
        found = {(row["proxy"], row["arm"]): _correlation(row, n) for row in mine}
        arms = dict.fromkeys(row["arm"] for row in mine)
        cells = [
            [words.title(name), *(found.get((name, arm), words.MISSING) for arm in arms)]
            for name in dict.fromkeys(row["proxy"] for row in mine)
        ]
        heads = [arm or "Correlation with transfer" for arm in arms]
        caption = f"n = {n}: p is never below {floor:.2g}" if floor >= 0.001 else f"n = {n}"
        table = Table(["Metric", *heads], cells, frozenset(range(1, len(heads) + 1)))
        tables.append({"over": over, "note": note, "caption": caption, "table": table})
    return tables


def _correlation(row: Report, n: int) -> str:
    aside = "" if row["n"] == n else f", n = {row['n']}"
    return f"{words.correlation(row['tau'])} ({words.chance(row['p'])}{aside})"


def selection(data: Report) -> Table | None:
    """Validation scores inside the training labels, {arm: {representation: score}}, and the choice by them."""
    taken = data.get("representation") or {}
    rows = []
    for arm, scores in (data.get("validation") or {}).items():
        for depth, value in (scores or {}).items():
            marks = "read here" if taken.get(arm) == depth else ""
            if marks and arm == data.get("selected_arm"):
                marks = "chosen"
            rows.append([arm, words.plain(depth), words.score(value), marks])
    return Table(["Arm", "Representation", "Score", ""], rows, frozenset({2})) if rows else None


def pairwise(data: Report, metric: str) -> Table | None:
    """Every pair of encoders: the gain of the first over the second at the primary budget, and its outcome."""
    rows = [
        [
            str(row["one"]),
            str(row["other"]),
            words.gain(row["gain"], metric),
            words.interval(row["low"], row["high"], metric),
            "not shown to differ" if row["outcome"] == "underpowered" else str(row["outcome"]),
        ]
        for row in data.get("pairwise") or ()
    ]
    return Table(["Encoder", "Compared with", "Gain", "95 % interval", ""], rows, frozenset({2, 3})) if rows else None


def rows_table(rows: Any) -> Table | None:
    """Any list of mappings as a table."""
    rows = [row for row in rows or () if isinstance(row, Mapping)]
    if not rows:
        return None
    keys = list(dict.fromkeys(key for row in rows for key in row))
    text = [[words.number(row.get(key)) for key in keys] for row in rows]
    numeric = frozenset(
        i for i, key in enumerate(keys) if all(row.get(key) is None or words.is_number(row.get(key)) for row in rows)
    )
    return Table([words.title(str(key)) for key in keys], text, numeric)


def results(report: Report) -> Table | None:
    """Every measured score, as in report.json."""
    rows, target = [], target_of(report)
    for r in report.get("results", []):
        metric = str(r["metric"])
        counts = [words.number(r.get(key)) for key in ("labels_total", "draws", "seeds", "n_test", "n_groups")]
        value = [words.score(r.get("mean"), metric), words.interval(r.get("low"), r.get("high"), metric)]
        how = [words.protocol(r["protocol"], target), words.plain(metric), words.budget(r.get("budget"))]
        rows.append([str(r["arm"]), *how, *value, *counts])
    columns = ["Arm", "Protocol", "Metric", "Budget", "Mean", "95 % interval"]
    columns += ["Labels", "Draws", "Seeds", f"Test {examples_of(report)}", "Groups"]
    return Table(columns, rows, frozenset(range(4, 11))) if rows else None


def verdicts(report: Report, metric: str, *, of: Any, others: bool) -> list[dict[str, str]]:
    """The verdict of every protocol and budget on the arm `of`, or on the others; names the baseline that decided."""
    rows = []
    for v in report.get("verdicts", []):
        if (v.get("arm") == of) == others:
            continue
        head, sign, _ = words.OUTCOMES[v["outcome"]]
        named = str(v.get("metric") or metric)
        rows.append(
            {
                "outcome": v["outcome"],
                "head": f"{sign} {head.removeprefix('No evidence of a gain: ').capitalize()}",
                "protocol": words.protocol(v.get("protocol") or words.MISSING, target_of(report)),
                "budget": words.budget(v.get("budget")),
                "arm": str(v.get("arm") or words.MISSING),
                "baseline": str(v.get("baseline") or words.MISSING),
                "gain": words.gain(v.get("gain"), named),
                "interval": words.interval(v.get("low"), v.get("high"), named),
            }
        )
    return rows


def saved(value: Report) -> Table | None:
    """How many labels each baseline needs to do what the encoder does with the primary budget's."""
    rows = []
    for row in value.get("baselines") or ():
        rows.append([str(row.get("baseline")), *words.needed(row)])
    return Table(["Baseline", "Labels needed", "95 % interval"], rows, frozenset({1, 2})) if rows else None


def parts(data: Report) -> dict[str, Any] | None:
    """The results in each part of the population, the worst first, and how the parts are defined."""
    rows = data.get("subgroups") or ()
    if not rows:
        return None
    table = [
        {
            "part": str(row["subgroup"]),
            "tested": words.number(row["items"]),
            "score": words.score(row["mean"], row["metric"]),
            "interval": words.interval(row["low"], row["high"], row["metric"]),
            "gain": words.gain(row.get("gain"), row["metric"]),
            "around": words.interval(row.get("gain_low"), row.get("gain_high"), row["metric"]),
            "baseline": str(row.get("baseline") or words.MISSING),
            "harmed": bool(row.get("harmed")),
        }
        for row in rows
    ]
    measure = rows[0].get("measure") or words.plain(rows[0]["metric"])
    harmed = [row["part"] for row in table if row["harmed"]]
    return {"column": data.get("worst_group") or "", "measure": measure, "rows": table, "harmed": harmed}


def notes(data: Report) -> dict[str, Any]:
    """Notes on the data: single facts, and lists of skipped, dropped or unmatched entries.

    A list is a sequence, or {"count", "first"} where only the first are named. Empty or zero entries are left out.
    """
    elsewhere = {"notes", "name", "noun", "diagnosis", "validation", "representation"}
    elsewhere |= {"selected_arm", "seal_reads", "without_copies", "proxies", "subgroups", "primary_metric", "pairwise"}
    if not data.get("grouped") or data.get("one_test_group"):
        elsewhere.add("n_test_groups")
    flat = {**{key: value for key, value in data.items() if key not in elsewhere}, **(data.get("notes") or {})}
    facts, lists = [], []
    for key, value in flat.items():
        count = 0
        if isinstance(value, Mapping) and "first" in value:
            count = value["count"]
            value = value["first"] or count
        elif isinstance(value, Mapping):
            value = [f"{name}: {words.number(inner)}" for name, inner in value.items()]
        if value in (None, "", 0, False) or (isinstance(value, list | tuple) and not value):
            continue
        if key == "primary_budget":
            facts.append((words.title(key), words.budget(value)))
        elif not isinstance(value, list | tuple):
            facts.append((words.title(key), words.number(value)))
        elif key == "classes" and len(value) <= FEW_CLASSES:
            facts.append((words.title(key), ", ".join(str(name) for name in value)))
        else:
            shown = value[:LISTED]
            table = rows_table(shown) or Table(["Entry"], [[_entry(entry)] for entry in shown])
            lists.append((words.title(key), count or len(value), table))
    return {"facts": facts, "lists": lists}


def _entry(value: Any) -> str:
    return ": ".join(str(part) for part in value) if isinstance(value, list | tuple) else words.number(value)


def pairs(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as flat rows, `torch.version` and its value."""
    rows = []
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            rows += pairs(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", re.sub(r"\s+", " ", words.number(value))))
    return rows
