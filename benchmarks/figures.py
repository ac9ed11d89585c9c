"""The table of figures in docs/benchmarks.md, filled in from benchmarks/results by `python -m benchmarks --table`.

`figures.md` is the table with a field for every figure: `{case[key][key]:format}` in the words of Python's str.format.
A case is looked up by name in all result files, and its latest line counts; `case where key=value` asks for the latest
line that says so.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
TABLE = HERE / "figures.md"
RESULTS = HERE / "results"
COMPARED = RESULTS / "compared.jsonl"
BEGIN, END = "<!-- figures: python -m benchmarks --table -->\n", "<!-- end of figures -->\n"


def write() -> None:
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def renewed(page: str) -> str:
    """This page with the table as the results have it now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + filled(TABLE.read_text(encoding="utf-8"), lines()) + END + after


def lines() -> list[dict[str, Any]]:
    """Everything that was recorded; in every file from the oldest to the latest."""
    texts = [file.read_text(encoding="utf-8") for file in sorted(RESULTS.glob("*.jsonl"))]
    return [_with_gain(json.loads(line)) for text in texts for line in text.splitlines()]


def filled(table: str, results: Sequence[Mapping[str, Any]]) -> str:
    return Plain().vformat(table, (), Cases(results))


class Cases(Mapping[str, Any]):
    """Name of a case, and perhaps ` where key=value`, to its latest line."""

    def __init__(self, results: Sequence[Mapping[str, Any]]) -> None:
        self.results = results

    def __getitem__(self, asked: str) -> Any:
        case, _, condition = asked.partition(" where ")
        key, _, value = condition.partition("=")
        found = [line for line in self.results if line["case"] == case and (not key or str(line.get(key)) == value)]
        if not found:
            raise KeyError(f"no result of {asked!r} in {RESULTS}")
        return found[-1]

    def __iter__(self) -> Any:
        return iter({line["case"] for line in self.results})

    def __len__(self) -> int:
        return len(self.results)


class Plain(string.Formatter):
    """Figures as the page has them: a true minus, a space before %."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        case, *keys = re.split(r"[\[\]]+", field_name.rstrip("]"))
        value = kwargs[case]
        for key in keys:
            value = value[int(key) if isinstance(value, list) else key]
        return value, case

    def format_field(self, value: Any, format_spec: str) -> str:
        return format(value, format_spec).replace("-", "−").replace("%", " %")


def _with_gain(line: dict[str, Any]) -> dict[str, Any]:
    """With the gain that a verdict tells, and its interval, as `gain`."""
    found = re.search(r"gain (-?[\d.]+) points \[(-?[\d.]+), (-?[\d.]+)\]", str(line.get("verdict")))
    return {**line, "gain": [float(part) for part in found.groups()]} if found else line
