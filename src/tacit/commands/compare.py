"""`tacit compare`: paired comparison of runs that were evaluated on one seal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from tacit.commands.command import guarded
from tacit.core.errors import UserError
from tacit.evaluation import Paired, Predictions, Report, Seal, pair
from tacit.evaluation.compare import CAUTION, decide, in_words
from tacit.evaluation.differences import RULE, SCRATCH
from tacit.evaluation.splits import Budget
from tacit.evaluation.targets import Target, make_target
from tacit.report import private_report


@dataclass(frozen=True)
class Judged:
    """A folder with a report, under a name that is unique among the folders."""

    name: str
    folder: Path
    report: Report
    seal: Seal
    predictions: Predictions

    @property
    def chosen(self) -> str:
        """The arm that the verdict is about."""
        return f"{self.name} ({self.report.data['selected_arm']})"

    @property
    def target(self) -> Target:
        return make_target(self.predictions.target, 0)

    @property
    def protocol(self) -> str:
        """The one that the verdict is about."""
        return next(iter(self.target.protocols))

    @property
    def measure(self) -> str:
        """Metric and protocol in words."""
        return f"{self.target.metric(self.predictions.metric).words}, {self.target.protocols[self.protocol]}"


@dataclass(frozen=True)
class Comparison:
    """A verdict for each pair of runs, and the paired differences behind it.

    `gains` holds a row per pair and budget: `one`, `other`, `budget`, `gain`, `low`, `high` (fractions of 1), `draws`.
    """

    verdicts: tuple[str, ...]
    gains: tuple[dict[str, Any], ...]
    tables: str

    def __str__(self) -> str:
        return "\n".join([*self.verdicts, "", self.tables])


@guarded
def compare(*runs: str, primary_budget: int | str | None = None, private: bool = False) -> Comparison:
    """Compare runs on the same sealed test set, paired by draw and test item.

    Different seals are refused. The seal's counter stays as it is, because no label is read: each run kept its
    predictions in predictions.npz. Folders are those of `tacit run` and of `tacit evaluate --out`.

    Args:
        runs: Two folders or more.
        primary_budget: Labels per class at which the verdicts are given; the first run's by default.
        private: Number the folders in place of naming them.
    """
    judged = _open(runs)
    if private:
        judged = [
            replace(run, name=f"run {number}", report=private_report(run.report))
            for number, run in enumerate(judged, 1)
        ]
    wanted = _wanted(judged[0].predictions, primary_budget)
    found: list[tuple[Judged, Judged, list[Paired]]] = []
    notes: list[str] = []
    for one, other in combinations(judged, 2):
        try:
            pairs, reasons = pair(one.predictions, other.predictions)
        except UserError as error:
            raise UserError(f"{one.name} and {other.name}: {error}") from None
        if not pairs:
            raise UserError(
                f"{one.name} and {other.name} were never probed on the same draws ({reasons[0]}): judge both with "
                "the same labels, by tacit evaluate RUN DATA --labels FILE --out FOLDER, and compare those folders"
            )
        found.append((one, other, pairs))
        notes += [f"{one.name} and {other.name} not paired at {reason}" for reason in reasons]
    decisive = [_at(pairs, wanted, one, other) for one, other, pairs in found]
    verdicts = [
        in_words(one.chosen, other.chosen, paired, outcome, one.measure)
        for (one, other, _), paired, outcome in zip(found, decisive, decide(decisive), strict=True)
    ]
    gains = [_gain(one, other, paired) for one, other, pairs in found for paired in pairs]
    reads = max(run.seal.reads for run in judged)
    notes += [f"the sealed test labels have been read {reads} times, and not again for this", CAUTION]
    tables = "\n".join([*_figures(judged), "", *_differences(gains), "", *notes])
    comparison = Comparison(tuple(verdicts), tuple(gains), tables)
    print(comparison)
    return comparison


def _open(runs: Sequence[str | Path]) -> list[Judged]:
    """Open all runs. UserError for fewer than two, one without a report, or different seals."""
    folders = [Path(run) for run in runs]
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise UserError("compare needs two run folders or more, each named once")
    short = [folder.resolve().name for folder in folders]
    names = short if len(set(short)) == len(short) else [str(folder) for folder in folders]
    judged = []
    for name, folder in zip(names, folders, strict=True):
        report = Report.load(folder)
        if not report.results:
            raise UserError(f"{folder} was never judged, for want of labels: nothing can be compared")
        judged.append(Judged(name, folder, report, Seal.load(folder), Predictions.load(folder)))
    first = judged[0]
    for run in judged[1:]:
        # Without sealed items (cross-fitting) the seed decides the folds.
        same = run.seal.items == first.seal.items and (first.seal.items or run.seal.seed == first.seal.seed)
        if not same:
            raise UserError(
                f"{run.folder} was judged on another seal than {first.folder}: judge it on that one, by "
                f"tacit evaluate {run.folder} DATA --seal {first.folder} --out FOLDER, and compare that folder"
            )
    return judged


def _wanted(predictions: Predictions, primary: int | str | None) -> Budget:
    from tacit.evaluation import primary_budget

    if primary is None:
        return next(budget for budget in predictions.budgets if budget.name == predictions.primary)
    return primary_budget(predictions.budgets, primary)


def _at(pairs: Sequence[Paired], wanted: Budget, one: Judged, other: Judged) -> Paired:
    for paired in pairs:
        if paired.budget.name == wanted.name:
            return paired
    raise UserError(
        f"{one.name} and {other.name} were not probed on the same draws at {wanted.name}; "
        f"choose another --primary-budget: {', '.join(paired.budget.name for paired in pairs)}"
    )


def _gain(one: Judged, other: Judged, paired: Paired) -> dict[str, Any]:
    low, high = paired.estimate.interval()
    return {
        "one": one.chosen,
        "other": other.chosen,
        "budget": paired.budget.name,
        "gain": paired.estimate.mean,
        "low": low,
        "high": high,
        "draws": paired.estimate.draws,
    }


def _figures(judged: Sequence[Judged]) -> list[str]:
    """A table of all runs' arms by budget; a baseline that several runs share appears once."""
    totals: dict[str, int] = {}
    rows: list[tuple[str, dict[str, str]]] = []
    known: list[tuple[str, dict[str, str]]] = []
    for run in judged:
        for arm in run.report.arms:
            cells = {}
            for r in run.report.results:
                if (
                    r.arm == arm.name
                    and r.metric == run.predictions.metric
                    and r.protocol in (run.protocol, SCRATCH, RULE)
                ):
                    totals.setdefault(r.budget, r.labels_total)
                    cells[r.budget] = f"{100 * r.mean:.1f} [{100 * r.low:.1f}, {100 * r.high:.1f}]"
            if arm.kind == "baseline" and (arm.name, cells) in known:
                continue
            known.append((arm.name, cells))
            mark = " *" if arm.name == run.report.data["selected_arm"] else ""
            rows.append((f"{run.name}: {arm.name}{mark}", cells))
    budgets = sorted(totals, key=totals.__getitem__)
    examples = judged[0].report.data.get("noun", "items")
    n_test = ", ".join(dict.fromkeys(str(run.report.data["n_test"]) for run in judged))
    caption = f"{judged[0].measure} on {n_test} test {examples}, %, with 95 % intervals; * chosen"
    return [caption, *_table(["", *budgets], [[name, *(cells.get(b, "-") for b in budgets)] for name, cells in rows])]


def _differences(gains: Sequence[dict[str, Any]]) -> list[str]:
    budgets = list(dict.fromkeys(gain["budget"] for gain in gains))
    rows: dict[str, dict[str, str]] = {}
    for gain in gains:
        cell = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * gain[key] for key in ("gain", "low", "high")))
        rows.setdefault(f"{gain['one']} - {gain['other']}", {})[gain["budget"]] = cell
    caption = "chosen arms, paired on the same draws and test items, points"
    return [caption, *_table(["", *budgets], [[name, *(c.get(b, "-") for b in budgets)] for name, c in rows.items()])]


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    lines = []
    for name, *cells in [header, *rows]:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]).rstrip())
    return lines
