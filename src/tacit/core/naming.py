"""The one rule by which a value names something: a class, a group, a split, an example, a user, an item.

Blanks around it are dropped, and marks that nobody sees, such as a byte-order mark; accents are composed (NFC); True
and TRUE are `true`, and False `false`; and a whole number written as a float is the number's text: 7, 7.0, "7" and
" 7.0 " are all `7`, and so is 1e+05 the number 100000. Zeros at the front stay: "007" is itself, since codes are
written so; where `7` and `007` meet, nobody but the person can tell whether they are one, and so with `true` and `1`.
Names that look alike, such as `Cat` and `cat`, stay two, with a note. Numbers whose last digits are lost are no names.

The marks of a missing value, as pandas and others write them, are `missing`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

WHOLE = r"^([+-]?[0-9]+)\.0*$"  # a whole number written as a float
POWER = r"^-?[0-9](?:\.[0-9]+)?[eE]\+[0-9]{2,3}$"  # a large one, as programs print it
UNCOMMON = r"^\s|\s$|\.0*$|[eE]\+|^-0|[^\x00-\x7f]|^(?i:true|false)$"  # what every text holds that `plain` changes
ROUNDED = (
    r"^\s*[+-]?(?:[0-9]{16,}\.0*|[0-9](?:\.[0-9]+)?[eE]\+[0-9]{2,3})\s*$"  # what every text is that `rounded` means
)

_MISSING = frozenset(
    [
        *("", "nan", "none", "null", "nat", "<na>", "n/a", "#n/a", "#na", "#n/a n/a", "-nan"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
    ]
)
_EXACTLY = frozenset(["NA"])  # Na is sodium
_BOTH = frozenset(["true", "false"])
_UNSEEN = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
_ZEROS = re.compile(r"([+-]?)0*([0-9]+)")
_LARGEST = 10**18
_EXACT = 2**53  # below which floats hold every whole number
_SHOWN = 10  # the power of ten beyond which spreadsheets write 1.23457E+11 for all numbers that begin so


def plain(text: str) -> str:
    """The canonical name of a text."""
    if text.isascii() and text.isalnum():  # as most are
        return text.lower() if text.lower() in _BOTH else text
    text = unicodedata.normalize("NFC", text.strip().strip(_UNSEEN).strip())
    text = text.lower() if text.lower() in _BOTH else text
    if whole := re.match(WHOLE, text):
        text = whole[1]
    elif re.match(POWER, text) and (number := float(text)).is_integer() and abs(number) < _LARGEST:
        text = str(int(number))
    return "0" if text == "-0" else text


def name_of(value: Any) -> str | None:
    """The canonical name of a value of any type; None for a missing value: None, NaN, pandas' NA and NaT."""
    value = value.item() if hasattr(value, "item") and not getattr(value, "ndim", 0) else value
    if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST:
        value = int(value)
    return plain(str(value).lower() if isinstance(value, bool) else str(value))


def missing(name: str) -> bool:
    """Whether a name stands for a missing value."""
    return name in _EXACTLY or name.lower() in _MISSING


def rounded(text: str) -> bool:
    """Whether a text is a number whose last digits a float or a spreadsheet has lost."""
    if re.fullmatch(ROUNDED, text) is None:
        return False
    digits, _, power = text.strip().lower().lstrip("+-").partition("e+")
    lost = "." in digits and int(power or 0) > _SHOWN and len(digits) - 1 <= int(power or 0)
    return lost or abs(float(text)) >= _EXACT


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Two of these names that look alike up to case, width and composition of characters, or None."""
    met: dict[str, str] = {}
    for name in names:
        seen = unicodedata.normalize("NFKC", "".join(s for s in name if s not in _UNSEEN)).casefold()
        seen = " ".join(seen.replace("\u2212", "-").split())
        if met.setdefault(seen, name) != name:
            return met[seen], name
    return None


def two_ways(names: Iterable[str]) -> tuple[str, str] | None:
    """Two of these names that may be one value, such as 7 and 007 or true and 1, or None."""
    names = list(names)
    met: dict[str, str] = {}
    for word, digit in (("true", "1"), ("false", "0")):
        if word in names and digit in names and set(names) <= _BOTH | {"0", "1"}:
            return word, digit
    for name in names:
        number = _ZEROS.fullmatch(name)
        if number is not None and met.setdefault(number[1] + number[2], name) != name:
            return met[number[1] + number[2]], name
    return None


def without_zeros(name: str) -> str:
    """A whole number without leading zeros; anything else unchanged."""
    number = _ZEROS.fullmatch(name)
    return name if number is None else number[1] + number[2]
