"""How data of each modality are known, and the one error when they could be of two."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from tacit.core.errors import UserError


class Signs(NamedTuple):
    """How data of one modality are known: by their files' endings, and by the names of a table's columns."""

    nouns: str  # what a table holds of it, such as images
    suffixes: frozenset[str] = frozenset()
    columns: tuple[str, ...] = ()  # usual names of a column of encoded examples, the first of which says what they are
    texts: tuple[str, ...] = ()  # usual names of a column of text that is no label and no id
    asked: frozenset[str] = frozenset()  # endings of files that are its own where it is asked for by name
    begins: str = ""  # "module:function": whether these are the first bytes of an example
    notes: frozenset[str] = frozenset()  # endings of files that may be notes about data of another modality


AllSigns: TypeAlias = Mapping[str, Signs]
"""By the names of modalities, in the order in which a sample of several files is taken for one of them."""

# A README.txt among a thousand photographs makes no second modality.
_A_FEW = 0.01


def suffix_of(name: str) -> str:
    """How a file's name ends: `.png`, `.txt.gz`; lower case."""
    stem, last = os.path.splitext(name.lower())
    return os.path.splitext(stem)[1] + last if last == ".gz" else last


def named(signs: AllSigns, asked: str | None) -> AllSigns:
    """The signs where a person has named the modality `asked`, whose files may then end as others do too."""
    of = signs.get(asked or "")
    return signs if of is None or asked is None else {**signs, asked: of._replace(suffixes=of.suffixes | of.asked)}


def of_suffix(signs: AllSigns, suffix: str) -> str | None:
    """The modality whose files end in `suffix` (with its dot, lower case)."""
    return next((name for name, of in signs.items() if suffix in of.suffixes), None)


def choose(signs: AllSigns, found: Mapping[str, int], asked: str | None, where: str) -> str:
    """The modality to read, given how many examples of each were found in `where`. UserError where two fit."""
    if asked is not None:
        check_asked(signs, asked)
        return asked
    total = sum(found.values())
    fits = [name for name in signs if found.get(name, 0) > _A_FEW * total]
    if len(fits) > 1:
        choices = " or ".join(f"--kind {name}" for name in fits)
        counts = " and ".join(f"{found[name]:,} of {name}" for name in fits)
        raise UserError(f"{where} holds {counts}: say which is meant with {choices}")
    return fits[0] if fits else next(iter(signs))


def check_asked(signs: AllSigns, asked: str | None) -> None:
    """UserError for a name that no modality has."""
    if asked not in (None, *signs):
        raise UserError(f"--kind {asked} cannot be read; what can: {', '.join(signs)}")
