from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.data.matching import AMBIGUOUS, UNKNOWN, match

IDS = ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "top.png", "dog/deep/3.jpg"]


ENDINGS = frozenset([".jpg", ".jpeg", ".png"])


def rows(paths, ids=IDS, root="/data/pets"):
    return match(paths, ids, root, ENDINGS).rows.tolist()


def test_relative_absolute_and_windows_paths_mean_the_same():
    paths = [
        "cat/1.jpg",
        "./cat/1.jpg",
        "/data/pets/cat/1.jpg",
        r"\data\pets\cat\1.jpg",
        "pets/cat/1.jpg",
        "data//pets//cat//1.jpg",
        "../pets/cat/1.jpg",
    ]
    assert rows(paths) == [0] * len(paths)
    for path in (
        r"C:\old\disk\pets\cat\1.jpg",
        "//x//pets//cat//1.jpg",
        "s3://bucket/pets/cat/1.jpg",
        "~/pets/cat/1.jpg",
    ):
        assert rows([path]) == [0]


def test_a_name_that_two_examples_share_is_ambiguous_until_a_folder_tells():
    assert rows(["1.jpg", "2.jpg", "deep/3.jpg", "dog/1.jpg"]) == [AMBIGUOUS, 1, 4, 2]


@pytest.mark.parametrize(
    "path",
    [
        *("elsewhere/3.jpg", "elsewhere/deep/3.jpg", "elsewhere/dog/deep/3.jpg", "bird/1.jpg", "cats/1.jpg"),
        *("/elsewhere/dog/deep/3.jpg", r"D:\cats\cat\1.jpg", "../dogs/cat/1.jpg", "old/pets/cat/1.jpg"),
    ],
)
def test_a_folder_that_a_path_names_must_be_there(path):
    assert rows([path]) == [UNKNOWN]


def test_of_several_other_folders_none_is_taken_but_the_most_alike():
    """Two sites whose images have one name each, of which the data are one: on this machine, and on another."""
    ids = ["1.png", "2.png"]
    sites = ["/a/siteA/images/1.png", "/a/siteC/images/2.png"]
    assert rows(sites, ids, "/b/siteA/images") == [0, UNKNOWN]
    assert rows(sites, ids, "/a/siteA/images") == [0, UNKNOWN]
    assert rows(sites, ids, "/b/siteB/images") == [UNKNOWN, UNKNOWN]
    assert match(sites[:1], ids, "/b/siteA/images").moved == "a/siteA/images"


def test_a_link_to_the_folder_of_the_data_means_it(tmp_path):
    (tmp_path / "disk" / "set").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "mine").symlink_to(tmp_path / "disk" / "set")
    root = str(tmp_path / "disk" / "set")
    assert rows([f"{tmp_path}/mine/cat/1.jpg"], root=root) == [0]
    assert rows([f"{tmp_path}/other/cat/1.jpg", "other/cat/1.jpg"], root=root) == [UNKNOWN] * 2


def test_unknown_names_stay_unknown():
    assert rows(["cat/9.jpg", "", "11.jpg", "cat", "xcat/1.jpg/"]) == [UNKNOWN] * 5


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
    agree = match(["cat/1.jpg", "/data/pets/cat/2.jpg", "2.jpg"], IDS, "/data/pets").agree
    assert agree[0] > agree[1] > agree[2]


component = st.text(alphabet="abAB-_. é", min_size=1, max_size=4).filter(lambda s: s.strip(". ") == s)
path = st.lists(component, min_size=1, max_size=4).map("/".join)
slash = st.sampled_from(["/", "\\"])


def naive(wanted, ids, root):
    """By comparing with every example: a relative path is an end of the whole path of what it means."""

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
    best = [i for i, name in enumerate(ids) if tail(parts(wanted), parts(f"{root}/{name}")) == len(parts(wanted))]
    return UNKNOWN if not best else best[0] if len(best) == 1 else AMBIGUOUS


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
    found = match([f"/other/data/{name}" for name in ids], ids, "/data").rows
    assert np.array_equal(found, np.arange(n))
