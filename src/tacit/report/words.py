"""Numbers and verdicts in words: short sentences, sensible precision, no claims beyond the interval."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from tacit.evaluation.metrics import MARGIN
from tacit.evaluation.targets import Target, metrics, protocols

MISSING = "–"

# The name of each outcome, a sign beside the colour, and its meaning for the reader.
OUTCOMES: dict[str, tuple[str, str, str]] = {
    "transfers": (
        "Transfers",
        "▲",
        "On what was held out the pretrained encoder scored higher than every baseline it was compared with, "
        "and every interval lies above zero.",
    ),
    "harms": (
        "Harms",
        "▼",
        "A baseline scored higher than the pretrained encoder, by more than chance explains. "
        "Prefer that baseline, or change the pretext task.",
    ),
    "equivalent": (
        "No evidence of a gain: equivalent",
        "=",
        "The difference is too small to matter, either way. Pretraining changed nothing of practical size here.",
    ),
    "underpowered": (
        "No evidence of a gain: underpowered",
        "?",
        "No gain over every baseline was shown. That does not show that there is none: "
        "this test set and these draws cannot tell.",
    ),
    "collapsed": (
        "Collapsed",
        "✕",
        "The encoder gives nearly the same output for different inputs. Nothing about transfer follows from it.",
    ),
    "none": (
        "No verdict",
        "○",
        "Nothing can be said about transfer without labels, or events that are held out, and a baseline to compare "
        "with. Figures that need neither can show a failure, never a success.",
    ),
}

_ANYWHERE = {"finetune": "fine-tuning", "scratch": "training from scratch", "rule": "no features"}


# The units over which a label-free metric is compared with the transfer, with a caution for each.
SCOPES: dict[str, tuple[str, str]] = {
    "arms": (
        "Over the encoders",
        "The untrained encoder is one of them; transfer is the score at the primary budget. Losses of different tasks "
        "share no unit and are left out.",
    ),
    "seeds": (
        "Over the pretraining seeds of one encoder",
        "Transfer is the same score, now of each seed.",
    ),
    "over time": (
        "Over the time of one training",
        "Transfer is the online probe's score. Neighbouring readings of one training resemble each other, so that p is "
        "too small here: the figures describe, they test nothing.",
    ),
}

SPELLINGS = {
    "std_normalised": "Spread",
    "rankme": "RankMe",
    "rankme_fall": "Fall of RankMe",
    "codes_used": "Codes in use",
    "lidar": "LiDAR",
    "alpha": "Alpha-ReQ",
    "alpha_r2": "Alpha-ReQ, R²",
    "n": "Examples",
    "loss": "Pretext loss",
    "dim": "Dimensions",
    "size_px": "Image size, px",
    "length": "Tokens that an encoder sees at once",
    "vocabulary": "Tokens in the vocabulary",
    "tokens": "Tokens in all",
    "n_train": "Labelled, outside the test",
    "n_test": "Tested",
    "n_test_groups": "Test groups",
    "one_test_group": "All tested are of one group",
    "measure": "Judged by",
    "worst_group": "Column of the parts",
}

# The meaning of each label-free metric, in one clause.
MEANINGS: dict[str, str] = {
    "n": "examples that the figures below were measured on",
    "dim": "numbers in one embedding",
    "bad_rows": "embeddings with NaN or infinite entries",
    "std_normalised": "1 when features lie all around the sphere, 0 when all inputs look alike",
    "uniformity": "how evenly features cover the sphere: 0 for constant ones, about −4 at best",
    "rankme": "effective number of directions that the features use",
    "participation": "another count of the directions used, led by the largest",
    "alpha": "how steeply the spectrum falls; means something only with R² of 0.9 and above",
    "alpha_r2": "how straight the spectrum is",
    "lidar": "effective number of directions that separate one example from another",
    "alignment": "mean squared distance between two views of the same example",
    "dead_share": "share of the dimensions that never change",
}


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_fraction(metric: str) -> bool:
    """Whether a metric is a fraction of 1, read as a percentage; errors in the target's units are not."""
    return metric not in metrics() or not metrics()[metric].in_units


