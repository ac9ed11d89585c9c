"""The verdict in words: from paired differences to one of five outcomes.

TRANSFERS       every baseline is beaten: each difference's 95 % interval lies above 0; never where the training of one
                was cut short
HARMS           some baseline did better, after Holm over the baselines; it is named
equivalent      to the best baseline: its difference's 95 % interval lies within the margin (two one-sided tests of
                2.5 %), and no other baseline can be better by more
underpowered    none of these: says what difference the test could have shown, and what it would take
collapsed       the encoder failed its label-free alarms: whatever it scores is no transfer

All baselines must be beaten at once, so TRANSFERS of the arm that was chosen, at the budget that was declared, needs no
correction; to be beaten by any of them is one chance out of many, so HARMS does. The verdicts on all other arms and
budgets are exploratory, say so, and are corrected together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tacit.core.wording import Ours
from tacit.evaluation.metrics import MARGIN
from tacit.evaluation.results import Claim, Outcome, Verdict
from tacit.evaluation.splits import Budget
from tacit.evaluation.statistics import LEVEL, Estimate, holm

_PUBLIC = "any public pretrained encoder"


@dataclass(frozen=True)
class Comparison:
    """The paired difference of an arm and a baseline at one budget."""

    baseline: str
    budget: Budget
    estimate: Estimate
    cut: str = ""  # how far the baseline's training got before its time was over: such a one cannot be beaten


@dataclass(frozen=True)
class Setting:
    """What a verdict's sentence must say besides its figures."""

    n_test: int
    n_units: int  # what varies: groups (of a search the classes); equal to n_test where items do
    public: bool | None  # a public pretrained encoder is among the baselines, or none can be; None: not known
    transductive: bool = False
    n_folds: int = 0  # of cross-fitting; 0: a sealed test set
    one_group: bool = False  # all test items are of one group, of several
    taught_by: int = 0  # training groups, where the labels, or those of some class, come from fewer than three
    taught_all: bool = True  # whether that is true of all labels
    left_out: tuple[str, ...] = ()  # classes
    missing: tuple[str, ...] = ()  # mandatory baselines that cannot be had here
    examples: str = "items"  # the noun of what is tested
    groups: str = "groups"  # and of what varies
    measure: str = "balanced accuracy"  # the metric
    margin: float = MARGIN  # of equivalence
    protocols: Mapping[str, str] = field(default_factory=lambda: {"linear": "linear probe"})  # in words

    @property
    def unit(self) -> str:
        return self.examples if self.n_units == self.n_test else self.groups


def is_failure(alarm: Any) -> bool:
    """Whether a label-free alarm says FAIL: a mapping or object with a `level`, or a line of text."""
    level = alarm.get("level") if isinstance(alarm, Mapping) else getattr(alarm, "level", alarm)
    return str(level).upper().startswith("FAIL")


def judge(
    arm: str,
    protocol: str,
    budgets: Sequence[Budget],
    comparisons: Sequence[Comparison],
    setting: Setting,
    *,
    collapsed: bool = False,
    claim: Claim = "checkpoint",
    family: Mapping[str, Sequence[Comparison]] | None = None,
) -> list[Verdict]:
    """One verdict per budget on the pretrained arm against all its baselines under one protocol.

    With a `family`, the comparisons of all arms, the verdicts are among many that nobody declared beforehand: to beat
    every baseline then needs Holm over arms and budgets, and to be beaten is corrected over the arms too.
    """
    declared = {arm: [c for c in comparisons if c.budget in budgets]}
    harmful = {key[1:] for key in _harmful(family or declared) if key[0] == arm}
    beating = None if family is None else {budget for of, budget in _beating(family) if of == arm}
    everyone = list(dict.fromkeys(c.baseline for c in comparisons))
    verdicts = []
    for budget in budgets:
        at_budget = [c for c in comparisons if c.budget == budget]
        here = [c for c in at_budget if not c.cut]
        absent = [name for name in everyone if name not in {c.baseline for c in at_budget}]
        absent += [f"{c.baseline}, whose training was cut short after {c.cut}" for c in at_budget if c.cut]
        harms = [c for c in at_budget if (c.baseline, budget.name) in harmful]
        beaten = all(c.estimate.covers_draws and c.estimate.interval()[0] > 0 for c in here)
        beaten = beaten and (beating is None or budget.name in beating)
        outcome, decisive = _decide(here, harms, collapsed, beaten, setting.margin)
        partly = bool(absent or setting.missing or protocol not in setting.protocols)  # only some are fine-tuned
        cut = ", ".join(c.baseline for c in at_budget if c.cut)
        if cut and outcome == "transfers":
            outcome = "none"
        sentence = _sentence(outcome, f"this {claim} ({arm})", budget, decisive, len(here), partly, setting, cut=cut)
        circumstances = _circumstances(protocol, decisive, setting, absent, exploratory=family is not None)
        low, high = decisive.estimate.interval() if decisive else (None, None)
        verdicts.append(
            Verdict(
                outcome=outcome,
                claim=claim,
                protocol=protocol,
                arm=arm,
                baseline=decisive.baseline if decisive else None,
                budget=budget.name,
                gain=decisive.estimate.mean if decisive else None,
                low=low,
                high=high,
                transductive=setting.transductive,
                margin=setting.margin,
                text="; ".join([sentence, *circumstances]),
                circumstances=tuple(Ours(clause) for clause, plain in circumstances.items() if plain),
            )
        )
    return verdicts


