"""Views, masks and corruption of text: against loops, and as functions of the key alone."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tacit.core import keys
from tacit.core.masks import MaskSchedule, unit_mask
from tacit.core.text import WORDS, bm25, snippet, tfidf, word_counts, word_pattern
from tacit.core.types import Batch
from tacit.evaluation.probes.linear import fit_counts
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.text.views import TextViews, TokenMask, is_special
from tacit.modalities.tokens import Corruption

PAD, UNKNOWN, CLS, SEP, MASK = range(5)
SPEC = TextSpec("", 16, 100, PAD, CLS, SEP, MASK, UNKNOWN, (PAD, UNKNOWN, CLS, SEP, MASK))


def documents(*lengths: int) -> Batch:
    """Documents of distinct tokens from 5 on, every third of which begins a word."""
    widest = max(lengths) + 2
    tokens = torch.full((len(lengths), widest), PAD)
    word = torch.zeros_like(tokens, dtype=torch.bool)
    for row, n in enumerate(lengths):
        tokens[row, : n + 2] = torch.tensor([CLS, *range(5, 5 + n), SEP])
        word[row, 1 : n + 1] = torch.arange(n) % 3 == 0
    key = keys.batch_keys(0, 0, torch.arange(len(lengths)))
    return {"tokens": tokens, "valid": tokens != PAD, "word": word, "index": torch.arange(len(lengths)), "key": key}


def own(tokens: Tensor) -> list[int]:
    return [number for number in tokens.tolist() if number > MASK]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 1000), st.sampled_from([0.1, 0.5, 1.0]))
def test_a_view_is_a_run_of_the_document(lengths: list[int], seed: int, share: float) -> None:
    batch = documents(*lengths)
    batch["key"] = keys.batch_keys(seed, 3, batch["index"])
    seen = TextViews(SPEC, 16, crop=(share, share), least=4)(batch, 0)
    assert seen["tokens"].shape[1] <= 16
    for row, n in enumerate(lengths):
        run = own(seen["tokens"][row])
        assert len(run) == min(14, n, max(4, round(share * n)))
        assert run == list(range(run[0], run[0] + len(run)))
        written = seen["tokens"][row][seen["valid"][row]].tolist()
        assert written == [CLS, *run, SEP]
        assert seen["word"][row].nonzero()[:, 0].tolist() == [1 + i for i, t in enumerate(run) if (t - 5) % 3 == 0]


def test_views_depend_on_key_and_number_alone() -> None:
    batch, views = documents(40, 50, 60), TextViews(SPEC, 16, crop=(0.1, 0.5))
    first, second = views(batch, 0), views(batch, 1)
    assert not torch.equal(first["tokens"][:, :5], second["tokens"][:, :5])
    alone = views({name: value[1:2] for name, value in batch.items()}, 0)
    assert own(alone["tokens"][0]) == own(first["tokens"][1])


def test_every_place_can_begin_a_run() -> None:
    batch = documents(*[20] * 400)
    firsts = {own(row)[0] for row in TextViews(SPEC, 16, crop=(0.5, 0.5))(batch, 0)["tokens"]}
    assert firsts == set(range(5, 16))


def test_deleted_tokens_leave_no_hole() -> None:
    seen = TextViews(SPEC, 64, delete=0.3)(documents(*[40] * 50), 0)
    kept = [own(row) for row in seen["tokens"]]
    assert all(run == sorted(run) and run[0] == 5 for run in kept)
    assert 0.6 < sum(map(len, kept)) / (50 * 40) < 0.8
    for row in range(50):
        assert seen["tokens"][row][seen["valid"][row]].tolist() == [CLS, *kept[row], SEP]


def test_packed_rows_stay_as_they_are() -> None:
    batch = documents(10, 10)
    batch["segment"] = torch.zeros_like(batch["tokens"])
    seen = TextViews(SPEC, 8)(batch, 0)
    assert torch.equal(seen["tokens"], batch["tokens"])
    assert not torch.equal(seen["key"], batch["key"])


@given(st.integers(0, 1000), st.floats(0.05, 0.9))
def test_words_are_hidden_as_a_whole(seed: int, ratio: float) -> None:
    batch = documents(3, 17, 30)
    batch["key"] = keys.batch_keys(seed, 1, batch["index"])
    mask = TokenMask(SPEC, MaskSchedule(ratio))(batch, torch.zeros(()))
    assert not (mask & is_special(batch["tokens"], SPEC)).any()
    for row, n in enumerate((3, 17, 30)):
        hidden = mask[row, 1 : n + 1]
        for word in hidden.split(3):
            assert word.all() or not word.any()
        wanted = max(1, round(ratio * n))
        assert wanted <= int(hidden.sum()) < wanted + 3


def test_units_are_taken_in_random_order_until_the_share_is_reached() -> None:
    key = keys.batch_keys(0, 0, torch.arange(3))
    counts = torch.ones(3, 12, dtype=torch.bool)
    starts = torch.arange(12).expand(3, -1) % 4 == 0
    order = keys.uniform(key, "mask/unit", 12)[:, 1:4].argsort(1)  # the first unit is number 1
    mask = unit_mask(key, counts, starts, 0.5)
    for row in range(3):
        hidden = {int(unit) for unit in order[row][:2]}  # 6 of 12 tokens: two words of four
        assert {i // 4 for i in mask[row].nonzero()[:, 0].tolist()} == hidden


def test_the_share_follows_its_schedule() -> None:
    batch = documents(*[60] * 20)
    mask = TokenMask(SPEC, MaskSchedule(0.4, 0.1, "token"))
    shares = [float(mask(batch, torch.tensor(at))[:, 1:61].float().mean()) for at in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.4, 0.25, 0.1])


def test_spans_reach_over_words() -> None:
    batch = documents(*[60] * 200)
    runs = {}
    for unit in ("word", "span"):
        mask = TokenMask(SPEC, MaskSchedule(0.15, unit=unit), span=4.0)(batch, torch.zeros(()))[:, 1:61]
        begins = mask & ~torch.cat([torch.zeros(200, 1, dtype=torch.bool), mask[:, :-1]], 1)
        runs[unit] = float(mask.sum() / begins.sum())
    assert runs["span"] > 1.8 * runs["word"]


def test_hidden_tokens_show_mask_random_or_themselves() -> None:
    batch = documents(*[60] * 100)
    mask = TokenMask(SPEC, MaskSchedule(0.5, unit="token"))(batch, torch.zeros(()))
    everywhere = Corruption(SPEC)(batch, mask)["tokens"]
    assert (everywhere[mask] == MASK).all()
    mixed = Corruption(SPEC, random=0.1, kept=0.1)(batch, mask)["tokens"]
    assert torch.equal(mixed[~mask], batch["tokens"][~mask])
    masks = float((mixed[mask] == MASK).float().mean())
    same = float((mixed[mask] == batch["tokens"][mask]).float().mean())
    assert masks == pytest.approx(0.8, abs=0.03)
    assert same == pytest.approx(0.1, abs=0.03)


def test_snippets_are_one_line() -> None:
    assert snippet("a\n b\t c", 20) == "a b c"
    assert snippet("word " * 30, 20) == "word word word word…"


def test_word_counts_equal_scikit_learn_on_all_terms() -> None:
    """Rotated to as many numbers as there are texts, the model is the same."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    chance = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(60)])
    texts = [" ".join(chance.choice(words[20 * (row % 2) : 20 * (row % 2) + 40], 12)) for row in range(90)]
    y = np.arange(90) % 2
    train, test = np.arange(40), np.arange(40, 90)
    rule = word_counts(lambda rows: [texts[row] for row in rows], np.arange(90), fit_counts, characters=False)
    found = rule(train, y[train], test)
    counts = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit(texts)
    X, seen = counts.transform(texts[:40]), counts.transform(texts[40:])
    said = [LogisticRegression(C=C, max_iter=1000).fit(X, y[train]).predict(seen) for C in np.logspace(-3, 4, 15)]
    assert any((found == other).all() for other in said)
    assert (found == y[test]).mean() > 0.7
    assert set(rule(train[:2], y[:2], test)) <= {0, 1}  # one of each class: nothing to choose by