def margin(metric: str, given: Any = None) -> float:
    """The margin of equivalence: that of a verdict, or in earlier reports of its metric."""
    if is_number(given):
        return float(given)
    return metrics()[metric].margin if metric in metrics() else MARGIN


def _plain(value: float, decimals: int, *, sign: bool = False) -> str:
    """Fixed decimals, a true minus sign, thousands in groups, and no sign before 0."""
    text = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
    if not text.strip("+-0."):  # "-0.0" and "+0.0"
        text = text.lstrip("+-")
    return text.replace("-", "−")


def _decimals(size: float) -> int:
    """For a number in units of its own: four digits where it is below a thousand."""
    return 3 - min(3, max(0, math.floor(math.log10(size)))) if size else 3


def score(value: Any, metric: str = "accuracy") -> str:
    """A score as people read it: 91.2 % for fractions, 4.713 otherwise."""
    if not is_number(value):
        return MISSING
    return f"{_plain(100 * value, 1)}\u202f%" if is_fraction(metric) else _plain(value, _decimals(abs(value)))


def interval(low: Any, high: Any, metric: str = "accuracy") -> str:
    """[89.9, 92.4], in the unit of `score` and of `gain`."""
    if not (is_number(low) and is_number(high)):
        return ""
    scale, decimals = (100, 1) if is_fraction(metric) else (1, _decimals(max(abs(low), abs(high))))
    return f"[{_plain(scale * low, decimals)}, {_plain(scale * high, decimals)}]"


def gain(value: Any, metric: str = "accuracy", *, unit: bool = True) -> str:
    """+5.9 points for fractions, +0.059 otherwise."""
    if not is_number(value):
        return MISSING
    if not is_fraction(metric):
        return _plain(value, _decimals(abs(value)), sign=True)
    return _plain(100 * value, 1, sign=True) + (" points" if unit else "")


def correlation(tau: float) -> str:
    """+0.67"""
    return _plain(tau, 2, sign=True)


def chance(p: float) -> str:
    """`p 0.33`, `p < 0.001`"""
    return f"p {p:.2g}" if p >= 0.001 else "p < 0.001"


def number(value: Any) -> str:
    """Any cell of a table: thousands in groups, three significant digits, yes and no."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f").replace("-", "−") if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e15:
            return number(int(value))
        return f"{value:.3g}".replace("-", "−") if abs(value) < 1000 else number(round(value))
    return str(value)


def duration(seconds: Any) -> str:
    """48 s, 3 min 5 s, 2 h 10 min."""
    if not is_number(seconds):
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 10 else f"{seconds:.2g} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def plain(name: Any) -> str:
    """A metric's name in running text; `ndcg@10/test-gallery` is nDCG@10 among the test items."""
    found = metrics().get(str(name))
    return found.words if found is not None else str(name).replace("_", " ")


def protocol(name: Any, target: Target | None = None) -> str:
    """How features are read: the linear probe of numbers is a ridge regression."""
    wordings = {**protocols(), **_ANYWHERE, **({} if target is None else target.protocols)}
    return wordings.get(str(name), str(name).replace("_", " "))


def capital(text: str) -> str:
    """Capitalise a text, unless its first word has a capital inside (nDCG)."""
    return text if re.match(r"\w*[A-Z]", text) else text[:1].upper() + text[1:]


def parted(text: str) -> list[str]:
    """A verdict's text without the outcome in capitals (the heading has it): its main part, and its circumstances."""
    text = re.sub(r"^[A-Z][A-Z ]+(, [a-z]+)?: ", "", text.strip())
    clauses = re.sub(r"(?<=[\[ ])-(?=\d)", "−", text).split("; ")
    main, rest = "; ".join(clauses[:2]), "; ".join(clauses[2:])
    return [f"{capital(part).rstrip('.')}." if part else "" for part in (main, rest)]