def _harmful(family: Mapping[str, Sequence[Comparison]]) -> set[tuple[str, str, str]]:
    """(arm, baseline, budget) of what is beaten, after Holm over all of them."""
    every = [(arm, c) for arm, comparisons in family.items() for c in comparisons if c.estimate.covers_draws]
    adjusted = holm([2 * min(c.estimate.below(0), c.estimate.above(0)) for _, c in every])
    return {
        (arm, c.baseline, c.budget.name)
        for (arm, c), p in zip(every, adjusted, strict=True)
        if p < 1 - LEVEL and c.estimate.mean < 0
    }


def _beating(family: Mapping[str, Sequence[Comparison]]) -> set[tuple[str, str]]:
    """(arm, budget) at which all baselines are beaten, after Holm over all of these.

    Of one arm at one budget the largest p decides, as all must be beaten at once (Berger 1982).
    """
    worst: dict[tuple[str, str], float] = {}
    for arm, comparisons in family.items():
        for c in (c for c in comparisons if not c.cut):
            key = arm, c.budget.name
            worst[key] = max(worst.get(key, 0.0), min(1.0, 2 * c.estimate.above(0)))
    return {key for key, p in zip(worst, holm(list(worst.values())), strict=True) if p < 1 - LEVEL}


def nothing_to_judge(budget: Budget, protocol: str, transductive: bool) -> Verdict:
    """The verdict where no arm was pretrained."""
    at = f"{'with' if budget.in_all == 0 else 'at'} {labels_in_words(budget)}"
    text = f"NO VERDICT: {at} only baselines were measured; name a pretrained encoder to judge"
    return Verdict("none", "checkpoint", protocol, "", None, budget.name, None, None, None, transductive, text)


def _decide(
    here: Sequence[Comparison], harms: Sequence[Comparison], collapsed: bool, beaten: bool, margin: float
) -> tuple[Outcome, Comparison | None]:
    """The outcome at one budget, and the comparison that decided it."""
    if not here and (collapsed or not harms):
        return ("collapsed" if collapsed else "none"), None
    if not here:
        return "harms", min(harms, key=lambda c: c.estimate.mean)
    hardest = min(here, key=lambda c: c.estimate.interval()[0])
    closest = min(here, key=lambda c: c.estimate.mean)
    if collapsed:
        return "collapsed", closest
    if harms:
        return "harms", min(harms, key=lambda c: c.estimate.mean)
    if beaten:
        return "transfers", closest
    near = all(c.estimate.covers_draws and c.estimate.interval()[0] > -margin for c in here)
    if near and closest.estimate.interval()[1] < margin:
        return "equivalent", closest
    return "underpowered", hardest


def _sentence(
    outcome: Outcome,
    subject: str,
    budget: Budget,
    decisive: Comparison | None,
    n_baselines: int,
    others_absent: bool,
    setting: Setting,
    *,
    cut: str = "",
) -> str:
    at = f"{'with' if budget.in_all == 0 else 'at'} {labels_in_words(budget)} "
    if decisive is None:
        if outcome == "collapsed":
            return f"COLLAPSED: {subject} failed its label-free alarms; its features carry next to nothing"
        lacking = "trained to its end" if cut else "measured"
        return f"NO VERDICT: {at}no baseline was {lacking} beside {subject}, so there is nothing to beat"
    estimate, baseline = decisive.estimate, decisive.baseline
    figures = f"{in_points(estimate.mean)} {interval_in_points(estimate)}"
    if outcome == "none":
        beaten = "every other baseline" if n_baselines > 1 else "its only other baseline"
        return (
            f"NO VERDICT: {at}{subject} beat {beaten}, gain {figures} over {baseline}, but the training of {cut} was "
            "cut short: nothing says that it would be beaten"
        )
    if outcome == "collapsed":
        return f"COLLAPSED: {subject} failed its label-free alarms; {at}its gain over {baseline} was {figures}"
    if outcome == "harms":
        return f"HARMS: {at}{subject} did worse than {baseline}{_small(estimate, setting.margin)}; gain {figures}"
    if outcome == "transfers":
        beaten = "every baseline" if n_baselines > 1 else "its only baseline"
        beaten += " measured there" if others_absent else ""
        gain = "smallest gain" if n_baselines > 1 else "gain"
        small = _small(estimate, setting.margin)
        return f"TRANSFERS: {at}{subject} beat {beaten}{small}; {gain} {figures} over {baseline}"
    if outcome == "equivalent":
        best = f"the best baseline, {baseline}," if n_baselines > 1 else baseline
        less = f"differ by less than {exactly(setting.margin)}"
        return f"NO EVIDENCE, equivalent: {at}{subject} and {best} {less}; gain {figures}"
    low, high = estimate.interval()
    shown = f"was not shown to beat {baseline}; gain {figures}"
    if estimate.covers_draws and (low > 0 or high < 0):  # by itself, but not among all that were compared
        what = "beat" if low > 0 else "did worse than"
        shown = f"{what} {baseline} by itself, but not after correction for all comparisons; gain {figures}"
    sentence = f"NO EVIDENCE, underpowered: {at}{subject} {shown}"
    return f"{sentence}; {what_it_would_take(estimate, setting.unit, setting.margin)}"


