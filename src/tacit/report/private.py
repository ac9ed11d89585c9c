"""What may leave the house under `--private`: numbers and our own words, nothing of the data.

A report is rebuilt from a list of what is allowed, rather than purged of what is known to be secret: a field that
nobody thought of is then left out, not let out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

from tacit.evaluation import Report
from tacit.evaluation.targets import OFFERED, make_target, metrics
from tacit.report.words import SCOPES, is_number, sentence

_WORD = re.compile(r"[a-z][a-z_ ]{0,30}", re.IGNORECASE)
_BUDGET = re.compile(r"\d+( per class| in all)?|[\d.]+ ?%|no labels")
_DATE = re.compile(r"[\d:T.Z+ -]{8,40}")
_HASH = re.compile(r"[0-9a-f]{8,128}")

# Names of arms, tasks, depths and label-free metrics that are ours: made of these words, numbers and signs, and of
# those of the encoders and baselines of every modality. Any other may be that of a file, a folder or a model in either,
# and gets an alias.
_OWN = """
against alignment alpha alpha_r and attributes bad_rows bands before bert bestrq bm by byol chance characters
codes_used components dead_share depth
deviation electra embeddings features fine-tuned from grid held_out in init item-knn items judged lidar log-mel loss
majority markov masked mean mfcc mfccs nan next no
numbers of opening pairs participation parts pca perplexity pixels pooled popularity principal random random-init
rankme rankme_fall recent rotation scratch
simclr simcse single std_normalised texts tf-idf tfidf-characters tfidf-items tfidf-words their to tokens type vicreg
uniformity untrained vec wav words
"""
# Circumstances that a verdict's text may keep: clauses made of these words and of numbers alone.
_CIRCUMSTANCES = """
a about all alone among and another any architecture at budget by cannot cases chance change classes compared
cross-fitting data do draw draws each encoder few fine-tuned five fold folds for four from groups histories how in
input inputs it items its judge known labels like majority more much next not of one only or pair pairs pixels point
points pretrained pretraining public random-init raw scores scratch sealed seeds set shows smaller take tell test the
this to too training transductive type untrained used was were what with would
"""
_PLAIN = {
    "kind": ("image", "audio", "text", "items", "pairs", "series", "table", "embeddings"),
    "target": OFFERED,
    "noun": {make_target(name).examples for name in OFFERED},
    "order": ("in time", "order only"),
    "held_out": ("last", "time", "none"),
}
_HASHES = ("hash", "data_hash")
_NAMES = ("arm", "name", "baseline", "task", "encoder")
_OURS = (
    *_NAMES,
    "scope",
    "proxy",
    "kind",
    "outcome",
    "claim",
    "protocol",
    "metric",
    "level",
    "budget",
    "alarms",
    "baselines",
)


class _Names:
    """Names of arms, tasks and encoders; the same alias for the same name everywhere in the report."""

    def __init__(self) -> None:
        self.aliases: dict[str, str] = {}

    def __call__(self, name: object) -> str | None:
        if not isinstance(name, str):
            return None
        if _is_own(name):
            return name
        return self.aliases.setdefault(name, f"encoder {len(self.aliases) + 1}")


def private_report(report: Report) -> Report:
    """The report as it may be printed; what a comparison needs is kept beside it."""
    return replace(Report.from_json(without_data(report.to_json())), predictions=report.predictions)


def without_data(report: Mapping[str, Any]) -> dict[str, Any]:
    """`report` with every example, id, path, class name and free text of the data left out; the schema stays."""
    names = _Names()
    usual = {row.get("protocol"): row.get("metric") for row in reversed(report.get("results", []))}

    def kept(row: Mapping[str, Any]) -> dict[str, Any]:
        return {key: field(key, value) for key, value in row.items() if key in _OURS or _is_figure(value)}

    def field(key: str, value: Any) -> Any:
        if key in _NAMES:
            return names(value)
        if key in ("alarms", "baselines"):
            rows = (row if isinstance(row, Mapping) else {"level": str(row)[:4].strip()} for row in value or ())
            return [kept(row) for row in rows]
        if isinstance(value, str):
            if key == "metric":
                return value if value in metrics() else None
            return value if (_BUDGET if key == "budget" else _WORD).fullmatch(value) else None
        return value if _is_figure(value) else None

    def nested(value: Any) -> Any:
        """Numbers and words of ours under names of ours: {arm: {metric or depth: number}}, {arm: depth}."""
        if isinstance(value, Mapping):
            return {names(str(key)): nested(inner) for key, inner in value.items()}
        return value if _is_figure(value) or (isinstance(value, str) and _is_own(value)) else None

    def verdict(row: Mapping[str, Any]) -> dict[str, Any]:
        plain = kept(row)
        said = sentence(plain, usual.get(row.get("protocol")) or "balanced_accuracy").removesuffix(".")
        return {**plain, "text": "; ".join([said, *circumstances(str(row.get("text", "")))])}

    def circumstances(text: str) -> list[str]:
        clauses = text.rstrip(".").split("; ")
        return [clause for clause in clauses if clause and all(map(_is_circumstance, clause.split()))]

    def part(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        measure = "; ".join(circumstances(str(row.get("measure", ""))))
        return {"subgroup": f"part {number}", **kept(row), "measure": measure}

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
                clean[key] = [kept({**row, "arm": row["one"], "baseline": row["other"]}) for row in value]
                clean[key] = [{**row, "one": row.pop("arm"), "other": row.pop("baseline")} for row in clean[key]]
            elif key == "without_copies" and isinstance(value, Mapping):
                clean[key] = verdict(value)
            elif key in ("selected_arm", "primary_budget", "primary_metric"):
                clean[key] = field({"selected_arm": "arm"}.get(key, key.removeprefix("primary_")), value)
            elif key == "measure" and circumstances(str(value)):
                clean[key] = value
            elif key == "subgroups" and isinstance(value, list | tuple):
                clean[key] = [part(number, row) for number, row in enumerate(value, 1) if isinstance(row, Mapping)]
            elif isinstance(value, Mapping) and is_number(value.get("count")):
                clean[f"number_of_{key}"] = value["count"]
            elif isinstance(value, Mapping | list | tuple):
                clean[f"number_of_{key}"] = len(value)
            elif _is_figure(value) or value in _PLAIN.get(key, ()) or (key in _HASHES and _HASH.fullmatch(str(value))):
                clean[key] = value
        return clean

    clean: dict[str, Any] = {
        "schema": report.get("schema", 1),
        "private": True,
        "data": data(report.get("data", {})),
        "arms": [kept(row) for row in report.get("arms", [])],
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


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z_]+(?:-[a-z]+)*", name.lower())


@cache
def _own_words() -> frozenset[str]:
    # The table of modalities stands above this file, and is asked by its name.
    names = import_module("tacit.modalities").own_names()
    return frozenset([*_OWN.split(), *(word for name in names for word in _words(name))])


def _is_own(name: str) -> bool:
    words = _words(name)
    plain = re.fullmatch(r"[\w.,+*() -]{1,60}", name, re.ASCII)
    return plain is not None and bool(words) and set(words) <= _own_words()


@cache
def _circumstances() -> frozenset[str]:
    """The words of circumstances, and of all metrics and protocols."""
    said = [_CIRCUMSTANCES, *(of.words for of in metrics().values())]
    said += [how for name in OFFERED for how in make_target(name).protocols.values()]
    return frozenset(" ".join(said).lower().split())


def _is_circumstance(word: str) -> bool:
    plain = word.strip(",:[]()").lower()
    return plain in _circumstances() or bool(re.fullmatch(r"[\d.,]+(-fold|%)?|%", plain))


def _is_figure(value: Any) -> bool:
    return value is None or isinstance(value, bool) or is_number(value)
