"""What leaves the house under `--private`."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tacit.report import render, without_data, write
from tests.reports import CLASSES, digits


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
        new |= {"name": f"hf:{secret}/{old['name']}", "own": False, "own_encoder": False}
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
