"""Labels, groups and splits, and everything about them that is left out and said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tacit.core.errors import UserError
from tacit.dataset import TEST, TRAIN, VALIDATION, Dataset, open_dataset

from .test_data_open import folder, png


@pytest.fixture
def cached(tmp_path: Path):
    def open_(data: object, **settings: object) -> Dataset:
        return open_dataset(data, **{"cache": str(tmp_path / "cache"), **settings})  # type: ignore[arg-type]

    return open_


def table(**columns: list[object]) -> pa.Table:
    n = len(next(iter(columns.values())))
    return pa.table({"image": [png(i) for i in range(n)], **columns})


def names(dataset: Dataset) -> list[str | None]:
    return [dataset.classes[label] if label >= 0 else None for label in dataset.label]


def test_class_folders(tmp_path: Path, cached):
    root = folder(tmp_path / "pets")
    (root / "loose.png").write_bytes(png(9))
    (root / "dog" / "deep").mkdir()
    (root / "dog" / "deep" / "7.png").write_bytes(png(7))
    dataset = cached(root, labels="folders")
    assert names(dataset) == ["cat", "cat", "cat", "dog", "dog", "dog", "dog", None]
    assert dataset.notes.labels_from == "folders"


def test_train_and_test_folders_above_the_classes_are_a_split(tmp_path: Path, cached):
    folder(tmp_path / "pets" / "train")
    folder(tmp_path / "pets" / "Test", 4)
    dataset = cached(tmp_path / "pets", labels="folders")
    assert dataset.classes == ("cat", "dog")
    assert dataset.split is not None
    assert dataset.split.tolist() == [TEST] * 4 + [TRAIN] * 6


def test_folders_without_classes_are_refused(tmp_path: Path, cached):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    with pytest.raises(UserError, match=r"no image of .* lies in a class folder"):
        cached(tmp_path, labels="folders")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_label_file_leaves_most_rows_unlabelled(tmp_path: Path, cached, kind: str):
    root = folder(tmp_path / "pets", 8)
    rows = {
        "file": ["cat/0.png", r"C:\x\pets\cat\2.png", "pets/dog/1.png", "dog/3.png"],
        "label": ["c", "c", "d", " d "],
    }
    if kind == "csv":
        lines = ["file\tlabel", *("\t".join(row) for row in zip(*rows.values(), strict=True))]
        (tmp_path / "l.csv").write_text("\n".join(lines), encoding="utf-16")
    else:
        pq.write_table(pa.table(rows), tmp_path / "l.parquet")
    dataset = cached(root, labels=str(tmp_path / f"l.{kind}"))
    assert names(dataset) == ["c", "c", None, None, "d", "d", None, None]
    joined, moved = dataset.notes.lines()
    assert joined == (
        "4 of 4 rows of the label file match an example by file (cat/0.png, C:\\x\\pets\\cat\\2.png, pets/dog/1.png, "
        "...), 0 match none; 4 examples have no row (cat/4.png, cat/6.png, dog/5.png, ...)"
    )
    assert moved.endswith("taken for that of the data: C:/x/pets")
    assert dataset.notes.label_rows == 4


def test_unmatched_empty_and_conflicting_rows_are_counted_listed_and_left_out(tmp_path: Path, cached):
    root = folder(tmp_path / "pets", 10)
    (tmp_path / "l.csv").write_text(
        "Filename,Class\n"
        "cat/0.png,c\ncat/2.png,c\ndog/1.png,d\ndog/3.png,d\n"
        "cat/4.png,\n"  # empty
        "dog/5.png,d\ndog/5.png,c\n"  # conflicting
        "cat/6.png,c\npets/cat/6.png,c\n"  # said twice, no conflict
        "cat/99.png,c\n"  # unmatched
        "cat/8.png,c\nother/8.png,d\n"  # the second names a folder that is not there
    )
    dataset = cached(root, labels=str(tmp_path / "l.csv"))
    notes = dataset.notes
    labelled = {name: label for name, label in zip(dataset.ids.to_pylist(), names(dataset), strict=True) if label}
    assert labelled == {
        "cat/0.png": "c", "cat/2.png": "c", "cat/6.png": "c", "cat/8.png": "c", "dog/1.png": "d", "dog/3.png": "d",
    }  # fmt: skip
    assert notes.label_rows == 12
    assert (notes.unmatched.count, notes.unmatched.first) == (2, ("cat/99.png", "other/8.png"))
    assert notes.empty == 1
    assert notes.conflicting.first == ("dog/5.png",)
    assert len(notes.lines()) == 3


def test_a_label_file_that_hardly_matches_is_refused(tmp_path: Path, cached):
    root = folder(tmp_path / "pets")
    (tmp_path / "l.csv").write_text("file,label\ncat/0.png,c\nx.png,c\ny.png,d\n")
    with pytest.raises(UserError, match=r"only 1 of the 3 rows .*'x.png'"):
        cached(root, labels=str(tmp_path / "l.csv"))


def test_two_columns_of_which_one_is_known_are_enough(tmp_path: Path, cached):
    root = folder(tmp_path / "pets")
    (tmp_path / "l.csv").write_text("slide,label\n0,c\n2,c\n1,d\n3,d\n")
    assert cached(root, labels=str(tmp_path / "l.csv")).classes == ("c", "d")
    (tmp_path / "l.csv").write_text("slide,diagnosis,age\n0,c,1\n2,c,1\n1,d,1\n3,d,1\n")
    with pytest.raises(UserError, match="which columns are file and label among slide, diagnosis, age"):
        cached(root, labels=str(tmp_path / "l.csv"))


def test_groups_and_splits_may_stand_in_the_label_file(tmp_path: Path, cached):
    root = folder(tmp_path / "pets")
    rows = ["0,c,ann,train", "2,c,ann,train", "4,c,bob,test", "1,d,cy,val", "3,d,cy,val", "5,d,di,train"]
    (tmp_path / "l.csv").write_text("\n".join(["file,label,person,part", *rows]))
    dataset = cached(root, labels=str(tmp_path / "l.csv"), group_column="person", split_column="part")
    assert dataset.group is not None
    assert dataset.split is not None
    assert len(set(dataset.group)) == 4
    assert dataset.group[0] == dataset.group[1]
    assert dataset.split.tolist() == [TRAIN, TRAIN, TEST, VALIDATION, VALIDATION, TRAIN]
    with pytest.raises(UserError, match="no column 'patient'; it has file, label, person, part"):
        cached(root, labels=str(tmp_path / "l.csv"), group_column="patient")


def test_a_group_keeps_its_number_when_rows_come_and_go(cached):
    def groups(names: list[str | None]) -> list[int]:
        table = pa.table({"image": [png(i) for i in range(len(names))], "person": names})
        found = cached(table, group_column="person").group
        assert found is not None
        return list(found)

    a, b, alone, again = groups(["a", "b", None, "a"])
    assert a == again
    assert len({a, b, alone}) == 3
    later = groups(["new", "b", None, "a", "a"])
    assert later[1:] == [b, alone, a, a]


def test_several_label_files_count_as_one(tmp_path: Path, cached):
    """Numbers in one, text in the other, columns in another order; where they contradict each other neither counts."""
    root = folder(tmp_path / "pets")
    first, more = tmp_path / "first.csv", tmp_path / "more.csv"
    first.write_text("file,label,vet\ncat/0.png,1,a\ncat/2.png,1,b\ndog/1.png,2,c\n")
    more.write_text("vet,path,label\nd,dog/3.png,2\ne,dog/5.png,two\nb,cat/4.png,two\n")
    dataset = cached(root, labels=[str(first), str(more)], group_column="vet")
    assert names(dataset) == ["1", "1", "two", "2", "2", "two"]  # cat/0 2 4, dog/1 3 5
    assert dataset.notes.labels_from == "file first.csv, more.csv"
    assert dataset.notes.label_rows == 6
    assert dataset.group is not None
    assert dataset.group[1] == dataset.group[2]
    more.write_text("path,label\ndog/3.png,2\ndog/5.png,2\ncat/0.png,2\ncat/4.png,1\n")
    dataset = cached(root, labels=[first, more])
    assert names(dataset) == [None, "1", "1", "2", "2", "2"]
    assert dataset.notes.conflicting.first == ("cat/0.png",)
    with pytest.raises(UserError, match=r"more\.csv has no column 'vet'"):
        cached(root, labels=[first, more], group_column="vet")


def test_a_group_on_both_sides_of_a_split_is_refused(cached):
    data = table(label=list("cdcdcd"), person=list("aabbcc"), part=["train", "test", "train", "train", "test", "test"])
    with pytest.raises(UserError, match="group 'a' has examples on both sides"):
        cached(data, label_column="label", group_column="person", split_column="part")


def test_examples_without_a_group_are_groups_of_their_own(cached):
    dataset = cached(table(person=["a", "a", None, "", "b"]), group_column="person")
    assert dataset.group is not None
    assert dataset.group[0] == dataset.group[1]
    assert len(set(dataset.group)) == 4
    assert dataset.notes.ungrouped == 2


@pytest.mark.parametrize(
    ("values", "message"), [(["train", "dev", "holdout"], "'holdout'"), (["train"] * 3, "no example")]
)
def test_split_columns_that_say_nothing_usable_are_refused(cached, values, message):
    with pytest.raises(UserError, match=message):
        cached(table(part=values), split_column="part")


def test_classes_with_one_member_are_left_out_and_listed(cached):
    dataset = cached(table(label=["a", "a", "b", "b", "rare", None]), label_column="label")
    assert dataset.classes == ("a", "b")
    assert dataset.label.tolist() == [0, 0, 1, 1, -1, -1]
    assert dataset.notes.dropped_classes.first == ("rare",)
    assert dataset.notes.dropped_rows == 1


@pytest.mark.parametrize("labels", [["a"] * 4, ["a", "a", "b", None], [None] * 4, ["a", "b", "c", "d"]])
def test_fewer_than_two_classes_is_an_error(cached, labels):
    with pytest.raises(UserError, match="at least two classes"):
        cached(table(label=pa.array(labels, pa.string())), label_column="label")


def test_classes_are_those_of_the_training_side(cached):
    """A class seen in the test split only cannot be learned, and its test rows must not shape anything."""
    data = table(label=["a", "a", "b", "b", "new", "new", "a"], part=["train"] * 4 + ["test"] * 3)
    dataset = cached(data, label_column="label", split_column="part")
    assert dataset.classes == ("a", "b")
    assert dataset.label.tolist() == [0, 0, 1, 1, -1, -1, 0]
    assert dataset.notes.untrained_classes.first == ("new",)


def test_numbers_are_sorted_as_numbers_and_whole_floats_are_integers(cached):
    values = pa.array([10.0, 9.0, 10.0, 9.0, None, float("nan")])
    dataset = cached(table(label=values), label_column="label")
    assert dataset.classes == ("9", "10")
    assert dataset.label.tolist() == [1, 0, 1, 0, -1, -1]


def test_measurements_are_no_classes(cached):
    values = np.repeat(np.linspace(0.1, 5.3, 30), 2)
    with pytest.raises(UserError, match="look like measurements"):
        cached(table(label=list(values)), label_column="label")


def test_ignored_labels_count_as_none(cached):
    data = table(label=["a", "b", "a", "b", "unknown", "unknown", "-1", "-1"])
    dataset = cached(data, label_column="label", ignore_label=["unknown", "-1"])
    assert dataset.classes == ("a", "b")
    assert dataset.notes.ignored == 4


def test_further_data_become_the_test_split(tmp_path: Path, cached):
    first, second = folder(tmp_path / "a", 6), folder(tmp_path / "b", 4)
    dataset = cached(first, test=second, labels="folders")
    assert dataset.split is not None
    assert dataset.split.tolist() == [TRAIN] * 6 + [TEST] * 4
    assert names(dataset) == ["cat"] * 3 + ["dog"] * 3 + ["cat"] * 2 + ["dog"] * 2
    assert len(set(dataset.ids.to_pylist())) == 10
    (tmp_path / "l.csv").write_text(
        "file,label\na/cat/0.png,c\na/cat/2.png,c\na/dog/1.png,d\na/dog/3.png,d\nb/cat/0.png,c\n"
    )
    by_file = cached(first, test=second, labels=str(tmp_path / "l.csv"))
    assert np.flatnonzero(by_file.label >= 0).tolist() == [0, 1, 3, 4, 6]


def test_skipped_files_take_their_labels_with_them(tmp_path: Path, cached):
    root = folder(tmp_path / "pets", 40)
    (root / "cat" / "20.png").write_bytes(b"bad")
    dataset = cached(root, labels="folders")
    assert len(dataset) == len(dataset.label) == 39
    assert names(dataset) == [name.split("/")[0] for name in dataset.ids.to_pylist()]


def test_a_table_keeps_its_columns_beside_a_label_file(tmp_path: Path, cached):
    (tmp_path / "l.csv").write_text("id,label\np0,a\np1,a\np2,b\np3,b\n")
    data = table(id=[f"p{i}" for i in range(5)], age=[1, 2, 3, 4, 5])
    dataset = cached(data, labels=str(tmp_path / "l.csv"))
    assert names(dataset) == ["a", "a", "b", "b", None]
    assert dataset.columns is not None
    assert dataset.columns["age"].to_pylist() == [1, 2, 3, 4, 5]