def title(key: str) -> str:
    """`labels_per_class` as `Labels per class`."""
    if key.lower() in SPELLINGS:
        return SPELLINGS[key.lower()]
    words = key.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def budget(value: Any) -> str:
    """A label budget, `10 per class`, `100 in all` or `10 %`, in words; a bare number counts labels per class."""
    text = MISSING if value is None else str(value)
    if found := re.fullmatch(r"(\d+)( per class)?", text):
        return f"{found[1]} label{'' if found[1] == '1' else 's'} per class"
    if found := re.fullmatch(r"(\d+) in all", text):
        return f"{number(int(found[1]))} label{'' if found[1] == '1' else 's'} in all"
    return f"{text} of the labels" if re.fullmatch(r"[\d.]+ ?%", text) else text


def at_budget(value: Any) -> str:
    """`at 10 labels per class`, `with no labels`."""
    return "here" if value is None else f"{'with' if value == 'no labels' else 'at'} {budget(value)}"


def sentence(verdict: Mapping[str, Any], metric: str) -> str:
    """The verdict in one sentence made of its numbers alone, so that it cannot contain any word of the data."""
    outcome = verdict.get("outcome", "none")
    if outcome == "none" and not verdict.get("baseline"):
        return "There were no labels to judge by, or nothing to compare with."
    arm, baseline = verdict.get("arm") or "this encoder", verdict.get("baseline") or "the closest baseline"
    at = capital(at_budget(verdict.get("budget")))
    subject = f"the {arm} " + ("recipe" if verdict.get("claim") == "recipe" else "checkpoint")
    low, high = verdict.get("low"), verdict.get("high")
    size = f"{gain(verdict.get('gain'), metric)} {interval(low, high, metric)}".strip()
    if outcome == "none":
        return f"{at}, {subject} against {baseline}: {size}; but the training of another baseline was cut short."
    zone = margin(metric, verdict.get("margin"))
    within = "one point" if zone == MARGIN else f"{100 * zone:g} points"
    if outcome == "transfers":
        small = f", by less than {within}" if is_number(high) and high < zone else ""
        return f"{at}, {subject} beat every baseline{small}; the smallest gain, over {baseline}, is {size}."
    if outcome == "collapsed":
        return f"{title(subject)} has collapsed."
    if outcome == "harms":
        return f"{at}, {subject} scored below {baseline}: {size}."
    ending = f"within {within} of it" if outcome == "equivalent" else "the interval includes zero"
    if outcome != "equivalent" and is_number(low) and is_number(high) and not low <= 0 <= high:
        ending = "not beyond doubt among all that was compared"
    return f"{at}, {subject} against {baseline}: {size}; {ending}."


def needed(row: Mapping[str, Any]) -> tuple[str, str]:
    """How many labels a baseline needs, and the interval: `about 140`, `[118, at least 400]`."""
    low, high = (("at least " if row.get(f"{end}_at_least") else "") + number(row.get(end)) for end in ("low", "high"))
    interval = f"[{low}, {high}]" if low != high else f"[{low}]"
    return ("at least " if row.get("at_least") else "about ") + number(row.get("baseline_labels")), interval


def saved(value: Mapping[str, Any]) -> str:
    """The labels that the best baseline needs to do as well, in one sentence of numbers and names alone."""
    labels, (count, interval) = value["labels"], needed(value)
    text = f"to do what {value.get('arm')} does with {number(labels)} labels, {value.get('baseline')} needs"
    none = value["baseline_labels"] <= labels and not value.get("at_least")
    return f"{'None: ' + text if none else capital(text)} {count} {interval}."


def without_copies(again: Mapping[str, Any], metric: str) -> str:
    """The verdict without the test items that have a copy in the pretraining data."""
    n = again["left_out"]
    items = "the one test item that has" if n == 1 else f"the {number(n)} test items that have"
    head = OUTCOMES[again["outcome"]][0].lower().replace(": ", ", ")
    size = f"{gain(again.get('gain'), metric)} {interval(again.get('low'), again.get('high'), metric)}".strip()
    over = f"; {size} over {again['baseline']}" if again.get("baseline") else ""
    return f"Without {items} a copy or near-copy in the pretraining data: {head}{over}."
