"""Classes by their names: which captions hold them, by a loop over both."""

from __future__ import annotations

import numpy as np

from tacit.evaluation.naming import held, words

CAPTIONS = ("Nike Men's Casual Shoe", "a black T-Shirt", "Shoes for sport", "shirt of silk", "one dress", "a story")
CLASSES = ("Casual Shoes", "Shoes", "Tshirts", "Shirts", "Dresses", "Skis", "Stories")


def test_captions_that_hold_a_name_are_those_of_the_loop() -> None:
    found = held(CLASSES, CAPTIONS)
    assert found.captions == (
        (CAPTIONS[0],),
        (CAPTIONS[2],),
        (CAPTIONS[1],),
        (CAPTIONS[3],),
        (CAPTIONS[4],),
        (),
        (CAPTIONS[5],),
    )
    assert found.count.tolist() == [1, 1, 1, 1, 1, 0, 1]
    chance = np.random.default_rng(0)
    letters = [" ".join(chance.choice(list("abcdefg"), 4)) for _ in range(300)]
    names = ["a", "b c", "d e f", "z"]
    of = {name: [text for text in letters if words(name) <= words(text)] for name in names}
    longest = {text: max([len(words(name)) for name in names if text in of[name]], default=0) for text in letters}
    wanted = {name: [text for text in of[name] if longest[text] == len(words(name))] for name in names}
    found = held(names, letters)
    assert found.count.tolist() == [len(wanted[name]) for name in names]
    assert all({*some} <= {*wanted[name]} for name, some in zip(names, found.captions, strict=True))
    assert max(map(len, found.captions)) == 64
