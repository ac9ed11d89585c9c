"""The public part of a report under `--private`: numbers and our own words, nothing of the data.

A report is rebuilt from a list of what is allowed, rather than purged of what is known to be secret: a field that
nobody thought of is then left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, get_args

from tacit.core.wording import Ours
from tacit.evaluation import Report
from tacit.evaluation.features import REPRESENTATION
from tacit.evaluation.results import Claim, Outcome
from tacit.evaluation.spectrum import METRICS, Diagnosis
from tacit.evaluation.targets import OFFERED, make_target, metrics, protocols
from tacit.report.words import SCOPES, is_number, sentence

_BUDGET = re.compile(r"\d+( per class| in all)?|[\d.]+ ?%|no labels")
_DATE = re.compile(r"[\d:T.Z+ -]{8,40}")
_HASH = re.compile(r"[0-9a-f]{8,128}")

# Values that a field of this name can have: all of them ours.
_VALUES: Mapping[str, Collection[str]] = {
    "target": OFFERED,
    "noun": {make_target(name).examples for name in OFFERED},
    "order": ("in time", "order only"),
    "held_out": ("last", "time", "none"),
    "outcome": get_args(Outcome),
    "claim": get_args(Claim),
    "scope": SCOPES,
    "proxy": ("loss", *METRICS),
    "level": ("FAIL", "WARN"),
}
# Columns of the tables per encoder, and fields of alarms.
_FIGURES = frozenset(field.name for field in fields(Diagnosis)) | {"rankme_fall", "codes_used", "nan"}
_TRAINED = ("knn", "finetune", "scratch", "rule")
_FIGURES |= {"texts", "tokens", "perplexity", "held_out", "arm"}
_HASHES = ("hash", "data_hash")
_ARMS = ("arm", "baseline", "one", "other")
_OURS = (*_ARMS, *_VALUES, "name", "task", "encoder", "kind", "protocol", "metric", "budget", "alarms", "baselines")


class _Names:
    """The names of arms in a private report: Tacit's own names, and an alias for each of the others."""

    def __init__(self, arms: Sequence[Mapping[str, Any]]) -> None:
        others = [str(row.get("name")) for row in arms if row.get("own") is not True]
        own = {str(row.get("name")): str(row.get("name")) for row in arms if row.get("own") is True}
        self.known = {name: f"encoder {number}" for number, name in enumerate(dict.fromkeys(others), 1)} | own

    def __call__(self, name: object) -> str | None:
        return self.known.get(str(name), "" if name == "" else None)


def private_report(report: Report) -> Report:
    """The report as it may be printed; the predictions for a comparison stay attached."""
    return replace(Report.from_json(without_data(report.to_json())), predictions=report.predictions)


