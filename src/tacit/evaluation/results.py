"""The report: the measurements, their meaning, and its form on disk (`report.json`), in a terminal and in a notebook.

Nothing here computes; nothing heavy is imported, so a saved report opens at once.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tacit.core.errors import UserError
from tacit.core.records import built, read_record, reading, write_record
from tacit.core.wording import Ours

if TYPE_CHECKING:
    from tacit.evaluation.predictions import Predictions
    from tacit.evaluation.sealing import Seal

SCHEMA = 1
FILE_NAME, PAGE = "report.json", "report.html"
NAMED = 5  # parts of the population listed in a terminal
TUNED = "fine-tuned"  # suffix of an arm whose encoder was fine-tuned on the labels

Outcome = Literal["transfers", "harms", "equivalent", "underpowered", "collapsed", "none"]
Claim = Literal["checkpoint", "recipe"]


@dataclass(frozen=True)
class ArmRecord:
    """One candidate or baseline, as the report lists it."""

    name: str
    kind: Literal["pretrained", "baseline"]
    task: str | None
    encoder: str
    steps: int
    seconds: float
    examples_per_second: float
    alarms: tuple[Any, ...] = ()
    own: bool = False  # whether its name is Tacit's; unknown in earlier reports
    own_encoder: bool = False  # the same of its encoder's


@dataclass(frozen=True)
class Result:
    """One figure with its 95 % interval, a fraction of 1."""

    arm: str
    protocol: str  # linear, knn, cosine, finetune, scratch, rule
    metric: str  # balanced_accuracy, r2, ndcg@10/test-gallery, ...
    budget: str
    labels_per_class: int | None  # None: labels at their natural prevalence
    labels_total: int
    mean: float
    low: float
    high: float
    draws: int
    seeds: int
    n_test: int
    n_groups: int


@dataclass(frozen=True)
class Verdict:
    """The outcome of comparing one pretrained arm with every baseline, at one budget under one protocol."""

    outcome: Outcome
    claim: Claim
    protocol: str
    arm: str
    baseline: str | None  # the one that decided: the hardest to beat, or the one that did better
    budget: str
    gain: float | None  # over that baseline, with its 95 % interval
    low: float | None
    high: float | None
    transductive: bool
    text: str
    circumstances: tuple[str, ...] = ()  # clauses of the text, `Ours`, that name nothing of a person's
    margin: float | None = None  # differences below it are of no practical size; earlier reports have the metric's

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "circumstances": list(self.circumstances)}


@dataclass(frozen=True)
class Report:
    """Verdict first, then all its evidence. `data` describes the test and what was left out, and why."""

    verdict: Verdict
    verdicts: tuple[Verdict, ...]
    results: tuple[Result, ...]
    arms: tuple[ArmRecord, ...]
    labels_saved: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    gains: tuple[Mapping[str, Any], ...] = ()  # every paired difference that the verdicts rest on
    predictions: Predictions | None = field(default=None, compare=False, repr=False)  # kept in a file of its own

    @property
    def metric(self) -> str:
        """The one that the verdict is about."""
        return str(self.data.get("primary_metric", "balanced_accuracy"))

    def with_data(self, **more: Any) -> Report:
        """The same report with more entries in `data`."""
        return replace(self, data={**self.data, **more})

    def keep(self, folder: Path, seal: Seal | None = None) -> None:
        """Write the predictions for `tacit compare`, and the seal, into the folder of the later report.

        An earlier report is removed first: it describes other predictions, and another encoder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name in (FILE_NAME, PAGE):
            (folder / name).unlink(missing_ok=True)
        if seal is not None:
            seal.save(folder)
        if self.predictions is not None:
            self.predictions.save(folder)

    def to_json(self) -> dict[str, Any]:
        """The content of `report.json`."""
        return {
            "schema": SCHEMA,
            "data": dict(self.data),
            "arms": [{**asdict(arm), "alarms": list(arm.alarms)} for arm in self.arms],
            "results": [asdict(result) for result in self.results],
            "verdict": self.verdict.to_json(),
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "labels_saved": dict(self.labels_saved),
            "gains": [dict(gain) for gain in self.gains],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Report:
        """Raises `UserError` where `content` was written by another version, TypeError or KeyError where it is none."""
        if (schema := content["schema"]) != SCHEMA:
            raise UserError(f"report schema {schema!r} is not {SCHEMA}: read it with the tacit that wrote it")
        for name in ("labels_saved", "data"):
            if not isinstance(content[name], Mapping):
                raise TypeError(f"{name!r} is {content[name]!r:.40}")
        return cls(
            verdict=_verdict(content["verdict"]),
            verdicts=tuple(map(_verdict, content["verdicts"])),
            results=tuple(built(Result, result) for result in content["results"]),
            arms=tuple(built(ArmRecord, {**arm, "alarms": tuple(arm["alarms"])}) for arm in content["arms"]),
            labels_saved=content["labels_saved"],
            data=content["data"],
            gains=tuple(dict(gain) for gain in content.get("gains", ())),
        )

    def save(self, folder: str | Path) -> Path:
        """Write `report.json` into `folder`, whole or not at all."""
        path = Path(folder) / FILE_NAME
        write_record(path, self.to_json())
        return path

    @classmethod
    def load(cls, folder: str | Path) -> Report:
        """Read `report.json` from a folder. Raises `UserError` where there is none or it cannot be read."""
        path = Path(folder) / FILE_NAME
        if not path.exists():
            raise UserError(
                f"no report in {str(folder)!r}: give a folder that holds {FILE_NAME}, or continue its run with --resume"
            )
        with reading(path, "evaluate again"):
            return cls.from_json(read_record(path))

    def __str__(self) -> str:
        header, rows = self._table()
        widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
        lines = [self.verdict.text, ""]
        for name, *figures in [header, *rows]:
            padded = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *padded]).rstrip())
        return "\n".join([*lines, "", self._caption(), *self._notes()])

    def _repr_html_(self) -> str:
        header, rows = self._table()
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        notes = "<br>".join(html.escape(line) for line in [self._caption(), *self._notes()])
        return (
            f"<p><b>{html.escape(self.verdict.text)}</b></p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{notes}</p>"
        )

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """Arms by budgets: percent of the primary metric, with its interval at the primary budget, else half of it."""
        shown = [r for r in self.results if r.metric == self.metric and r.protocol != "knn"]
        tuned = {r.arm: f"{r.arm}, {TUNED}" for r in shown if r.protocol == "finetune"}
        budgets = list(dict.fromkeys(r.budget for r in sorted(shown, key=lambda r: r.labels_total)))
        cells = {
            (tuned[r.arm] if r.protocol == "finetune" else r.arm, r.budget): f"{100 * r.mean:.1f} "
            + (_interval(r.low, r.high) if r.budget == self.verdict.budget else f"±{100 * _half(r):.1f}")
            for r in shown
        }
        names = [name for arm in self.arms for name in (arm.name, tuned.get(arm.name)) if name]
        rows = [[name, *(cells.get((name, budget), "-") for budget in budgets)] for name in names]
        return ["%", *budgets], rows

    def _caption(self) -> str:
        n_test = max((r.n_test for r in self.results), default=0)
        measure = self.data.get("measure", "no metric")
        half = ", at other budgets half of them (±)" if len({r.budget for r in self.results}) > 1 else ""
        examples = self.data.get("noun", "items")
        return f"{measure}, on {n_test:,} test {examples}, with 95 % intervals{half}"

    def _notes(self) -> list[str]:
        notes = [self.labels_saved["text"]] if "text" in self.labels_saved else []
        notes += [v.text for v in self.verdicts if v.protocol == "finetune" and v.arm == self.verdict.arm]
        if self.data.get("classes_left_out"):
            notes.append("classes left out of the verdict: " + "; ".join(self.data["classes_left_out"]))
        if self.data.get("budgets_dropped"):
            notes.append("budgets dropped: " + "; ".join(self.data["budgets_dropped"]))
        if self.data.get("left_out"):
            notes.append("tasks left out to keep to the budget: " + ", ".join(self.data["left_out"]))
        if self.data.get("given_up"):
            given_up = "; ".join(self.data["given_up"])
            notes.append(f"given up to keep to the budget, a longer --budget has it: {given_up}")
        if self.data.get("shortened"):
            notes.append("cut short by the time budget: " + "; ".join(self.data["shortened"]))
        notes += _subgroups(self.data.get("subgroups") or (), self.data.get("noun", "items"))
        if self.data.get("worst_group") and not self.data.get("subgroups"):
            notes.append(f"the parts by {self.data['worst_group']} were not judged apart: see the report")
        if self.data.get("without_copies"):
            notes.append(_without_copies(self.data["without_copies"]))
        if self.data.get("seal_reads"):
            times = self.data["seal_reads"]
            what = "events" if self.data.get("noun") == "histories" else "labels"
            notes.append(f"the sealed test {what} have been read {times} time{'s' * (times != 1)}")
        return notes


