"""Signs by which the modality of data is recognised, and the error where two fit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple, TypeAlias

from tacit.core.errors import UserError


class Signs(NamedTuple):
    """Signs of one modality: endings of its files, and usual names of its columns in tables."""

    nouns: str  # its examples in the plural, such as images
    suffixes: frozenset[str] = frozenset()
    columns: tuple[str, ...] = ()  # usual names of columns of encoded examples; the first identifies the modality
    texts: tuple[str, ...] = ()  # usual names of columns of text other than labels and ids
    when_named: frozenset[str] = frozenset()  # further endings, where the modality is named
    begins: str = ""  # "module:function" that tells whether bytes are the beginning of an example
    unnamed: str = ""  # the same for a file whose ending tells nothing
    notes: frozenset[str] = frozenset()  # endings of files that may document data of another modality
    several: bool = False  # examples are made of those of several modalities


AllSigns: TypeAlias = Mapping[str, Signs]
"""Signs by modality, in order of precedence for samples that hold files of several."""

BEGINNING = 352  # bytes

# A README.txt among a thousand photographs is no second modality.
_A_FEW = 0.01


def suffix_of(name: str) -> str:
    """The ending of a file name in lower case: `.png`, `.txt.gz`."""
    stem, last = os.path.splitext(name.lower())
    return os.path.splitext(stem)[1] + last if last == ".gz" else last


def named(signs: AllSigns, wanted: str | None) -> AllSigns:
    """The signs where the modality `wanted` is named, which then also claims its further endings, from others too."""
    if wanted is None or wanted not in signs:
        return signs
    own = signs[wanted]
    rest = {
        name: of._replace(
            suffixes=of.suffixes - own.when_named, unnamed="" if of.unnamed == own.unnamed else of.unnamed
        )
        for name, of in signs.items()
    }
    return {**rest, wanted: own._replace(suffixes=own.suffixes | own.when_named)}


def contested(signs: AllSigns, kind: str) -> list[str]:
    """The modalities that further endings of a modality's files may belong to; their readers tell."""
    return [name for name, of in signs.items() if name != kind and of.when_named & signs[kind].suffixes]


def of_suffix(signs: AllSigns, suffix: str) -> str | None:
    """The modality of files that end in `suffix` (with its dot, lower case)."""
    return next((name for name, of in signs.items() if suffix in of.suffixes), None)


def by_beginning(signs: AllSigns, data: bytes) -> str | None:
    """The modality of a file whose ending tells nothing, from its first `BEGINNING` bytes."""
    for name, of in signs.items():
        module, _, function = of.unnamed.partition(":")
        if of.unnamed and getattr(import_module(module), function)(data):
            return name
    return None


def choose(signs: AllSigns, found: Mapping[str, int], wanted: str | None, where: str) -> str:
    """Choose the modality from counts of examples found in `where`. UserError where two fit."""
    if wanted is not None:
        check_modality(signs, wanted)
        return wanted
    total = sum(found.values())
    fits = [name for name in signs if found.get(name, 0) > _A_FEW * total]
    if len(fits) > 1:
        choices = " or ".join(f"--kind {name}" for name in fits)
        counts = " and ".join(f"{found[name]:,} of {name}" for name in fits)
        raise UserError(f"{where} holds {counts}: say which is meant with {choices}")
    return fits[0] if fits else next(iter(signs))


def check_modality(signs: AllSigns, wanted: str | None) -> None:
    """UserError for an unknown modality."""
    if wanted not in (None, *signs):
        raise UserError(f"--kind {wanted} cannot be read; what can: {', '.join(signs)}")