def _small(estimate: Estimate, margin: float) -> str:
    """Whether a difference is of any practical size, where it may be of none."""
    if abs(estimate.mean) >= margin:
        return ""
    certain = max(map(abs, estimate.interval())) < margin
    return f", by less than {exactly(margin)}" if certain else f", perhaps by less than {exactly(margin)}"


def what_it_would_take(estimate: Estimate, unit: str, margin: float) -> str:
    """What the test could show, and what it would take to show a gain like the one seen, or of the margin."""
    if not estimate.covers_draws:
        return "one draw of the labels cannot tell how much another would change: judge at a smaller budget"
    shown = f"a test like this shows {in_points(estimate.detectable())} in four cases of five"
    gain = max(estimate.mean, margin)
    needed = estimate.units_needed(gain)
    if needed is None:
        source = "pretraining seeds or labels" if estimate.seeds > 1 else "labels to draw from"
        return f"{shown}; for {in_points(gain)} more test {unit} alone would not do, only more {source}"
    if needed <= estimate.units:
        return shown
    return f"{shown}; for {in_points(gain)} it would take about {needed:,} test {unit}"


def _circumstances(
    protocol: str, decisive: Comparison | None, setting: Setting, absent: Sequence[str], *, exploratory: bool
) -> dict[str, bool]:
    """What a verdict must say besides its figures: clauses, and whether each names nothing of a person's."""
    tested = f"{setting.n_test:,} test {setting.examples}"
    if setting.unit != setting.examples:
        tested += f" in {setting.n_units:,} {setting.unit}"
    measure = f"{setting.measure}, {setting.protocols.get(protocol, 'fine-tuned')}"
    if decisive and decisive.budget.total:
        draws = decisive.estimate.draws
        measure += f", {draws} draw{'s' * (draws != 1)}"
    if decisive and decisive.estimate.seeds > 1:
        measure += f", {decisive.estimate.seeds} pretraining seeds"
    parts = {f"{measure}, {tested}": True}
    if exploratory:
        parts["exploratory: not declared beforehand, and corrected together with all that were not"] = True
    if setting.one_group:
        parts["all of one group, of which alone this speaks: other groups may do otherwise"] = True
    if setting.taught_by:
        some = "the labels" if setting.taught_all else "the labels of some class"
        groups = "training groups" if setting.taught_by > 1 else "training group"
        alone = f"{some} come from {setting.taught_by} {groups}, of which alone this speaks: others may teach otherwise"
        parts[alone] = True
    if setting.n_folds:
        parts[f"by {setting.n_folds}-fold cross-fitting: too few labels for a sealed test set"] = True
    if setting.left_out:
        parts[f"without the classes {', '.join(setting.left_out)}"] = False
    if absent:
        parts[f"not compared at this budget with {', '.join(absent)}"] = False
    if setting.transductive:
        parts["transductive: the test inputs were in the pretraining data"] = True
    if setting.public is None:  # embeddings of whatever origin are among the baselines
        parts[f"not known to be compared with {_either([*setting.missing, _PUBLIC])}"] = True
    elif setting.missing:
        parts[f"not compared with {_either(setting.missing)}"] = True
    if setting.public is False:
        parts[f"not compared with {_PUBLIC}"] = True
    return parts


def _either(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def labels_in_words(budget: Budget) -> str:
    """`10 labels per class`."""
    if budget.per_class is not None:
        return f"{budget.per_class} label{'s' * (budget.per_class != 1)} per class"
    if budget.in_all is not None:
        return f"{budget.in_all:,} labels in all" if budget.in_all else "no labels"
    return f"{budget.name} of the labels ({budget.total:,})"


def in_points(value: float, digits: int = 1) -> str:
    """`5.9 points`."""
    number = f"{100 * value:.{digits}f}"
    return f"{number} point{'s' * (number != '1')}"


def exactly(margin: float) -> str:
    """`1 point`, `0.2 points`."""
    return f"{100 * margin:g} point{'s' * (margin != MARGIN)}"


def interval_in_points(estimate: Estimate) -> str:
    """`[4.1, 7.7]`."""
    low, high = estimate.interval()
    return f"[{100 * low:.1f}, {100 * high:.1f}]"
