"""Which kind of data this is, and the one error when it could be two. A new kind is a line in the table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from tacit.core.errors import UserError
from tacit.modalities.audio import decode as sounds
from tacit.modalities.image import decode


class Kind(NamedTuple):
    """How data of a kind are known: by their files' endings, and by the name of a table's binary column."""

    suffixes: frozenset[str]
    column: str | None
    readable: bool = False


KINDS = {
    "image": Kind(decode.SUFFIXES, "image", readable=True),
    "audio": Kind(sounds.SUFFIXES, "audio", readable=True),
    "text": Kind(frozenset([".txt", ".md", ".txt.gz", ".md.gz"]), None, readable=True),
    "items": Kind(frozenset(), None, readable=True),
}

# A README.txt among a thousand photographs is no second kind.
_A_FEW = 0.01


def suffix_of(name: str) -> str:
    """How a file's name ends: `.png`, `.txt.gz`; lower case."""
    stem, last = os.path.splitext(name.lower())
    return os.path.splitext(stem)[1] + last if last == ".gz" else last


def kind_of_suffix(suffix: str) -> str | None:
    """The kind whose files end in `suffix` (with its dot, lower case)."""
    return next((name for name, kind in KINDS.items() if suffix in kind.suffixes), None)


def choose_kind(found: Mapping[str, int], asked: str | None, where: str) -> str:
    """The kind to read, given how many examples of each were found in `where`. UserError where two fit, or none."""
    readable = [name for name, kind in KINDS.items() if kind.readable]
    if asked is not None and asked not in readable:
        raise UserError(f"--kind {asked} cannot be read; what can: {', '.join(readable)}")
    if asked is not None:
        return asked
    total = sum(found.values())
    fits = [name for name in KINDS if found.get(name, 0) > _A_FEW * total]
    if len(fits) > 1:
        choices = " or ".join(f"--kind {name}" for name in fits if name in readable) or f"--kind {readable[0]}"
        counts = " and ".join(f"{found[name]:,} of {name}" for name in fits)
        raise UserError(f"{where} holds {counts}: say which is meant with {choices}")
    if fits and fits[0] not in readable:
        raise UserError(f"{where} holds {fits[0]} data; only {', '.join(readable)} data can be read as yet")
    return fits[0] if fits else readable[0]
