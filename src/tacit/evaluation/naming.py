"""Classes by their names: which captions hold each name, so that a name is read as captions write it.

A tower has read captions, never a name alone. The embedding of a class is therefore the mean over captions that hold
its name; of a name that none holds, the mean over templates. How often captions hold a name is what is known of its
frequency without a label, and is added as a prior: a sigmoid or softmax loss learns how much likelier a caption is
with an example than by itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_CAPTIONS = 200_000  # that are looked through, evenly spaced
MOST_OF_CLASS = 64  # that one class is averaged over, evenly spaced
SCALE = 10.0  # of a cosine beside the logarithm of a frequency; chosen on the photos that were trained on

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Held:
    """For each of K classes the captions that hold its name, at most `MOST_OF_CLASS`, and how many there are, [K]."""

    captions: tuple[tuple[str, ...], ...]
    count: Rows

    @property
    def log_prior(self) -> NDArray[np.float32]:
        return np.asarray(np.log(self.count + 0.5), np.float32)


def held(classes: Sequence[str], captions: Sequence[str]) -> Held:
    """Find the captions with all words of a class's name, in any order; of several names, those of the most words.

    Words are compared in small letters, without hyphens and a plural's s: "T-Shirt" holds "tshirts".
    """
    some = [captions[i] for i in evenly(len(captions), MOST_CAPTIONS)]
    having: dict[str, set[int]] = defaultdict(set)
    for i, caption in enumerate(some):
        for word in words(caption):
            having[word].add(i)
    named = [words(name) for name in classes]
    found = [set.intersection(*(having.get(word, set()) for word in of)) if of else set() for of in named]
    longest = np.zeros(len(some), np.int64)
    for of, rows in zip(named, found, strict=True):
        own = np.fromiter(rows, np.int64, len(rows))
        longest[own] = np.maximum(longest[own], len(of))
    kept = [sorted(i for i in rows if longest[i] == len(of)) for of, rows in zip(named, found, strict=True)]
    texts = tuple(tuple(some[rows[i]] for i in evenly(len(rows), MOST_OF_CLASS)) for rows in kept)
    return Held(texts, np.array([len(rows) for rows in kept], np.int64))


def words(text: str) -> frozenset[str]:
    """The words of a text as names are compared."""
    return frozenset(_singular(word) for word in re.findall(r"\w+", re.sub(r"[-'’]", "", text.casefold())))


def evenly(n: int, most: int) -> list[int]:
    """At most so many of n positions, evenly spaced."""
    return list(range(n)) if n <= most else [i * n // most for i in range(most)]


def _singular(word: str) -> str:
    """`watches` and `watch` alike, `stories` and `story`."""
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-2] if word.endswith(("sses", "xes", "ches", "shes")) else word[:-1]
    return word[:-1] + "ie" if re.search(r"[^aeiou]y$", word) else word