def _verdict(content: Mapping[str, Any]) -> Verdict:
    verdict = built(Verdict, {**content, "circumstances": tuple(content.get("circumstances", ()))})
    return replace(verdict, circumstances=tuple(map(Ours, verdict.circumstances)))


def _subgroups(rows: Sequence[Mapping[str, Any]], examples: str) -> list[str]:
    """The part of the population that does worst, and those that are harmed."""
    if not rows:
        return []
    worst = rows[0]
    unit = 1 if worst.get("in_units", worst["metric"] == "mae") else 100  # earlier reports do not say it
    mean, low, high = (unit * worst[key] for key in ("mean", "low", "high"))
    figure = f"{mean:.3g} [{low:.3g}, {high:.3g}]" if unit == 1 else f"{mean:.1f} % [{low:.1f}, {high:.1f}]"
    if "among" in worst:  # earlier reports did not correct for it
        figure += f", as the worst of {worst['among']}"
    lines = [f"worst part: {worst['subgroup']} ({worst['items']:,} test {examples}), {worst['measure']}: {figure}"]
    harmed = [row for row in rows if row.get("harmed")]
    for row in harmed[:NAMED]:
        size, low, high = (unit * row[key] for key in ("gain", "gain_low", "gain_high"))
        points = f"{size:.1f} points [{low:.1f}, {high:.1f}]"
        gain = points if unit == 100 else f"{size:.3g} [{low:.3g}, {high:.3g}]"
        lines.append(f"HARMS {row['subgroup']}: did worse than {row['baseline']} there; gain {gain}")
    if len(harmed) > NAMED:
        lines.append(f"HARMS {len(harmed) - NAMED} more parts, which the report names")
    return lines


def _interval(low: float, high: float) -> str:
    """In per cent: `[92.0, 95.5]`."""
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def _half(r: Result) -> float:
    """The longer arm of an interval, which may be cut off where the metric ends."""
    return max(r.high - r.mean, r.mean - r.low)


def _without_copies(again: Mapping[str, Any]) -> str:
    n = again["left_out"]
    items = "1 test item that has" if n == 1 else f"{n:,} test items that have"
    found = f"{again['outcome']}, gain {100 * again['gain']:.1f} points" if again["gain"] is not None else again["text"]
    around = "" if again["low"] is None else f" {_interval(again['low'], again['high'])}"
    over = f" over {again['baseline']}" if again["baseline"] else ""
    return f"without the {items} a copy or near-copy in the pretraining data: {found}{around}{over}"