NOTES = [
    "the cat sat on the mat and the cat slept",
    "a cat, a mat, a hat",
    "dogs bark at night when the moon is out; dogs bark, and bark again",
    "moon",
    "nothing here is like any of these",
]


@pytest.mark.parametrize("characters", [False, True])
def test_cosines_of_terms_by_hand(characters: bool) -> None:
    """Sublinear counts times smoothed inverse document frequencies, divided by their length."""

    def terms(text: str) -> list[str]:
        if not characters:
            words = re.findall(r"\w\w+", text.lower())
            return words + [f"{a} {b}" for a, b in itertools.pairwise(words)]
        padded = [f" {word} " for word in text.lower().split()]
        return [w[i : i + n] for w in padded for n in range(2, 6) for i in range(len(w) - n + 1)]

    bags = [Counter(terms(text)) for text in NOTES]
    have = Counter(term for bag in bags for term in bag)
    rarity = {term: math.log((1 + len(NOTES)) / (1 + n)) + 1 for term, n in have.items()}
    rows = [{term: (1 + math.log(count)) * rarity[term] for term, count in bag.items()} for bag in bags]
    lengths = [math.sqrt(sum(weight**2 for weight in row.values())) for row in rows]
    expected = [
        [sum(w * b.get(term, 0) for term, w in a.items()) / la / lb for b, lb in zip(rows, lengths, strict=True)]
        for a, la in zip(rows, lengths, strict=True)
    ]
    seeks, has = tfidf(NOTES, characters=characters)
    np.testing.assert_allclose((seeks @ has.T).toarray(), expected, atol=1e-5)