def without_data(report: Mapping[str, Any]) -> dict[str, Any]:
    """`report` with every example, id, path, class name and free text of the data left out; the schema stays."""
    names = _Names([row for row in report.get("arms", []) if isinstance(row, Mapping)])
    usual = {row.get("protocol"): row.get("metric") for row in reversed(report.get("results", []))}

    def kept(row: Mapping[str, Any]) -> dict[str, Any]:
        return {key: field(key, value) for key, value in row.items() if key in _OURS or _is_figure(value)}

    def field(key: str, value: Any) -> Any:
        if key in _ARMS:
            return names(value)
        if key in ("alarms", "baselines"):
            rows = (row if isinstance(row, Mapping) else {"level": str(row)[:4].strip()} for row in value or ())
            return [{**kept(row), **({"name": row["name"]} if row.get("name") in _FIGURES else {})} for row in rows]
        if isinstance(value, str):
            if key == "metric":
                return value if value in metrics() else None
            if key == "protocol":
                return value if value in {*protocols(), *_TRAINED} else None
            if key == "budget":
                return value if _BUDGET.fullmatch(value) else None
            return value if value in _VALUES.get(key, ()) else None
        return value if _is_figure(value) else None

    def arm(row: Mapping[str, Any]) -> dict[str, Any]:
        """An arm, with its task and its encoder if they are Tacit's own."""
        own, own_encoder = row.get("own") is True, row.get("own_encoder") is True
        return {
            **kept(row),
            "name": names(row.get("name")),
            "kind": row["kind"] if row.get("kind") in ("pretrained", "baseline") else None,
            "task": row.get("task") if own else None,
            "encoder": row.get("encoder") if own_encoder else "",
        }

    def nested(value: Any) -> Any:
        """Numbers and words of ours under names of ours: {arm: {metric or depth: number}}, {arm: depth}."""
        if isinstance(value, Mapping):
            own = {names(key) or (key if _is_figure_name(key) else None): inner for key, inner in value.items()}
            return {key: nested(inner) for key, inner in own.items() if key is not None}
        if isinstance(value, str):
            return names(value) or (value if _is_figure_name(value) else None)
        return value if _is_figure(value) else None

    def verdict(row: Mapping[str, Any]) -> dict[str, Any]:
        plain = kept(row)
        text = sentence(plain, usual.get(row.get("protocol")) or "balanced_accuracy").removesuffix(".")
        circumstances = [clause for clause in row.get("circumstances") or () if isinstance(clause, Ours)]
        return {**plain, "text": "; ".join([text, *circumstances]), "circumstances": circumstances}

    def part(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        return {"subgroup": f"part {number}", **kept(row), "measure": measure(row)}

    def measure(row: Mapping[str, Any]) -> str:
        """How figures were measured, from the report's fields."""
        of = metrics().get(str(row.get("metric", row.get("primary_metric"))))
        how = next(iter(make_target(row["target"]).protocols.values())) if row.get("target") in OFFERED else None
        return ", ".join(filter(None, (of and of.words, how or protocols().get(str(row.get("protocol"))))))

    def data(content: Mapping[str, Any]) -> dict[str, Any]:
        """Counts instead of lists and tables: the keys of those tables may be class names or ids."""
        clean: dict[str, Any] = {}
        for key, value in content.items():
            if key == "notes" and isinstance(value, Mapping):
                clean[key] = data(value)
            elif key in ("validation", "representation", "diagnosis", "language"):
                clean[key] = nested(value)
            elif key == "proxies":
                rows = [kept(row) for row in value if isinstance(row, Mapping)]
                clean[key] = [row for row in rows if row.get("scope") in SCOPES and row.get("proxy")]
            elif key == "pairwise":
                clean[key] = [kept(row) for row in value]
            elif key == "without_copies" and isinstance(value, Mapping):
                clean[key] = verdict(value)
            elif key in ("selected_arm", "primary_budget", "primary_metric"):
                clean[key] = field({"selected_arm": "arm"}.get(key, key.removeprefix("primary_")), value)
            elif key == "measure":
                clean[key] = measure(content)
            elif key == "subgroups" and isinstance(value, list | tuple):
                clean[key] = [part(number, row) for number, row in enumerate(value, 1) if isinstance(row, Mapping)]
            elif isinstance(value, Mapping) and is_number(value.get("count")):
                clean[f"number_of_{key}"] = value["count"]
            elif isinstance(value, Mapping | list | tuple):
                clean[f"number_of_{key}"] = len(value)
            elif (
                _is_figure(value)
                or isinstance(value, Ours)
                or value in _VALUES.get(key, ())
                or (key in _HASHES and _HASH.fullmatch(str(value)))
            ):
                clean[key] = value
        return clean

    clean: dict[str, Any] = {
        "schema": report.get("schema", 1),
        "private": True,
        "data": data(report.get("data", {})),
        "arms": [arm(row) for row in report.get("arms", [])],
        "results": [kept(row) for row in report.get("results", [])],
        "verdict": verdict(report.get("verdict") or {"outcome": "none"}),
        "verdicts": [verdict(row) for row in report.get("verdicts", [])],
        "gains": [kept(row) for row in report.get("gains", [])],
        "labels_saved": kept(report.get("labels_saved") or {}),
        "diagnosis": nested(report.get("diagnosis") or {}),
    }
    if _DATE.fullmatch(str(report.get("created"))):
        clean["created"] = report["created"]
    return clean


def _is_figure_name(name: object) -> bool:
    """Whether it is the name of a figure or of a representation."""
    return str(name) in _FIGURES or str(name) in metrics() or REPRESENTATION.fullmatch(str(name)) is not None


def _is_figure(value: Any) -> bool:
    return value is None or isinstance(value, bool) or is_number(value)
