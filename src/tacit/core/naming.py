"""The one rule by which a value names something: a class, a group, a split, an example, a user, an item.

Blanks around it are dropped, accents are composed (NFC), and a whole number written as a float is the number's text:
7, 7.0, "7" and " 7.0 " are all `7`, and so is 1e+05 the number 100000. Zeros at the front stay: "007" is itself, since
codes are written so; where `7` and `007` meet, nobody but the person can tell whether they are one.

What means that nothing is said, as pandas and others write it, is `missing`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

WHOLE = r"^([+-]?[0-9]+)\.0*$"  # a whole number written as a float
POWER = r"^-?[0-9](?:\.[0-9]+)?[eE]\+[0-9]{2,3}$"  # a large one, as programs print it
UNCOMMON = r"^\s|\s$|\.0*$|[eE]\+|^-0|[^\x00-\x7f]"  # what every text holds that `plain` changes

_MISSING = frozenset(
    [
        *("", "nan", "none", "null", "nat", "<na>", "n/a", "#n/a", "#na", "#n/a n/a", "-nan"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
    ]
)
_EXACTLY = frozenset(["NA"])  # Na is sodium
_ZEROS = re.compile(r"([+-]?)0*([0-9]+)")
_LARGEST = 10**18


def plain(text: str) -> str:
    """The name that a text is known by."""
    if text.isascii() and text.isalnum():  # as most are
        return text
    text = unicodedata.normalize("NFC", text.strip())
    if whole := re.match(WHOLE, text):
        text = whole[1]
    elif re.match(POWER, text) and (number := float(text)).is_integer() and abs(number) < _LARGEST:
        text = str(int(number))
    return "0" if text == "-0" else text


def name_of(value: Any) -> str | None:
    """The name that a value of any type is known by; None for what is no value: None, NaN, pandas' NA and NaT."""
    value = value.item() if hasattr(value, "item") and not getattr(value, "ndim", 0) else value
    if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST:
        value = int(value)
    return plain(str(value).lower() if isinstance(value, bool) else str(value))


def missing(name: str) -> bool:
    """Whether a name means that nothing is said."""
    return name in _EXACTLY or name.lower() in _MISSING


def two_ways(names: Iterable[str]) -> tuple[str, str] | None:
    """Two of these names that differ in zeros at the front alone, if there are any."""
    met: dict[str, str] = {}
    for name in names:
        number = _ZEROS.fullmatch(name)
        if number is not None and met.setdefault(number[1] + number[2], name) != name:
            return met[number[1] + number[2]], name
    return None


def without_zeros(name: str) -> str:
    """A whole number without the zeros at its front; anything else as it is."""
    number = _ZEROS.fullmatch(name)
    return name if number is None else number[1] + number[2]
