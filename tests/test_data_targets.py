"""What labels say, by target, and everything about them that is refused or left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import UserError
from tacit.data.label_spec import target_named, target_settings
from tacit.data.labels import Columns, as_text
from tacit.data.notes import Notes
from tacit.data.options import LabelOptions
from tacit.data.resolved import Labels, resolve
from tacit.dataset import TEST, TRAIN, Dataset, open_dataset
from tacit.evaluation.targets import make_target
from tacit.experiment.split import split_dataset
from tacit.modalities.image.arrays import row_numbers

from .test_data_labels import table
from .test_data_open import folder, png


@pytest.fixture
def cached(tmp_path: Path):
    def open_(data: object, **settings: object) -> Dataset:
        return open_dataset(data, **{"cache": str(tmp_path / "cache"), **settings})  # type: ignore[arg-type]

    return open_


def known(
    label: Any, notes: Notes | None = None, split: list[int] | None = None, columns: Any = None, **settings: Any
) -> Labels:
    """The same without any data; `columns` are others than the label."""
    others = {key: as_text(pa.array(values)) for key, values in (columns or {}).items()}
    text = as_text(pa.array(label), lists=True)
    codes = None if split is None else np.array(split, np.int8)
    found = Columns(label=text, **others)
    return resolve(found, LabelOptions(**settings).label_spec(), codes, row_numbers(len(text)), notes or Notes())


def names(of: Any) -> list[str]:
    return make_target(of.target).names_of(of, range(len(of.label)))


# ---------------------------------------------------------------- numbers


def test_numbers_are_kept_and_balanced_in_five_parts(cached):
    values = [3.5, None, *np.linspace(10, 91, 18), float("nan")]
    dataset = cached(table(age=values), label_column="age", target="regression")
    assert dataset.target == "regression"
    assert dataset.classes == ()
    assert dataset.truth is not None
    np.testing.assert_array_equal(dataset.truth, np.array(values, float))
    assert np.bincount(dataset.label[dataset.label >= 0]).tolist() == [4, 4, 3, 4, 4]
    assert (np.diff(dataset.label[2:-1]) >= 0).all()
    np.testing.assert_array_equal(dataset.label < 0, np.isnan(dataset.truth))
    assert make_target(dataset.target).describe(dataset) == "19 labelled with numbers from 3.5 to 91"
    assert names(dataset)[:3] == ["3.5", "", "10"]


@given(st.lists(st.integers(-3, 3), min_size=4, max_size=40), st.data())
def test_equal_numbers_share_a_part_and_larger_ones_never_lie_lower(values: list[int], data: st.DataObject) -> None:
    split = data.draw(st.lists(st.sampled_from([TRAIN, TEST]), min_size=len(values), max_size=len(values)))
    train = {value for value, side in zip(values, split, strict=True) if side == TRAIN}
    if split.count(TRAIN) < 4 or len(train) < 2:
        with pytest.raises(UserError, match=r"regression needs|are the number"):
            known(values, split=split, target="regression")
        return
    label = known(values, split=split, target="regression").label
    order = np.argsort(values, kind="stable")
    same = np.diff(np.array(values)[order]) == 0
    steps = np.diff(label[order])
    assert (steps[same] == 0).all()
    assert (steps >= 0).all()
    assert set(label.tolist()) == set(range(label.max() + 1))
    assert label.max() < 5


def test_numbers_of_the_test_split_shape_nothing() -> None:
    split = [TRAIN] * 10 + [TEST] * 4
    one = known([*range(10), 1, 2, 3, 4], split=split, target="regression").label
    other = known([*range(10), 100, -200, 1000, 10000], split=split, target="regression").label
    assert one[:10].tolist() == other[:10].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (["1", "2", "3", "4", "4,5"], "the label '4,5' is no finite number"),
        (["1", "2", "3", "inf", "5"], "the label 'inf' is no finite number"),
        (["1", "2", "nan", "", None, "4"], "needs 4 labelled examples to train on; there are 3"),
        (["7", "7.0", "7e0", "7"], "all 4 labels to train on are the number 7"),
        ([None, None, None, None, ""], "there are 0"),
        ([True, False, True, False, True], "the label 'true' is no finite number"),
    ],
)
def test_labels_that_are_no_numbers_to_predict(label: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        known(label, target="regression")


def test_an_ignored_number_is_unlabelled() -> None:
    notes = Notes()
    found = known([1, 2, 3, 4, -9], notes, target="regression", ignore_label=["-9"])
    assert found.truth is not None
    assert found.truth[:4].tolist() == [1, 2, 3, 4]
    assert np.isnan(found.truth[4])
    assert notes.ignored == 1


def test_measurements_given_as_classes_name_both_ways_out() -> None:
    for values in (np.linspace(0.1, 9, 90).tolist(), list(range(90))):
        with pytest.raises(UserError, match=r"--target regression, or, .* the name of a class"):
            known(values)


# ---------------------------------------------------------------- several labels


CELLS = ["fever|cough", " cough ", "|", None, "", "rash|fever| cough", "fever", "rash", "rare|rash"]


def test_several_labels_per_cell() -> None:
    notes = Notes()
    found = known(CELLS, notes, multilabel="|")
    assert found.target == "multilabel"
    assert found.classes == ("cough", "fever", "rash")
    assert found.truth is not None
    none = [np.nan] * 3
    expected = [[1, 1, 0], [1, 0, 0], [0, 0, 0], none, none, [1, 1, 1], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    np.testing.assert_array_equal(found.truth, np.array(expected, float))
    # each label is had by three: the first of the rarest counts
    assert found.label.tolist() == [0, 0, 3, -1, -1, 0, 1, 2, 2]
    assert notes.dropped_labels.first == ("rare",)
    assert "1 labels are had by a single example to train on, or by all, and were left out: rare" in notes.lines()
    assert make_target(found.target).describe(found) == "7 labelled with 3 labels, 1.3 each on average"
    assert names(found) == ["cough, fever", "cough", "none", "", "", "cough, fever, rash", "fever", "rash", "rash"]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "file"])
def test_lists_of_labels_need_no_sign(tmp_path: Path, cached, kind: str) -> None:
    cells = [["a|b", "c"], ["c"], [], None, ["a|b"], ["c", ""], ["a|b", "c"]]
    data = table(findings=pa.array(cells, pa.list_(pa.string())))
    if kind == "file":
        pq.write_table(pa.table({"file": [f"{i}.png" for i in range(7)], "label": data["findings"]}), tmp_path / "l.pq")
        for i in range(7):
            (tmp_path / f"{i}.png").write_bytes(png(i))
        dataset = cached(tmp_path, labels=str(tmp_path / "l.pq"), target="multilabel")
    else:
        if kind == "parquet":
            pq.write_table(data, tmp_path / "data.parquet")
        source = tmp_path / "data.parquet" if kind == "parquet" else data
        dataset = cached(source, label_column="findings", target="multilabel")
    assert names(dataset) == ["a|b, c", "c", "none", "", "a|b", "c", "a|b, c"]
    if kind == "arrow":
        with pytest.raises(UserError, match="lists of labels are read with --target multilabel"):
            cached(data, label_column="findings")


def test_arrays_of_zeros_and_ones_are_several_labels(cached) -> None:
    images = np.arange(5 * 64, dtype=np.uint8).reshape(5, 8, 8)
    y = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]])
    dataset = cached({"x": images, "y": y}, target="multilabel")
    assert dataset.classes == ("0", "1")
    assert dataset.truth is not None
    np.testing.assert_array_equal(dataset.truth, y[:, :2])
    with pytest.raises(UserError, match="one label per example, not a table: say --target multilabel"):
        cached({"x": images, "y": y})
    with pytest.raises(UserError, match="hold other numbers than 0 and 1"):
        cached({"x": images, "y": y + 1}, target="multilabel")


def test_labels_are_those_of_the_training_side() -> None:
    notes = Notes()
    cells = ["a|b|all", "a|all", "b|all", "all", "b|new", "new", "a"]
    found = known(cells, notes, split=[TRAIN] * 4 + [TEST] * 3, multilabel="|")
    assert found.classes == ("a", "b")
    assert notes.untrained_classes.first == ("new",)
    assert notes.dropped_labels.first == ("all",)
    assert names(found)[4:] == ["b", "none", "a"]  # they stay labelled


@pytest.mark.parametrize(
    ("label", "settings", "message"),
    [
        (["a,b", "a", "b"], {"multilabel": "|"}, r"--multilabel '\|': no label holds it \(first: 'a,b'\)"),
        (["a|b", "a"], {"target": "multilabel"}, "say how the labels of a cell are parted"),
        (
            ["a|b", "a|b", "b|a"],
            {"multilabel": "|"},
            "at least one that two examples to train on have and another lacks",
        ),
        (["a|b", "c|d"], {"multilabel": "|"}, "there is none"),
        ([None, None], {"multilabel": "|"}, "there is none"),
        ([f"{i}|{i + 1}" for i in range(2000)], {"multilabel": "|"}, "1,999 labels are too many for a probe each"),
        (["a"], {"multilabel": "|", "target": "regression"}, "exclude each other"),
        (["a"], {"multilabel": " "}, "blanks are no sign"),
        (["a"], {"target": "regresion"}, "did you mean 'regression'"),
    ],
)
def test_labels_that_are_not_several(label: list[Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        known(label, **settings)


# ---------------------------------------------------------------- search, pairs, tokens


def test_classes_to_be_found_again_need_two_examples_in_all() -> None:
    notes = Notes()
    split = [TRAIN, TEST, TRAIN, TRAIN, TEST, TRAIN]
    found = known(["7", "7", "07", "07", "1", None], notes, split=split, target="retrieval")
    assert found.classes == ("07", "7")  # product numbers, not amounts
    assert names(found) == ["7", "7", "07", "07", "", ""]
    assert notes.dropped_classes.first == ("1",)
    many = known([str(i // 2) for i in range(20_000)], target="retrieval")
    assert len(many.classes) == 10_000


def test_pairs_are_numbered_whole_and_never_parted() -> None:
    notes = Notes()
    found = known(["p1", "p2", "p1", "p2", "p3", None, "p2"], notes, target="pairs")
    assert found.label.tolist() == [0, 1, 0, 1, -1, -1, 1]
    assert notes.unpaired == 1
    assert "1 examples have no partner and count as unlabelled" in notes.lines()
    assert notes.ungrouped == 0
    assert found.group is not None
    assert len(set(found.group[found.label == 1])) == 1
    assert len(set(found.group)) == 4
    assert make_target(found.target).describe(found) == "5 labelled in 2 pairs"


def test_sides_of_pairs() -> None:
    notes = Notes()
    side = ["text", "image", "text", "image", "image", "image"]
    found = known(["1", "1", "2", "2", "3", "3"], notes, columns={"side": side}, target="pairs")
    assert found.side is not None
    assert found.side.tolist() == [1, 0, 1, 0, 0, 0]
    assert found.label.tolist() == [0, 0, 1, 1, -1, -1]  # two images are no pair
    assert notes.unpaired == 2
    for wrong, told in ((["a", "b", "c", "a", "b", "c"], "'a', 'b', 'c'"), (["a"] * 6, "'a'")):
        with pytest.raises(UserError, match=f"side' holds {told}.*two sides are expected|at least two pairs"):
            known(["1", "1", "2", "2", "3", "3"], columns={"side": wrong}, target="pairs")


def test_a_group_keeps_its_pairs_or_is_refused() -> None:
    label = ["1", "1", "2", "2"]
    found = known(label, columns={"group": ["a", "a", "a", "a"]}, group_column="group", target="pairs")
    assert found.group is not None
    assert len(set(found.group)) == 1
    for groups in (["a", "b", "a", "a"], ["a", None, "a", "a"]):
        with pytest.raises(UserError, match="pair '1' lies in several groups of the group column"):
            known(label, columns={"group": groups}, group_column="group", target="pairs")
    with pytest.raises(UserError, match="pair '2' has examples on both sides of the test split"):
        known(label, split=[TRAIN, TRAIN, TRAIN, TEST], target="pairs")


@pytest.mark.parametrize("target", ["pairs", "retrieval"])
@pytest.mark.parametrize("label", [[None] * 4, ["a", "a", "a", "a"], ["a", "b", "c", "d"]])
def test_nothing_to_be_found(target: str, label: list[Any]) -> None:
    with pytest.raises(UserError, match="labels need at least two"):
        known(pa.array(label, pa.string()), target=target)


def test_a_score_is_of_two() -> None:
    notes = Notes()
    pair = ["p1", "p2", "p1", "p2", "p3", "p3", "p4", "p5", "p5"]
    score = ["4.5", "0", "4.5", "0", "2", "2", "3", None, "1"]
    found = known(score, notes, columns={"pair": pair}, target="similarity")
    assert found.truth is not None
    np.testing.assert_array_equal(found.truth, [4.5, 0, 4.5, 0, 2, 2, np.nan, np.nan, np.nan])
    assert found.pair is not None
    assert found.pair.tolist() == [0, 1, 0, 1, 2, 2, -1, -1, -1]
    assert notes.unpaired == 2  # p4's other one is missing, and one of p5 has no score
    assert found.group is not None
    assert len(set(found.group)) == 6
    assert make_target(found.target).describe(found) == "3 pairs scored from 0 to 4.5"
    assert names(found)[:3] == ["4.5", "0", "4.5"]


def test_groups_name_pairs_or_hold_several() -> None:
    score, pair = ["1", "1", "2", "2", "3", "3"], ["a", "a", "b", "b", "c", "c"]
    named = known(score, columns={"group": pair}, group_column="group", target="similarity")
    assert named.pair is not None
    assert named.pair.tolist() == [0, 0, 1, 1, 2, 2]
    columns = {"pair": pair, "group": ["x", "x", "y", "y", "x", "x"]}
    held = known(score, columns=columns, group_column="group", target="similarity")
    assert held.group is not None
    assert len(set(held.group)) == 2
    with pytest.raises(UserError, match="pair 'a' lies in several groups"):
        known(score, columns={**columns, "group": list("xyyyxx")}, group_column="group", target="similarity")


@pytest.mark.parametrize(
    ("score", "pair", "said"),
    [
        (["1"] * 6, "aabbcc", "all 6 labels in pairs are the number 1: there is nothing to predict"),
        (["1", "1", "2", "3", "4", "4"], "aabbcc", "the two examples of pair 'b' have different scores: give both"),
        (["1", "2", "3", "4", "5", "6"], "abcdef", "needs 4 labelled examples in pairs; there are 0: label more"),
        (["1", "1", "1", "2", "2", "2"], "aaabbb", "pair 'a' and 1 more has more than two examples"),
        ([None] * 6, "aabbcc", "needs the scores of some pairs, and there are none: .* --label-column"),
        (["1", "1", "much", "much", "4", "4"], "aabbcc", "--target similarity: the label 'much' is no finite number"),
        (["1", "1", "2", "2", "4", "4"], "", "needs to know what a score compares: .*--text-column.*--group-column"),
    ],
)
def test_scores_that_say_nothing(score: list[Any], pair: str, said: str) -> None:
    columns = {"pair": list(pair)} if pair else {}
    with pytest.raises(UserError, match=said):
        known(pa.array(score, pa.string()), columns=columns, target="similarity")


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "memory"])
def test_two_columns_of_a_row_are_a_pair(form: str, tmp_path: Path, cached) -> None:
    rows = [
        {"id": f"r{i}", "one": f"the cat {i} sat", "other": "" if i == 3 else f"a dog {i} ran", "score": i % 5 / 2}
        for i in range(60)
    ]
    data: Any = pa.Table.from_pylist(rows)
    path = tmp_path / f"pairs.{form}"
    if form == "csv":
        pa_csv.write_csv(data, path)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif form == "parquet":
        pq.write_table(data, path)
    told = {"text_column": ["one", "other"], "label_column": "score", "target": "similarity", "vocabulary": 300}
    dataset = cached(data if form == "memory" else str(path), **told)
    assert dataset.ids.to_pylist()[4:8] == ["r2#one", "r2#other", "r3#one", "r4#one"]
    assert dataset.cache.texts([4, 5, 6]) == ["the cat 2 sat", "a dog 2 ran", "the cat 3 sat"]
    np.testing.assert_array_equal(dataset.truth[4:8], [1, 1, np.nan, 2])
    assert dataset.notes.listed == 120
    assert (dataset.notes.blank, dataset.notes.unpaired) == (1, 1)
    assert make_target(dataset.target).describe(dataset) == "59 pairs scored from 0 to 2"
    split = split_dataset(dataset, seed=0)
    assert split.labelled is not None
    test = split.rows[split.labelled.test]
    assert 30 <= len(test) <= 38
    assert not set(dataset.pair[test]) & set(dataset.pair[split.pretrain]) - {-1}
    assert len(split.pretrain) + len(test) == len(dataset)


def test_pairs_of_a_test_file_of_the_same_name_stay_their_own(tmp_path: Path, cached) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        lines = [f"the {part} cat {i},the {part} dog {i},{i % 7}" for i in range(20)]
        (tmp_path / part / "sts.csv").write_text("\n".join(["one,other,score", *lines]))
    told = {"text_column": ["one", "other"], "label_column": "score", "target": "similarity", "vocabulary": 300}
    dataset = cached(str(tmp_path / "train" / "sts.csv"), test=str(tmp_path / "test" / "sts.csv"), **told)
    assert make_target(dataset.target).describe(dataset) == "40 pairs scored from 0 to 6"
    assert np.bincount(dataset.split[dataset.pair >= 0]).tolist() == [40, 40]


def test_tokens_need_their_sentence() -> None:
    label = ["noun", "verb", "noun", "verb"]
    with pytest.raises(UserError, match=r"which tokens stand in one sentence .*--group-column"):
        known(label, target="tokens")
    columns = {"group": ["s1", "s1", "s2", "s2"], "token": ["dogs", "bark", None, "bark"]}
    found = known(label, columns=columns, group_column="group", target="tokens")
    assert found.classes == ("noun", "verb")
    assert found.token is not None
    assert found.token.tolist() == [0, 1, 2, 1]
    assert make_target(found.target).describe(found) == "4 tokens labelled in 2 classes"


@pytest.mark.parametrize("target", ["retrieval", "pairs"])
def test_of_many_small_classes_a_third_is_sealed(tmp_path: Path, target: str) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (400, 8, 8), dtype=np.uint8)
    dataset = open_dataset({"x": images, "y": np.arange(400) // 2}, target=target, cache=str(tmp_path))
    labelled = split_dataset(dataset, seed=0).labelled
    assert labelled is not None
    assert labelled.target == target
    assert len(labelled.test) == 120
    if target == "pairs":
        assert not set(labelled.y[labelled.test]) & set(labelled.y[labelled.train])


# ---------------------------------------------------------------- parts of the population


def test_subgroups_come_from_the_table_or_from_the_label_file(tmp_path: Path, cached) -> None:
    site = ["b", "10", None, "b", "9", "a"]
    data = table(id=[f"p{i}" for i in range(6)], label=list("xyxyxy"), site=site)
    dataset = cached(data, label_column="label", worst_group="site")
    assert dataset.subgroups == ("9", "10", "a", "b")
    assert dataset.subgroup is not None
    assert dataset.subgroup.tolist() == [3, 1, -1, 3, 0, 2]
    (tmp_path / "l.csv").write_text("id,label\n" + "".join(f"p{i},{'xy'[i % 2]}\n" for i in range(6)))
    beside = cached(data, labels=str(tmp_path / "l.csv"), worst_group="site")  # the file has no such column
    assert beside.subgroup is not None
    assert beside.subgroup.tolist() == dataset.subgroup.tolist()
    labelled = split_dataset(beside, seed=0).labelled
    assert labelled is not None
    assert labelled.subgroups == dataset.subgroups
    assert labelled.subgroup is not None
    assert labelled.subgroup.tolist() == dataset.subgroup.tolist()
    root = folder(tmp_path / "pets", 4)
    rows = ["cat/0.png,c,f", "cat/2.png,c,m", "dog/1.png,d,f", "dog/3.png,d,"]
    (tmp_path / "l.csv").write_text("\n".join(["file,label,sex", *rows]))
    dataset = cached(root, labels=str(tmp_path / "l.csv"), worst_group="sex")
    assert dataset.subgroup is not None
    assert [dataset.subgroups[code] if code >= 0 else "" for code in dataset.subgroup] == ["f", "m", "f", ""]
    with pytest.raises(UserError, match="no column 'site'; it has file, label, sex"):
        cached(root, labels=str(tmp_path / "l.csv"), worst_group="site")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([str(i) for i in range(101)], "--worst-group part holds 101 different values: name a column of 2 to 100"),
        (["a"] * 8, "holds only 'a'"),
        ([None] * 8, "holds nothing"),
    ],
)
def test_columns_that_part_no_population(values: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        known(
            ["x", "y"] * (len(values) // 2) + ["x"] * (len(values) % 2),
            columns={"subgroup": pa.array(values, pa.string())},
            worst_group="part",
        )


def test_texts_are_kept_whatever_they_say() -> None:
    """So that `tacit next-labels` knows what was looked at: one label alone, numbers, lists, a pair without partner."""
    for label in (["a", None, None], ["1.5", "2", None], [["x", "y"], None, []], ["?", "unknown", None]):
        found = known(label, target="_texts")
        assert [number >= 0 for number in found.label] == [value is not None for value in label]
    assert known(["b", "a", "b"], target="_texts").classes == ("a", "b")


def test_a_target_is_taken_from_the_first_who_names_one() -> None:
    run = {"target": None, "multilabel": "|", "seed": 1}
    assert target_settings({"target": None}, run) == {"target": None, "multilabel": "|"}
    assert target_settings({"target": "regression"}, run) == {"target": "regression", "multilabel": None}
    assert target_named(**target_settings({}, {})) == "classification"
    assert target_named(**target_settings(run)) == "multilabel"


def test_one_class_in_two_ways_is_refused_and_classes_that_look_alike_are_said():
    with pytest.raises(UserError, match="the labels 'true' and '1' may be one"):
        known(["True", "1", "false", "0"] * 3)
    assert known(["True", "TRUE", "false", "False"] * 3).classes == ("false", "true")
    assert known([str(2**64 - 1 - i % 2) for i in range(8)]).classes == ("18446744073709551614", "18446744073709551615")
    notes = Notes()
    known(["Cat", "cat", "dog"] * 3, notes, group_column="patient", columns={"group": ["p1", "P1", "q"] * 3})
    said = [line for line in notes.lines() if "look alike and are two" in line]
    assert [line.split(" look")[0] for line in said] == ["the groups 'p1' and 'P1'", "the labels 'Cat' and 'cat'"]