def test_bm25_by_hand() -> None:
    bags = [Counter(re.findall(r"\w\w+", text.lower())) for text in NOTES]
    n, mean = len(bags), sum(sum(bag.values()) for bag in bags) / len(bags)

    def score(query: Counter[str], bag: Counter[str]) -> float:
        total = 0.0
        for word, asked in query.items():
            m = sum(word in other for other in bags)
            rarity = math.log(1 + (n - m + 0.5) / (m + 0.5))
            usual = 1.2 * (0.25 + 0.75 * sum(bag.values()) / mean)
            total += asked * rarity * bag[word] * 2.2 / (bag[word] + usual)
        return total

    seeks, has = bm25(NOTES)
    np.testing.assert_allclose((seeks @ has.T).toarray(), [[score(a, b) for b in bags] for a in bags], rtol=1e-5)


NO_WORDS = {
    "Chinese": ("山水雨雪风云树林河湖", "钱价市银商货买卖税账", ""),
    "Thai": ("ฝนตกหนักแดด", "ราคาหุ้นเงิน", ""),
    "Japanese": ("雨が降るでしょう", "株を売ります", ""),
    "emoji": ("😀😂🤣😊😍", "😡😢😭😤💔", ""),
    "digits": ("01234", "56789", " "),
    "letters": ("abcde", "vwxyz", " "),
    "signs": ("!?.", ";:,", ""),
    "marks alone": ("\u0301\u0302", "\u0308\u0309", ""),
    "nothing wide": ("\u200b\u200c", "\u2060\u2061", ""),
    "Korean": ("비눈", "돈값", " "),
}


@pytest.mark.parametrize("characters", [False, True])
@pytest.mark.parametrize("script", NO_WORDS)
def test_texts_without_words_are_counted_as_well(script: str, characters: bool) -> None:
    *topics, between = NO_WORDS[script]
    chance = random.Random(0)
    texts = [between.join(chance.choice(topics[k % 2]) for _ in range(8)) for k in range(120)]
    positions, truth = np.arange(120), np.arange(120) % 2
    rule = word_counts(lambda at: [texts[i] for i in at], positions, fit_counts, characters=characters)
    found = rule(positions[:60], truth[:60], positions[60:])
    assert (found == truth[60:]).mean() > 0.95
    seeks, has = tfidf(texts, characters=characters)
    alike = (seeks @ has.T).toarray() - np.eye(120)
    assert (alike.argmax(1) % 2 == truth).mean() > 0.95
    if not characters:
        seeks, has = bm25(texts)
        alike = (seeks @ has.T).toarray() * (1 - np.eye(120))
        assert (alike.argmax(1) % 2 == truth).mean() > 0.95


def test_words_are_those_of_scikit_learn_where_blanks_part_them() -> None:
    said = "Hello there, a b don't x1 2 22 été Größe naïve _a __ русский ελλ عربي हिन्दी 한국어 e\u0301te\u0301"
    assert re.findall(WORDS, said) == re.findall(r"(?u)\b\w\w+\b", said)
    assert word_pattern([said, "😀"]) == WORDS
    assert re.findall(WORDS, "今天ok") == ["今", "天", "ok"]


def test_counts_that_tell_nothing_answer_the_commonest_class() -> None:
    texts = ["one two", "three four", *(f"word{k} word{k + 1}" for k in range(20))]
    rule = word_counts(lambda at: [texts[i] for i in at], np.arange(2, 22), fit_counts, characters=False)
    train, truth = np.array([0, 1, 0]), np.array([1, 1, 0])
    assert rule(train, truth, np.array([5, 6])).tolist() == [1, 1]
    every = word_counts(lambda at: [f"unique{i}" for i in at], np.arange(200), fit_counts, characters=False)
    assert every(np.arange(4), np.array([0, 1, 1, 1]), np.array([150])).tolist() in ([0], [1])
