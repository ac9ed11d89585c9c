"""Packing beside a loop that a child could follow, and what resuming costs."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.data.store import Ragged
from tacit.modalities.text.packing import Packed
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.text.store import Corpus
from tacit.training.batches import Batches, Span

MARK = 1 << 15


def corpus(documents: list[list[int]], cls: int = 1, sep: int = 2) -> Corpus:
    """Documents of these numbers; an odd one begins a word."""
    starts = np.cumsum([0, *map(len, documents)])
    numbers = np.array([n | MARK if n % 2 else n for document in documents for n in document], np.uint16)
    spec = TextSpec("", 8, 100, pad=0, cls=cls, sep=sep, mask=3, unknown=4, specials=(0, 1, 2, 3, 4))
    content = np.arange(2 * len(documents)).view("V16")
    nothing = np.zeros(0, np.uint8)
    return Corpus(Ragged(numbers, starts), Ragged(nothing, np.zeros_like(starts)), content, spec, "made", Path("made"))


def naive(documents: list[list[int]], rows: list[int], length: int, cls: int, sep: int):
    stream: list[tuple[int, bool, int, int]] = []
    for number, row in enumerate(rows):
        whole = [cls] * (cls >= 0) + documents[row] + [sep] * (sep >= 0)
        inner = range(int(cls >= 0), int(cls >= 0) + len(documents[row]))
        stream += [(n, i in inner and n % 2 == 1, number, row) for i, n in enumerate(whole)]
    found = []
    for at in range(max(1, len(stream) // length)):
        part = stream[at * length : (at + 1) * length]
        pad = length - len(part)
        last = part[-1][2] - part[0][2]
        found.append(
            {
                "tokens": [p[0] for p in part] + [0] * pad,
                "valid": [True] * len(part) + [False] * pad,
                "word": [p[1] for p in part] + [False] * pad,
                "segment": [p[2] - part[0][2] for p in part] + [last + 1] * pad,
                "index": part[0][3],
            }
        )
    return found


@given(
    st.lists(st.lists(st.integers(5, 99), min_size=1, max_size=9), min_size=1, max_size=8),
    st.integers(1, 12),
    st.sampled_from([(1, 2), (-1, 2), (1, -1), (-1, -1)]),
    st.randoms(use_true_random=False),
)
def test_packing_is_a_loop_over_documents(documents, length, specials, random):
    rows = random.sample(range(len(documents)), random.randint(1, len(documents)))
    packed = Packed(corpus(documents, *specials), np.array(rows), length)
    expected = naive(documents, rows, length, *specials)
    assert len(packed) == len(expected)
    order = random.sample(range(len(packed)), len(packed))
    batch = packed.batch(np.array(order))
    for name, values in batch.items():
        assert values.tolist() == [expected[at][name] for at in order], name


def test_any_step_of_any_epoch_costs_the_same():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 60, 20_000)
    whole = corpus([[7] * n for n in lengths.tolist()])
    packed = Packed(whole, rng.permutation(20_000), 32)
    assert packed.ends.nbytes + packed.documents.nbytes == 16 * 20_000
    batches = Batches(packed.batch, Span(len(packed)), 64, seed=3)
    batches(0)
    took = []
    for step in (1, 1_000_000):
        start = time.perf_counter()
        for more in range(10):
            batches(step + more)
        took.append(time.perf_counter() - start)
    assert took[1] < 5 * took[0] + 0.1
    assert batches(1_000_000)["tokens"].shape == (64, 32)


def test_an_epoch_visits_every_row_once():
    packed = Packed(corpus([[7] * 30] * 10), np.arange(10), 16)
    batches = Batches(packed.batch, Span(len(packed)), 4, seed=1)
    assert len(packed) == 20
    seen = np.concatenate([batches.rows(step) for step in range(5)])
    assert sorted(seen.tolist()) == list(range(20))


def test_a_short_stream_is_one_row_with_padding():
    batch = Packed(corpus([[7, 8]]), np.array([0]), 6).batch(np.array([0]))
    assert batch["tokens"].tolist() == [[1, 7, 8, 2, 0, 0]]
    assert batch["segment"].tolist() == [[0, 0, 0, 0, 1, 1]]
    assert batch["valid"].tolist() == [[True] * 4 + [False] * 2]


def test_nothing_cannot_be_packed():
    with pytest.raises(AssertionError):
        Packed(corpus([[7]]), np.zeros(0, np.int64), 6)
