"""Embeddings that are made already: whole commands on digits, what joins what, and every mistake in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import tacit
from tacit import cli
from tacit.commands.evaluate_file import _columns, _labelled, _names, named
from tacit.core.errors import UserError
from tacit.data.embeddings import read_vectors
from tacit.data.labels import Columns
from tacit.data.notes import Notes
from tacit.data.options import LabelOptions
from tacit.data.resolved import resolve
from tacit.evaluation import Seal

pytestmark = pytest.mark.usefixtures("few_strengths")

N = 240
FEW: dict[str, Any] = {"label_budgets": ["2"], "primary_budget": 2}


@cache
def digits() -> tuple[NDArray[np.float32], list[str]]:
    """240 digits of three classes, as pixels [N 64]."""
    from sklearn.datasets import load_digits

    data = load_digits()
    rows = np.flatnonzero(data.target < 3)[:N]
    return data.data[rows].astype(np.float32), [f"digit-{target}" for target in data.target[rows]]


@cache
def principal(k: int) -> NDArray[np.float32]:
    from sklearn.decomposition import PCA

    return PCA(k, random_state=0).fit_transform(digits()[0]).astype(np.float32)


IDS = [f"scan{i:03d}.png" for i in range(N)]


def save(path: Path, values: NDArray[np.float32], **columns: Any) -> Path:
    """As `tacit embed` writes it."""
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    pq.write_table(pa.table({"id": IDS[: len(values)], "embedding": vectors, **columns}), path)
    return path


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", *map(str, words)])
    return int(ended.value.code or 0)


@pytest.mark.slow
def test_several_files_are_judged_on_the_same_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged = save(tmp_path / "pca.parquet", principal(12), label=digits()[1])
    noise = np.random.default_rng(0).normal(size=(N, 12)).astype(np.float32)
    save(tmp_path / "noise.parquet", noise)
    order = np.random.default_rng(0).permutation(N)[:225]
    np.savez(tmp_path / "few.npz", embedding=principal(1)[order], id=np.array(IDS)[order])
    others = [f"--against={tmp_path / name}" for name in ("noise.parquet", "few.npz")]
    assert call(judged, *others, "--primary-budget=5", "--label-budgets=5", f"--out={tmp_path / 'report'}") == 0
    told = capsys.readouterr()
    assert told.out.startswith("TRANSFERS: at 5 labels per class this checkpoint (pca) beat every baseline")
    assert "225 embeddings are in all 3 files by id (scan" in told.err
    assert "15 of the 240 embeddings of noise.parquet have no partner and were dropped (scan" in told.err
    assert "225 embeddings; 225 labelled in 3 classes" in told.err
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [(arm["name"], arm["kind"]) for arm in report["arms"]] == [
        ("pca", "pretrained"),
        ("noise", "baseline"),
        ("few", "baseline"),
    ]
    assert report["verdict"]["text"].endswith(
        "; not known to be compared with raw input, the untrained architecture, training from scratch "
        "or any public pretrained encoder"
    )
    by_arm = {r["arm"]: r for r in report["results"] if (r["budget"], r["protocol"]) == ("5 per class", "linear")}
    assert by_arm["noise"]["mean"] < 0.6 < 0.85 < by_arm["pca"]["mean"]
    assert report["data"]["kind"] == "embeddings"
    page = (tmp_path / "report" / "report.html").read_text()
    assert "digit-1" in page
    assert "scan000.png" in page
    assert call(judged, f"--out={tmp_path / 'report'}") == 2
    assert "already holds a report" in capsys.readouterr().err


@pytest.mark.slow
def test_alone_there_are_figures_and_no_verdict_and_no_torch(tmp_path: Path) -> None:
    path = save(tmp_path / "pca.parquet", principal(4)[:90], kind=digits()[1][:90])
    words = ["evaluate", str(path), "--label-column=kind", "--primary-budget=2", "--label-budgets=2"]
    code = (
        "import sys; from tacit import cli\n"
        f"try: cli.main({words!r})\n"
        "except SystemExit as e: assert e.code == 0, e.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NO VERDICT: at 2 labels per class no baseline was measured beside this checkpoint")
    assert (
        "not compared with raw input, the untrained architecture or training from scratch; "
        "not compared with any public pretrained encoder\n"
    ) in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("few_fits")
def test_private_reports_hold_no_names(tmp_path: Path) -> None:
    path = save(tmp_path / "secret.name.parquet", principal(4)[:90], label=digits()[1][:90])
    tacit.evaluate(str(path), **FEW, private=True, out=str(tmp_path / "report"))
    for name in ("report.json", "report.html"):
        text = (tmp_path / "report" / name).read_text()
        assert not [word for word in ("digit-", "scan0", "secret") if word in text]
    text = json.loads((tmp_path / "report" / "report.json").read_text())["verdict"]["text"]
    assert "not compared with raw input, the untrained architecture or training from scratch" in text


def labelled(values: NDArray[np.float32], ids: list[str] | None, group: list[str | None] | None = None) -> Any:
    """What is sealed of examples whose label is the parity of the number in their id or row."""
    source: dict[str, Any] = {"embedding": values, "label": [i % 2 for i in range(len(values))]}
    if ids is not None:
        source |= {"id": ids, "label": [int(name[4:7]) % 2 for name in ids]}
    file = read_vectors(source, ["label"])
    columns = Columns(file.columns["label"], None if group is None else pa.array(group))
    notes = Notes()
    known = resolve(columns, LabelOptions().label_spec(), None, named(file), notes)
    return _labelled(file, known, notes, seed=0, given=None)[:2], notes


def test_other_embeddings_of_the_same_examples_are_sealed_alike() -> None:
    (first, rows), _ = labelled(principal(3), IDS)
    order = np.random.default_rng(0).permutation(N)
    (other, other_rows), _ = labelled(principal(5)[order], [IDS[i] for i in order])
    assert len(first.test) == 72
    assert {IDS[i] for i in rows[first.test]} == {IDS[order[i]] for i in other_rows[other.test]}
    groups = [f"person {i // 4}" if i < 200 else None for i in range(N)]
    (first, rows), notes = labelled(principal(3), IDS, groups)
    (other, other_rows), _ = labelled(principal(5)[order], [IDS[i] for i in order], [groups[i] for i in order])
    assert {IDS[i] for i in rows[first.test]} == {IDS[order[i]] for i in other_rows[other.test]}
    assert first.grouped
    assert notes.ungrouped == 40


@pytest.mark.parametrize("ids", [IDS, None])
def test_equal_embeddings_are_never_parted(ids: list[str] | None) -> None:
    values = principal(3).copy()
    values[1::2] = values[::2]
    (found, rows), notes = labelled(values, ids)
    sealed = np.zeros(N, bool)
    sealed[rows[found.test]] = True
    assert (sealed[::2] == sealed[1::2]).all()
    assert 60 < sealed.sum() < 84
    assert notes.duplicates == N // 2


def labels_file(path: Path, rows: list[tuple[str, str]], header: str = "id,label") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("few_fits")
def test_labels_come_from_a_file_or_from_the_folders_in_the_ids(tmp_path: Path) -> None:
    labels = digits()[1]
    half = list(zip(IDS, labels, strict=True))[:120]
    save(tmp_path / "pca.parquet", principal(4), label=["not these"] * N)
    file = labels_file(tmp_path / "labels.csv", [*half, *((f"elsewhere{i}", "digit-0") for i in range(300))])
    report = tacit.evaluate(str(tmp_path / "pca.parquet"), labels=str(file), **FEW)
    assert report.data["n_train"] + report.data["n_test"] == 120
    assert report.data["classes"] == ["digit-0", "digit-1", "digit-2"]
    in_folders = {
        "embedding": principal(4)[:90],
        "id": [f"{label}/{name}" for label, name in zip(labels[:90], IDS[:90], strict=True)],
    }
    report = tacit.evaluate(in_folders, labels="folders", **FEW)
    assert report.data["classes"] == ["digit-0", "digit-1", "digit-2"]
    assert report.verdict.arm == "embeddings"


def test_a_column_of_the_given_split_is_kept(tmp_path: Path) -> None:
    split = ["test" if i % 3 == 0 else "train" for i in range(90)]
    save(tmp_path / "pca.parquet", principal(4)[:90], label=digits()[1][:90], part=split)
    report = tacit.evaluate(str(tmp_path / "pca.parquet"), split_column="part", label_budgets=["1"])
    assert (report.data["n_test"], report.data["n_train"]) == (30, 60)
    few = tacit.evaluate(str(tmp_path / "pca.parquet"), split_column="part", label_budgets=["2 per class", "100 %"])
    assert {row.budget for row in few.results} == {"2 per class", "100 %"}
    assert few.verdict.budget == "2 per class"


def kept(columns: dict[str, Any], **settings: Any) -> Any:
    """What is judged of 120 embeddings with these columns, and the rows that it comes from."""
    asked, notes = LabelOptions(**settings).label_spec(), Notes()
    names = _names(asked)
    lists = names["label"] if asked.target == "multilabel" else None
    file = read_vectors({"embedding": principal(3)[:120], **columns}, list(names.values()), lists=lists)
    found, split = _columns(file, asked, None, notes)
    return _labelled(file, resolve(found, asked, split, named(file), notes), notes, seed=0, given=None)[:2]


def test_numbers_are_judged_with_their_values() -> None:
    labelled, rows = kept({"label": np.linspace(0, 1, 120)}, target="regression")
    np.testing.assert_array_equal(labelled.truth, np.linspace(0, 1, 120)[rows])
    assert np.bincount(labelled.y[labelled.test]).tolist() == [7, 7, 7, 7, 7]


@pytest.mark.parametrize("form", ["lists", "table", "text"])
def test_several_labels_are_judged_in_any_form(form: str) -> None:
    table = np.array([[i % 2, i % 3 == 0] for i in range(120)], int)
    lists = [[str(j) for j in np.flatnonzero(row)] for row in table]
    label = {"lists": lists, "table": table, "text": ["|".join(names) or "|" for names in lists]}[form]
    labelled, rows = kept({"label": label}, **({"multilabel": "|"} if form == "text" else {"target": "multilabel"}))
    assert labelled.classes == ("0", "1")
    np.testing.assert_array_equal(labelled.truth, table[rows])


def test_pairs_keep_their_sides_and_stay_whole() -> None:
    labelled, _ = kept({"label": np.arange(120) // 2, "side": ["image", "text"] * 60}, target="pairs")
    assert len(labelled.test) == 36
    assert (labelled.side[labelled.y == 7] == [0, 1]).all()
    assert not set(labelled.y[labelled.test]) & set(labelled.y[labelled.train])


def test_scored_pairs_stay_whole() -> None:
    pair = np.arange(120) // 2
    labelled, _ = kept({"label": pair % 7, "pair": pair}, target="similarity")
    assert len(labelled.test) == 36
    assert not set(labelled.pair[labelled.test]) & set(labelled.pair[labelled.train])
    np.testing.assert_array_equal(labelled.truth, labelled.pair % 7)


def test_a_column_named_side_or_token_means_nothing_elsewhere() -> None:
    labelled, _ = kept({"label": ["a", "b"] * 60, "side": ["left", "right", "both"] * 40})
    assert labelled.side is None


def test_what_is_asked_for_comes_before_the_column_split() -> None:
    columns = {"label": ["a", "b"] * 60, "split": ["test", "train", "train"] * 40, "site": np.arange(120) // 40}
    labelled, rows = kept(columns, holdout="site=2", worst_group="site")
    assert rows[labelled.test].tolist() == list(range(80, 120))
    assert labelled.subgroups == ("0", "1", "2")
    labelled, rows = kept(columns, time_column="site")
    assert rows[labelled.test].tolist() == list(range(80, 120))
    labelled, rows = kept(columns)
    assert rows[labelled.test].tolist() == list(range(0, 120, 3))


def many(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"embedding": rng.normal(size=(n, 4)).astype(np.float32)}


@pytest.mark.parametrize(
    ("columns", "words", "message"),
    [
        ({}, [], "a.parquet has no column 'label' (it has: id, embedding): name it with --label-column"),
        ({"label": ["x"] * 90}, [], "there is only 'x'"),
        ({"label": pa.nulls(90, pa.string())}, [], "none of the 90 embeddings of a.parquet has a label"),
        ({"label": np.linspace(0.1, 9, 90)}, [], "to predict the numbers say --target regression, or, where"),
        (
            {"label": np.arange(90.0)},
            [],
            "90 distinct numbers such as 0 on 90 examples; to predict the numbers say --target regression",
        ),
        ({"label": ["1", "01", "2"] * 30}, [], "'1' and '01' are one number written in two ways"),
        ({"label": [["x"], ["y"]] * 45}, [], "labels must be text or numbers, not list"),
        ({"label": [b"\xff", b"\xfe"] * 45}, [], "labels must be text or numbers, not binary"),
        ({"label": list("ab") * 45, "group": ["one"] * 90}, [], "belong to one group"),
        ({"label": ["x"] * 90}, ["--target", "regression"], "the label 'x' is no finite number"),
        ({"label": [3.5] * 90}, ["--target", "regression"], "all 90 labels to train on are the number 3.5"),
        ({"label": [1, 2, 3, *[None] * 87]}, ["--target", "regression"], "needs 4 labelled examples to train on"),
        ({"label": pa.nulls(90, pa.float64())}, ["--target", "regression"], "none of the 90 embeddings of a.parquet"),
        (
            {"label": [["x"], ["y"]] * 45},
            ["--target", "regression"],
            "lists of labels are read with --target multilabel",
        ),
        ({"label": ["a,b", "a"] * 45}, ["--multilabel", "|"], "no label holds it (first: 'a,b')"),
        (
            {"label": ["a|b"] * 90},
            ["--multilabel=|"],
            "at least one that two examples to train on have and another lacks",
        ),
        ({"label": range(90)}, ["--target", "retrieval"], "at least two classes, and there is none"),
        ({"label": range(90)}, ["--target", "pairs"], "at least two pairs, and there is none"),
        (
            {"label": [i // 2 for i in range(90)], "side": list("abc") * 30},
            ["--target=pairs"],
            "two sides are expected",
        ),
        ({"label": list("ab") * 45}, ["--target", "tokens"], "name that column with --group-column"),
        ({"label": list("ab") * 45}, ["--target", "token"], "did you mean 'tokens'?"),
        ({"label": list("ab") * 45}, ["--worst-group", "site"], "--worst-group site: a.parquet has no such column"),
        (
            {"label": list("ab") * 45, "site": ["A"] * 90},
            ["--worst-group", "site"],
            "holds only 'A': name a column of 2",
        ),
        ({"label": list("ab") * 45}, ["--holdout", "site=B"], "--holdout site: a.parquet has no such column"),
        ({"label": list("ab") * 45, "site": ["A"] * 90}, ["--holdout", "site=B"], "no example has it; 'site' holds A"),
        (
            {"label": list("ab") * 45, "day": ["May"] * 90},
            ["--time-column", "day"],
            "'May' is neither a number nor a date",
        ),
        ({"label": list("ab") * 45}, ["--holdout=site=B", "--split-column=part"], "both say what the test split is"),
        ({"label": list("ab") * 45, "split": ["train"] * 90}, [], "marks no example as test"),
        ({"label": list("ab") * 45}, ["--label-column", "lable"], "--label-column lable: a.parquet has no such column"),
        ({"label": list("ab") * 45}, ["--group-column", "who"], "--group-column who: a.parquet has no such column"),
        ({"label": list("ab") * 45}, ["--labels", "no.csv"], "no such file"),
        ({"label": list("ab") * 45}, ["--image-size", "32"], "--image-size says nothing about embeddings"),
        ({"label": list("ab") * 45}, ["--test", "b.parquet"], "mark the test rows in a column 'split'"),
        ({"label": list("ab") * 45}, ["--against", "hf:a/b"], "tacit embed hf:a/b DATA --out FILE.parquet"),
        ({"label": list("ab") * 45}, ["--against", "a.parquet"], "a.parquet is named twice"),
        ({"label": list("ab") * 45}, ["--against", "b.parquet"], "b.parquet: no such file of embeddings"),
        ({"label": list("ab") * 45}, ["digits"], "judged without data: leave digits out"),
    ],
)
def test_mistakes_end_with_a_line(
    columns: dict[str, Any],
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("a.parquet"), principal(4)[:90], **columns)
    assert call("a.parquet", *words) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("tacit: error: ")
    assert message in said


def test_data_are_asked_for_where_there_must_be_some(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("runs/mine") == 2
    assert capsys.readouterr().err == (
        "tacit: error: give the data to judge runs/mine on: tacit evaluate runs/mine DATA\n"
    )


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ({"embedding": np.ones((90, 4)), "label": ["a", "b"] * 45}, {}, "are equal: the encoder has collapsed"),
        ({**many(20_000), "label": np.arange(20_000) // 2}, {}, "10,000 classes are too many for the linear probe"),
        (many(90), {"labels": "labels.csv"}, "has no 'id' to join labels by"),
        ({**many(90), "id": IDS[:90]}, {"labels": "labels.csv"}, "only 0 of the 2 rows of labels.csv match"),
        ({**many(90), "id": IDS[:90]}, {"labels": "folders"}, "lies in a class folder"),
        ({**many(90), "label": ["a"] * 90}, {"colour": 1}, "evaluate takes no colour"),
    ],
)
def test_more_mistakes(
    source: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labels_file(Path("labels.csv"), [("other 1", "a"), ("other 2", "b")])
    with pytest.raises(UserError, match=message):
        tacit.evaluate(source, **options)


@pytest.mark.usefixtures("few_fits")
def test_a_seal_serves_other_embeddings_and_later_labels(tmp_path: Path) -> None:
    """Judged with 120 labels, then others' embeddings with 150: on the same test items, and the two are compared."""
    n = 150
    x, y = principal(8)[:n], digits()[1][:n]
    ids = [f"scan {i}" for i in range(n)]
    first = {"embedding": x, "id": ids, "label": [c if i < 120 else "" for i, c in enumerate(y)]}
    other = {"embedding": x[::-1, 2:], "id": ids[::-1], "label": y[::-1]}
    one = tacit.evaluate(first, out=str(tmp_path / "one"), **FEW)
    two = tacit.evaluate(other, out=str(tmp_path / "two"), seal=str(tmp_path / "one"), **FEW)
    assert one.data["n_test"] == two.data["n_test"]
    assert two.data["n_train"] == one.data["n_train"] + 30
    assert (one.data["seal_reads"], two.data["seal_reads"]) == (1, 2)
    assert Seal.load(tmp_path / "one").items == Seal.load(tmp_path / "two").items
    again = {**first, "label": y}
    tacit.evaluate(again, out=str(tmp_path / "again"), seal=str(tmp_path / "one"), **FEW)
    compared = tacit.compare(str(tmp_path / "again"), str(tmp_path / "two"))
    assert "test items" in compared.verdicts[0]


def test_copies_across_a_given_split_do_not_train() -> None:
    x, y = digits()
    n = 120
    twice = {
        "embedding": np.concatenate([x[:n], x[100:n]]),
        "label": [*y[:n], *y[100:n]],
        "id": [f"scan {i}" for i in range(n + 20)],
        "split": [*["train"] * 80, *["test"] * 40, *["train"] * 20],
    }
    report = tacit.evaluate(twice, **FEW)
    assert (report.data["n_train"], report.data["n_test"]) == (80, 40)
