"""Which example a row means, by the key that both sides have; what is no key is refused, and every join is said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tacit.core.errors import UserError
from tacit.data.class_names import own_class_names
from tacit.data.labels import Columns, file_columns, own_columns
from tacit.data.layouts import with_folder_labels
from tacit.data.named import Missing
from tacit.data.notes import Notes
from tacit.data.options import LabelOptions
from tacit.data.resolved import Labels, resolve
from tacit.data.source import Source, join
from tacit.dataset import TEST, TRAIN, Dataset, open_dataset, open_source
from tacit.evaluation import seal
from tacit.experiment.split import split_dataset

from .test_data_open import png

HERE = Path("labels.csv")
TEXT = [f"text number {i} of them all" for i in range(8)]


def texts(**columns: Any) -> Source:
    return open_source(pa.table({**columns, "text": TEXT}))


def joined(source: Source, rows: Mapping[str, Any], **names: str) -> tuple[list[str | None], Notes]:
    """The label of each example by a label file of these columns."""
    notes = Notes()
    found = file_columns(source, {HERE: pa.table(dict(rows))}, notes, names)
    assert found.label is not None
    return found.label.to_pylist(), notes


ORDER = [5, 0, 3, 7, 1, 6, 2, 4]
LABELS = [f"class {i}" for i in range(8)]
RIGHT: list[str | None] = [f"class {i}" for i in ORDER]


@pytest.mark.parametrize(
    ("key", "own", "theirs"),
    [
        ("doc_id", ORDER, range(8)),
        ("uid", ORDER, range(8)),
        ("id", [float(i) for i in ORDER], range(8)),
        ("id", ORDER, [f"{i}.0" for i in range(8)]),
        ("id", [f"{i}.0" for i in ORDER], pa.array(range(8), pa.float64())),
        ("Doc ID", ORDER, range(8)),
        ("code", [f"A-{i}" for i in ORDER], [f" A-{i}" for i in range(8)]),
        ("number", ORDER, range(8)),
        ("docid", [str(i) for i in ORDER], pa.array(range(8), pa.int8())),
        ("key", [f"00{i}" for i in ORDER], [f"00{i}" for i in range(8)]),
        ("name", ["caf\u00e9" + str(i) for i in ORDER], ["cafe\u0301" + str(i) for i in range(8)]),
    ],
)
def test_labels_are_joined_by_the_column_that_both_have(key: str, own: Sequence[Any], theirs: Any) -> None:
    """Whole numbers in another order than the rows, of every type; never by the rows' numbers."""
    label, notes = joined(texts(**{key: own}), {key.lower().replace(" ", "_"): theirs, "label": LABELS})
    assert label == RIGHT
    assert notes.lines()[0].startswith("8 of 8 rows of the label file match an example by ")
    assert notes.lines()[0].endswith("0 match none; 0 examples have no row")


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        ({}, {"doc_id": range(8)}, "names examples by 'doc_id', which the data lacks"),
        ({}, {"id": range(8)}, "number the rows from 0 in a column 'row'"),
        ({}, {"": range(8)}, "which the data lacks"),
        ({"id": ORDER}, {"doc_id": range(8)}, "names examples by 'doc_id', which the data lacks .they have id.* 'id'"),
        ({"page": [1] * 8}, {"doc_id": range(8), "page": range(8)}, "cannot tell which|lacks"),
        ({"doc_id": [f"00{i}" for i in ORDER]}, {"doc_id": range(8)}, "'0' and '000' differ in zeros at the front"),
        ({"id": ORDER}, {"id": range(100, 108)}, "only 0 of the 8 rows of labels.csv match an example by 'id'"),
        ({}, {"row": range(1, 9)}, "counts from 1 to 8"),
    ],
)
def test_what_is_no_key_of_both_is_refused(columns: dict[str, Any], rows: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        joined(texts(**columns), {**rows, "label": LABELS})


def test_an_id_that_occurs_twice_means_neither_and_spoils_no_other() -> None:
    twice = [5, 0, 3, 5, 1, 6, 2, 4]
    label, notes = joined(texts(id=twice), {"id": range(8), "label": LABELS})
    assert label == [None if i == 5 else f"class {i}" for i in twice]
    assert "1 match none (7), 1 match several (5); 2 examples have no row" in notes.lines()[0]
    assert "(" not in notes.lines(private=True)[0]


def test_rows_are_keys_where_they_are_asked_for() -> None:
    label, notes = joined(texts(), {"row": [*range(7, -1, -1)], "label": LABELS})
    assert label == LABELS[::-1]
    assert notes.joined_by == "row"
    written = {"file": range(8), "label": LABELS, "why": ["so"] * 8, "score": [0.5] * 8}  # by next-labels, once
    assert joined(texts(), written)[0] == LABELS
    with pytest.raises(UserError, match="lacks"):  # of which of two tables?
        joined(join(texts(), texts()), {"row": range(8), "label": LABELS})


def test_a_row_that_is_labelled_twice_and_differently_counts_as_unlabelled() -> None:
    rows = {"id": [*range(8), "3.0"], "label": [*LABELS, "class 9"]}
    label, notes = joined(texts(id=ORDER), {name: [str(of) for of in values] for name, values in rows.items()})
    assert label == [None if name == "class 3" else name for name in RIGHT]
    assert notes.conflicting.first == ("3",)


# ---------------------------------------------------------------- folders that paths name


def images(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(number))
    return root


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """siteA: 30 images, siteB: 20, of the same numbers."""
    names = [f"site{site}/{i:04d}.png" for site, n in (("A", 30), ("B", 20)) for i in range(n)]
    return images(tmp_path_factory.mktemp("sites") / "data", *names)


def test_a_file_about_another_folder_labels_nothing_of_this_one(sites: Path) -> None:
    about = [("siteB", i) for i in range(20)] + [("siteC", i) for i in range(20, 30)]
    rows = {"file": [f"{site}/{i:04d}.png" for site, i in about], "label": ["x", "y"] * 15}
    source = open_source(sites)
    label, notes = joined(source, rows)
    assert {name[:5] for name, of in zip(source.ids.to_pylist(), label, strict=True) if of} == {"siteB"}
    assert (notes.matched.count, notes.unmatched.count) == (20, 10)
    assert "10 match none (siteC/0020.png, siteC/0021.png, siteC/0022.png, ...)" in notes.lines()[0]
    for start in ("siteC/", "/elsewhere/siteC/", "C:\\siteC\\", "study/siteC/"):
        others = {"file": [f"{start}{i:04d}.png" for i in range(30)], "label": ["x"] * 30}
        with pytest.raises(UserError, match=r"only 0 of the 30 rows .*an example is '0000.png' of the folder siteA"):
            joined(open_source(sites / "siteA"), others)
    moved = {"file": [f"/elsewhere/siteA/{i:04d}.png" for i in range(30)], "label": ["x"] * 30}
    label, notes = joined(open_source(sites / "siteA"), moved)
    assert label == ["x"] * 30
    assert notes.lines()[1].endswith("taken for that of the data: elsewhere/siteA")


def test_numbers_of_images_may_be_written_without_zeros_only_where_they_are(tmp_path: Path) -> None:
    source = open_source(images(tmp_path / "scans", *(f"{i:03d}.png" for i in range(8))))
    with pytest.raises(UserError, match=r"'0' and '000' differ in zeros at the front"):
        joined(source, {"image_id": range(8), "label": LABELS})
    assert joined(source, {"image_id": [f"{i:03d}" for i in range(8)], "label": LABELS})[0] == LABELS
    plain = open_source(images(tmp_path / "plain", *(f"{i}.png" for i in range(8))))
    assert joined(plain, {"image_id": [float(i) for i in range(8)], "label": LABELS})[0] == LABELS


# ---------------------------------------------------------------- what is known, as names


def known(label: Any = None, group: Any = None, **settings: Any) -> tuple[Labels, Notes]:
    asked = LabelOptions(label_column="label", group_column=None if group is None else "group", **settings).label_spec()
    columns = {"label": label if label is not None else ["a", "b"] * (len(group) // 2)}
    columns |= {} if group is None else {"group": group}
    table = pa.table(columns)
    source = Source("data", pa.array([f"e{i}" for i in range(len(table))]), "", lambda: iter(()), lambda k: [])
    notes = Notes(missing=Missing(asked.kept))
    found = own_columns(Source(**{**vars(source), "columns": table}), asked.columns, notes.missing)
    return resolve(found, asked, None, source.ids, notes), notes


@pytest.mark.parametrize(
    "group",
    [
        ["7", "7.0", "8", "8.00"],
        [" 7", "7 ", "8.", "8"],
        ["1e+05", "100000", "8", "8.0"],
        ["caf\u00e9", "cafe\u0301", "8", "8"],
        ["-7.0", "-7", "0", "-0.0"],
    ],
)
def test_a_group_that_is_written_in_two_ways_is_one(group: list[str]) -> None:
    found = known(group=group)[0].group
    assert found is not None
    assert found[0] == found[1] != found[2] == found[3]
    codes = {key: known(group=pa.array([7, 7, 8, 8]).cast(kind))[0].group for key, kind in KINDS.items()}
    assert len({tuple(code) for code in codes.values() if code is not None}) == 1


KINDS = {"int": pa.int64(), "small": pa.int8(), "float": pa.float32(), "double": pa.float64(), "text": pa.string()}


def test_groups_that_may_be_one_are_refused() -> None:
    with pytest.raises(UserError, match="the groups '007' and '7' differ in zeros at the front alone"):
        known(group=["007", "7", "8", "9"])
    with pytest.raises(UserError, match="'1' and '01' are one number written in two ways"):
        known(["1", "01", "2", "2"])


def test_patients_written_in_two_ways_are_on_one_side_of_the_seal(tmp_path: Path) -> None:
    patient = [f"{i // 6}" if i % 2 else f"{i // 6}.0" for i in range(120)]
    table = pa.table({"image": [png(i) for i in range(120)], "label": ["a", "b"] * 60, "patient": patient})
    dataset = open_dataset(table, label_column="label", group_column="patient", cache=str(tmp_path))
    split = split_dataset(dataset, seed=0)
    assert split.labelled is not None
    sides = [{i // 6 for i in split.rows[of]} for of in (split.labelled.train, split.labelled.test)]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_a_seal_keeps_a_group_that_is_called_something_else_by_now() -> None:
    """Sealed when a group was called 7.0: what has come to the group since does not train, whatever it is called."""
    y, old = np.array([0, 1] * 60), np.array([f"{i // 6}.0" for i in range(120)])
    content = np.array([f"c{i}" for i in range(126)])
    kept = seal(y, old, content[:120], seed=0)
    tested = int(np.flatnonzero(kept.place(old, content[:120]).sealed)[0]) // 6
    now = np.array([*(f"{i // 6}" for i in range(120)), *[str(tested)] * 6])
    assert kept.place(now, content).beside[120:].all()


@pytest.mark.parametrize(
    "label",
    [
        ["a", "b", "a", "b", *words]
        for words in (["NA", "NA"], ["", " "], ["None", "null"], ["nan", "NaT"], ["<NA>", "N/A"], [None, None])
    ],
)
def test_no_class_is_made_of_words_that_say_that_there_is_none(label: list[str | None]) -> None:
    found, notes = known(label)
    assert found.classes == ("a", "b")
    assert found.label.tolist() == [0, 1, 0, 1, -1, -1]
    said = notes.lines()
    assert bool(said) == bool(label[4] and label[4].strip())
    if said:
        assert said[-1].startswith("2 cells of the label column say that there is none (")
        assert notes.as_dict(private=True)["missing"] == {"label": 2}
        assert label[4] not in " ".join(notes.lines(private=True))
        kept = known(label, keep_label=[word for word in label[4:] if word])[0].label
        assert (kept[4:] >= 0).all() or label[4] != label[5]


def test_groups_without_a_name_are_none(tmp_path: Path) -> None:
    found, notes = known(group=["7", "NA", "NaN", "7.0"])
    assert found.group is not None
    assert len(set(found.group.tolist())) == 3
    assert notes.ungrouped == 2
    assert len(set(known(group=["7", "NA", "NA", "7"], keep_label=["NA"])[0].group.tolist())) == 2  # type: ignore[union-attr]


def test_minus_one_among_whole_numbers_is_said() -> None:
    found, notes = known([0, 1, -1, 0, 1, -1])
    assert found.classes == ("-1", "0", "1")
    assert notes.remarks[0].endswith("say --ignore-label -1")
    found, notes = known([0, 1, -1, 0, 1, -1], ignore_label=["-1.0"])
    assert found.classes == ("0", "1")
    assert not notes.remarks
    assert not known([-1, 1, -1, 1])[1].remarks[1:]


def test_several_labels_are_named_alike() -> None:
    found, _ = known(["7|x", "7.0|NA", "x", "y|7", "y", "NA"], multilabel="|")
    assert found.classes == ("7", "x", "y")
    assert found.truth is not None
    assert found.truth[:4].tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert np.isnan(found.truth[5]).all()


def test_a_value_to_hold_out_and_a_label_to_ignore_are_names_too() -> None:
    table = pa.table({"label": list("ababab7ab"), "site": ["1.0", "1", "2", "2", "1", "2", "2", "2", "2"]})
    asked = LabelOptions(label_column="label", holdout="site=1.0", ignore_label=["7.0"]).label_spec()
    assert (asked.held_out, asked.ignored) == ("1", ("7",))
    source = Source("data", pa.array(list("abcdefghi")), "", lambda: iter(()), lambda k: [], columns=table)
    found = resolve(own_columns(source, asked.columns, Missing()), asked, None, source.ids, Notes())
    assert found.split is not None
    assert found.split.tolist() == [TEST, TEST, TRAIN, TRAIN, TEST, *[TRAIN] * 4]
    assert found.label[6] == -1


# ---------------------------------------------------------------- class folders


def layout(tmp_path: Path, *names: str, keep: Sequence[str] = ()) -> tuple[dict[str, str | None], Source]:
    """The label of each file, each folder of one or two."""
    found = with_folder_labels(open_source(images(tmp_path / "root", *names)), Missing(tuple(keep)))
    assert found.label is not None
    return dict(zip(found.ids.to_pylist(), found.label.to_pylist(), strict=True)), found


SPLIT = ("train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/4.png")


@pytest.mark.parametrize(
    "more",
    [
        *("unlabeled/5.png", "unlabelled/5.png", "Unlabeled/deep/5.png", "unsup/5.png", "unlabeled2017/5.png"),
        *("train_unlabeled/5.png", "cover.png", "train/unsup/5.png", "train/loose.png", "unlabeled_data/a/5.png"),
        *("train/unlabelled/5.png", "test/unlabeled/5.png"),
    ],
)
def test_what_lies_beside_class_folders_has_no_label(tmp_path: Path, more: str) -> None:
    label, source = layout(tmp_path, *SPLIT, more)
    assert label == {name: name.split("/")[1] for name in SPLIT} | {more: None}
    assert source.split is not None
    splits = dict(zip(label, source.split.tolist(), strict=True))
    assert splits == {name: TEST if name.startswith("test") else TRAIN for name in label}
    assert source.remarks == (f"1 examples lie in no class folder and have no label: {more}",)


@pytest.mark.parametrize(
    ("names", "classes", "tested"),
    [
        (("train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "val/dog/4.png"), {"cat", "dog"}, {"val"}),
        (("train/cat/1.png", "valid/cat/3.png", "test/dog/4.png"), {"cat", "dog"}, {"test"}),
        (("Train/cat/1.png", "VALIDATION/dog/4.png"), {"cat", "dog"}, {"VALIDATION"}),
        (("training/cat/1.png", "testing/dog/4.png"), {"cat", "dog"}, {"testing"}),
        (("train/cat/1.png", "train/dog/2.png"), {"cat", "dog"}, set()),
        (("cat/1.png", "dog/2.png", "unlabeled/3.png"), {"cat", "dog"}, set()),
        (("car/1.png", "train/2.png", "plane/3.png"), {"car", "train", "plane"}, set()),
        (("car/1.png", "train/a/2.png", "plane/3.png"), {"car", "train", "plane"}, set()),
        (("control/1.png", "test/2.png"), {"control", "test"}, set()),
        (("cat/deep/1.png", "dog/2.png", "top.png"), {"cat", "dog"}, set()),
    ],
)
def test_layouts_are_read_as_others_mean_them(
    tmp_path: Path, names: Sequence[str], classes: set[str], tested: set[str]
) -> None:
    label, source = layout(tmp_path, *names)
    assert {name for name in label.values() if name} == classes
    held = (
        set()
        if source.split is None
        else {n.split("/")[0] for n, s in zip(label, source.split, strict=True) if s == TEST}
    )
    assert held == tested


def test_folders_of_which_some_are_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="test, train of root are splits, and 'holdout' is none"):
        layout(tmp_path, *SPLIT, "holdout/cat/5.png")
    source = with_folder_labels(open_source(images(tmp_path / "two" / "root", *SPLIT)), Missing())
    with pytest.raises(UserError, match="root has a test split already"):
        join(source, source)


def test_a_class_may_be_called_unlabeled_where_it_is_asked_for(tmp_path: Path) -> None:
    label, _ = layout(tmp_path, "cat/1.png", "unlabeled/2.png", keep=["unlabeled"])
    assert set(label.values()) == {"cat", "unlabeled"}


# ---------------------------------------------------------------- names of classes, labels beside arrays


FEATURE = {"names": ["cat", "dog"], "_type": "ClassLabel"}


def served(label: pa.Array, feature: Any = FEATURE) -> pa.Table:
    """A table as the Hugging Face hub serves it."""
    told = json.dumps({"info": {"features": {"label": feature, "other": {"dtype": "int64", "_type": "Value"}}}})
    return pa.table({"label": label, "other": range(len(label))}).replace_schema_metadata({"huggingface": told})


@pytest.mark.parametrize("kind", [pa.int64(), pa.int32(), pa.int8()])
def test_classes_have_the_names_of_the_metadata_and_minus_one_is_none(tmp_path: Path, kind: pa.DataType) -> None:
    table = served(pa.array([0, 1, -1, None], kind))
    assert own_class_names(table)["label"].to_pylist() == ["cat", "dog", None, None]
    assert own_class_names(table)["other"].to_pylist() == [0, 1, 2, 3]
    pq.write_table(table.append_column("text", pa.array(TEXT[:4])), tmp_path / "t.parquet")
    for data in (tmp_path / "t.parquet", pq.read_table(tmp_path / "t.parquet")):
        source = open_source(data)
        assert source.columns is not None
        assert source.columns["label"].to_pylist() == ["cat", "dog", None, None]


@pytest.mark.parametrize("feature", [{"feature": FEATURE, "_type": "Sequence"}, {"feature": FEATURE}, [FEATURE]])
def test_lists_of_classes_have_names_too(feature: Any) -> None:
    table = served(pa.array([[0, 1], [], [-1], None, [1]]), feature)
    assert own_class_names(table)["label"].to_pylist() == [["cat", "dog"], [], [None], None, ["dog"]]


@pytest.mark.parametrize("told", [b"", b"{", b"[]", b'{"info": null}', b'{"info": {"features": [1]}}', b"[" * 100_000])
def test_metadata_that_tell_nothing_change_nothing(told: bytes) -> None:
    table = pa.table({"label": [0, 1]}).replace_schema_metadata({b"huggingface": told})
    assert own_class_names(table)["label"].to_pylist() == [0, 1]


def test_a_class_without_a_name_is_refused() -> None:
    with pytest.raises(UserError, match="column 'label' holds the class 2, but names 2 classes only"):
        own_class_names(served(pa.array([0, 2])))


def test_a_data_set_of_the_library_has_its_names(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["cat", "dog"])})
    made = datasets.Dataset.from_dict({"text": TEXT, "label": [0, 1, -1, None] * 2}, features=features)
    source = open_source(made)
    assert source.columns is not None
    assert source.columns["label"].to_pylist() == ["cat", "dog", None, None] * 2


PIXELS = np.random.default_rng(0).integers(0, 255, (20, 8, 8), np.uint8)


@pytest.mark.parametrize(
    "y",
    [
        ["a", "b", None, None] * 5,
        pd.Series(["a", "b", None, pd.NA] * 5),
        pd.Series(["a", "b", "NA", ""] * 5).values,
        pd.Series(["a", "b", None, None] * 5, dtype="category"),
        np.array(["a", "b", None, float("nan")] * 5, object),
        pa.chunked_array([["a", "b", None, "None"] * 5]),
        ("a", "b", "nan", "null") * 5,
        pd.DataFrame({"y": ["a", "b", None, None] * 5}),
    ],
)
def test_labels_beside_arrays_are_read_from_whatever_holds_them(tmp_path: Path, y: Any) -> None:
    dataset: Dataset = open_dataset({"x": PIXELS, "y": y}, cache=str(tmp_path))
    assert dataset.classes == ("a", "b")
    assert dataset.label.tolist() == [0, 1, -1, -1] * 5
    assert [line for line in dataset.notes.lines() if line.startswith("10 ")]


def test_labels_of_another_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="20 images need 20 labels, got 3"):
        open_dataset({"x": PIXELS, "y": ["a", None, "b"]}, cache=str(tmp_path))


def test_what_is_known_is_empty_without_columns() -> None:
    assert own_columns(texts(), {}, Missing()) == Columns()


BIG = [10**17 + 16 * i for i in range(8)]


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        ([float(i + 3) for i in BIG], BIG),  # of which floats make the ids of others
        ([i + 3 for i in BIG], [float(i) for i in BIG]),
        (BIG, [f"{i:.5E}" for i in BIG]),
    ],
)
def test_ids_that_have_lost_their_last_digits_join_nothing(own: list[Any], theirs: list[Any]) -> None:
    with pytest.raises(UserError, match="whose last digits are lost"):
        joined(texts(id=own), {"id": theirs, "label": LABELS})


@pytest.mark.parametrize(
    ("own", "theirs", "hint"),
    [
        ([f"A-{i}" for i in range(8)], [f"a-{i}" for i in range(8)], "differ in capitals: write them in one way"),
        ([i // 2 for i in range(8)], range(8), "mean several examples, since names occur twice"),
    ],
)
def test_why_nothing_matches_is_said(own: list[Any], theirs: Any, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        joined(texts(id=own), {"id": theirs, "label": LABELS})


def test_a_name_with_a_blank_at_its_front_is_not_taken_for_another(tmp_path: Path) -> None:
    for name in ("x0", " x0", "x1", "x2"):
        (tmp_path / f"{name}.png").write_bytes(png(len(name)))
    label, notes = joined(open_source(tmp_path), {"file": [" x0.png", "x1.png", "x2.png"], "label": LABELS[:3]})
    assert label == [None, None, "class 1", "class 2"]
    assert notes.ambiguous.count == 1
