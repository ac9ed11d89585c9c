"""Files of embeddings: every form they come in is read as the same vectors, and what cannot be used is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tacit.core.errors import UserError
from tacit.data.embeddings import are_vectors, join_vectors, read_vectors

N, D = 6, 3
VALUES = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
IDS = [f"item {i}" for i in range(N)]


def fixed(values: Any) -> pa.Array:
    values = np.asarray(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=4)  # several groups, so several chunks
    return path


@pytest.mark.parametrize(
    "column",
    [
        fixed(VALUES),
        fixed(VALUES.astype(np.float64)),
        pa.array(VALUES.tolist()),
        pa.array(VALUES.tolist(), pa.large_list(pa.float32())),
        pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [D]), fixed(VALUES)),
    ],
    ids=["fixed", "double", "list", "large", "tensor"],
)
def test_every_column_of_lists_is_read_alike(tmp_path: Path, column: pa.Array) -> None:
    read = read_vectors(parquet(tmp_path / "a.parquet", id=IDS, embedding=column, label=["x"] * N), ["label", "group"])
    np.testing.assert_array_equal(read.values, VALUES)
    assert read.values.dtype == np.float32
    assert read.ids is not None
    assert read.ids.to_pylist() == IDS
    assert {key: value.to_pylist() for key, value in read.columns.items()} == {"label": ["x"] * N}
    assert (read.name, read.names) == ("a.parquet", ("id", "embedding", "label"))


def test_arrays_are_read_alike(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", embedding=VALUES.astype(np.float64), id=np.arange(N), label=[[1.0]] * 5 + [[np.nan]])
    on_disk = read_vectors(tmp_path / "a.npz", ["label"])
    in_memory = read_vectors({"embedding": VALUES, "id": np.arange(N), "label": [1, 1, 1, 1, 1, None]}, ["label"])
    for read in (on_disk, in_memory):
        np.testing.assert_array_equal(read.values, VALUES)
        assert read.ids is not None
        assert read.ids.to_pylist() == list("012345")
        assert read.columns["label"].to_pylist() == ["1"] * 5 + [None]


def test_which_sources_are_embeddings() -> None:
    assert all(map(are_vectors, ["a.parquet", Path("b.NPZ"), "c.pq", {"embedding": VALUES}]))
    assert not any(map(are_vectors, ["digits", "hf:some/model", "runs/a", "a.npy"]))


def test_content_tells_equal_rows() -> None:
    content = read_vectors({"embedding": np.concatenate([VALUES, VALUES[:1]])}).content
    assert len(set(content.tolist())) == N
    assert content[0] == content[-1]


def replaced(row: int, value: float) -> np.ndarray[Any, Any]:
    values = VALUES.astype(np.float64)
    values[row, 1] = value
    return values


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": VALUES, "y": IDS}, r"a.npz holds no 'embedding' \(it has: x, y\): name the vectors so"),
        ({"embedding": VALUES[0]}, r"is float32 \[3\]: numbers \[N D\] are expected"),
        ({"embedding": VALUES.astype(str)}, r"numbers \[N D\] are expected"),
        ({"embedding": VALUES[:1]}, "holds 1 embeddings of 3 numbers"),
        ({"embedding": VALUES[:, :0]}, "holds 6 embeddings of 0 numbers"),
        ({"embedding": replaced(2, np.nan)}, "1 of the 6 embeddings of a.npz hold NaN, .* row 2"),
        ({"embedding": replaced(4, np.inf), "id": IDS}, "1 of the 6 .* infinite .* 'item 4'"),
        ({"embedding": replaced(4, 1e300)}, "1 of the 6 .* infinite"),
        ({"embedding": VALUES, "label": IDS[:5]}, "6 embeddings but 5 values of 'label'"),
        ({"embedding": VALUES, "id": IDS[:5]}, "6 embeddings but 5 values of 'id'"),
        ({"embedding": VALUES, "id": [*IDS[:5], "item 0"]}, "1 ids of a.npz occur more than once .* 'item 0'"),
        ({"embedding": VALUES, "id": [*IDS[:5], ""]}, "1 of the 6 ids of a.npz are missing"),
        ({"embedding": VALUES, "label": np.array([1, "a", 2, 3, 4, 5], object)}, "'label' holds objects of mixed"),
        ({"embedding": VALUES, "label": np.zeros((6, 2))}, r"'label' of a.npz: one value for each row .* \[6, 2\]"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(UserError, match=message):
        read_vectors(tmp_path / "a.npz", ["label"])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1.0, 2.0], [1.0]]), "have from 1 to 2 numbers: all need the same"),
        (pa.array([[1.0, 2.0], None, [3.0, 4.0]]), "1 of the 3 embeddings of a.parquet hold NaN, infinite or missing"),
        (pa.array([[1.0, 2.0], [None, 1.0], [3.0, 4.0]]), "1 of the 3 .* row 1"),
        (pa.array(["a", "b"]), "is string: a list of numbers for each row is expected"),
        (pa.array([["a"], ["b"]]), "a list of numbers for each row is expected"),
    ],
)
def test_columns_that_cannot_be_used(tmp_path: Path, column: pa.Array, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_vectors(parquet(tmp_path / "a.parquet", embedding=column))


def test_files_that_are_none(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.npz"):
        with pytest.raises(UserError, match="no such file of embeddings"):
            read_vectors(tmp_path / name)
        (tmp_path / name).write_bytes(b"PK, not really")
        with pytest.raises(UserError, match="cannot be read as"):
            read_vectors(tmp_path / name)


def test_mixed_types_in_memory() -> None:
    label = np.array([1, "a", 2.0, None, float("nan"), 5], object)
    found = read_vectors({"embedding": VALUES, "label": label}, ["label"])
    assert found.columns["label"].to_pylist() == ["1", "a", "2", None, None, "5"]


def some(*numbers: int, ids: bool = True, name: str = "a") -> Any:
    columns = {"embedding": VALUES[list(numbers)], "label": np.array(IDS)[list(numbers)]}
    if ids:
        columns["id"] = np.array(IDS)[list(numbers)]
    read = read_vectors(columns, ["label"])
    object.__setattr__(read, "name", name)
    return read


def test_files_are_joined_by_id() -> None:
    files, lines = join_vectors([some(5, 1, 2, 3), some(0, 1, 2, 5, name="b"), some(2, 5, 4, 1, name="c")])
    for file in files:
        assert file.ids is not None
        assert file.ids.to_pylist() == ["item 5", "item 1", "item 2"]  # in the order of the first
        assert file.columns["label"].to_pylist() == ["item 5", "item 1", "item 2"]
        np.testing.assert_array_equal(file.values, VALUES[[5, 1, 2]])
    assert lines == [
        "3 embeddings are in all 3 files by id (item 5, item 1, item 2)",
        "1 of the 4 embeddings of a have no partner and were dropped (item 3)",
        "1 of the 4 embeddings of b have no partner and were dropped (item 0)",
        "1 of the 4 embeddings of c have no partner and were dropped (item 4)",
    ]
    files, lines = join_vectors([some(0, 1, 2), some(2, 1, 0, name="b")])
    np.testing.assert_array_equal(files[1].values, VALUES[:3])
    assert lines == ["3 embeddings are in all 2 files by id (item 0, item 1, item 2)"]


def labelled(name: str, rows: list[int], label: list[Any] | None, ids: bool = False) -> Any:
    """Vectors of these rows with these labels."""
    found: dict[str, Any] = {"embedding": VALUES[rows]}
    found |= {"id": [IDS[row] for row in rows]} if ids else {}
    found |= {} if label is None else {"label": label}
    return replace(read_vectors(found, ["label"]), name=name)


@pytest.mark.parametrize("label", [["a", "b", "c"], [None, "b", "NA"], None])
def test_files_without_ids_that_say_the_same_are_joined_by_position(label: list[Any] | None) -> None:
    files, lines = join_vectors([labelled("a", [0, 1, 2], ["a", "b", "c"]), labelled("b", [3, 4, 5], label)])
    np.testing.assert_array_equal(files[1].values, VALUES[3:])
    assert lines == ["joined by position, 3 rows each: no file has ids"]


def test_numbers_of_fewer_digits_are_no_contradiction() -> None:
    one, other = ([0.1234567891, 2.0, 3.5], [0.12345679, 2, 3.5])
    assert join_vectors([labelled("a", [0, 1, 2], one), labelled("b", [0, 1, 2], other)])[1]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([some(0, 1), some(2, 3, name="b")], "no id of b .such as 'item 2'. is one of a .such as 'item 0'"),
        (
            [some(0, 1, ids=False), some(0, 1, 2, ids=False, name="b")],
            r"a has no ids, .* different numbers .*\(a: 2, b: 3\)",
        ),
        ([some(0, 1), some(0, 1, ids=False, name="b")], "b has no ids to join it with a by: add 'id' to it"),
        ([some(0, 1), some(1, 0, name="b"), some(0, 1, ids=False, name="c")], "c has no ids to join it with a by"),
        (
            [labelled("a", [0, 1], ["x", "y"]), labelled("b", [1, 0], ["y", "x"])],
            "a and b differ in 'label' at 2 of 2 rows .first: row 0, 'x' and 'y'.*give both the column 'id'",
        ),
        (
            [labelled("a", [0, 1], ["x", "y"], ids=True), labelled("b", [1, 0], ["x", "x"], ids=True)],
            "differ in 'label' at 1 of 2 rows .first: id 'item 1', 'y' and 'x'.*correct their 'id'",
        ),
    ],
)
def test_what_cannot_be_joined(files: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        join_vectors(files)
