from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.data.matching import AMBIGUOUS, UNKNOWN, match

IDS = ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "top.png", "dog/deep/3.jpg"]


def rows(paths, ids=IDS, root="/data/pets"):
    return match(paths, ids, root)[0].tolist()


def test_relative_absolute_and_windows_paths_mean_the_same():
    paths = [
        "cat/1.jpg",
        "./cat/1.jpg",
        "/data/pets/cat/1.jpg",
        r"C:\old\disk\cat\1.jpg",
        "pets/cat/1.jpg",
        "//x//cat//1.jpg",
    ]
    assert rows(paths) == [0] * 6


def test_a_name_that_two_examples_share_is_ambiguous_until_a_folder_tells():
    assert rows(["1.jpg", "2.jpg", "elsewhere/3.jpg", "dog/1.jpg"]) == [AMBIGUOUS, 1, 4, 2]


def test_unknown_names_stay_unknown():
    assert rows(["cat/9.jpg", "", "11.jpg", "cat", "xcat/1.jpg/"]) == [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, AMBIGUOUS]


def test_the_whole_id_wins_over_longer_ids_that_end_so():
    assert rows(["a.png", "sub/a.png"], ["a.png", "sub/a.png", "other/a.png"]) == [0, 1]


def test_the_same_id_twice_is_ambiguous_but_spoils_no_other():
    assert rows(["a.png", "b.png"], ["a.png", "a.png", "b.png", "x/b.png"]) == [AMBIGUOUS, 2]


def test_names_without_endings_are_compared_without_them():
    assert rows(["1", "2", "cat/1", "top"]) == [AMBIGUOUS, 1, 0, 3]
    # As soon as one has an ending, all are taken by the letter.
    assert rows(["2", "top.png"]) == [UNKNOWN, 3]


def test_composed_and_decomposed_letters_are_equal():
    assert rows(["cafe\u0301.png"], ["caf\u00e9.png", "b.png"]) == [0]


def test_more_agreeing_components_count_more():
    _, agree = match(["cat/1.jpg", "/x/y/cat/1.jpg", "/z/2.jpg"], IDS, "/data/pets")
    assert agree[0] > agree[1] > agree[2]


component = st.text(alphabet="abAB-_. é", min_size=1, max_size=4).filter(lambda s: s.strip(". ") == s)
path = st.lists(component, min_size=1, max_size=4).map("/".join)
slash = st.sampled_from(["/", "\\"])


def naive(wanted, ids, root):
    """The longest shared tail by comparing with every example."""

    def parts(text):
        return [part for part in text.split("/") if part not in ("", ".")]

    def tail(a, b):
        n = 0
        while n < min(len(a), len(b)) and a[-1 - n] == b[-1 - n]:
            n += 1
        return n

    exact = [i for i, name in enumerate(ids) if parts(name) == parts(wanted)]
    if exact:
        return exact[0] if len(exact) == 1 else AMBIGUOUS
    shared = [tail(parts(wanted), parts(f"{root}/{name}")) for name in ids]
    best = [i for i, n in enumerate(shared) if n == max(shared)]
    return UNKNOWN if max(shared) == 0 else best[0] if len(best) == 1 else AMBIGUOUS


@given(
    ids=st.lists(path, min_size=1, max_size=12, unique=True), paths=st.lists(path, min_size=1, max_size=12), root=path
)
@settings(max_examples=80, deadline=None)
def test_agrees_with_comparing_everything(ids, paths, root):
    ids, paths = [f"{name}.png" for name in ids], [f"{name}.png" for name in paths]
    assert rows(paths, ids, f"/{root}") == [naive(wanted, ids, f"/{root}") for wanted in paths]


@given(ids=st.lists(path, min_size=1, max_size=12, unique=True), prefix=path, sep=slash, data=st.data())
@settings(max_examples=40, deadline=None)
def test_another_machine_and_other_slashes_find_every_example(ids, prefix, sep, data):
    """Moved as a whole, from any folder above: every example is found again, and never a wrong one."""
    ids = [f"{name}.png" for name in ids]
    paths = [f"{sep}{prefix}{sep}pets{sep}{name}".replace("/", sep) for name in ids]
    order = data.draw(st.permutations(range(len(ids))))
    found = rows([paths[i] for i in order], ids, "/data/pets")
    assert found == list(order)


def test_a_million_paths_are_not_compared_one_by_one():
    n = 20_000
    ids = [f"{i % 100}/{i}.png" for i in range(n)]
    found, _ = match([f"/other/{name}" for name in ids], ids, "/data")
    assert np.array_equal(found, np.arange(n))
